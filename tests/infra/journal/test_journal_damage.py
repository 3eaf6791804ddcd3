"""Whatever is damaged, only the damaged tail of that segment is lost, and no wrong record is ever read."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_files import MemoryFiles

from infra.journal.frame import HEADER_BYTES, encode_all
from infra.journal.reader import JournalDamageError, JournalReader
from infra.journal.segment import Segment, segments
from infra.journal.writer import JournalFullError, JournalWriter, recover

ROOT = Path("/journal")
FIRST = [b"first", b"second one", b"3", b"the fourth, a longer one"]
SECOND = [b"behind", b"the roll"]
SEGMENT_BYTES = sum(map(len, FIRST)) + HEADER_BYTES * len(FIRST)


def two_segments():
    files = MemoryFiles()
    writer = JournalWriter(ROOT, segment_bytes=SEGMENT_BYTES, files=files)
    writer.append(encode_all(FIRST))
    writer.append(encode_all(SECOND))
    writer.close()
    return files, [ROOT / segment.name for segment in segments(files, ROOT)]


def read_all(files):
    """Every frame that can be read, by its number, and how many are told to be missing."""
    reader = JournalReader(ROOT, files=files)
    frames, gaps = {}, 0
    while (chunk := reader.read(1 << 20)) is not None:
        gaps += chunk.gap
        frames.update(enumerate(chunk.payloads, chunk.first))
    return frames, gaps


WHOLE = dict(enumerate(FIRST + SECOND))


def frame_of_byte(byte):
    end = 0
    for number, payload in enumerate(FIRST):
        end += HEADER_BYTES + len(payload)
        if byte < end:
            return number
    raise AssertionError(byte)


def test_undamaged_segments_are_read_whole():
    assert read_all(two_segments()[0]) == (WHOLE, 0)


@pytest.mark.parametrize("byte", range(SEGMENT_BYTES))
def test_every_single_bit_flip_loses_only_what_follows_in_its_segment(byte):
    hit = frame_of_byte(byte)
    for bit in range(8 * byte, 8 * byte + 8):
        files, (path, _) = two_segments()
        files.flip(path, bit)
        frames, gaps = read_all(files)
        assert frames == {number: payload for number, payload in WHOLE.items() if number < hit or number >= len(FIRST)}
        assert gaps == len(FIRST) - hit


@pytest.mark.parametrize("size", range(SEGMENT_BYTES))
def test_truncation_at_every_byte_loses_only_what_is_cut(size):
    files, (path, _) = two_segments()
    files.cut(path, size)
    frames, gaps = read_all(files)
    kept = frame_of_byte(size)
    assert frames == {number: payload for number, payload in WHOLE.items() if number < kept or number >= len(FIRST)}
    assert gaps == len(FIRST) - kept


@pytest.mark.parametrize("lost", range(1, HEADER_BYTES + len(SECOND[-1]) + 1))
def test_a_torn_last_frame_is_as_if_it_had_never_been_written(lost):
    files, (_, path) = two_segments()
    files.cut(path, len(files.files[path].data) - lost)
    frames, gaps = read_all(files)
    assert frames == {number: payload for number, payload in WHOLE.items() if number < len(WHOLE) - 1}
    assert gaps == 0
    assert recover(ROOT, files) == (len(WHOLE) - 1, 2)


@pytest.mark.parametrize("lost", range(1, HEADER_BYTES + len(SECOND[-1]) + 1))
def test_after_a_torn_write_the_next_writer_uses_the_number_again_in_a_new_segment(lost):
    files, (_, path) = two_segments()
    files.cut(path, len(files.files[path].data) - lost)
    number, ordinal = recover(ROOT, files)
    JournalWriter(ROOT, number=number, ordinal=ordinal, segment_bytes=100, files=files).append(encode_all([b"again"]))
    assert read_all(files) == ({**WHOLE, len(WHOLE) - 1: b"again"}, 0)


def test_segments_that_overlap_are_refused():
    files, (_, path) = two_segments()
    files.rename(path, ROOT / Segment(1, len(FIRST) - 1).name)
    with pytest.raises(JournalDamageError, match=r"starts at 3, but frames up to 4 were read"):
        read_all(files)


def test_frames_behind_a_damaged_one_in_the_last_segment_are_told():
    files, (path, second) = two_segments()
    files.unlink(second)
    files.flip(path, 8 * (HEADER_BYTES + len(FIRST[0]) + HEADER_BYTES))  # the second frame's first payload byte
    reader = JournalReader(ROOT, files=files)
    assert reader.read(1000).payloads == FIRST[:1]
    assert reader.read(1000) is None
    assert reader.lost_behind() == len(FIRST) - 1


def test_a_torn_last_frame_is_not_told_as_lost():
    files, (path, second) = two_segments()
    files.unlink(second)
    files.cut(path, SEGMENT_BYTES - 1)
    reader = JournalReader(ROOT, files=files)
    assert reader.read(1000).payloads == FIRST[:-1]
    assert reader.lost_behind() == 0


@settings(max_examples=200, deadline=None, print_blob=True)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(["append", "append", "sync", "prepare", "short", "failing sync"]), max_size=25),
)
def test_a_power_loss_takes_nothing_that_was_synced(seed, steps):
    random = Random(seed)
    files = MemoryFiles()
    writer = JournalWriter(ROOT, segment_bytes=120, disk=True, files=files)
    files.sync_directory(ROOT)
    written, synced, refused = {}, {}, set()
    for step in steps:
        if step in ("append", "short"):
            payloads = [random.randbytes(random.randint(1, 30)) for _ in range(random.randint(1, 3))]
            files.short_writes = [random.randint(0, 60)] if step == "short" else []
            first = writer.number
            try:
                kept = writer.append(encode_all(payloads))
            except JournalFullError:
                kept = 0
            files.short_writes = []
            written.update(enumerate(payloads[:kept], first))
        elif step == "prepare":
            writer.prepare()
        elif step == "sync":
            try:
                writer.sync()
            except OSError:
                refused |= written.keys() - synced.keys()
            else:
                synced = {number: payload for number, payload in written.items() if number not in refused}
        else:
            files.sync_fails = True
            try:
                writer.sync()
            except OSError:
                refused |= written.keys() - synced.keys()
            files.sync_fails = False
    files.lose_power(random)
    frames, _ = read_all(files)
    assert synced.items() <= frames.items()
    assert frames.items() <= written.items()
