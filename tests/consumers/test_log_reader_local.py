"""The local log's reader: locks decide who owns a partition, the file where it starts, segments go when done."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from consumers.log_reader.local import LocalLogReader
from consumers.log_reader.port import FencedError, Registered
from infra.journal.files import Lock
from infra.journal.local_log import log_root, partition_directory
from ingest.log_writer.local import LocalLogWriter
from schemas.errors import FatalError
from schemas.hit import PREFIX
from schemas.settings import KIB, Settings

REPOSITORY = Path(__file__).parents[2]
OWN_FOR_EVER = """
import sys, time
from pathlib import Path
from consumers.log_reader.local import LocalLogReader
reader = LocalLogReader(Path(sys.argv[1]))
print(len(reader.assigned()), flush=True)
time.sleep(60)
"""


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    box.close()


class Box:
    def __init__(self, directory):
        self.root = log_root(directory)
        self.settings = Settings(data_dir=directory, partitions=3, segment_bytes_max=64 * KIB)
        self.log = LocalLogWriter.open(self.settings)
        self.readers = []

    def append(self, *serials, partition=0, size=200):
        asyncio.run(self.log.append({partition: [hit(serial, size) for serial in serials]}))

    def reader(self, **options):
        self.readers.append(LocalLogReader(self.root, **options))
        return self.readers[-1]

    def restart_writer(self):
        asyncio.run(self.log.close())
        self.log = LocalLogWriter.open(self.settings)

    def segments(self, partition=0):
        return sorted(partition_directory(self.root, partition).glob("*.seg"))

    def close(self):
        asyncio.run(self.log.close())
        for reader in self.readers:
            reader.close()


def hit(serial, size=200):
    return PREFIX + b'%016x","pad":"' % serial + b"x" * size + b'"}'


def owned(reader):
    return sorted(log.partition for log in reader.assigned())


def test_before_the_log_is_made_nothing_is_assigned(tmp_path):
    reader = LocalLogReader(log_root(tmp_path))
    assert reader.assigned() == []
    reader.wait(0.01)
    asyncio.run(LocalLogWriter.open(Settings(data_dir=tmp_path, partitions=2)).close())
    assert owned(reader) == [0, 1]
    reader.close()


def test_a_partition_comes_when_its_dying_owner_is_gone(box):
    held = Lock(partition_directory(box.root, 1) / "owner.lock")
    assert held.acquire()
    reader = box.reader()
    assert owned(reader) == [0, 2]
    held.release()
    deadline_s = time.monotonic() + 10
    while owned(reader) != [0, 1, 2]:
        assert time.monotonic() < deadline_s
        reader.wait(0.01)


def test_a_killed_owner_loses_its_partitions(box):
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_FOR_EVER, box.root], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    with process:
        assert process.stdout.readline() == "3\n"
        assert owned(box.reader()) == []
        process.kill()
    assert owned(box.reader()) == [0, 1, 2]


def test_when_the_number_of_workers_changes_the_locks_decide(box):
    old = box.reader(worker=0, workers=2)
    assert owned(old) == [0, 2]
    new = [box.reader(worker=worker, workers=3) for worker in range(3)]
    assert [owned(reader) for reader in new] == [[], [1], []]
    old.close()
    deadline_s = time.monotonic() + 10
    while [owned(reader) for reader in new] != [[0], [1], [2]]:
        assert time.monotonic() < deadline_s
        new[0].wait(0.01)


def test_registering_deletes_the_segments_before_the_batch(box):
    for serial in range(300):
        box.append(serial)
    assert len(box.segments()) > 3
    partition = box.reader().assigned()[0]
    records = partition.fetch(1000, 1 << 20)
    assert len(records) == 300
    partition.register(Registered(records[0].offset, records[9].offset, 1))
    assert int(box.segments()[0].name[11:31]) == 0
    partition.register(Registered(records[250].offset, records[299].offset, 1))
    bases = [int(path.name[11:31]) for path in box.segments()]
    assert bases[0] <= 250
    assert all(base > 250 for base in bases[1:])
    partition.register(Registered(300, 300, 1))
    assert len(box.segments()) == 1


@pytest.mark.parametrize("damaged", [0, 7])
def test_damage_is_skipped_and_counted(box, damaged):
    box.append(*range(10))
    box.restart_writer()
    box.append(10)
    if damaged:
        data = bytearray(box.segments()[0].read_bytes())
        data[(10 - damaged) * (len(hit(0)) + 8) + 20] ^= 4
        box.segments()[0].write_bytes(data)
    reader = box.reader()
    records = []
    while batch := reader.assigned()[0].fetch(100, 1 << 20):
        records += batch
    assert [record.offset for record in records] == [*range(10 - damaged), 10]
    assert reader.damaged == damaged
    reader.close()
    assert reader.damaged == damaged


def test_a_damaged_registration_is_told_and_not_guessed(box):
    partition = partition_directory(box.root, 0)
    partition.mkdir(exist_ok=True)
    (partition / "committed.json").write_bytes(b"")
    reader = box.reader()
    with pytest.raises(FatalError, match=r"committed\.json is damaged.*batches"):
        reader.assigned()
    assert Lock(partition / "owner.lock").acquire()


def test_a_disk_that_takes_no_registration_ends_the_assignment_and_the_next_starts_from_the_file(box, monkeypatch):
    box.append(*range(6))
    reader = box.reader()
    partition = reader.assigned()[0]
    partition.fetch(100, 1 << 20)
    partition.register(Registered(0, 2, 1))

    def fail(handle, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", fail)
        with pytest.raises(FencedError, match="could not be committed"):
            partition.register(Registered(3, 5, 1))
    with pytest.raises(FencedError):
        partition.fetch(1, 1)
    monkeypatch.setattr("consumers.log_reader.local.FAULT_S", 0.0)
    heir = next(log for log in reader.assigned() if log.partition == 0)
    assert heir is not partition
    assert heir.registered[:2] == (0, 2)
    assert [record.offset for record in heir.fetch(100, 1 << 20, 2)] == [0, 1, 2]


def test_with_disk_a_batchs_records_are_synced_before_its_registration(box, monkeypatch):
    box.append(*range(4))
    partition = box.reader(disk=True).assigned()[0]
    partition.fetch(100, 1 << 20)
    calls = []
    for call in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, call, lambda handle: calls.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    partition.register(Registered(0, 3, 1))
    committed = next(place for place, name in enumerate(calls) if "committed.json" in name)
    assert box.segments()[-1].name in calls[:committed]
    assert "0000" in calls[:committed]
    assert "0000" in calls[committed:]


def test_a_writer_that_recovered_below_what_was_read_ends_the_assignment(box):
    box.append(*range(5))
    reader = box.reader()
    partition = reader.assigned()[0]
    assert len(partition.fetch(100, 1 << 20)) == 5
    os.truncate(box.segments()[0], 2 * (len(hit(0)) + 8))
    box.restart_writer()
    box.append(77)
    with pytest.raises(FencedError, match="starts at 2"):
        partition.fetch(100, 1 << 20)


def test_wait_wakes_for_a_new_record_and_for_the_event(box):
    wake = threading.Event()
    reader = box.reader(wake=wake)
    reader.assigned()
    timer = threading.Timer(0.05, box.append, [1])
    timer.start()
    started_s = time.monotonic()
    reader.wait(30)
    assert time.monotonic() - started_s < 10
    timer.join()
    assert reader.assigned()[0].fetch(10, 1000)
    timer = threading.Timer(0.05, wake.set)
    timer.start()
    started_s = time.monotonic()
    reader.wait(30)
    assert time.monotonic() - started_s < 10
    timer.join()


def test_end_counts_records_that_were_not_fetched_yet(box):
    partition = box.reader().assigned()[0]
    assert (partition.position(), partition.end()) == (0, 0)
    box.append(*range(200))
    assert (partition.position(), partition.end()) == (0, 200)
    partition.fetch(50, 1 << 20)
    assert (partition.position(), partition.end()) == (50, 200)
