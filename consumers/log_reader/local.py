"""The local log's reader: one worker's share of the partitions, fenced by a lock file each.

- A partition is ours while we hold its `owner.lock`; the kernel frees it when the process ends, however it ends. So two
  workers never own one partition, whatever share each believes in, and a changed number of workers needs no care.
- `register` writes `committed.json` whole, then deletes segments that end before the batch; with `disk` the
  batch's own records are on disk before the registration is.
- What cannot be committed ends the assignment (FencedError); the next one starts from what the file says.
- Damage is skipped and counted, record by record (`damaged`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from consumers.log_reader.port import FencedError, PartitionLog, Record, Registered
from infra.journal.files import Lock
from infra.journal.local_log import Committed, partition_count, partition_directory, read_committed, write_committed
from infra.journal.reader import JournalDamageError, JournalReader
from schemas.hit import KEY_END, KEY_START, PREFIX
from schemas.topics import HITS

logger = logging.getLogger(__name__)

POLL_S_MIN = 0.005
POLL_S_MAX = 0.05
RETAKE_S = 0.05  # how soon a lock that another process holds is tried again
FAULT_S = 1.0  # how soon a partition is taken again whose commit failed


class LocalPartitionLog:
    """One partition while its lock is ours. See PartitionLog for the calls."""

    def __init__(self, directory: Path, partition: int, lock: Lock, *, disk: bool) -> None:
        self.damaged = 0
        self._directory = directory
        self._partition = partition
        self._lock = lock
        self._disk = disk
        committed = read_committed(directory)
        self._registered = Registered(*committed) if committed else None
        self._reader = JournalReader(directory)
        self._ending = JournalReader(directory)
        first = self._registered.first if self._registered else 0
        if disk:
            self._reader.sync_from(first)  # a former owner may have been refused by the disk half-way
        self._first = self._reader.seek(first)
        if self._registered:
            self.damaged = self._first - first
        self._payloads: list[bytes] = []
        self._at = 0

    @property
    def topic(self) -> str:
        """The topic's name."""
        return HITS

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self._partition

    @property
    def registered(self) -> Registered | None:
        """What was last registered; None for a fresh partition."""
        return self._registered

    @property
    def over(self) -> bool:
        """Whether this assignment has ended."""
        return not self._lock.held

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> Sequence[Record]:
        """Return the next records and move behind them. Raises FencedError."""
        self._check()
        records: list[Record] = []
        size = 0
        while len(records) < records_max and (self._at < len(self._payloads) or self._refill(bytes_max - size)):
            offset, value = self._first + self._at, self._payloads[self._at]
            size += len(value)
            if (last is not None and offset > last) or (records and size > bytes_max):
                break
            self._at += 1
            records.append(Record(offset, value[KEY_START:KEY_END] if value.startswith(PREFIX) else b"", value))
        return records

    def register(self, batch: Registered) -> None:
        """Commit that this is the next batch; records before its first are done and may go.

        Raises FencedError: the partition is not ours, or the disk refused.
        """
        self._check()
        try:
            if self._disk:
                self._reader.sync_from(batch.first)
            write_committed(self._directory, Committed(*batch), disk=self._disk)
        except OSError as error:
            self.end_assignment()
            raise FencedError(
                f"{self._directory}: {batch.first}..{batch.last} could not be committed: {error}"
            ) from error
        self._registered = batch
        try:
            self._reader.delete_below(batch.first)
        except OSError as error:  # the next registration tries again
            logger.warning("%s: old segments stay for now: %s", self._directory, error)

    def end(self) -> int:
        """Return the offset that the next record written would get at least. Raises FencedError."""
        self._check()
        try:
            return max(self._ending.to_end(), self.position())
        except JournalDamageError as error:
            raise self._fence(error) from error

    def position(self) -> int:
        """Return the offset of the next record that `fetch` would return at the earliest."""
        return self._first + self._at if self._at < len(self._payloads) else self._reader.position.number

    def more(self) -> bool:
        """Return whether `fetch` may have something. Cheap."""
        return not self.over and (self._at < len(self._payloads) or self._reader.more())

    def end_assignment(self) -> None:
        """Give the partition back."""
        self._reader.close()
        self._ending.close()
        self._lock.release()

    def _check(self) -> None:
        if not self._lock.held:
            raise FencedError(f"{self._directory} is no longer ours")

    def _refill(self, bytes_max: int) -> bool:
        if bytes_max <= 0:
            return False
        try:
            chunk = self._reader.read(bytes_max)
        except JournalDamageError as error:
            raise self._fence(error) from error
        if chunk is None:
            return False
        if chunk.gap:
            self.damaged += chunk.gap
            logger.error("%s: %d records before offset %d are lost to damage", self._directory, chunk.gap, chunk.first)
        self._first, self._payloads, self._at = chunk.first, chunk.payloads, 0
        return True

    def _fence(self, error: JournalDamageError) -> FencedError:
        """End an assignment whose positions a writer's recovery has overtaken; the next one starts from the files."""
        self.end_assignment()
        return FencedError(str(error))


