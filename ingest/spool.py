"""The spool of one collector process: a journal of its own under an id that is never used again.

- The id is 64 random bits, minted at every start; numbers are dense from 0 (invariant 4).
- `owner.lock` is held before the directory gets its name, and as long as the process lives: a forwarder never takes a
  living spool for a dead one. Directories under a dot-name are no spools.
- Segments are created off the event loop, and only under the host's byte limit: the check and the creation happen
  under one lock of all collectors (`budget.lock`), so that together they cannot pass it (invariant 3).
- What `append` counts as kept is in the page cache, and on disk once a `sync` that began later has returned.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock as ThreadLock

from infra.journal.files import Files, Lock, OsFiles
from infra.journal.frame import HEADER_BYTES, encode_all
from infra.journal.segment import SUFFIX
from infra.journal.writer import JournalFullError, JournalWriter

OWNER_LOCK = "owner.lock"
BUDGET_LOCK = "budget.lock"
FRESH_PREFIX = ".new-"
SEGMENT_BYTES_MIN = 64 * 1024
SEGMENTS_PER_COLLECTOR = 8


class SpoolError(Exception):
    """The spool directory cannot be used at all; the message says why."""


class Spool:
    """A new spool under `root`; used by one process, `prepare` and `sync` in one thread beside the event loop.

    `bytes_max` is the limit of all spools under `root` together, `collectors` how many share it. Raises SpoolError.
    """

    def __init__(  # noqa: PLR0913  where, how large, how durable
        self,
        root: Path,
        *,
        bytes_max: int,
        segment_bytes_max: int,
        collectors: int,
        disk: bool,
        files: Files | None = None,
    ) -> None:
        self.id = f"{secrets.randbits(64):016x}"
        self.directory = root / self.id
        self.segment_bytes = max(SEGMENT_BYTES_MIN, min(segment_bytes_max, bytes_max // _shares(collectors)))
        self.segments_begun = 0
        self._root = root
        self._bytes_max = bytes_max
        self._room = 0
        self._refused = False
        self._full = False
        self._guard = ThreadLock()
        try:
            self._lock = self._create()
        except OSError as error:
            raise SpoolError(f"{root}: no spool can be made here: {error.strerror}") from error
        self._writer = JournalWriter(
            self.directory, segment_bytes=self.segment_bytes, disk=disk, allow=self._allow, files=files
        )
        if disk:
            OsFiles().sync_directory(root)

    @property
    def next_seq(self) -> int:
        """The number of the hit that is appended next."""
        return self._writer.number

    @property
    def full(self) -> bool:
        """Whether hits were refused and no room has come back since."""
        return self._full

    @property
    def wants_prepare(self) -> bool:
        """Whether `prepare` has something to do."""
        return self._full or self._writer.wants_prepare

    def append(self, hits: Sequence[bytes]) -> int:
        """Write hits with one write; return how many, from the first on, are kept. 0 while the spool is full.

        Their frames must fit into one segment together.
        """
        frames = encode_all(hits)
        size = sum(map(len, frames))
        if size > self._room and not self._make_room():
            self._full = True
            return 0
        try:
            kept = self._writer.append(frames)
        except (JournalFullError, OSError):  # the spare was there, so this is the disk failing, not filling up
            kept = 0
            self._full = True
        if self._writer.segments_rolled != self.segments_begun:
            self.segments_begun = self._writer.segments_rolled
            self._room = self.segment_bytes
        self._room = self._room - size if kept == len(frames) else 0
        return kept

    def prepare(self) -> bool:
        """Have a spare segment ready, so that `append` can go on; return whether it can. Slow: run it in a thread."""
        with self._guard:
            try:
                with self._budget():
                    self._writer.prepare()
            except (JournalFullError, OSError):
                self._refused = True
                return False
            self._refused = False
            self._full = False
            return True

    def sync(self) -> None:
        """Return when everything appended before this call is on disk. Slow: run it in a thread. Raises OSError."""
        self._writer.sync()

    def close(self) -> None:
        """Close the files and give the owner's lock back: the forwarder drains and removes the directory."""
        with self._guard:
            self._writer.close()
        self._lock.release()

    def frame_bytes(self, hits: Sequence[bytes]) -> int:
        """Return how many bytes hits take in a segment."""
        return sum(map(len, hits)) + HEADER_BYTES * len(hits)

    def _make_room(self) -> bool:
        """Return whether a spare segment is there to roll to.

        When the last `prepare` was refused this says no at once; when it has not run yet, it runs here: the one case
        in which a segment is created on the event loop, and only when hits filled one before its spare was made.
        """
        if not self._writer.wants_prepare:
            return True
        return not self._refused and self.prepare()

    def _create(self) -> Lock:
        self._root.mkdir(parents=True, exist_ok=True)
        fresh = self._root / f"{FRESH_PREFIX}{self.id}"
        with self._budget():
            self._remove_unfinished()
            fresh.mkdir(mode=0o750)
            lock = Lock(fresh / OWNER_LOCK)
            if not lock.acquire():
                raise SpoolError(f"{fresh}: locked by another process")
            fresh.rename(self.directory)
        return lock

    def _remove_unfinished(self) -> None:
        """Remove what a process left that died between making its directory and naming it; under the budget lock."""
        for left in self._root.glob(f"{FRESH_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _budget(self) -> Iterator[None]:
        handle = os.open(self._root / BUDGET_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _allow(self, size: int) -> bool:
        return spooled_bytes(self._root) + size <= self._bytes_max


def spooled_bytes(root: Path) -> int:
    """Return the bytes of all segments, spares included, of all spools under `root`."""
    total = 0
    for spool in os.scandir(root):
        if not spool.is_dir(follow_symlinks=False):
            continue
        try:
            names = os.scandir(spool.path)
        except FileNotFoundError:  # the forwarder removed it just now
            continue
        with names:
            for entry in names:
                if entry.name.endswith(SUFFIX):
                    total += _size(entry)
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # the forwarder deleted it just now
        return 0


def _shares(collectors: int) -> int:
    return SEGMENTS_PER_COLLECTOR * max(collectors, 1)
