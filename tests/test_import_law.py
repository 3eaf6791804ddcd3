"""The import law of docs/architecture.md, read off the imports; and the rules of the house that a count can keep.

`violations(root)` returns one line per breach, so the same code runs on this tree and on small synthetic ones.
"""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("schemas", "ingest", "consumers", "infra", "benchmarks")
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "base", "common"}

# A module under the first matching prefix may import, of ours, what starts with one of these.
MAY_IMPORT = {
    "schemas": ("schemas",),
    "infra.journal": ("schemas", "infra.journal"),
    "infra.command": PACKAGES,
    "infra": ("schemas", "infra"),
    "ingest": ("schemas", "infra.journal", "ingest"),
    "consumers": ("schemas", "infra.journal", "consumers"),
    "benchmarks": PACKAGES,
}
ENVIRONMENT_READER = "schemas/settings.py"
RIVALS = "benchmarks/rivals/"  # what others would write: they have no settings of ours, and clients of their own
CLICKHOUSE_CLIENT = "consumers/clickhouse_client.py"
PURE_FILES = (
    "consumers/batch_pace.py",
    "consumers/batch_rules.py",
    "consumers/decode.py",
    "consumers/pipeline.py",
    "consumers/deduplicate.py",
    "consumers/drop_replayed.py",
    "consumers/enrich/*.py",
    "consumers/sessionize.py",
    "consumers/rows.py",
    "schemas/session_membership.py",
    "schemas/validate.py",
    "schemas/parameters.py",
    "schemas/page.py",
    "schemas/language.py",
    "schemas/screen.py",
    "ingest/consent.py",
    "ingest/denials.py",
    "ingest/denied_hit.py",
    "ingest/given.py",
    "ingest/hit_builder.py",
    "ingest/rulings.py",
    "ingest/visitor.py",
    "ingest/http_response.py",
)
IMPURE_MODULES = {"time", "socket", "random", "secrets", "asyncio", "subprocess", "aiohttp", "urllib.request"}
CLOCK_CALLS = {"now", "utcnow", "today"}
OS_ALLOWED_IN_PURE_FILES = {"fspath", "path"}


def violations(root):
    """Return every breach of the law below `root`; directories and files that are not there break nothing."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    trees = {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in files}
    pure = {path.relative_to(root).as_posix() for pattern in PURE_FILES for path in root.glob(pattern)}
    found = []
    for name, tree in trees.items():
        imported = set(imports(name, tree))
        found += foreign(name, imported)
        found += environment(name, tree)
        if uses(imported, "clickhouse_connect") and name != CLICKHOUSE_CLIENT and not name.startswith(RIVALS):
            found.append(f"{name}: imports clickhouse_connect")
        if name in pure:
            found += impure(name, tree, imported)
        found += size(name, (root / name).read_text(), tree)
    return [*found, *kafka(trees)]


def imports(name, tree):
    """Yield the dotted names that a file imports: modules, and what is taken from them."""
    package = name.removesuffix("/__init__.py").removesuffix(".py").split("/")
    if not name.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def uses(imported, module):
    return any(starts(name, module) for name in imported)


def starts(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def foreign(name, imported):
    module = name.removesuffix(".py").replace("/", ".")
    allowed = next(may for prefix, may in MAY_IMPORT.items() if starts(module, prefix))
    for target in sorted(imported):
        if any(starts(target, package) for package in PACKAGES) and not any(starts(target, may) for may in allowed):
            yield f"{name}: imports {target}"


def environment(name, tree):
    if name == ENVIRONMENT_READER or name.startswith(RIVALS):
        return
    for node in ast.walk(tree):
        read = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
        taken = isinstance(node, ast.ImportFrom) and node.module == "os"
        taken = taken and any(alias.name in ("environ", "environb", "getenv", "getenvb") for alias in node.names)
        if read or taken:
            yield f"{name}:{node.lineno}: reads the environment"


def impure(name, tree, imported):
    for module in sorted(IMPURE_MODULES):
        if uses(imported, module):
            yield f"{name}: a pure file imports {module}"
    for target in sorted(imported):
        if starts(target, "os") and target != "os" and target.split(".")[1] not in OS_ALLOWED_IN_PURE_FILES:
            yield f"{name}: a pure file imports {target}"
    passed_in = {id(default) for node in ast.walk(tree) for default in defaults_of(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in passed_in:
            continue
        of_os = "os" in imported and ast.unparse(node.value) == "os"
        if of_os and node.attr not in OS_ALLOWED_IN_PURE_FILES:
            yield f"{name}:{node.lineno}: a pure file uses os.{node.attr}"
        if node.attr in CLOCK_CALLS and ast.unparse(node.value) in ("datetime", "datetime.datetime", "date"):
            yield f"{name}:{node.lineno}: a pure file reads the clock"


def defaults_of(node):
    """The defaults of a function's parameters: what stands there is passed in, and a test passes another."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (*node.args.defaults, *filter(None, node.args.kw_defaults))


def size(name, text, tree):
    lines = text.count("\n")
    if lines > LINES_MAX:
        yield f"{name}: {lines} lines"
    if FORBIDDEN_NAMES & set(name.removesuffix(".py").split("/")):
        yield f"{name}: is named after nothing"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines"


