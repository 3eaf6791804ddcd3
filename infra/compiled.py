"""The hot path compiled by mypyc: the same source, a fifth fewer instructions a hit. Plain Python where it is not.

Promise: what runs is what the source says. Compiled modules stand in a directory of their own, with the hash of every
source that they were made from; when one of these has changed, all run as plain Python until `build` is called again.
Only processes that are started through `python -m infra.compiled MODULE …` use them: the box's children.
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

import orjson

from schemas.errors import FatalError

MODULES = (
    "infra.journal.frame",
    "ingest.consent",
    "ingest.event_head",
    "ingest.hit_builder",
    "ingest.pixel_batch",
    "ingest.pixel_head",
    "ingest.visitor",
)
PACKAGES = ("schemas", "ingest", "infra")  # what the modules import, for their types
GROUP = "hitstream"
SHARED = f"{GROUP}__mypyc"  # the module that holds the code of all
HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))  # of this Python and machine
DIRECTORY = HERE / "_compiled" / SUFFIX.split(".")[1]
HASHES = "sources.json"
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
        made_from = orjson.loads((DIRECTORY / HASHES).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return "not compiled"
    return COMPILED if made_from == _hashes() else "the source has changed since it was compiled"


def use() -> None:
    """Import compiled modules from now on, where they are there and made from the source as it is."""
    if state() == COMPILED:
        sys.meta_path.insert(0, CompiledFinder(DIRECTORY))


def build() -> None:
    """Compile the modules for this Python. Raises FatalError when something that it takes is missing."""
    if find_spec("mypyc") is None or find_spec("setuptools") is None:
        raise FatalError(f"mypyc is not installed: {NEEDED}")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        unneeded = shutil.ignore_patterns(DIRECTORY.parent.name, "__pycache__")
        for package in PACKAGES:
            shutil.copytree(SOURCES / package, root / package, ignore=unneeded)
        (root / "setup.py").write_text(SETUP)
        hashes = _hashes()
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", "out"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  our own words
        if done.returncode:
            raise FatalError(f"the hot path cannot be compiled here ({NEEDED}):\n{(done.stderr + done.stdout)[-2000:]}")
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        shutil.copytree(root / "out", DIRECTORY)
    (DIRECTORY / HASHES).write_bytes(orjson.dumps(hashes))


def _hashes() -> dict[str, str]:
    sources = {module: SOURCES.joinpath(*module.split(".")).with_suffix(".py") for module in MODULES}
    return {module: hashlib.sha256(path.read_bytes()).hexdigest() for module, path in sources.items()}


def main() -> None:
    """Run the module that the arguments name, with its arguments, as `python -m` does."""
    use()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