class LocalLogReader:
    """Fills the LogReader port for worker number `worker` of `workers`; its partitions: p with p mod workers = worker.

    `wake` cuts `wait` short once it is set. Raises FatalError where files that fix the log are damaged.
    """

    def __init__(
        self, root: Path, *, worker: int = 0, workers: int = 1, disk: bool = False, wake: Event | None = None
    ) -> None:
        self._root = root
        self._worker = worker
        self._workers = workers
        self._disk = disk
        self._wake = wake or Event()
        self._partitions: int | None = None
        self._logs: dict[int, LocalPartitionLog] = {}
        self._not_before_s: dict[int, float] = {}
        self._damaged_before = 0
        self._poll_s = POLL_S_MIN

    @property
    def damaged(self) -> int:
        """How many records damage took before they could be read."""
        return self._damaged_before + sum(log.damaged for log in self._logs.values())

    def assigned(self) -> Sequence[PartitionLog]:
        """Return the partitions whose lock is ours; one that a dying predecessor still holds comes later."""
        if self._partitions is None:
            self._partitions = partition_count(self._root)
        for partition in range(self._worker, self._partitions or 0, self._workers):
            log = self._logs.get(partition)
            if log is None or log.over:
                self._take(partition)
        return list(self._logs.values())

    def wait(self, timeout_s: float) -> None:
        """Return when a partition may have new records, when `wake` is set, at the latest after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            rest_s = deadline_s - time.monotonic()
            if rest_s <= 0 or self._wake.wait(min(self._poll_s, rest_s)):
                return
            if any(log.more() for log in self._logs.values()):
                self._poll_s = POLL_S_MIN
                return
            self._poll_s = min(2 * self._poll_s, POLL_S_MAX)

    def close(self) -> None:
        """Give the partitions back."""
        for log in self._logs.values():
            self._damaged_before += log.damaged
            log.end_assignment()
        self._logs.clear()

    def _take(self, partition: int) -> None:
        former = self._logs.pop(partition, None)
        now_s = time.monotonic()
        if former is not None:
            self._damaged_before += former.damaged
            self._not_before_s[partition] = now_s + FAULT_S
        if now_s < self._not_before_s.get(partition, 0.0):
            return
        directory = partition_directory(self._root, partition)
        lock = Lock(directory / "owner.lock")
        if not lock.acquire():
            self._not_before_s[partition] = now_s + RETAKE_S
            return
        try:
            self._logs[partition] = LocalPartitionLog(directory, partition, lock, disk=self._disk)
        except OSError as error:
            lock.release()
            self._not_before_s[partition] = now_s + FAULT_S
            logger.warning("%s: cannot be taken now: %s", directory, error)
        except BaseException:
            lock.release()
            raise
