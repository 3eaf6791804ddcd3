"""The supervisor against small dummy children."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.waiting import until

from infra.supervisor import PAUSE_S_MAX, Child, ChildSpec, Supervisor, describe_exit

CHILD = """
import sys, pathlib, os
from infra.child import Life
life = Life(int(sys.argv[1]), 1.0)
pathlib.Path(sys.argv[2]).open("a").write(f"{os.getpid()}\\n")
life.stop.wait(60)
pathlib.Path(sys.argv[2]).open("a").write("stopped\\n")
"""
STUBBORN = """
import signal, sys, pathlib, os, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2]).open("a").write(f"{os.getpid()}\\n")
time.sleep(60)
"""


@asynccontextmanager
async def supervising(**options):
    supervisor = Supervisor(os.environ, **options)
    try:
        yield supervisor
    finally:
        supervisor.hurry()
        await supervisor.stop(list(supervisor.children))
        supervisor.close()


def spec(supervisor, name, path, code=CHILD, **options):
    return ChildSpec(name, (sys.executable, "-c", code, str(supervisor.alive_fd), str(path)), **options)


async def lines_of(path, count):
    await until(lambda: path.exists() and path.read_text().count("\n") >= count)
    return path.read_text().splitlines()


def test_a_killed_child_is_started_again_at_once_and_a_stopped_one_is_not(tmp_path):
    async def scene():
        changes = []
        async with supervising(on_change=lambda: changes.append(1)) as supervisor:
            supervisor.start(spec(supervisor, "one", tmp_path / "one"))
            (first,) = await lines_of(tmp_path / "one", 1)
            assert supervisor.children["one"].pid == int(first)
            os.kill(int(first), signal.SIGKILL)
            first, second = await lines_of(tmp_path / "one", 2)
            child = supervisor.children["one"]
            assert (first != second, child.restarts, child.state) == (True, 1, "running")
            assert "was killed by SIGKILL" in child.last_exit
            assert await supervisor.stop(["one"]) == []
            assert (child.state, child.pid) == ("ended", 0)
            assert (tmp_path / "one").read_text().splitlines()[2:] == ["stopped"]
            assert len(changes) >= 4

    asyncio.run(scene())


def test_a_child_that_keeps_dying_quickly_is_started_with_growing_pauses():
    child = Child(ChildSpec("x", ("x",)))
    child.started_s = time.monotonic()
    pauses = [Supervisor._pause_s(child) for _ in range(12)]
    assert pauses[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == PAUSE_S_MAX
    child.started_s = time.monotonic() - 60
    assert Supervisor._pause_s(child) == 0.0


def test_a_child_that_ignores_sigterm_is_killed_and_named(tmp_path):
    async def scene():
        async with supervising() as supervisor:
            supervisor.start(spec(supervisor, "deaf", tmp_path / "deaf", STUBBORN, stop_timeout_s=0.2))
            supervisor.start(spec(supervisor, "good", tmp_path / "good"))
            (pid,) = await lines_of(tmp_path / "deaf", 1)
            await lines_of(tmp_path / "good", 1)
            assert await supervisor.stop(["deaf", "good"]) == ["deaf"]
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)

    asyncio.run(scene())


def test_hurry_ends_the_wait(tmp_path):
    async def scene():
        async with supervising() as supervisor:
            supervisor.start(spec(supervisor, "deaf", tmp_path / "deaf", STUBBORN, stop_timeout_s=60))
            await lines_of(tmp_path / "deaf", 1)
            stopping = asyncio.create_task(supervisor.stop(["deaf"]))
            await asyncio.sleep(0)
            supervisor.hurry()
            assert await asyncio.wait_for(stopping, 10) == ["deaf"]

    asyncio.run(scene())


def test_a_once_child_is_tried_until_it_succeeds(tmp_path):
    code = """
import sys, pathlib
path = pathlib.Path(sys.argv[2])
path.open("a").write("try\\n")
sys.exit(len(path.read_text().splitlines()) < 3)
"""

    async def scene():
        async with supervising() as supervisor:
            supervisor.start(spec(supervisor, "migrate", tmp_path / "tries", code, once=True))
            assert await asyncio.wait_for(supervisor.done("migrate"), 20)
            assert supervisor.children["migrate"].restarts == 2

    asyncio.run(scene())


def test_what_cannot_be_started_is_tried_again_and_can_be_stopped():
    async def scene():
        async with supervising() as supervisor:
            supervisor.start(ChildSpec("none", ("/nonexistent/program",)))
            await until(lambda: supervisor.children["none"].restarts >= 3)
            assert "could not be started" in supervisor.children["none"].last_exit
            assert await asyncio.wait_for(supervisor.stop(["none"]), 10) == []

    asyncio.run(scene())


PARENT = """
import asyncio, os, sys
from infra.supervisor import ChildSpec, Supervisor
async def main():
    supervisor = Supervisor(os.environ)
    for name, code in zip(sys.argv[2::2], sys.argv[3::2]):
        path = sys.argv[1] + "/" + name
        supervisor.start(ChildSpec(name, (sys.executable, "-c", code, str(supervisor.alive_fd), path)))
    await asyncio.sleep(60)
asyncio.run(main())
"""
STUCK = CHILD.replace("life.stop.wait(60)", "import time; time.sleep(60)")


def ended(pid):
    """Whether a process has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_children_end_by_themselves_when_the_parent_is_killed(tmp_path):
    async def scene():
        try:
            pids = [int((await lines_of(tmp_path / name, 1))[0]) for name in ("good", "stuck")]
        finally:
            parent.kill()
            parent.wait()
        await until(lambda: all(ended(pid) for pid in pids))
        assert (tmp_path / "good").read_text().splitlines()[1:] == ["stopped"]
        assert (tmp_path / "stuck").read_text().splitlines()[1:] == []

    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path, "good", CHILD, "stuck", STUCK])
    asyncio.run(scene())


def test_exit_codes_in_words():
    assert describe_exit(1) == "ended with exit code 1"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-99) == "was killed by signal 99"