def kafka(trees):
    users = [name for name, tree in trees.items() if uses(set(imports(name, tree)), "aiokafka")]
    for side in ("ingest", "consumers"):
        of_side = [name for name in users if name.startswith(side + "/")]
        if len(of_side) > 1:
            yield f"{side}: {', '.join(of_side)} import aiokafka"
    yield from (f"{name}: imports aiokafka" for name in users if not name.startswith(("ingest/", "consumers/", RIVALS)))


def test_this_tree_keeps_the_law():
    assert violations(REPOSITORY) == []


def test_the_law_is_read_off_real_files():
    for name in (ENVIRONMENT_READER, CLICKHOUSE_CLIENT, "infra/journal/reader.py", "ingest/hit_builder.py"):
        tree = ast.parse((REPOSITORY / name).read_text())
        assert set(imports(name, tree))


def test_test_files_keep_the_size_and_the_names():
    found = []
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        name = path.relative_to(REPOSITORY).as_posix()
        found += size(name, path.read_text(), ast.parse(path.read_text()))
    assert found == []


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        ("schemas/hit.py", "from infra.journal import frame", "imports infra.journal.frame"),
        ("schemas/hit.py", "import ingest.collector", "imports ingest.collector"),
        ("infra/journal/reader.py", "from infra.command import main", "imports infra.command.main"),
        ("infra/journal/reader.py", "from consumers.worker import Worker", "imports consumers.worker.Worker"),
        ("infra/journal/deep/reader.py", "from ... import command", "imports infra.command"),
        ("infra/supervisor.py", "import ingest", "imports ingest"),
        ("infra/migrate.py", "def f():\n    from consumers import rows", "imports consumers.rows"),
        ("ingest/forwarder.py", "from consumers.log_reader import port", "imports consumers.log_reader.port"),
        ("ingest/forwarder.py", "from infra import supervisor", "imports infra.supervisor"),
        ("ingest/collector.py", "from benchmarks import traffic", "imports benchmarks.traffic"),
        ("consumers/worker.py", "import ingest.forwarder as f", "imports ingest.forwarder"),
        ("ingest/__init__.py", "from ..consumers import rows", "imports consumers.rows"),
        ("infra/command/main.py", "import os\nos.environ['A']", "2: reads the environment"),
        ("ingest/spool.py", "from os import getenv", "1: reads the environment"),
        ("schemas/hit.py", "import os\nx = os.getenv('A')", "2: reads the environment"),
        ("infra/command/report.py", "import clickhouse_connect", "imports clickhouse_connect"),
        ("consumers/worker.py", "from clickhouse_connect.driver import Client", "imports clickhouse_connect"),
        ("infra/doctor.py", "import aiokafka", "imports aiokafka"),
        ("consumers/decode.py", "import time", "a pure file imports time"),
        ("consumers/enrich/domain.py", "from random import random", "a pure file imports random"),
        ("consumers/rows.py", "import socket", "a pure file imports socket"),
        ("ingest/visitor.py", "import os\nos.urandom(8)", "2: a pure file uses os.urandom"),
        ("ingest/visitor.py", "import os\ndef f(x=os.urandom(8)):\n    x", "2: a pure file uses os.urandom"),
        ("ingest/visitor.py", "from os import urandom", "a pure file imports os.urandom"),
        ("schemas/validate.py", "from datetime import datetime\ndatetime.now()", "2: a pure file reads the clock"),
        ("schemas/validate.py", "import datetime\ndatetime.datetime.now()", "2: a pure file reads the clock"),
        ("consumers/worker.py", "\n" * 401, "401 lines"),
        ("consumers/worker.py", "def long():\n" + "    pass\n" * 70, "1: long has 71 lines"),
        ("ingest/utils.py", "", "is named after nothing"),
        ("consumers/common/rows.py", "", "is named after nothing"),
    ],
)
def test_a_breach_is_found(tmp_path, name, text, breach):
    write(tmp_path, name, text)
    assert [line.removeprefix(name).lstrip(": ") for line in violations(tmp_path)] == [breach]


def test_aiokafka_is_imported_by_one_file_of_a_side(tmp_path):
    write(tmp_path, "ingest/log_writer/kafka.py", "import aiokafka")
    write(tmp_path, "consumers/log_reader/kafka.py", "from aiokafka import AIOKafkaConsumer")
    assert violations(tmp_path) == []
    write(tmp_path, "ingest/second.py", "from aiokafka.errors import KafkaError")
    assert violations(tmp_path) == ["ingest: ingest/log_writer/kafka.py, ingest/second.py import aiokafka"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("schemas/settings.py", "import os\nos.environ['A']"),
        ("consumers/clickhouse_client.py", "import clickhouse_connect"),
        ("benchmarks/rivals/loader.py", "import clickhouse_connect\nimport aiokafka\nimport os\nos.environ['A']"),
        ("infra/command/main.py", "from ingest import forwarder\nfrom consumers import worker"),
        ("ingest/forwarder.py", "from infra.journal.reader import JournalReader\nfrom schemas import hit\nimport time"),
        ("consumers/decode.py", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
        ("consumers/decode.py", "def f(agent):\n    os = agent.os\n    return os.family"),
        ("ingest/visitor.py", "import os\ndef f(*, random=os.urandom):\n    random(8)"),
        ("consumers/log_reader/local.py", "from .port import Record\nfrom ..batch import Batch"),
        ("infra/supervisor.py", "import ingestion_of_another_project"),
        ("consumers/worker.py", "\n" * 400),
    ],
)
def test_what_the_law_allows_is_let_alone(tmp_path, name, text):
    write(tmp_path, name, text)
    assert violations(tmp_path) == []


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
