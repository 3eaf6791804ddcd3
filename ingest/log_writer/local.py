"""The local log's writer: keyed partitions as journals on this host's disk, one writer.

- The partition count is fixed when the log is made; a setting that differs ends the process (DESIGN, invariant 4).
- Room for a whole `append` is made before its first byte is written: a full log keeps nothing of it, so that trying
  again does not fill it with repeats.
- No offset that a worker may have registered is used again. A killed process leaves every frame it wrote, so counting
  them gives the next offset. A power loss may take frames that a worker has read and registered; the next offset
  is therefore also above the committed `last` of each partition.
- Bounded: the segments of all partitions stay within `log_bytes_max`, of which two segments per partition are held back
  for partitions whose records are all registered: their worker can free what it holds only by
  registering a next batch, so it must be able to get one. Passed only by runs larger than a segment.
- With `disk`, what `append` took is on disk before it returns.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.journal.cursor import StateFile
from infra.journal.files import Lock, OsFiles
from infra.journal.frame import encode_all
from infra.journal.local_log import log_root, partition_count, partition_directory, partitions_file, read_committed
from infra.journal.segment import SUFFIX
from infra.journal.writer import JournalFullError, JournalWriter, recover
from schemas.errors import FatalError, RetryError
from schemas.settings import KIB, Settings

SEGMENT_BYTES_MIN = 4 * KIB
LOCK_POLL_S = 0.02


class LocalLogWriter:
    """Fills the LogWriter port with journals below `root`. Use `open`, which takes the lock and checks the count."""

    def __init__(self, root: Path, partitions: int, *, segment_bytes: int, log_bytes_max: int, disk: bool) -> None:
        self._root = root
        self._partitions = partitions
        self._segment_bytes = segment_bytes
        self._limit = max(log_bytes_max - 2 * partitions * segment_bytes, log_bytes_max // 2)
        self._disk = disk
        self._lock = Lock(root / "writer.lock")
        self._writers: dict[int, JournalWriter] = {}

    @classmethod
    def open(cls, settings: Settings, *, lock_wait_s: float = 10.0) -> LocalLogWriter:
        """Take the log of `settings.data_dir`, making it when it is not there; blocks until a former writer is gone.

        Raises RetryError when another process keeps the log, FatalError when the log has another partition count.
        """
        fair_share = settings.log_bytes_max // (4 * settings.partitions)
        log = cls(
            log_root(settings.data_dir),
            settings.partitions,
            segment_bytes=max(min(settings.segment_bytes_max // 4, fair_share), SEGMENT_BYTES_MIN),
            log_bytes_max=settings.log_bytes_max,
            disk=settings.sync == "disk",
        )
        deadline_s = time.monotonic() + lock_wait_s
        while not log._lock.acquire():
            if time.monotonic() >= deadline_s:
                raise RetryError(f"{log._root}: another process writes this log")
            time.sleep(LOCK_POLL_S)
        try:
            log._fix_partitions()
        except BaseException:
            log._lock.release()
            raise
        return log

    @property
    def partitions(self) -> int:
        """How many partitions the log has."""
        return self._partitions

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Append each partition's hits. See LogWriter; RetryError: the log is full, or its disk failed."""
        frames = {partition: encode_all(hits) for partition, hits in runs.items() if hits}
        try:
            for partition, run in frames.items():
                writer = self._writer(partition)
                size = sum(map(len, run))
                if size > writer.room:
                    writer.prepare(size)
            for partition, run in frames.items():
                if self._writers[partition].append(run) < len(run):
                    raise RetryError(f"partition {partition} took a part of its run only")
            if self._disk:
                await asyncio.gather(*(asyncio.to_thread(self._writers[partition].sync) for partition in frames))
        except (JournalFullError, OSError) as error:
            raise RetryError(f"the local log cannot take hits now: {error}") from error

    async def close(self) -> None:
        """Close the files and give the lock back."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._lock.release()

    def _fix_partitions(self) -> None:
        made_with = partition_count(self._root)
        if made_with is None:
            self._sync_directories()
            StateFile(partitions_file(self._root), disk=self._disk).write({"partitions": self._partitions})
        elif made_with != self._partitions:
            raise FatalError(
                f"{self._root} was made with {made_with} partitions, the setting `partitions` says {self._partitions}. "
                f"The count of a log is fixed: set HITSTREAM_PARTITIONS={made_with} (or partitions = {made_with} in "
                "hitstream.toml), or start with an empty data directory"
            )

    def _writer(self, partition: int) -> JournalWriter:
        if partition not in self._writers:
            if not 0 <= partition < self._partitions:
                raise ValueError(f"the log has no partition {partition}")
            directory = partition_directory(self._root, partition)
            directory.mkdir(parents=True, exist_ok=True)
            if self._disk:
                OsFiles().sync_directory(self._root)
            number, ordinal = recover(directory)
            committed = read_committed(directory)
            self._writers[partition] = JournalWriter(
                directory,
                number=max(number, committed.last + 1 if committed else 0),
                ordinal=ordinal,
                segment_bytes=self._segment_bytes,
                disk=self._disk,
                allow=lambda size: self._used_bytes() + size <= self._limit or self._is_drained(partition),
            )
        return self._writers[partition]

    def _is_drained(self, partition: int) -> bool:
        committed = read_committed(partition_directory(self._root, partition))
        return self._writers[partition].number <= (committed.last + 1 if committed else 0)

    def _used_bytes(self) -> int:
        used = 0
        for partition in range(self._partitions):
            directory = partition_directory(self._root, partition)
            for name in OsFiles().names(directory):
                if name.endswith(SUFFIX):
                    try:
                        used += os.stat(directory / name).st_size  # noqa: PTH116  many files, one number each
                    except FileNotFoundError:  # its reader was faster
                        continue
        return used

    def _sync_directories(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        if self._disk:
            for directory in (self._root, *self._root.parents[:3]):
                OsFiles().sync_directory(directory)
