"""The forwarder in trouble: retries, crashes, damage, full disks. Each hit is still taken exactly once."""

import asyncio
import shutil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forwarder_box import Box, Crash
from support.memory_log import MemoryLog, MemoryLogWriter
from support.spools import TestSpool, spool_hit
from support.waiting import until

from infra.journal.frame import encode_all
from ingest.forwarder import Forwarder
from ingest.forwarder_cursor import Cursors, SpoolState, ledger_view
from schemas.errors import FatalError, RetryError
from schemas.settings import KIB


class SilentLogWriter(MemoryLogWriter):
    """Acknowledges nothing."""

    asked = False

    async def append(self, runs):
        self.asked = True
        await asyncio.Event().wait()


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    box.close()


def test_after_a_retry_everything_since_the_cursor_is_sent_again(box):
    box.spool("aa").append(10)
    box.start()
    left = [4]

    def fail_after_some():
        left[0] -= 1
        if left[0] < 0:
            raise RetryError("the log is away")

    box.before_record = fail_after_some
    for _ in range(3):
        left[0] = 4
        with pytest.raises(RetryError, match="the log is away"):
            box.step()
    assert ledger_view(box.data_dir)["aa"] == SpoolState(10, 0, 0, finished=False)
    box.before_record = lambda: None
    box.steps()
    assert sum(map(len, box.log.records)) == 3 * 4 + 10
    assert box.accepted() == [("aa", seq) for seq in range(10)]
    assert ledger_view(box.data_dir)["aa"] == SpoolState(10, 10, 0, finished=False)


def test_a_spool_that_cannot_be_read_now_loses_nothing_of_what_was_read_before(box, monkeypatch):
    for name in ("aa", "bb"):
        box.spool(name).append(10)
    box.start()
    box.forwarder._refresh()
    for name in ("aa", "bb"):
        reader = box.forwarder._spools[name].reader
        real, calls = reader.read, []

        def read_once(bytes_max, real=real, calls=calls):
            calls.append(bytes_max)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
            return real(bytes_max)

        reader.read = read_once
    with pytest.raises(RetryError, match="Input/output error"):
        box.step()
    box.steps()
    assert box.accepted() == [(name, seq) for name in ("aa", "bb") for seq in range(10)]


def test_segments_go_only_behind_the_cursor(box):
    spool = box.spool("aa", segment_bytes=1024)
    for _ in range(10):
        spool.append(10)
    before = len(spool.segments())
    assert before > 5
    box.start()
    box.before_record = lambda: (_ for _ in ()).throw(RetryError("away"))
    with pytest.raises(RetryError):
        box.step()
    assert len(spool.segments()) == before
    box.before_record = lambda: None
    box.steps()
    assert len(spool.segments()) == 1


def test_a_removal_that_was_cut_off_is_finished_by_the_next_forwarder(box, monkeypatch):
    spool = box.spool("aa")
    spool.append(3)
    spool.die()
    box.start()

    def rmtree(path, **options):
        raise Crash

    with monkeypatch.context() as crashing:
        crashing.setattr(shutil, "rmtree", rmtree)
        box.step()
        with pytest.raises(Crash):
            box.steps()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(3, 3, 0, finished=True)}
    box.restart()
    box.steps()
    assert not spool.directory.exists()
    assert sum(map(len, box.log.records)) == 3


def damage(spool, segment, frame):
    path = spool.segments()[segment]
    data = bytearray(path.read_bytes())
    data[frame * (len(spool_hit(spool.name, 0)) + 8) + 20] ^= 1
    path.write_bytes(data)


def test_damage_is_counted_per_spool(box):
    spool = box.spool("aa")
    spool.append(9)
    spool.roll()
    spool.append(2)
    damage(spool, 0, frame=4)
    box.start()
    box.steps()
    assert box.accepted() == [("aa", seq) for seq in (0, 1, 2, 3, 9, 10)]
    assert box.forwarder.counters.damaged == 5
    assert ledger_view(box.data_dir) == {"aa": SpoolState(11, 11, 5, finished=False)}
    box.restart()
    box.steps()
    spool.die()
    for _ in range(3):
        box.step()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(11, 11, 5, finished=True)}


def test_damage_in_a_dead_spools_last_segment_is_counted_when_it_ends(box):
    spool = box.spool("aa")
    spool.append(9)
    damage(spool, 0, frame=4)
    spool.die()
    box.start()
    for _ in range(4):
        box.step()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(9, 9, 5, finished=True)}
    assert box.forwarder.counters.damaged == 5


def test_a_disk_too_full_for_the_cursors_still_gets_its_segments_back(box, monkeypatch):
    spool = box.spool("aa", segment_bytes=1024)
    for _ in range(10):
        spool.append(10)
    box.start()

    def fail(self):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Cursors, "save", fail)
        box.steps()
    assert len(spool.segments()) == 1
    box.restart()
    box.steps()
    assert box.accepted() == [("aa", seq) for seq in range(100)]
    assert box.forwarder.counters.damaged == 0
    spool.append(1)
    box.steps()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(101, 101, 0, finished=False)}


