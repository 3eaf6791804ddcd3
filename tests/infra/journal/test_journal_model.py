"""Random actions on a journal over a file system that fails, against a model that knows what must be readable."""

from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.memory_files import MemoryFiles

from infra.journal.frame import HEADER_BYTES, encode
from infra.journal.reader import JournalReader
from infra.journal.segment import segments
from infra.journal.writer import JournalFullError, JournalWriter, recover

ROOT = Path("/journal")
SEGMENT_BYTES = 160


class Kept:
    """A frame that the writer said it kept: its number, its payload, and the bytes it takes in its segment."""

    def __init__(self, number, payload, start):
        self.number, self.payload = number, payload
        self.start, self.end = start, start + HEADER_BYTES + len(payload)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.files = MemoryFiles()
        self.kept = {}  # segment -> frames in order
        self.damage = {}  # segment -> [(first byte, byte behind)]
        self.flipped = set()
        self.serial = 0
        self.reader = JournalReader(ROOT, files=self.files)
        self.after = self.reader.position
        self.highest_read = 0
        self.start_writer()

    def start_writer(self):
        number, ordinal = recover(ROOT, self.files)
        # Damage to the last segment hides frames from `recover`, not from a reader that has passed the damage. The
        # local log ends such an assignment; here the writer goes on above what this reader has or can still read.
        ahead = [frame.number + 1 for frame in self.expected()]
        self.writer = JournalWriter(
            ROOT,
            number=max(number, self.highest_read, *ahead),
            ordinal=ordinal,
            segment_bytes=SEGMENT_BYTES,
            disk=True,
            files=self.files,
        )

    def present(self):
        return segments(self.files, ROOT)

    def readable(self, segment, start=0):
        """The frames that one reads who starts at a byte: up to the first damage from there on."""
        frames = []
        for frame in self.kept.get(segment, []):
            if frame.start >= start:
                if any(first < frame.end and frame.start < behind for first, behind in self.damage.get(segment, [])):
                    break
                frames.append(frame)
        return frames

    def expected(self):
        """The frames that the reader must still yield."""
        ordinal, byte, _ = self.reader.position
        present = [segment for segment in self.present() if segment.ordinal >= ordinal]
        return [f for segment in present for f in self.readable(segment, byte if segment.ordinal == ordinal else 0)]

    def note(self, payloads):
        """The writer kept these: enter them where they went."""
        newest = self.present()[-1]
        frames = self.kept.setdefault(newest, [])
        number = self.writer.number - len(payloads)
        for payload in payloads:
            frames.append(Kept(number, payload, frames[-1].end if frames else 0))
            number += 1

    # the writer

    @rule(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), short=st.none() | st.integers(0, 120))
    def append(self, sizes, short):
        payloads = []
        for size in sizes:
            self.serial += 1
            payloads.append((b"%d." % self.serial * size)[: size + 8])
        self.files.short_writes = [short]
        try:
            kept = self.writer.append([encode(payload) for payload in payloads])
        except JournalFullError:
            kept = 0
        finally:
            self.files.short_writes = []
        if kept:
            self.note(payloads[:kept])

    @rule(size=st.integers(SEGMENT_BYTES, 3 * SEGMENT_BYTES))
    def append_larger_than_a_segment(self, size):
        self.serial += 1
        payload = (b"%d;" % self.serial * size)[:size]
        try:
            assert self.writer.append([encode(payload)]) == 1
        except JournalFullError:
            assert self.files.space is not None
            return
        self.note([payload])

    @rule()
    def prepare(self):
        try:
            self.writer.prepare()
        except JournalFullError:
            assert self.files.space is not None
        else:
            assert not self.writer.wants_prepare

    @rule()
    def sync(self):
        self.writer.sync()

    @rule()
    def close_and_reopen(self):
        self.writer.close()
        self.start_writer()

    @rule()
    def kill_and_recover(self):
        self.files.kill()
        self.start_writer()
        self.reader = JournalReader(ROOT, self.after, self.files)

    @rule(space=st.none() | st.integers(0, 2 * SEGMENT_BYTES))
    def fill_or_free_the_disk(self, space):
        self.files.space = space

    # the reader

    @rule(bytes_max=st.sampled_from([1, 30, 100, 10_000]))
    def read(self, bytes_max):
        expected = self.expected()
        chunk = self.reader.read(bytes_max)
        if chunk is None:
            assert not expected
            return
        assert chunk.payloads == [frame.payload for frame in expected[: len(chunk.payloads)]]
        assert chunk.first == expected[0].number
        assert chunk.gap == chunk.first - self.after.number
        assert chunk.after == self.reader.position
        assert chunk.after.number == chunk.first + len(chunk.payloads)
        self.after = chunk.after
        self.highest_read = max(self.highest_read, self.after.number)

    @rule(back=st.integers(0, 20))
    def seek(self, back):
        present = self.present()
        number = self.after.number - back
        if not present or number < present[0].base:
            return
        holder = [segment for segment in present if segment.base <= number][-1]
        ahead = [f for s in present if s >= holder for f in self.readable(s) if f.number >= number]
        reached = self.reader.seek(number)
        assert self.expected() == ahead
        assert reached == self.reader.position.number
        if ahead:
            assert number <= reached <= ahead[0].number
        self.after = self.reader.position

    @rule()
    def more_tells_whether_there_is_something(self):
        before = self.reader.position
        newest = self.present()[-1].ordinal if self.present() else -1
        assert self.reader.more() == bool(self.readable_here() or newest > before.ordinal)
        assert self.reader.position == before

    def readable_here(self):
        here = [segment for segment in self.present() if segment.ordinal == self.reader.position.ordinal]
        return here and self.readable(here[0], self.reader.position.byte)

    @rule()
    def to_end_finds_the_last_readable_frame(self):
        present = self.present()
        probe = JournalReader(ROOT, files=self.files)
        number = probe.to_end()
        probe.close()
        if present:
            assert number == present[-1].base + len(self.readable(present[-1]))

    @rule()
    def delete_what_was_read(self):
        before = set(self.present())
        self.reader.delete_before(self.after)
        assert before - set(self.present()) == {s for s in before if s.ordinal < self.after.ordinal}

    @rule()
    def delete_below(self):
        expected = self.expected()
        self.reader.delete_below(self.after.number)
        assert self.expected() == expected

    # damage

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def flip_a_bit(self, data):
        segment = data.draw(st.sampled_from(sorted(self.kept)))
        bit = data.draw(st.integers(0, 8 * self.kept[segment][-1].end - 1))
        file = self.files.files.get(ROOT / segment.name)
        if file and bit // 8 < len(file.data) and (segment, bit) not in self.flipped:
            self.files.flip(ROOT / segment.name, bit)
            self.flipped.add((segment, bit))
            self.damage.setdefault(segment, []).append((bit // 8, bit // 8 + 1))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def cut_off(self, data):
        segment = data.draw(st.sampled_from(sorted(self.kept)))
        file = self.files.files.get(ROOT / segment.name)
        if file:
            size = len(file.data)
            cut = data.draw(st.integers(0, size))
            self.files.cut(ROOT / segment.name, cut)
            # what is written behind the cut later is there, behind zeros
            self.damage.setdefault(segment, []).append((cut, min(size, self.kept[segment][-1].end)))

    # always

    @invariant()
    def no_segment_name_was_ever_used_twice(self):
        names = self.files.names_ever
        assert len(names) == len(set(names))
        ordinals = [int(name.partition("-")[0]) for name in names]
        assert ordinals == sorted(set(ordinals))

    def teardown(self):
        self.files.space = None
        remaining = [frame.payload for frame in self.expected()]
        read = []
        while (chunk := self.reader.read(1000)) is not None:
            read += chunk.payloads
        assert read == remaining
        self.reader.close()
        self.writer.close()
        assert self.files.open_handles == 0


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, print_blob=True)
