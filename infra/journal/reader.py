"""The reader of a journal: frames in order, whole or not at all, across segments, torn tails and gaps.

It never yields a damaged frame, never a frame twice, and leaves a segment only after it has seen the successor **and
then** read the tail once more: a frame written between the first look at the tail and the look for the successor is
not lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from infra.journal.files import Files, OsFiles
from infra.journal.frame import HEADER_BYTES, decode, wanted_bytes
from infra.journal.segment import Segment, segments

SEEK_READ_BYTES = 1024 * 1024


class JournalDamageError(Exception):
    """The journal contradicts itself in a way that reading on could turn into wrong records."""


class Position(NamedTuple):
    """Where a reader stands: the segment's index, the byte in it, and the next frame's number."""

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
    """Reads the journal in `directory` from `position` on."""

    def __init__(self, directory: Path, position: Position = Position(), files: Files | None = None) -> None:  # noqa: B008
        self.position = position
        self._directory = directory
        self._files: Files = files or OsFiles()
        self._handle = -1
        self._segment: Segment | None = None

    def read(self, bytes_max: int) -> Chunk | None:
        """Return the next frames, up to about `bytes_max` bytes, or None when there are none now.

        A single larger frame is returned whole. Raises JournalDamageError where segments overlap.
        """
        gap = 0
        while True:
            chunk = self._tail(bytes_max, gap)
            if chunk is not None:
                return chunk
            successor = self._successor()
            if successor is None:
                return None
            chunk = self._tail(bytes_max, gap)  # once more, now that nothing can be added there
            if chunk is not None:
                return chunk
            gap += self._enter(successor)

    def seek(self, number: int) -> int:
        """Stand before frame `number`, or before the first one behind it that is there; return that one's number.

        Only within what the journal holds: to read again from a number that was read before.
        """
        self.close()
        self.position = Position()
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
        return self.position.number

    def delete_before(self, position: Position) -> int:
        """Delete the segments that end before `position`, which must be one that `read` returned; return how many."""
        count = 0
        for segment in segments(self._files, self._directory):
            if segment.ordinal < position.ordinal:
                self._files.unlink(self._directory / segment.name)
                count += 1
        return count

    def close(self) -> None:
        """Close the open segment; `position` stays."""
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1

    def _stand(self, segment: Segment, byte: int, number: int) -> None:
        self.close()
        self._segment = segment
        self.position = Position(segment.ordinal, byte, number)

    def _tail(self, bytes_max: int, gap: int) -> Chunk | None:
        if not self._open():
            return None
        size = max(bytes_max, HEADER_BYTES)
        buffer = self._files.read(self._handle, size, self.position.byte)
        wanted = wanted_bytes(buffer)
        if wanted > len(buffer) == size:
            buffer = self._files.read(self._handle, wanted, self.position.byte)
        payloads, used = decode(buffer)
        if not payloads:
            return None
        ordinal, byte, first = self.position
        self.position = Position(ordinal, byte + used, first + len(payloads))
        return Chunk(first, payloads, self.position, gap)

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

    def _enter(self, segment: Segment) -> int:
        gap = segment.base - self.position.number
        if gap < 0:
            raise JournalDamageError(
                f"{self._directory / segment.name} starts at {segment.base}, "
                f"but frames up to {self.position.number} were read"
            )
        self._stand(segment, 0, segment.base)
        return gap
