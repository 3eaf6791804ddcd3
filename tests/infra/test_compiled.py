"""The compiled hot path: what runs is what the source says, and without a compiler the reason is said."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import needed

from infra import compiled
from schemas.errors import FatalError

WHERE = "import sys, ingest.visitor as v, ingest.routes as r; print(v.__file__); print(r.__file__); print(sys.argv[1:])"


@pytest.fixture(scope="module")
def built():
    needed("cc", "gcc libc6-dev")
    if compiled.state() != compiled.COMPILED:
        compiled.build()


def started(tmp_path, module="where"):
    (tmp_path / "where.py").write_text(WHERE)
    command = [sys.executable, "-m", "infra.compiled", module, "one", "two words"]
    environment = {"PYTHONPATH": f"{compiled.SOURCES}:{tmp_path}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.outside
@pytest.mark.usefixtures("built")
def test_a_process_that_is_started_so_runs_the_compiled_modules_and_the_source_of_the_others(tmp_path):
    visitor, routes, arguments = started(tmp_path).stdout.splitlines()
    assert Path(visitor).is_relative_to(compiled.DIRECTORY)
    assert Path(routes) == compiled.SOURCES / "ingest/routes.py"
    assert arguments == "['one', 'two words']"


@pytest.mark.outside
@pytest.mark.usefixtures("built")
def test_a_process_that_is_not_started_so_runs_the_source():
    code = "import ingest.visitor; print(ingest.visitor.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=compiled.SOURCES, capture_output=True, check=True)
    assert Path(done.stdout.decode().strip()) == compiled.SOURCES / "ingest/visitor.py"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small tree of sources, and a directory for what is compiled from it."""
    for name in ("schemas/page.py", "ingest/visitor.py", "infra/journal/frame.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("X = 1\n")
    monkeypatch.setattr(compiled, "SOURCES", tmp_path)
    monkeypatch.setattr(compiled, "DIRECTORY", tmp_path / "compiled")
    return tmp_path


@pytest.mark.parametrize("name", ["schemas/page.py", "ingest/visitor.py", "infra/journal/frame.py", "ingest/more.py"])
def test_a_source_that_changed_or_came_runs_as_it_is_until_it_is_compiled_again(tree, name):
    assert compiled.state() == "not compiled"
    compiled.DIRECTORY.mkdir()
    (compiled.DIRECTORY / compiled.DIGEST).write_text(compiled._digest())
    assert compiled.state() == compiled.COMPILED
    (tree / name).write_text("X = 2\n")
    assert compiled.state() == "the source has changed since it was compiled"
    before = list(sys.meta_path)
    compiled.use()
    assert sys.meta_path == before


@pytest.mark.parametrize("missing", ["mypyc", "setuptools"])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch, missing):
    monkeypatch.setattr(compiled, "find_spec", lambda name: None if name == missing else True)
    with pytest.raises(FatalError, match=rf"{missing} is missing.*pip install 'hitstream\[compile\]'"):
        compiled.build()


def test_without_a_c_compiler_it_is_said_at_once_and_nothing_is_left(tree, monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    with pytest.raises(FatalError, match=r"the C compiler \S+ is missing: apt-get install gcc python3-dev"):
        compiled.build()
    assert not compiled.DIRECTORY.exists()


def test_without_pythons_headers_it_is_said_at_once(tree, monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name)
    monkeypatch.setattr(compiled.sysconfig, "get_path", lambda _: str(tree))
    with pytest.raises(FatalError, match=r"/Python\.h is missing: apt-get install gcc python3-dev"):
        compiled.build()


def test_where_we_may_not_write_it_is_said_who_may(tree, monkeypatch):
    (tree / "file").write_text("")
    monkeypatch.setattr(compiled, "DIRECTORY", tree / "file" / "compiled")
    monkeypatch.setattr(compiled, "_missing", lambda: "")
    monkeypatch.setattr(compiled, "SETUP", "import os; os.mkdir('out')")
    with pytest.raises(FatalError, match="cannot be written"):
        compiled.build()


def test_what_the_compiler_says_is_handed_on(tree, monkeypatch):
    monkeypatch.setattr(compiled, "_missing", lambda: "")
    monkeypatch.setattr(compiled, "SETUP", "import sys; sys.exit('no such type')")
    with pytest.raises(FatalError, match=r"(?s)cannot be compiled here:.*no such type"):
        compiled.build()
    assert not compiled.DIRECTORY.exists()


def test_a_module_that_is_not_there_is_an_error(tmp_path):
    done = started(tmp_path, "nowhere")
    assert done.returncode != 0
    assert "nowhere" in done.stderr


STEPS = ("decode", "pipeline", "sessionize", "sessions_reference", "session_state", "rows", "worker", "hostile_events")


@pytest.mark.outside
@pytest.mark.usefixtures("built")
def test_the_workers_steps_keep_their_tests_when_compiled():
    tests = ["tests/schemas", "tests/consumers/enrich", *(f"tests/consumers/test_{step}.py" for step in STEPS)]
    command = [sys.executable, "-m", "infra.compiled", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=compiled.SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
