"""The reader of a journal: frames in order, whole or not at all, across segments, torn tails and gaps.

It never yields a damaged frame, never a frame twice, and leaves a segment only after it has seen the successor **and
then** read the tail once more: a frame written between the first look at the tail and the look for the successor is
not lost.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from infra.journal.files import Files, OsFiles
from infra.journal.frame import HEADER_BYTES, decode, wanted_bytes
from infra.journal.segment import Segment, segments

SEEK_READ_BYTES = 1024 * 1024
STRIDE_BYTES_MIN = 64 * 1024  # read at the journal's end, where most of a segment is zeros yet to be written
STRIDE_BYTES_MAX = 16 * 1024 * 1024


class JournalDamageError(Exception):
    """The journal contradicts itself in a way that reading on could turn into wrong records."""


class Position(NamedTuple):
    """Where a reader stands: the segment's ordinal, the byte in it, and the next frame's number."""

    ordinal: int = -1
    byte: int = 0
    number: int = 0


class Chunk(NamedTuple):
    """Consecutive frames: the first one's number, the payloads, and the position behind them.

    `gap` frames are missing before the first: damage took them.
    """

    first: int
    payloads: list[bytes]
    after: Position
    gap: int = 0


class JournalReader:
    """Reads the journal in `directory` from `position` on.

    To go on later, keep the `after` of the last chunk that was dealt with: `position` may already stand behind a gap
    that the next chunk will tell of.
    """

    def __init__(self, directory: Path, position: Position = Position(), files: Files | None = None) -> None:  # noqa: B008
        self.position = position
        self._directory = directory
        self._files: Files = files or OsFiles()
        self._handle = -1
        self._segment: Segment | None = None
        self._gap = 0
        self._stride = STRIDE_BYTES_MIN

    def read(self, bytes_max: int) -> Chunk | None:
        """Return the next frames, at most about `bytes_max` bytes, or None when there are none now.

        A single larger frame is returned whole; fewer than there are may be returned. Raises JournalDamageError where
        segments overlap.
        """
        while True:
            chunk = self._tail(bytes_max)
            if chunk is not None:
                return chunk
            successor = self._successor()
            if successor is None:
                return None
            chunk = self._tail(bytes_max)  # once more, now that nothing can be added there
            if chunk is not None:
                return chunk
            self._enter(successor)

    def more(self) -> bool:
        """Return whether `read` has something to do: a whole frame, or a successor to go to. Cheap, moves nothing."""
        return bool(self._decoded(1)[0]) or self._successor() is not None

    def to_end(self) -> int:
        """Move behind the last whole frame without reading what lies before its segment; return the next number."""
        present = segments(self._files, self._directory)
        if present and present[-1].ordinal > self.position.ordinal:
            self._stand(present[-1], 0, present[-1].base)
        while self.read(SEEK_READ_BYTES) is not None:
            pass
        return self.position.number

    def seek(self, number: int) -> int:
        """Stand where the next frame read is `number`, or the first one behind it that is there.

        Returns the number it stands at: above `number` where frames are known to be gone; gaps still to be found show
        in the next chunk. Only within what the journal holds: to read again from a number that was read before.
        """
        self.close()
        self.position = Position()
        self._gap = 0
        present = segments(self._files, self._directory)
        holders = [segment for segment in present if segment.base <= number]
        start = holders[-1] if holders else (present[0] if present else None)
        if start is None:
            self.position = Position(number=number)
            return number
        self._stand(start, 0, start.base)
        while self.position.number < number:
            chunk = self.read(SEEK_READ_BYTES)
            if chunk is None:
                break
            if chunk.after.number > number:
                keep = max(number - chunk.first, 0)
                unread = sum(len(payload) + HEADER_BYTES for payload in chunk.payloads[keep:])
                ordinal, byte, _ = chunk.after
                self.position = Position(ordinal, byte - unread, chunk.first + keep)
                break
        self._gap = 0
        return self.position.number

    def skip_deleted(self) -> None:
        """Where the segment of `position` is gone, stand at the first one there is.

        For a reader that starts from a kept position: segments are deleted only when they were dealt with, so what is
        missing in front is no gap.
        """
        present = segments(self._files, self._directory)
        if present and present[0].ordinal > self.position.ordinal:
            self._stand(present[0], 0, present[0].base)

    def lost_behind(self) -> int:
        """Return how many frames stand in this segment behind a damaged one at `position`, that one included.

        0 where the segment simply ends, with a torn write too: that frame was never acknowledged. Damage to the
        last frame looks the same, and damaged lengths end the count.
        """
        if not self._open():
            return 0
        at = self.position.byte
        passed = lost = 0
        while True:
            wanted = wanted_bytes(self._files.read(self._handle, HEADER_BYTES, at))
            if not wanted:
                return lost
            payloads, used = decode(self._files.read(self._handle, max(wanted, STRIDE_BYTES_MIN), at))
            if payloads:
                lost += passed + len(payloads)
                passed = 0
            else:
                passed += 1
            at += used or wanted

    def delete_before(self, position: Position) -> int:
        """Delete the segments that end before `position`, which must be one that `read` returned; return how many."""
        count = 0
        for segment in segments(self._files, self._directory):
            if segment.ordinal < position.ordinal:
                self._files.unlink(self._directory / segment.name)
                count += 1
        return count

    def delete_below(self, number: int) -> int:
        """Delete the segments that hold only frames below `number`, never the newest one; return how many."""
        present = segments(self._files, self._directory)
        count = 0
        for segment, successor in pairwise(present):
            if successor.base <= number and segment.ordinal < self.position.ordinal:
                self._files.unlink(self._directory / segment.name)
                count += 1
        return count

    def sync_from(self, number: int) -> None:
        """Return when every frame from `number` on that was there before this call is on disk. Raises OSError."""
        present = segments(self._files, self._directory)
        ended = {segment for segment, successor in pairwise(present) if successor.base <= number}
        for segment in present:
            if segment not in ended:
                handle = self._files.open(self._directory / segment.name)
                try:
                    self._files.datasync(handle)
                finally:
                    self._files.close(handle)
        self._files.sync_directory(self._directory)

    def close(self) -> None:
        """Close the open segment; `position` stays."""
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1

    def _stand(self, segment: Segment, byte: int, number: int) -> None:
        self.close()
        self._segment = segment
        self.position = Position(segment.ordinal, byte, number)

    def _tail(self, bytes_max: int) -> Chunk | None:
        payloads, used = self._decoded(bytes_max)
        if not payloads:
            self._stride = STRIDE_BYTES_MIN
            return None
        if 2 * used > self._stride:
            self._stride = min(4 * self._stride, STRIDE_BYTES_MAX)
        ordinal, byte, first = self.position
        self.position = Position(ordinal, byte + used, first + len(payloads))
        gap, self._gap = self._gap, 0
        return Chunk(first, payloads, self.position, gap)

    def _decoded(self, bytes_max: int) -> tuple[list[bytes], int]:
        if not self._open():
            return [], 0
        byte = self.position.byte
        wanted = wanted_bytes(self._files.read(self._handle, HEADER_BYTES, byte))
        if not wanted:
            return [], 0
        return decode(self._files.read(self._handle, max(min(bytes_max, self._stride), wanted), byte))

    def _open(self) -> bool:
        if self._handle >= 0:
            return True
        if self.position.ordinal < 0:
            return False
        if self._segment is None or self._segment.ordinal != self.position.ordinal:
            found = [s for s in segments(self._files, self._directory) if s.ordinal == self.position.ordinal]
            if not found:
                return False
            self._segment = found[0]
        self._handle = self._files.open(self._directory / self._segment.name)
        return True

    def _successor(self) -> Segment | None:
        for segment in segments(self._files, self._directory):
            if segment.ordinal > self.position.ordinal:
                return segment
        return None

    def _enter(self, segment: Segment) -> None:
        gap = segment.base - self.position.number
        if gap < 0:
            raise JournalDamageError(
                f"{self._directory / segment.name} starts at {segment.base}, "
                f"but frames up to {self.position.number} were read"
            )
        self._gap += gap
        self._stand(segment, 0, segment.base)
