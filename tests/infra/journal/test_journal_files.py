"""The journal on the real file system: preallocated zeros, a killed writer, locks, atomic replacement."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.journal.cursor import StateDamageError, StateFile
from infra.journal.files import Lock, OsFiles, write_atomic
from infra.journal.frame import encode_all
from infra.journal.reader import JournalReader
from infra.journal.segment import segments
from infra.journal.writer import JournalFullError, JournalWriter, recover

REPOSITORY = Path(__file__).parents[3]
WRITE_FOR_EVER = """
import sys
from pathlib import Path
from infra.journal.frame import encode_all
from infra.journal.writer import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), segment_bytes=100_000)
while True:
    first = writer.number
    writer.append(encode_all([b"%d:" % number + b"x" * (number % 997) for number in range(first, first + 20)]))
    print(writer.number, flush=True)
"""


def read_all(directory):
    reader = JournalReader(directory)
    payloads, gaps = [], 0
    while (chunk := reader.read(1 << 20)) is not None:
        payloads += chunk.payloads
        gaps += chunk.gap
    reader.close()
    return payloads, gaps


def test_preallocated_zeros_read_as_nothing_yet(tmp_path):
    writer = JournalWriter(tmp_path, segment_bytes=1 << 20)
    writer.append(encode_all([b"one"]))
    assert [(tmp_path / s.name).stat().st_size for s in segments(OsFiles(), tmp_path)] == [1 << 20]
    reader = JournalReader(tmp_path)
    assert reader.read(1 << 20).payloads == [b"one"]
    assert reader.read(1 << 20) is None
    writer.append(encode_all([b"two"]))
    assert reader.read(1 << 20).payloads == [b"two"]
    writer.close()
    assert reader.read(1 << 20) is None
    reader.close()


def test_a_closed_segment_takes_the_bytes_of_its_frames_only(tmp_path):
    writer = JournalWriter(tmp_path, segment_bytes=1 << 20)
    writer.append(encode_all([b"one"]))
    writer.close()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [11]


def test_a_writer_killed_at_any_moment_leaves_what_it_said_was_kept(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, tmp_path], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    with process:
        said = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    kept = max(int(line) for line in said if line.endswith("\n"))
    payloads, gaps = read_all(tmp_path)
    assert gaps == 0
    assert len(payloads) >= kept >= 2000
    assert payloads == [b"%d:" % number + b"x" * (number % 997) for number in range(len(payloads))]
    assert len(segments(OsFiles(), tmp_path)) > 3
    number, ordinal = recover(tmp_path)
    assert number == len(payloads)
    writer = JournalWriter(tmp_path, number=number, ordinal=ordinal, segment_bytes=100_000)
    writer.append(encode_all([b"after"]))
    writer.close()
    assert read_all(tmp_path) == ([*payloads, b"after"], 0)


def test_a_disk_without_room_for_a_segment_is_full(tmp_path):
    with pytest.raises(JournalFullError, match=r"File too large|No space left|Invalid"):
        JournalWriter(tmp_path, segment_bytes=1 << 60).append(encode_all([b"x"]))
    assert list(tmp_path.iterdir()) == []


def test_sync_and_power_on_the_real_disk_go_through(tmp_path):
    writer = JournalWriter(tmp_path, segment_bytes=1 << 16, disk=True)
    for _ in range(5):
        writer.append(encode_all([b"x" * 30_000]))
        writer.sync()
    writer.close()
    assert len(read_all(tmp_path)[0]) == 5
    JournalReader(tmp_path).sync_from(3)


def test_a_lock_is_held_by_one_and_freed_by_a_kill(tmp_path):
    path = tmp_path / "deep" / "owner.lock"
    code = (
        "import sys, time; from pathlib import Path; from infra.journal.files import Lock; "
        "lock = Lock(Path(sys.argv[1])); print(lock.acquire(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True)
    with process:
        assert process.stdout.readline() == "True\n"
        lock = Lock(path)
        assert not lock.acquire()
        assert not lock.held
        process.kill()
    assert lock.acquire()
    assert lock.held
    assert lock.acquire()
    second = Lock(path)
    assert not second.acquire()
    lock.release()
    assert second.acquire()
    second.release()


@pytest.mark.parametrize("disk", [False, True])
def test_a_state_file_holds_the_last_state(tmp_path, disk):
    file = StateFile(tmp_path / "state.json", disk=disk)
    assert file.read() is None
    file.write({"a": 1})
    file.write({"a": 2, "b": {"c": [3]}})
    assert file.read() == {"a": 2, "b": {"c": [3]}}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"a": 1'])
def test_a_state_file_that_is_no_json_object_is_told(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(StateDamageError, match=r"state\.json"):
        StateFile(tmp_path / "state.json", disk=False).read()


def test_a_write_that_the_disk_takes_in_part_only_replaces_nothing(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_atomic(path, b"old state", disk=False)
    real = os.write
    left = [3]

    def write(handle, data):
        if not left:
            raise OSError(28, "No space left on device")
        return real(handle, data[: left.pop()])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new state", disk=False)
    assert path.read_bytes() == b"old state"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
