import os
import stat

import pytest

from infra.journal.files import Lock, OsFiles
from infra.journal.reader import JournalReader
from ingest.spool import OWNER_LOCK, Spool, SpoolError, spooled_bytes

SEGMENT = 64 * 1024


def made(root, segments=8, **changes):
    defaults = {"bytes_max": segments * SEGMENT, "segment_bytes_max": SEGMENT, "collectors": 1, "disk": False}
    return Spool(root, **{**defaults, **changes})


def payloads(spool):
    reader = JournalReader(spool.directory)
    found = []
    while (chunk := reader.read(1 << 20)) is not None:
        found += chunk.payloads
    reader.close()
    return found


def test_a_spool_is_owned_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    rename = type(tmp_path).rename

    def look(self, target):
        if self.is_dir():
            seen.append((self.name[0], not Lock(self / OWNER_LOCK).acquire()))
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", look)
    spool = made(tmp_path)
    assert seen == [(".", True)]
    assert len(spool.id) == 16
    assert not Lock(spool.directory / OWNER_LOCK).acquire()
    spool.close()
    lock = Lock(spool.directory / OWNER_LOCK)
    assert lock.acquire()
    lock.release()


def test_every_start_has_its_own_id_and_clears_unfinished_directories(tmp_path):
    (tmp_path / ".new-1234").mkdir()
    spools = [made(tmp_path) for _ in range(3)]
    assert len({spool.id for spool in spools}) == 3
    assert not list(tmp_path.glob(".new-*"))
    for spool in spools:
        spool.close()


def test_numbers_follow_what_is_kept_across_segments(tmp_path):
    spool = made(tmp_path)
    hits = [b"%06d" % number + bytes(1000) for number in range(200)]
    for start in range(0, 200, 10):
        assert spool.next_seq == start
        assert spool.append(hits[start : start + 10]) == 10
        if spool.wants_prepare:
            assert spool.prepare()
    assert spool.segments_begun == 4
    assert payloads(spool) == hits
    spool.close()
    assert payloads(spool) == hits


def test_the_byte_limit_holds_for_all_spools_together(tmp_path):
    """Two spools share eight segments, spares included; what the reader deletes comes back."""
    spools = [made(tmp_path) for _ in range(2)]
    group = [bytes(6000)] * 10
    kept = {spool.id: 0 for spool in spools}
    for _ in range(10):
        for spool in spools:
            kept[spool.id] += spool.append(group)
            spool.prepare()
            assert spooled_bytes(tmp_path) <= 8 * SEGMENT
    assert sum(kept.values()) == 80
    assert all(spool.full for spool in spools)
    for spool in spools:
        assert len(payloads(spool)) == kept[spool.id] == spool.next_seq
        assert not spool.prepare()
    first = spools[0]
    oldest = sorted(first.directory.glob("0*.seg"))[:2]
    for segment in oldest:
        segment.unlink()
    assert first.append(group) == 0  # not before room was made
    assert first.prepare()
    assert not first.full
    assert first.append(group) == 10
    for spool in spools:
        spool.close()


def test_no_creation_is_tried_again_on_the_loop_once_one_was_refused(tmp_path, monkeypatch):
    spool = made(tmp_path, segments=1)
    assert spool.append([bytes(60_000)]) == 1
    asked = []
    monkeypatch.setattr(spool, "_allow", lambda size: asked.append(size) or False)
    assert not spool.prepare()
    for _ in range(5):
        assert spool.append([bytes(60_000)]) == 0
    assert spool.full
    spool.close()


class ShortFiles(OsFiles):
    """A disk on which the next write gets only `room` bytes in."""

    room = None

    def write(self, handle, data):
        if self.room is None:
            return super().write(handle, data)
        written = super().write(handle, data[: self.room])
        self.room = None
        return written


def test_after_a_short_write_the_rest_is_refused_and_its_numbers_are_used_again(tmp_path):
    files = ShortFiles()
    spool = made(tmp_path, files=files)
    assert spool.append([b"a" * 100]) == 1
    spool.prepare()
    files.room = 250
    assert spool.append([b"b" * 100, b"c" * 100, b"d" * 100]) == 2
    assert spool.next_seq == 3
    assert spool.append([b"e" * 100]) == 1
    files.room = 0
    spool.prepare()
    assert spool.append([b"f" * 100]) == 0
    assert spool.full
    assert spool.prepare()
    assert spool.append([b"g" * 100]) == 1
    assert [payload[:1] for payload in payloads(spool)] == [b"a", b"b", b"c", b"e", b"g"]
    spool.close()


def test_sync_covers_what_was_appended(tmp_path):
    synced = []

    class Files(OsFiles):
        def datasync(self, handle):
            synced.append(os.fstat(handle).st_ino)
            super().datasync(handle)

    spool = made(tmp_path, disk=True, files=Files())
    assert spool.append([b"a"]) == 1
    spool.sync()
    segment = next(spool.directory.glob("0*.seg"))
    assert synced == [segment.stat().st_ino]
    assert not segment.stat().st_mode & stat.S_IRWXO
    spool.close()


def test_a_root_that_cannot_be_used_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="no spool can be made"):
        made(tmp_path / "file" / "spool")
