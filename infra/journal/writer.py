"""The writer of a journal: appends frames with one write, rolls to a new segment when one is full.

- One write per `append`; what a short write or a full disk cut off is not counted, and its numbers are used again.
- A segment that took a short write, or that failed to reach the disk, is left for good: a torn frame is only ever a
  segment's last, and no acknowledged frame stands behind one that a power loss may take.
- Creating, allocating and closing files happen in `prepare` and `sync`, which may run off the event loop; `append`
  itself only renames a prepared file when it rolls. Frames larger than a segment get a segment of their size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock as ThreadLock

from infra.journal.files import Files, OsFiles
from infra.journal.frame import HEADER_BYTES, decode, wanted_bytes, whole_frames
from infra.journal.segment import SUFFIX, Segment, segments

RECOVERY_READ_BYTES = 4 * 1024 * 1024
NONE = -2  # no handle, not even the -1 of a writer without a segment


class JournalFullError(Exception):
    """No segment may be added now: the byte limit is reached or the disk is full. Nothing was kept."""


class JournalWriter:
    """Appends to the journal in `directory`, from frame number `number` in a new segment `ordinal`.

    With `disk`, a segment is synced before it is closed, and `sync` covers all that was appended.

    `allow(size)` is asked, off the event loop, before a segment of that size is created; False keeps it from being.
    """

    def __init__(  # noqa: PLR0913  where, from where, how large
        self,
        directory: Path,
        *,
        number: int = 0,
        ordinal: int = 0,
        segment_bytes: int,
        disk: bool = False,
        allow: Callable[[int], bool] = lambda _: True,
        files: Files | None = None,
    ) -> None:
        self.number = number
        self.segments_rolled = 0
        self._files: Files = files or OsFiles()
        self._directory = directory
        self._ordinal = ordinal
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._allow = allow
        self._handle = -1
        self._room = 0
        self._spare = -1
        self._spare_bytes = 0
        self._dirty: deque[int] = deque()
        self._suspect = NONE
        self._failure: OSError | None = None
        self._names_synced = 0
        self._guard = ThreadLock()

    @property
    def wants_prepare(self) -> bool:
        """Whether `prepare` has something to do: no spare segment, or closed-off ones to tidy up."""
        return self._spare < 0 or bool(self._dirty)

    @property
    def room(self) -> int:
        """How many bytes still go into the current segment."""
        return self._room

    def prepare(self, size: int = 0) -> None:
        """Have a spare segment ready, for `size` bytes at least. Slow; may run in a thread beside `append`.

        Raises JournalFullError.
        """
        wanted = max(size, self._segment_bytes)
        with self._guard:
            self._retire()
            if self._spare >= 0 and self._spare_bytes >= size:
                return
            self._discard_spare()
            if not self._allow(wanted):
                raise JournalFullError(f"{self._directory}: the byte limit of this journal's root is reached")
            path = self._spare_path()
            try:
                self._files.unlink(path)
                self._spare = self._files.create(path, wanted)
            except OSError as error:
                raise JournalFullError(f"{path}: {error.strerror}") from error
            self._spare_bytes = wanted

    def append(self, frames: Sequence[bytes]) -> int:
        """Write frames with one write and return how many of them, from the first on, are kept.

        Raises JournalFullError when none can be; fewer than all are kept when the disk fills up midway.
        """
        data = b"".join(frames)
        if len(data) > self._room or self._suspect == self._handle:
            self._roll(len(data))
        try:
            written = self._files.write(self._handle, data)
        except OSError:
            written = 0
        if written == len(data):
            self._room -= written
            self.number += len(frames)
            return len(frames)
        kept = whole_frames(frames, written)
        self.number += kept
        self._leave()
        if not kept:
            raise JournalFullError(f"{self._directory}: a write got {written} of {len(data)} bytes in")
        return kept

    def sync(self) -> None:
        """Return when everything appended before this call is on disk. May run in a thread beside `append`.

        Raises OSError when some of it may not be; it must not be acknowledged, and a later `sync` does not cover it.
        """
        with self._guard:
            handle, rolled = self._handle, self.segments_rolled  # a roll from here on is the next sync's affair
            # before `_retire`, which closes it if `append` has left it meanwhile
            if handle >= 0 and not self._datasync(handle):
                self._suspect = handle
            self._retire()
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if rolled != self._names_synced:
                self._files.sync_directory(self._directory)
                self._names_synced = rolled

    def close(self) -> None:
        """Close the files. What was appended stays; the unused spare goes."""
        self._leave()
        with self._guard:
            self._retire()
            self._discard_spare()

    def _roll(self, wanted: int) -> None:
        if self._spare < 0 or self._spare_bytes < wanted:
            self.prepare(wanted)
        segment = Segment(self._ordinal, self.number)
        try:
            self._files.rename(self._spare_path(), self._directory / segment.name)
        except OSError as error:
            raise JournalFullError(f"{self._directory / segment.name}: {error.strerror}") from error
        self._leave()
        self._room = self._spare_bytes
        self._handle, self._spare = self._spare, -1
        self._ordinal += 1
        self.segments_rolled += 1

    def _leave(self) -> None:
        if self._handle >= 0:
            self._dirty.append(self._handle)
            self._handle = -1
        self._room = 0
        self._suspect = NONE

    def _retire(self) -> None:
        while self._dirty:
            handle = self._dirty.popleft()
            with suppress(OSError):  # only gives unused bytes back
                self._files.truncate(handle)
            if self._disk:
                self._datasync(handle)
            self._files.close(handle)

    def _datasync(self, handle: int) -> bool:
        try:
            self._files.datasync(handle)
        except OSError as error:  # told once by the kernel; the next sync must not take silence for success
            self._failure = error
            return False
        return True

    def _discard_spare(self) -> None:
        if self._spare >= 0:
            self._files.close(self._spare)
            self._spare = -1
            self._files.unlink(self._spare_path())

    def _spare_path(self) -> Path:
        return self._directory / f".spare{SUFFIX}"


def recover(directory: Path, files: Files | None = None) -> tuple[int, int]:
    """Return (next frame number, next segment ordinal) of a journal that a former writer left, torn tail or not."""
    files = files or OsFiles()
    present = segments(files, directory)
    if not present:
        return 0, 0
    last = present[-1]
    handle = files.open(directory / last.name)
    try:
        return last.base + _count(files, handle), last.ordinal + 1
    finally:
        files.close(handle)


def _count(files: Files, handle: int) -> int:
    count = at = 0
    while True:
        wanted = wanted_bytes(files.read(handle, HEADER_BYTES, at))
        if not wanted:
            return count
        payloads, used = decode(files.read(handle, max(RECOVERY_READ_BYTES, wanted), at))
        if not payloads:
            return count
        count += len(payloads)
        at += used
