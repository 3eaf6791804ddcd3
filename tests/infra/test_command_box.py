"""The parent of `up` and its kin with dummy children: order, restarts, the end, and a killed parent."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import dummy_child
from support.box import free_ports

from infra.command.box import runs_own_clickhouse
from infra.command.sockets import listening
from schemas.settings import load

PARENT = """
import sys
from infra.command import box, foreground, run_file
from infra.command.errors import UserError
from schemas.settings import load
box.CHILD_COMMAND = (sys.executable, "-c", "import runpy, sys; sys.argv = [sys.argv[1], *sys.argv[3:]]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')", sys.argv[2], run_file.CHILD_MODULE)
run_file.LOCK_WAIT_S = 0.3
try:
    sys.exit(foreground.run_box(load(), sys.argv[1]))
except UserError as error:
    print("USER ERROR", error, file=sys.stderr)
    sys.exit(2)
"""
WAIT_S = 30.0


class Parent:
    """One parent process on a data directory, its trace and its log."""

    def __init__(self, path, command="up", **variables):
        self.path = path
        self.command = command
        self.trace = path / "trace"
        self.log = path / "log"
        self.data = path / "data"
        port, admin, clickhouse = free_ports(3)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("HITSTREAM_", "CLICKHOUSE_"))}
        self.environment = kept | {
            "HITSTREAM_DATA_DIR": str(self.data),
            "HITSTREAM_CONFIG": str(path / "none.toml"),
            "HITSTREAM_HOST": "127.0.0.1",
            "HITSTREAM_PORT": str(port),
            "HITSTREAM_ADMIN_PORT": str(admin),
            "HITSTREAM_CLICKHOUSE_PORT": str(clickhouse),
            "HITSTREAM_COLLECTORS": "1",
            "HITSTREAM_WORKERS": "1",
            "HITSTREAM_STOP_TIMEOUT_S": "0.1",
            "DUMMY_TRACE": str(self.trace),
            "DUMMY_GATE": str(path),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **variables,
        }
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def start(self):
        command = [sys.executable, "-c", PARENT, self.command, dummy_child.__file__]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.path)
        return self

    def lines(self):
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def text(self):
        return self.log.read_text()

    def until(self, condition):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, (self.lines(), self.text())
            time.sleep(0.01)

    def until_started(self, *names):
        self.until(lambda: all(f"{name} start" in self.lines() for name in names))

    def run(self):
        name = "run.json" if self.command == "up" else f"run-{self.command}.json"
        return json.loads((self.data / name).read_text())

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def hit(self):
        port = self.run()["ports"]["public"]
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
            return int(connection.recv(100))


ALL = ("collector-0", "forwarder", "clickhouse", "migrate", "worker-0")
TWO = {"HITSTREAM_COLLECTORS": "2", "HITSTREAM_WORKERS": "2"}


def test_up_starts_takers_first_and_ends_in_order(tmp_path):
    everything = (*ALL, "collector-1", "worker-1")
    with Parent(tmp_path, **TWO) as parent:
        parent.until_started(*everything)
        parent.until(lambda: "the whole box runs" in parent.text())
        run = parent.run()
        assert set(run["pids"]) >= {"parent", *everything} - {"migrate"}
        assert run["pids"]["parent"] == parent.process.pid
        assert str(run["ports"]["public"]) == parent.environment["HITSTREAM_PORT"]
        assert parent.hit() in run["pids"].values()
        assert parent.stop() == 0
    lines = parent.lines()
    order = [re.sub(r"-\d", "", line.split()[0]) for line in lines if line.endswith("stop")]
    assert order == ["collector", "collector", "forwarder", "worker", "worker", "clickhouse"]
    assert min(lines.index("worker-0 start"), lines.index("worker-1 start")) > lines.index("migrate start")
    assert not (parent.data / "run.json").exists()
    text = parent.text()
    assert "no site is defined: every well-formed site id and any Origin is accepted" in text
    assert "Traceback" not in text


def test_hits_are_taken_while_the_tables_cannot_be_made(tmp_path):
    with Parent(tmp_path, DUMMY_GATE=str(tmp_path / "gate")) as parent:
        parent.until(lambda: parent.lines().count("migrate start") >= 3)
        parent.hit()
        assert "worker-0 start" not in parent.lines()
        (tmp_path / "gate").touch()
        parent.until_started("worker-0")
        assert parent.stop() == 0


def test_a_killed_collector_loses_no_queued_connection(tmp_path):
    with Parent(tmp_path) as parent:
        parent.until_started("collector-0")
        for _ in range(3):
            first = parent.hit()
            os.kill(first, signal.SIGKILL)
            assert parent.hit() != first
        assert parent.stop() == 0
        assert "was killed by SIGKILL" in parent.text()


def test_a_new_box_takes_over_from_a_killed_parent(tmp_path):
    with Parent(tmp_path) as parent:
        parent.until_started(*ALL)
        old = parent.run()["pids"]
        parent.process.kill()
        parent.process.wait()
        parent.trace.unlink()
        parent.start()
        parent.until_started(*ALL)
        new = parent.run()["pids"]
        assert not set(old.values()) & set(new.values())
        parent.until(lambda: parent.hit() in new.values())
        parent.until(lambda: not any(is_running(pid) for pid in old.values()))
        assert parent.stop() == 0


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_second_box_on_the_same_data_is_refused(tmp_path):
    with Parent(tmp_path) as parent:
        parent.until_started("collector-0")
        other = Parent(tmp_path, HITSTREAM_PORT="0", HITSTREAM_ADMIN_PORT="0", HITSTREAM_CLICKHOUSE_PORT="0")
        other.log = tmp_path / "other-log"
        other.start()
        assert other.process.wait(WAIT_S) == 2
        assert f"run already (`hitstream up`, pid {parent.process.pid}): end that first" in other.text()
        parent.hit()


@pytest.mark.parametrize("variable", ["HITSTREAM_PORT", "HITSTREAM_ADMIN_PORT", "HITSTREAM_CLICKHOUSE_PORT"])
def test_a_port_of_somebody_else_is_a_clear_error(tmp_path, variable):
    with listening("127.0.0.1", 0, "x") as taken:
        port = taken.getsockname()[1]
        parent = Parent(tmp_path, **{variable: str(port)}).start()
        assert parent.process.wait(WAIT_S) == 2
    assert re.search(rf"USER ERROR .*{port} .*set {variable} to", parent.text())
    assert not (parent.data / "run.json").exists()


def test_port_zero_is_picked_and_printed(tmp_path):
    ports = {f"HITSTREAM_{name}PORT": "0" for name in ("", "ADMIN_", "CLICKHOUSE_")}
    with Parent(tmp_path, **ports) as parent:
        parent.until(lambda: "the whole box runs" in parent.text())
        found = parent.run()["ports"]
        assert all(found[name] > 0 for name in ("public", "admin", "clickhouse"))
        parent.until(lambda: "Ctrl-C" in parent.text())
        assert all(f":{port}" in parent.text() for port in found.values())


def test_a_child_that_does_not_end_is_killed_and_that_is_said(tmp_path):
    with Parent(tmp_path, DUMMY_DEAF="forwarder") as parent:
        parent.until_started(*ALL)
        assert parent.stop() == 0
        assert re.search(r"forwarder \(pid \d+\) did not end in time: killed", parent.text())
        assert "worker-0 stop" in parent.lines()


def test_a_second_interrupt_hurries(tmp_path):
    with Parent(tmp_path, DUMMY_DEAF="collector", HITSTREAM_STOP_TIMEOUT_S="600") as parent:
        parent.until_started("forwarder", "collector-0")
        parent.process.send_signal(signal.SIGINT)
        parent.until(lambda: "stopping collector-0" in parent.text())
        assert parent.stop(signal.SIGINT) == 0
        assert "killing what still runs" in parent.text()


@pytest.mark.parametrize(
    ("command", "names", "offset"),
    [
        ("collect", {"collector-0", "collector-1"}, 0),
        ("forward", {"forwarder"}, 1),
        ("work", {"worker-0", "worker-1"}, 2),
    ],
)
def test_one_role_alone(tmp_path, command, names, offset):
    with Parent(tmp_path, command, **TWO) as parent:
        parent.until(lambda: "Ctrl-C" in parent.text())
        parent.until(lambda: set(parent.run()["pids"]) == names | {"parent"})
        assert parent.run()["ports"]["admin"] == int(parent.environment["HITSTREAM_ADMIN_PORT"]) + offset
        assert "clickhouse start" not in parent.lines()
        assert parent.stop() == 0


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("", True),
        ("http://127.0.0.1:8123", True),
        ("http://localhost:8123/", True),
        ("http://127.0.0.1:8124", False),
        ("http://clickhouse:8123", False),
        ("https://clickhouse.example", False),
    ],
)
def test_own_clickhouse_unless_another_address_is_named(url, own):
    assert runs_own_clickhouse(load(clickhouse_url=url, clickhouse_port=8123)) is own
