"""The reader beside a living writer: no frame is passed over, gaps are told once, looking moves nothing."""

from pathlib import Path

import pytest
from support.memory_files import MemoryFiles

from infra.journal.frame import encode, encode_all
from infra.journal.reader import JournalReader, Position
from infra.journal.segment import segments
from infra.journal.writer import JournalWriter, recover

ROOT = Path("/journal")


class Journal:
    def __init__(self, segment_bytes=100):
        self.files = MemoryFiles()
        self.segment_bytes = segment_bytes
        self.restart()
        self.reader = JournalReader(ROOT, files=self.files)

    def restart(self, number=0):
        recovered, ordinal = recover(ROOT, self.files)
        self.writer = JournalWriter(
            ROOT, number=max(number, recovered), ordinal=ordinal, segment_bytes=self.segment_bytes, files=self.files
        )

    def append(self, *payloads):
        assert self.writer.append(encode_all(payloads)) == len(payloads)

    def read_all(self, reader=None):
        payloads = []
        while (chunk := (reader or self.reader).read(1 << 20)) is not None:
            assert chunk.gap == 0
            payloads += chunk.payloads
        return payloads

    def append_and_roll_before_the_next_look_for_a_successor(self):
        """Between the reader's look at the tail and its look for the successor the writer adds a frame and rolls."""

        def act():
            self.files.before_names = lambda: None
            self.append(b"the last of its segment")
            self.append(b"x" * 80)

        self.files.before_names = act


@pytest.fixture
def journal():
    return Journal()


def test_a_frame_written_between_the_look_at_the_tail_and_the_look_for_the_successor_is_read(journal):
    journal.append(b"one")
    assert journal.read_all() == [b"one"]
    journal.append_and_roll_before_the_next_look_for_a_successor()
    assert journal.read_all() == [b"the last of its segment", b"x" * 80]


def test_that_interleaving_loses_the_frame_of_a_reader_that_does_not_look_twice(journal, monkeypatch):
    def read_looking_once(self, bytes_max):
        while (chunk := self._tail(bytes_max)) is None:
            successor = self._successor()
            if successor is None:
                return None
            self._enter(successor)
        return chunk

    monkeypatch.setattr(JournalReader, "read", read_looking_once)
    journal.append(b"one")
    assert journal.read_all() == [b"one"]
    journal.append_and_roll_before_the_next_look_for_a_successor()
    chunk = journal.reader.read(1 << 20)
    assert (chunk.payloads, chunk.gap) == ([b"x" * 80], 1)


def test_a_gap_is_told_with_the_frame_behind_it_however_late_that_comes(journal):
    journal.append(b"one")
    assert journal.read_all() == [b"one"]
    journal.restart(number=5)
    journal.writer.prepare()
    journal.writer._roll(1)  # an empty segment that starts at 5
    assert journal.reader.read(100) is None
    assert journal.reader.read(100) is None
    journal.append(b"five")
    chunk = journal.reader.read(100)
    assert (chunk.first, chunk.gap, chunk.payloads) == (5, 4, [b"five"])
    journal.append(b"six")
    assert journal.reader.read(100).gap == 0


def test_a_read_keeps_to_its_limit_but_returns_one_frame_at_least(journal):
    journal.append(b"a" * 20, b"b" * 20, b"c" * 20)
    assert journal.reader.read(60).payloads == [b"a" * 20, b"b" * 20]
    assert journal.reader.read(1).payloads == [b"c" * 20]


def test_a_frame_larger_than_one_read_is_read_whole():
    journal = Journal(segment_bytes=1 << 20)
    large = bytes(range(1, 251)) * 2000
    journal.append(b"small", large, b"behind")
    assert journal.read_all() == [b"small", large, b"behind"]


def test_a_backlog_is_read_in_growing_strides_and_whole():
    journal = Journal(segment_bytes=1 << 20)
    payloads = [b"%07d" % number * 100 for number in range(3000)]
    for start in range(0, 3000, 100):
        journal.append(*payloads[start : start + 100])
    sizes = []
    seen = []
    while (chunk := journal.reader.read(1 << 20)) is not None:
        sizes.append(len(chunk.payloads))
        seen += chunk.payloads
    assert seen == payloads
    assert sizes[0] * 4 < max(sizes)


