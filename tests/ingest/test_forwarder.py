"""The forwarder: every hit to its partition, in order; no spool goes before its totals are kept."""

import asyncio
import os
import shutil
import time

import pytest
from support.forwarder_box import PARTITIONS, Box
from support.memory_log import MemoryLogWriter
from support.spools import TestSpool, name_of, spool_hit

from infra.journal.frame import encode_all
from ingest.forwarder import Forwarder, group
from ingest.forwarder_cursor import Cursors, SpoolState, ledger_view
from ingest.log_writer.local import LocalLogWriter
from schemas.errors import FatalError
from schemas.hit import KEY_END, PREFIX, partition_of
from schemas.settings import KIB, Settings


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    box.close()


def test_hits_are_grouped_by_their_keys_partition_in_order():
    hits = [spool_hit("a", seq) for seq in range(100)]
    runs = {partition: [] for partition in range(7)}
    group(hits, 7, runs)
    assert sorted(hit for run in runs.values() for hit in run) == sorted(hits)
    for partition, run in runs.items():
        assert run == [hit for hit in hits if partition_of(hit[8:24], 7) == partition]
    assert sum(1 for run in runs.values() if run) == 7


@pytest.mark.parametrize(
    "stray", [b"x", b"{}", PREFIX, PREFIX + b"0" * 16, b'{"kez":"' + b"0" * 40, b"\xff" * 1000, PREFIX[:-1] + b"0" * 40]
)
def test_what_is_no_hit_goes_to_partition_0_as_it_is(stray):
    runs = {0: [], 1: []}
    group([stray], 2, runs)
    assert runs == {0: [stray], 1: []}
    assert len(PREFIX) + 16 == KEY_END


def test_every_hit_arrives_once_and_in_order(box):
    for name in ("aa", "bb"):
        box.spool(name).append(30)
    box.start()
    box.steps()
    box.spools["aa"].append(50)
    box.steps()
    assert box.accepted() == [*(("aa", seq) for seq in range(80)), *(("bb", seq) for seq in range(30))]
    assert sum(map(len, box.log.records)) == 110
    for partition in range(PARTITIONS):
        for name in ("aa", "bb"):
            numbers = [name_of(value)[1] for value in box.values(partition) if name_of(value)[0] == name]
            assert numbers == sorted(numbers)
    counters = box.forwarder.counters
    assert (counters.hits, counters.spools, counters.retries, counters.damaged) == (110, 2, 0, 0)
    assert counters.bytes == sum(len(value) for partition in range(PARTITIONS) for value in box.values(partition))


def test_a_restart_goes_on_from_the_cursor(box):
    box.spool("aa").append(30)
    box.start()
    box.steps()
    box.spools["aa"].append(5)
    box.restart()
    box.steps()
    assert sum(map(len, box.log.records)) == 35
    assert box.accepted() == [("aa", seq) for seq in range(35)]


def test_a_dead_collectors_spool_is_drained_then_its_totals_kept_then_removed(box, monkeypatch):
    spool = box.spool("aa")
    spool.append(10)
    box.start()
    box.steps()
    assert spool.directory.exists()
    spool.append(5)
    spool.die()
    kept_when_removed = []
    real = shutil.rmtree

    def rmtree(path, **options):
        kept_when_removed.append(Cursors(box.data_dir, disk=False).finished)
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for _ in range(3):
        box.step()
    assert not spool.directory.exists()
    assert kept_when_removed == [{"aa": (15, 0)}]
    assert box.accepted() == [("aa", seq) for seq in range(15)]
    assert ledger_view(box.data_dir) == {"aa": SpoolState(15, 15, 0, finished=True)}
    box.restart()
    box.steps()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(15, 15, 0, finished=True)}


def test_a_living_collectors_spool_stays_however_empty(box):
    spool = box.spool("aa")
    box.start()
    for _ in range(5):
        box.step()
    assert spool.directory.exists()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(0, 0, 0, finished=False)}
    spool.die()
    for _ in range(3):
        box.step()
    assert not spool.directory.exists()
    assert ledger_view(box.data_dir) == {}


def test_directories_in_the_making_and_other_files_are_let_alone(box):
    root = box.data_dir / "spool"
    (root / ".new-aa").mkdir(parents=True)
    (root / "budget.lock").touch()
    box.spool("bb").append(1)
    box.start()
    for _ in range(3):
        box.step()
    assert (root / ".new-aa").exists()
    assert (root / "budget.lock").exists()
    assert list(ledger_view(box.data_dir)) == ["bb"]


def test_a_large_backlog_does_not_keep_a_small_spool_waiting(box):
    box.options["batch_bytes_max"] = 16 * KIB
    box.spool("aa", segment_bytes=1 << 20).append(2000)
    box.spool("bb").append(1)
    box.start()
    box.step()
    assert ("bb", 0) in box.accepted()
    assert box.log.ends != [0] * PARTITIONS
    assert sum(map(len, box.log.records)) < 500


