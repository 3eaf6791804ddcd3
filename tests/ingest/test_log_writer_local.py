"""The local log's writer: one at a time, a fixed count, room before bytes, no offset used twice, never stuck."""

import asyncio
import os
from pathlib import Path

import pytest

from consumers.log_reader.local import LocalLogReader
from consumers.log_reader.port import Registered
from infra.journal.local_log import Committed, log_root, partition_directory, write_committed
from ingest.log_writer.local import LocalLogWriter
from schemas.errors import FatalError, RetryError
from schemas.hit import PREFIX
from schemas.settings import KIB, Settings


def settings_of(tmp_path, **changes):
    return Settings(data_dir=tmp_path, **{"partitions": 2, "log_bytes_max": 256 * KIB, **changes})


def hit(serial, size=0):
    return PREFIX + b'%016x","pad":"' % serial + b"x" * size + b'"}'


def append(log, runs):
    asyncio.run(log.append(runs))


def close(log):
    asyncio.run(log.close())


def log_bytes(tmp_path):
    return sum(path.stat().st_size for path in log_root(tmp_path).rglob("*.seg"))


def fill(log, size=1000):
    """Append until the log is full; return how many hits it took."""
    taken = 0
    while True:
        try:
            append(log, {taken % 2: [hit(taken, size)]})
        except RetryError:
            return taken
        taken += 1


def consume(tmp_path):
    """Register everything that is there, as a worker that has loaded it; return its reader."""
    reader = LocalLogReader(log_root(tmp_path))
    count = 0
    for partition in reader.assigned():
        while partition.registered and partition.fetch(1000, 1 << 20, partition.registered.last):
            pass  # loaded before
        records = []
        while batch := partition.fetch(1000, 1 << 20):
            records += batch
        if records:
            partition.register(Registered(records[0].offset, records[-1].offset, 0))
            count += len(records)
    return reader, count


def test_another_partition_count_ends_the_process_with_what_to_do(tmp_path):
    close(LocalLogWriter.open(settings_of(tmp_path, partitions=3)))
    with pytest.raises(FatalError, match=r"made with 3 partitions, .* 5.*HITSTREAM_PARTITIONS=3"):
        LocalLogWriter.open(settings_of(tmp_path, partitions=5))
    close(LocalLogWriter.open(settings_of(tmp_path, partitions=3)))


def test_a_damaged_partition_count_is_told(tmp_path):
    close(LocalLogWriter.open(settings_of(tmp_path)))
    (log_root(tmp_path) / "partitions.json").write_bytes(b"{}")
    with pytest.raises(FatalError, match=r"partitions\.json is damaged"):
        LocalLogWriter.open(settings_of(tmp_path))


def test_a_second_writer_waits_and_then_says_why_it_cannot(tmp_path):
    first = LocalLogWriter.open(settings_of(tmp_path))
    with pytest.raises(RetryError, match="another process writes this log"):
        LocalLogWriter.open(settings_of(tmp_path), lock_wait_s=0.05)
    close(first)
    close(LocalLogWriter.open(settings_of(tmp_path), lock_wait_s=0.05))


def test_a_full_log_keeps_nothing_of_an_append_so_that_trying_again_adds_no_repeats(tmp_path):
    log = LocalLogWriter.open(settings_of(tmp_path))
    taken = fill(log)
    assert taken > 50
    assert log_bytes(tmp_path) <= 256 * KIB
    full = taken % 2
    assert log._writers[1 - full].room > 2 * len(hit(0))
    for _ in range(5):
        with pytest.raises(RetryError, match="byte limit"):
            append(log, {1 - full: [hit(0)], full: [hit(1, 1000)]})
    reader, count = consume(tmp_path)
    assert count == taken
    reader.close()
    close(log)


def test_a_full_log_goes_on_when_its_records_are_registered_even_as_one_batch(tmp_path):
    """The worker can free what it registered only by a next batch: a full log must give it one."""
    log = LocalLogWriter.open(settings_of(tmp_path))
    fill(log)
    for _ in range(30):
        reader, count = consume(tmp_path)
        assert count
        reader.close()
        assert fill(log) > 0
        assert log_bytes(tmp_path) <= 256 * KIB
    close(log)


def test_a_run_larger_than_a_segment_and_a_hit_larger_than_the_share_get_through(tmp_path):
    log = LocalLogWriter.open(settings_of(tmp_path, segment_bytes_max=64 * KIB))
    run = [hit(serial, 3000) for serial in range(10)]
    append(log, {0: run, 1: [hit(99, 100 * KIB)]})
    reader = LocalLogReader(log_root(tmp_path))
    first, second = reader.assigned()
    assert [record.value for record in first.fetch(100, 1 << 20)] == run
    assert [len(record.value) for record in second.fetch(100, 1 << 20)] == [len(hit(99, 100 * KIB))]
    reader.close()
    close(log)


def test_a_partition_that_the_log_does_not_have_is_a_fault_of_the_caller(tmp_path):
    log = LocalLogWriter.open(settings_of(tmp_path))
    with pytest.raises(ValueError, match="no partition 2"):
        append(log, {2: [hit(0)]})
    close(log)


def test_no_offset_that_a_worker_may_have_registered_is_used_again_after_a_power_loss(tmp_path):
    log = LocalLogWriter.open(settings_of(tmp_path))
    append(log, {0: [hit(serial) for serial in range(10)]})
    close(log)
    directory = partition_directory(log_root(tmp_path), 0)
    write_committed(directory, Committed(4, 9, 0), disk=False)
    (segment,) = directory.glob("*.seg")
    os.truncate(segment, 3 * (len(hit(0)) + 8))  # the power took seven frames, a worker had read them
    log = LocalLogWriter.open(settings_of(tmp_path))
    append(log, {0: [hit(100)]})
    reader = LocalLogReader(log_root(tmp_path))
    (record,) = reader.assigned()[0].fetch(100, 1 << 20)
    assert (record.offset, record.value) == (10, hit(100))
    assert reader.damaged == 6
    reader.close()
    close(log)


def test_with_disk_every_touched_partition_is_synced_before_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fdatasync

    def fdatasync(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().parent.name)
        real(handle)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    log = LocalLogWriter.open(settings_of(tmp_path, sync="disk", partitions=4))
    append(log, {0: [hit(0)], 3: [hit(1)]})
    assert set(synced) == {"0000", "0003"}
    synced.clear()
    append(log, {1: [hit(0)]})
    assert set(synced) == {"0001"}
    close(log)


def test_a_sync_that_fails_is_tried_again(tmp_path, monkeypatch):
    log = LocalLogWriter.open(settings_of(tmp_path, sync="disk"))

    def fail(handle):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(RetryError, match="Input/output error"):
            append(log, {0: [hit(0)]})
    append(log, {0: [hit(0)]})
    close(log)


def test_without_disk_nothing_is_synced(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fdatasync", lambda handle: pytest.fail("synced"))
    log = LocalLogWriter.open(settings_of(tmp_path))
    append(log, {0: [hit(0)], 1: [hit(1)]})
    close(log)