def test_cursors_that_are_damaged_are_set_aside_and_everything_there_is_sent_again(box):
    spool = box.spool("aa", segment_bytes=1024)
    for _ in range(5):
        spool.append(10)
    box.start()
    box.steps()
    (box.data_dir / "forwarder" / "cursors.json").write_bytes(b'{"aa":')
    box.restart()
    box.steps()
    assert box.accepted() == [("aa", seq) for seq in range(50)]
    assert ledger_view(box.data_dir) == {"aa": SpoolState(50, 50, 0, finished=False)}
    assert (box.data_dir / "forwarder" / "cursors.json.damaged").exists()


def test_a_spool_that_someone_removed_keeps_its_totals(box):
    box.spool("aa").append(4)
    box.start()
    box.steps()
    shutil.rmtree(box.spools["aa"].directory)
    box.steps()
    assert ledger_view(box.data_dir) == {"aa": SpoolState(4, 4, 0, finished=True)}


def test_run_backs_off_while_the_log_is_away_and_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr("ingest.forwarder.BACKOFF_S_MIN", 0.001)
    monkeypatch.setattr("ingest.forwarder.BACKOFF_S_MAX", 0.004)
    box = Box(tmp_path)
    box.spool("aa").append(5)
    waits = set()

    def away():
        raise RetryError("away")

    def come_back_after_some_retries():
        waits.add(box.forwarder.counters.backoff_s)
        if box.forwarder.counters.retries >= 8:
            box.before_record = lambda: None

    box.before_record = away
    asyncio.run(box.run_until(lambda: len(box.accepted()) == 5, come_back_after_some_retries))
    assert box.forwarder.counters.retries >= 8
    assert max(waits) == 0.004
    assert box.accepted() == [("aa", seq) for seq in range(5)]
    box.close()


def test_the_lag_shows_while_the_log_keeps_a_round_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr("ingest.forwarder.LAG_EVERY_S", 0.01)
    spool = TestSpool(tmp_path, "aa", segment_bytes=1024 * KIB)
    spool.append(5)
    [segment] = spool.segments()
    with segment.open("r+b") as file:  # preallocated space may turn from a hole into zeros on disk
        file.seek(64 * KIB)
        file.write(bytes(960 * KIB))

    async def main():
        writer = SilentLogWriter(MemoryLog(1))
        forwarder = Forwarder(tmp_path, writer, batch_bytes_max=64 * KIB)
        task = asyncio.create_task(forwarder.run(asyncio.Event()))
        await until(lambda: writer.asked)
        hits = [spool_hit("aa", seq) for seq in range(15)]
        spool.append(10)
        await until(lambda: forwarder.counters.lag_bytes == sum(map(len, encode_all(hits))))
        assert forwarder.counters.rounds == 0
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    spool.die()


def test_run_ends_when_trying_again_cannot_help(tmp_path):
    box = Box(tmp_path)
    box.spool("aa").append(5)

    def fatal():
        raise FatalError("no such topic")

    box.before_record = fatal
    with pytest.raises(FatalError, match="no such topic"):
        asyncio.run(box.run_until(lambda: False))
    box.before_record = lambda: None
    box.start()
    box.steps()
    assert box.accepted() == [("aa", seq) for seq in range(5)]
    box.close()


class Trouble:
    """Retries and crashes at random: within an append, and before the cursors are written."""

    def __init__(self, random):
        self.random = random
        self.save = Cursors.save

    def before_record(self):
        if self.random.random() < 0.02:
            raise self.random.choice((RetryError("away"), Crash()))

    def __enter__(self):
        def save(cursors):
            if self.random.random() < 0.1:
                raise Crash
            self.save(cursors)

        Cursors.save = save
        return self

    def __exit__(self, *error):
        Cursors.save = self.save


def append_somewhere(box, random, appended):
    """One of four collectors keeps hits, and may die."""
    name = random.choice(("aa", "bb", "cc", "dd"))
    if name not in appended:
        appended[name] = 0
        box.spool(name, segment_bytes=random.choice((512, 4096)))
    if name in box.spools:
        count = random.randint(1, 4)
        box.spools[name].append(count)
        appended[name] += count
        if random.random() < 0.1:
            box.spools.pop(name).die()


@settings(max_examples=25, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**32), steps=st.integers(5, 30))
def test_whatever_fails_when_each_hit_is_taken_exactly_once(seed, steps):
    random = Random(seed)
    with TemporaryDirectory() as directory:
        box = Box(Path(directory), batch_bytes_max=16 * KIB)
        appended = {}
        box.start()
        with Trouble(random) as trouble:
            box.before_record = trouble.before_record
            for _ in range(steps):
                append_somewhere(box, random, appended)
                try:
                    box.step()
                except RetryError:
                    pass
                except Crash:
                    box.restart()
        box.before_record = lambda: None
        for spool in box.spools.values():
            spool.die()
        for _ in range(10):
            box.step()
        assert box.accepted() == sorted((name, seq) for name, count in appended.items() for seq in range(count))
        states = {name: SpoolState(count, count, 0, finished=True) for name, count in appended.items()}
        assert ledger_view(box.data_dir) == states
        assert list((box.data_dir / "spool").iterdir()) == []
        box.close()
