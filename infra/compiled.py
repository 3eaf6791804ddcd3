"""The hot path compiled by mypyc: the same source, fewer instructions a hit. Plain Python where it is not.

Promise: what runs is what the source says. Compiled modules stand in a directory of their own, with the digest of every
source that they were made from or against; when one of these has changed, all run as plain Python until `build` is
called again. Only processes that are started through `python -m infra.compiled MODULE …` use them: the box's children.
"""

from __future__ import annotations

import hashlib
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from schemas.errors import FatalError

MODULES = (
    "infra.journal.frame",
    "ingest.client",
    "ingest.consent",
    "ingest.event_body",
    "ingest.event_head",
    "ingest.events",
    "ingest.given",
    "ingest.group_commit",
    "ingest.hit_builder",
    "ingest.http_protocol",
    "ingest.http_response",
    "ingest.pixel_head",
    "ingest.request_batch",
    "ingest.visitor",
    "consumers.batch",
    "consumers.decode",
    "consumers.deduplicate",
    "consumers.drop_replayed",
    "consumers.log_reader.kafka_partition",
    "consumers.log_reader.port",
    "consumers.pipeline",
    "consumers.rows",
    "consumers.session_state",
    "consumers.sessionize",
    "consumers.enrich.address_ranges",
    "consumers.enrich.agent",
    "consumers.enrich.campaign",
    "consumers.enrich.channel",
    "consumers.enrich.client_hints",
    "consumers.enrich.device",
    "consumers.enrich.domain",
    "consumers.enrich.event",
    "consumers.enrich.hint_mismatch",
    "consumers.enrich.network",
    "consumers.enrich.scrub",
    "schemas.event",
    "schemas.host",
    "schemas.language",
    "schemas.page",
    "schemas.parameters",
    "schemas.screen",
    "schemas.session_membership",
    "schemas.spool_id",
    "schemas.validate",
)
# What the modules import: its types are built in.
COMPILED_AGAINST = (
    "schemas/**/*.py",
    "ingest/**/*.py",
    "infra/__init__.py",
    "infra/journal/**/*.py",
    "consumers/**/*.py",
)
GROUP = "hitstream"
SHARED = f"{GROUP}__mypyc"  # the module that holds the code of all
HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))  # of this Python and machine
DIRECTORY = HERE / "_compiled" / SUFFIX.split(".")[1]
DIGEST = "sources.sha256"
COMPILED = "compiled"
NEEDED = "apt-get install gcc python3-dev; pip install 'hitstream[compile]'"
SETUP = f"""
from mypyc.build import mypycify
from setuptools import setup
paths = {[module.replace(".", "/") + ".py" for module in MODULES]}
setup(name="hitstream-compiled", ext_modules=mypycify(["--ignore-missing-imports", *paths], group_name="{GROUP}"))
"""


class CompiledFinder(MetaPathFinder):
    """Finds the compiled form of the modules in `directory`, before Python looks for their source."""

    def __init__(self, directory: Path) -> None:
        self._paths = {name: directory.joinpath(*name.split(".")) for name in (SHARED, *MODULES)}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module's compiled form is; None for all others."""
        del path, target
        found = self._paths.get(name)
        if found is None:
            return None
        file = f"{found}{SUFFIX}"
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))


def state() -> str:
    """Return COMPILED, or why the hot path runs as plain Python."""
    try:
        made_from = (DIRECTORY / DIGEST).read_text()
    except OSError:
        return "not compiled"
    return COMPILED if made_from == _digest() else "the source has changed since it was compiled"


def use() -> None:
    """Import compiled modules from now on, where they are there and made from the source as it is."""
    if state() == COMPILED:
        sys.meta_path.insert(0, CompiledFinder(DIRECTORY))


def build() -> None:
    """Compile the modules for this Python. Raises FatalError when something that it takes is missing."""
    if missing := _missing():
        raise FatalError(f"the hot path cannot be compiled, {missing} is missing: {NEEDED}")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for source in _sources():
            copy = root / source.relative_to(SOURCES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        (root / "setup.py").write_text(SETUP)
        digest = _digest()
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", "out"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  our own words
        if done.returncode:
            raise FatalError(f"the hot path cannot be compiled here:\n{(done.stderr + done.stdout)[-2000:]}")
        try:
            (DIRECTORY / DIGEST).unlink(missing_ok=True)  # first: nobody is to begin with half of them
            shutil.rmtree(DIRECTORY, ignore_errors=True)
            shutil.copytree(root / "out", DIRECTORY)
            (DIRECTORY / DIGEST).write_text(digest)
        except OSError as error:
            raise FatalError(
                f"{DIRECTORY} cannot be written ({error.strerror}): call it as the user who installed hitstream"
            ) from error


def _missing() -> str:
    """Return the first of what compiling takes that is not there, "" when all is."""
    for module in ("mypyc", "setuptools"):
        if find_spec(module) is None:
            return module
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    if not (shutil.which(compiler) or shutil.which("cc")):
        return f"the C compiler {compiler}"
    headers = Path(sysconfig.get_path("include"))
    return "" if (headers / "Python.h").exists() else f"{headers}/Python.h"


def _sources() -> list[Path]:
    return sorted(path for pattern in COMPILED_AGAINST for path in SOURCES.glob(pattern))


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        text = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES)} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def main() -> None:
    """Run the module that the arguments name, with its arguments, as `python -m` does."""
    use()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