@pytest.mark.parametrize("number", range(9))
def test_seek_stands_before_any_number(journal, number):
    payloads = [b"%d" % value * 30 for value in range(9)]
    for payload in payloads:
        journal.append(payload)
    assert len(segments(journal.files, ROOT)) > 2
    journal.read_all()
    assert journal.reader.seek(number) == number
    assert journal.read_all() == payloads[number:]


def test_seek_to_the_end_waits_for_the_next_frame(journal):
    journal.append(b"one", b"two")
    assert journal.reader.seek(2) == 2
    assert journal.reader.read(100) is None
    journal.append(b"three")
    assert journal.read_all() == [b"three"]


def test_seek_in_a_journal_without_segments_waits_there(journal):
    assert journal.reader.seek(7) == 7
    journal.restart(number=7)
    journal.append(b"seven")
    assert journal.reader.read(100).first == 7


def test_seek_before_the_first_segment_stands_at_the_first_frame_there_is(journal):
    for value in range(6):
        journal.append(b"%d" % value * 60)
    journal.read_all()
    journal.reader.delete_below(4)
    assert journal.reader.seek(0) == segments(journal.files, ROOT)[0].base == 4


def test_delete_below_keeps_the_segment_of_the_number_and_the_newest(journal):
    for value in range(6):
        journal.append(b"%d" % value * 60)  # one frame a segment
    journal.read_all()
    assert journal.reader.delete_below(3) == 3
    assert [segment.base for segment in segments(journal.files, ROOT)] == [3, 4, 5]
    assert journal.reader.delete_below(100) == 2
    assert [segment.base for segment in segments(journal.files, ROOT)] == [5]


def test_more_sees_a_frame_and_a_successor_and_no_torn_frame(journal):
    assert not journal.reader.more()
    journal.append(b"one")
    assert journal.reader.more()
    journal.read_all()
    assert not journal.reader.more()
    journal.files.short_writes = [12]
    with pytest.raises(Exception, match="12 of 18"):
        journal.append(b"torn write")
    assert not journal.reader.more()
    journal.append(b"two")
    assert journal.reader.more()


def test_to_end_counts_without_reading_older_segments(journal):
    for value in range(6):
        journal.append(b"%d" % value * 60)
    opened = []
    real = journal.files.open
    journal.files.open = lambda path: opened.append(path) or real(path)
    probe = JournalReader(ROOT, files=journal.files)
    assert probe.to_end() == 6
    assert len(opened) == 1
    journal.append(b"more")
    assert probe.to_end() == 7


def test_a_kept_position_whose_segment_was_deleted_goes_on_without_a_gap(journal):
    journal.append(b"a" * 80)
    position = journal.reader.read(1000).after
    journal.append(b"b" * 80)
    journal.append(b"c" * 80)
    journal.read_all()
    journal.reader.delete_below(2)
    late = JournalReader(ROOT, position, journal.files)
    late.skip_deleted()
    assert late.position == Position(2, 0, 2)
    assert journal.read_all(late) == [b"c" * 80]


def test_a_position_is_not_moved_when_its_segment_is_there(journal):
    journal.append(b"a", b"b")
    reader = JournalReader(ROOT, Position(0, len(encode(b"a")), 1), journal.files)
    reader.skip_deleted()
    assert journal.read_all(reader) == [b"b"]


def test_files_that_are_no_segments_are_let_alone(journal):
    for name in ("owner.lock", "committed.json", "notes.seg", ".0000000001-00000000000000000000.seg"):
        journal.files.create(ROOT / name, 5)
    journal.append(b"one")
    assert journal.read_all() == [b"one"]
    assert journal.reader.delete_below(10) == 0
    assert {"notes.seg", "owner.lock"} < set(journal.files.names(ROOT))
