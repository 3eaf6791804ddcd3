"""The writer: what `append` says is kept is kept, room is made before it is needed, a failed sync is told."""

from pathlib import Path
from random import Random

import pytest
from support.memory_files import MemoryFiles

from infra.journal.frame import decode, encode, encode_all
from infra.journal.reader import JournalReader
from infra.journal.segment import segments
from infra.journal.writer import JournalFullError, JournalWriter

ROOT = Path("/journal")


@pytest.fixture
def files():
    return MemoryFiles()


def writer_of(files, **options):
    return JournalWriter(ROOT, **{"segment_bytes": 100, "files": files, **options})


def payloads_in(files):
    reader = JournalReader(ROOT, files=files)
    payloads = []
    while (chunk := reader.read(1 << 20)) is not None:
        payloads += chunk.payloads
    return payloads


def test_frames_round_trip():
    frames = [encode(b"a"), encode(b"bc" * 100)]
    assert encode_all([b"a", b"bc" * 100]) == frames
    assert decode(b"".join(frames)) == ([b"a", b"bc" * 100], sum(map(len, frames)))


def test_a_short_write_keeps_the_whole_frames_and_leaves_the_segment(files):
    writer = writer_of(files)
    files.short_writes = [25]
    assert writer.append(encode_all([b"aaaa", b"bbbb", b"cccc"])) == 2
    writer.append(encode_all([b"dddd"]))
    assert payloads_in(files) == [b"aaaa", b"bbbb", b"dddd"]
    assert [segment.base for segment in segments(files, ROOT)] == [0, 2]


def test_a_full_disk_keeps_nothing_and_says_so(files):
    files.space = 50
    writer = writer_of(files)
    with pytest.raises(JournalFullError, match="No space left"):
        writer.append(encode_all([b"a"]))
    assert writer.number == 0
    files.space = None
    assert writer.append(encode_all([b"b"])) == 1
    assert payloads_in(files) == [b"b"]


def test_the_byte_limit_is_asked_before_each_segment(files):
    asked = []
    writer = writer_of(files, allow=lambda size: asked.append(size) or len(asked) < 2)
    writer.append(encode_all([b"a" * 60]))
    with pytest.raises(JournalFullError, match="byte limit"):
        writer.append(encode_all([b"b" * 60]))
    assert asked == [100, 100]
    assert payloads_in(files) == [b"a" * 60]


def test_frames_larger_than_a_segment_get_one_of_their_size(files):
    writer = writer_of(files)
    writer.prepare()
    writer.append(encode_all([b"a" * 500, b"b"]))
    writer.append(encode_all([b"c"]))
    assert payloads_in(files) == [b"a" * 500, b"b", b"c"]
    assert [segment.base for segment in segments(files, ROOT)] == [0, 2]


def test_prepare_for_a_size_makes_append_certain(files):
    writer = writer_of(files)
    writer.prepare(400)
    files.space = 0
    assert writer.append(encode_all([b"a" * 300])) == 1


def test_closing_removes_the_spare_and_gives_unused_bytes_back(files):
    writer = writer_of(files)
    writer.append(encode_all([b"a"]))
    writer.prepare()
    writer.close()
    assert [(path.name, len(file.data)) for path, file in files.files.items()] == [
        ("0000000000-00000000000000000000.seg", 9)
    ]
    assert files.open_handles == 0


def test_a_spare_that_a_killed_writer_left_is_replaced(files):
    writer_of(files).prepare()
    files.kill()
    writer = writer_of(files)
    writer.append(encode_all([b"a"]))
    assert payloads_in(files) == [b"a"]


def test_sync_covers_segments_that_append_has_left(files):
    writer = writer_of(files, disk=True)
    for value in range(5):
        writer.append(encode_all([b"%d" % value * 60]))
    writer.sync()
    files.lose_power(Random(1))
    assert payloads_in(files) == [b"%d" % value * 60 for value in range(5)]


def test_a_roll_while_sync_runs_takes_nothing_from_it(files):
    """`sync` runs in a thread; the loop appends and rolls just as it begins."""
    writer = writer_of(files, disk=True)
    writer.append(encode_all([b"a" * 60]))
    real = files.datasync

    def datasync_after_a_roll(handle):
        files.datasync = real
        writer._spare = files.create(ROOT / ".spare.seg", 100)  # prepare's lock is ours here
        writer._spare_bytes = 100
        writer.append(encode_all([b"b" * 60]))
        real(handle)

    files.datasync = datasync_after_a_roll
    writer.sync()
    files.lose_power(Random(1))
    assert payloads_in(files)[:1] == [b"a" * 60]


def test_a_sync_that_failed_while_a_spare_was_prepared_is_told_to_the_next_sync(files):
    writer = writer_of(files, disk=True)
    writer.append(encode_all([b"a" * 60]))
    writer.append(encode_all([b"b" * 60]))
    files.sync_fails = True
    writer.prepare()
    files.sync_fails = False
    with pytest.raises(OSError, match="Input/output error"):
        writer.sync()
    writer.sync()


def test_frames_after_a_failed_sync_go_to_a_new_segment(files):
    writer = writer_of(files, disk=True)
    writer.append(encode_all([b"lost"]))
    files.sync_fails = True
    with pytest.raises(OSError, match="Input/output error"):
        writer.sync()
    files.sync_fails = False
    writer.append(encode_all([b"safe"]))
    writer.sync()
    files.lose_power(Random(3))
    assert payloads_in(files)[-1:] == [b"safe"]
    assert len(files.names(ROOT)) == 2


def test_directory_names_are_synced_only_after_a_roll(files):
    writer = writer_of(files, disk=True)
    synced = []
    real = files.sync_directory
    files.sync_directory = lambda directory: synced.append(directory) or real(directory)
    for _ in range(3):
        writer.append(encode_all([b"a"]))
        writer.sync()
    assert synced == [ROOT]
    writer.append(encode_all([b"b" * 90]))
    writer.sync()
    assert synced == [ROOT, ROOT]
