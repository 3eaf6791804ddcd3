"""What runs on a data directory: `run.json` for tools, and one lock per role against a second parent.

- `run.json` (`run-COMMAND.json` for collect, forward, work) is replaced as a whole at every change and removed at the
  end; a killed parent leaves it, and the next one reads in it which of the old processes still live.
- What is certain about that comes from the kernel: parent and children hold one open file description, and its lock
  falls when the last of the family has ended, also of those that no file names yet.
- A role (collectors, forwarder, workers, clickhouse) of a data directory belongs to one parent at a time.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import orjson

from infra.command.errors import UserError
from infra.journal.files import Lock, write_atomic

CHILD_MODULE = "infra.command.child"
LOCK_WAIT_S = 5.0
FAMILY_SUFFIX = ".family"


def run_directory(data_dir: Path) -> Path:
    """Return the directory of sockets and locks, made when it is not there. Raises UserError."""
    directory = data_dir / "run"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the data directory {data_dir} cannot be used ({error.strerror}): set HITSTREAM_DATA_DIR to a writable one"
        ) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UserError(f"{directory} is not writable: change its owner, or set HITSTREAM_DATA_DIR to another place")
    return directory


def take_roles(data_dir: Path, roles: Iterable[str]) -> list[Lock]:
    """Take the locks of roles; a parent that is just ending is waited for. Raises UserError."""
    locks = []
    deadline = time.monotonic() + LOCK_WAIT_S
    for role in roles:
        lock = Lock(run_directory(data_dir) / f"{role}.lock")
        while not lock.acquire():
            if time.monotonic() > deadline:
                raise UserError(
                    f"the {role} of {data_dir} run already{_by(data_dir)}: end that first, "
                    "or set HITSTREAM_DATA_DIR to another directory"
                )
            time.sleep(0.05)
        locks.append(lock)
    return locks


def found_family(data_dir: Path, roles: Iterable[str]) -> int:
    """Make this parent's family file, locked, and return its handle, for every child to inherit."""
    path = run_directory(data_dir) / f"{'+'.join(roles)}.{uuid4().hex}{FAMILY_SUFFIX}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def families_alive(data_dir: Path, roles: Iterable[str]) -> bool:
    """Return whether processes of an earlier parent of one of the roles still live; forget the families that ended.

    To be asked while the roles' locks are held: then whoever has such a family lost its parent.
    """
    alive = False
    wanted = set(roles)
    for path in run_directory(data_dir).glob(f"*{FAMILY_SUFFIX}"):
        if not wanted & set(path.name.partition(".")[0].split("+")):
            continue
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = True
            else:
                path.unlink()
    return alive


def run_file(data_dir: Path, command: str) -> Path:
    """Return where `command` writes what it runs."""
    return data_dir / ("run.json" if command == "up" else f"run-{command}.json")


def write_run_file(path: Path, command: str, pids: Mapping[str, int], ports: Mapping[str, int]) -> None:
    """Replace the run file; `pids` and `ports` by name."""
    content = {"command": command, "pids": dict(pids), "ports": dict(ports)}
    write_atomic(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n", disk=False)


def leftovers(data_dir: Path) -> dict[str, int]:
    """Return the children, by name, that outlive their parents on this data directory for now; for people to read."""
    alive = {}
    for path in data_dir.glob("run*.json"):
        try:
            pids = orjson.loads(path.read_bytes())["pids"]
            if Path(f"/proc/{int(pids['parent'])}").exists():
                continue
            alive.update({name: pid for name, pid in pids.items() if _is_child(pid)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # half of a file cannot be; a foreign one is not ours to judge
    return alive


def _is_child(pid: int) -> bool:
    try:
        return CHILD_MODULE.encode() in Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _by(data_dir: Path) -> str:
    for path in data_dir.glob("run*.json"):
        try:
            content = orjson.loads(path.read_bytes())
            parent = int(content["pids"]["parent"])
            if Path(f"/proc/{parent}").exists():
                return f" (`hitstream {content['command']}`, pid {parent})"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""