def test_a_hit_larger_than_a_round_is_forwarded(box):
    box.options["batch_bytes_max"] = 16 * KIB
    spool = box.spool("aa", segment_bytes=1 << 20)
    spool.append(1, pad=200 * KIB)
    spool.append(1)
    box.start()
    box.steps()
    assert box.accepted() == [("aa", 0), ("aa", 1)]


def test_there_is_one_forwarder_per_directory(box):
    box.start()
    second = Forwarder(box.data_dir, MemoryLogWriter(box.log), batch_bytes_max=KIB)
    with pytest.raises(FatalError, match="another forwarder"):
        asyncio.run(second.open(lock_wait_s=0.05))


def test_what_was_read_is_never_more_than_a_round(box):
    box.options["batch_bytes_max"] = 32 * KIB
    for name in ("aa", "bb", "cc"):
        box.spool(name, segment_bytes=1 << 20).append(1000)
    box.start()
    taken = []
    while bytes_taken := box.step():
        taken.append(bytes_taken)
    assert max(taken[1:]) <= 3 * (16 * KIB + 100)  # the smallest share of each, and its last hit
    assert sum(map(len, box.log.records)) == 3000


def test_run_forwards_until_it_is_stopped_and_closes(tmp_path):
    box = Box(tmp_path)
    box.spool("aa").append(5)
    total = [5]

    def more():
        box.spools["aa"].append(3)
        total[0] += 3

    asyncio.run(box.run_until(lambda: len(box.accepted()) > 50, more))
    done = len(box.accepted())
    assert box.accepted() == [("aa", seq) for seq in range(done)]
    assert ledger_view(tmp_path)["aa"] == SpoolState(total[0], done, 0, finished=False)
    box.start()  # the lock is free again
    box.close()


def test_rounds_under_load_begin_the_linger_apart_so_that_runs_are_longer(tmp_path):
    linger_s = 0.05
    box = Box(tmp_path, linger_s=linger_s)
    spool = box.spool("aa")
    began_s = time.monotonic()
    asyncio.run(box.run_until(lambda: box.forwarder.counters.rounds >= 5, lambda: spool.append(2)))
    took_s = time.monotonic() - began_s
    assert box.forwarder.counters.rounds <= took_s / linger_s + 2
    assert box.forwarder.counters.hits >= 3 * box.forwarder.counters.rounds, "a round takes what several brought"
    done = len(box.accepted())
    assert box.accepted() == [("aa", seq) for seq in range(done)]
    box.close()


@pytest.mark.parametrize("hits", [1, 2000])
def test_neither_a_lone_hit_nor_a_backlog_waits_for_company(tmp_path, hits):
    box = Box(tmp_path, linger_s=3600.0, batch_bytes_max=16 * KIB)
    box.spool("aa", segment_bytes=1 << 20)
    box.spools["aa"].append(hits)
    asyncio.run(box.run_until(lambda: len(box.accepted()) == hits))
    assert box.forwarder.counters.rounds == pytest.approx(hits * 80 / (16 * KIB), abs=2)
    box.close()


def test_a_stop_is_heard_amid_a_backlog(tmp_path):
    box = Box(tmp_path, batch_bytes_max=16 * KIB)
    box.spool("aa", segment_bytes=1 << 20).append(2000)
    asyncio.run(box.run_until(lambda: box.forwarder.counters.rounds))
    assert 0 < box.forwarder.counters.hits < 2000
    box.close()


def test_from_settings_into_the_local_log_with_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    settings = Settings(data_dir=tmp_path, partitions=PARTITIONS, sync="disk", log_bytes_max=1024 * KIB)
    spool = TestSpool(tmp_path, "aa")
    spool.append(40)
    log = LocalLogWriter.open(settings)
    forwarder = Forwarder.from_settings(settings, log)
    assert forwarder._batch_bytes_max == 64 * KIB
    assert forwarder._linger_s == settings.forward_linger_s > 0

    async def forward():
        await forwarder.open()
        while await forwarder.step():
            pass
        await forwarder.close()

    asyncio.run(forward())
    assert len(synced) >= PARTITIONS
    assert ledger_view(tmp_path)["aa"] == SpoolState(40, 40, 0, finished=False)
    spool.die()


def test_frames_of_the_test_spools_are_the_collectors_frames(tmp_path):
    spool = TestSpool(tmp_path, "aa")
    spool.append(1)
    assert spool.segments()[0].read_bytes().startswith(encode_all([spool_hit("aa", 0)])[0])
    assert name_of(spool_hit("aa", 7)) == ("aa", 7)
    spool.die()
