"""The compiled hot path: what runs is what the source says, and without a compiler the reason is said."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from infra import compiled
from schemas.errors import FatalError

WHERE = "import sys, ingest.visitor as v, ingest.routes as r; print(v.__file__); print(r.__file__); print(sys.argv[1:])"


@pytest.fixture(scope="module")
def built():
    if compiled.state() != compiled.COMPILED:
        compiled.build()


def started(tmp_path, module="where"):
    (tmp_path / "where.py").write_text(WHERE)
    command = [sys.executable, "-m", "infra.compiled", module, "one", "two words"]
    environment = {"PYTHONPATH": f"{compiled.SOURCES}:{tmp_path}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("built")
def test_a_process_that_is_started_so_runs_the_compiled_modules_and_the_source_of_the_others(tmp_path):
    visitor, routes, arguments = started(tmp_path).stdout.splitlines()
    assert Path(visitor).is_relative_to(compiled.DIRECTORY)
    assert Path(routes) == compiled.SOURCES / "ingest/routes.py"
    assert arguments == "['one', 'two words']"


@pytest.mark.usefixtures("built")
def test_a_process_that_is_not_started_so_runs_the_source():
    code = "import ingest.visitor; print(ingest.visitor.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=compiled.SOURCES, capture_output=True, check=True)
    assert Path(done.stdout.decode().strip()) == compiled.SOURCES / "ingest/visitor.py"


def test_a_changed_source_runs_as_it_is_until_it_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "DIRECTORY", tmp_path)
    assert compiled.state() == "not compiled"
    hashes = dict.fromkeys(compiled.MODULES, "0" * 64)
    (tmp_path / compiled.HASHES).write_bytes(orjson.dumps(hashes))
    assert compiled.state() == "the source has changed since it was compiled"
    before = list(sys.meta_path)
    compiled.use()
    assert sys.meta_path == before


def test_a_compiled_tree_that_was_cut_short_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "DIRECTORY", tmp_path)
    (tmp_path / compiled.HASHES).write_bytes(b'{"ingest')
    assert compiled.state() == "not compiled"


@pytest.mark.parametrize("missing", ["mypyc", "setuptools"])
def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch, missing):
    monkeypatch.setattr(compiled, "find_spec", lambda name: None if name == missing else True)
    with pytest.raises(FatalError, match=r"pip install 'hitstream\[compile\]'"):
        compiled.build()


def test_without_a_c_compiler_the_reason_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "DIRECTORY", tmp_path / "compiled")
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    with pytest.raises(FatalError, match="apt-get install gcc python3-dev"):
        compiled.build()
    assert not (tmp_path / "compiled").exists()


def test_a_module_that_is_not_there_is_an_error(tmp_path):
    done = started(tmp_path, "nowhere")
    assert done.returncode != 0
    assert "nowhere" in done.stderr
