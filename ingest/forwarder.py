"""The forwarder: spools to event log, each hit to its key's partition, in order per spool (DESIGN, invariants 2 to 4).

- One forwarder per spool directory (`DATA/forwarder/owner.lock`).
- A cursor moves only when the log has acknowledged. One `append` is under way at a time, and after RetryError every
  spool starts again from its cursor: no later number of a spool goes to a partition before every earlier one
  is acknowledged there. Resends happen; they are the worker's to drop. Cursors are written when a segment is done, when
  nothing came, at the end, and every SAVE_EVERY_S.
- Nothing is skipped: a payload that is no hit goes to partition 0 as it is, where the worker rejects it.
- Segments are deleted only behind the cursor. A spool whose collector has ended (its lock is free) is drained once more
  under its lock; its totals are kept; then its directory goes.
- Memory is bounded by one round, `batch_bytes_max` shared by the spools that have hits; the log full means waiting
  here, and the spool is the buffer.
- A round costs the log a batch a partition, however few hits are in it. So under load rounds begin `linger_s` apart,
  which is what a hit waits here at most; hits that come one by one do not wait for company.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from infra.journal.files import Lock, OsFiles
from infra.journal.reader import JournalDamageError, JournalReader
from infra.journal.segment import segments
from ingest.forwarder_cursor import Cursors, SpoolCursor, Totals, forwarder_directory, spool_names, spool_root
from ingest.log_writer.port import LogWriter
from schemas.errors import FatalError, RetryError
from schemas.hit import KEY_END, KEY_START, PREFIX
from schemas.settings import KIB, Settings

logger = logging.getLogger(__name__)

POLL_S = 0.02  # how often spools are looked at in which nothing stands; it costs about 0.2 ms
BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 5.0
SHARE_BYTES_MIN = 16 * KIB
LAG_EVERY_S = 1.0
SAVE_EVERY_S = (
    0.05  # replacing a file costs ext4 milliseconds; what is sent again after a kill is dropped by the worker
)
PARTITION_OF_STRAYS = 0
PAGE_BYTES = 4096


class ForwarderCounters:
    """What the forwarder did since its start; `backoff_s`, `lag_bytes` and `spools` are how it is now."""

    def __init__(self) -> None:
        self.hits = 0
        self.bytes = 0
        self.rounds = 0
        self.retries = 0
        self.damaged = 0
        self.backoff_s = 0.0
        self.lag_bytes = 0
        self.spools = 0


class _Spool:
    """One spool directory: its reader, what of it is acknowledged, and its collector's lock once that is free."""

    def __init__(self, directory: Path, cursor: SpoolCursor) -> None:
        self.directory = directory
        self.reader = JournalReader(directory, cursor.position)
        self.reader.skip_deleted()
        self.cursor = SpoolCursor(self.reader.position, cursor.damaged)
        self.lock = Lock(directory / "owner.lock")
        self.asked_at_s = 0.0
        self.drained = False

    def rewind(self) -> None:
        """Stand at the cursor again."""
        self.reader.close()
        self.reader = JournalReader(self.directory, self.cursor.position)

    def close(self) -> None:
        self.reader.close()
        self.lock.release()

    def unread_bytes(self) -> int:
        """Return how many bytes stand behind the cursor."""
        position = self.cursor.position
        return sum(
            _data_bytes(self.directory / segment.name, position.byte if segment.ordinal == position.ordinal else 0)
            for segment in segments(OsFiles(), self.directory)
            if segment.ordinal >= position.ordinal
        )


class Forwarder:
    """Moves hits from the spools below `data_dir` to `writer`, about `batch_bytes_max` bytes a round.

    With `disk` the cursors are on disk before the segments behind them go. Behind a round that found hits, but no
    backlog, the next begins `linger_s` later. A collector is asked whether it has ended every `dead_check_s`. `run`
    does it all; `open`, `step` and `close` are its parts.
    """

    def __init__(  # noqa: PLR0913  all but two have defaults
        self,
        data_dir: Path,
        writer: LogWriter,
        *,
        batch_bytes_max: int,
        linger_s: float = 0.0,
        disk: bool = False,
        dead_check_s: float = 0.2,
        clock_s: Callable[[], float] = time.monotonic,
        counters: ForwarderCounters | None = None,
    ) -> None:
        self.counters = counters or ForwarderCounters()
        self.trouble = ""  # why the log took nothing the last time it did not
        self._data_dir = data_dir
        self._writer = writer
        self._batch_bytes_max = batch_bytes_max
        self._linger_s = linger_s
        self._disk = disk
        self._dead_check_s = dead_check_s
        self._clock_s = clock_s
        self._lock = Lock(forwarder_directory(data_dir) / "owner.lock")
        self._cursors: Cursors | None = None
        self._spools: dict[str, _Spool] = {}
        self._active = 0
        self._turn = 0
        self._saved_at_s = 0.0
        self._dirty = False
        self._untried = True

    @classmethod
    def from_settings(cls, settings: Settings, writer: LogWriter) -> Forwarder:
        """Return the forwarder of `settings.data_dir`. A small log is filled in small steps."""
        batch_bytes_max = min(settings.forward_batch_bytes_max, max(settings.log_bytes_max // 16, SHARE_BYTES_MIN))
        return cls(
            settings.data_dir,
            writer,
            batch_bytes_max=batch_bytes_max,
            linger_s=settings.forward_linger_s,
            disk=settings.sync == "disk",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Forward until `stop` is set, finish the round, close. Raises FatalError when trying again cannot help."""
        watching = asyncio.create_task(self._watch_lag())
        try:
            await self.open()
            while not stop.is_set():
                began_s = self._clock_s()
                try:
                    taken = await self.step()
                except RetryError as error:
                    self.trouble = str(error)
                    pause_s = self._back_off()
                    logger.warning("%s; again in %.2f s", error, pause_s)
                else:
                    self.counters.backoff_s = 0.0
                    pause_s = self._pause_s(taken, self._clock_s() - began_s)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)
        finally:
            watching.cancel()
            await self.close()

    def _pause_s(self, taken: int, took_s: float) -> float:
        """Return how long to wait behind a round: not at all where it met a backlog."""
        if not taken:
            return POLL_S
        return 0.0 if taken >= self._batch_bytes_max // 2 else max(self._linger_s - took_s, 0.0)

    async def open(self, lock_wait_s: float = 10.0) -> None:
        """Take the spool directory, after a dying predecessor, and the cursors. Raises FatalError."""
        deadline_s = time.monotonic() + lock_wait_s
        while not self._lock.acquire():
            if time.monotonic() >= deadline_s:
                raise FatalError(f"{self._data_dir}: another forwarder runs here; there must be one")
            await asyncio.sleep(POLL_S)
        self._cursors = Cursors(self._data_dir, disk=self._disk)

    async def close(self) -> None:
        """Close the spools and the log's writer, and give the directory back."""
        self._save()
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()
        await self._writer.close()
        self._lock.release()

    async def step(self) -> int:
        """Do one round over all spools; return how many bytes the log took.

        Raises RetryError, and then every spool stands at its cursor; FatalError.
        """
        self._refresh()
        runs: dict[int, list[bytes]] = defaultdict(list)
        moved: list[tuple[_Spool, SpoolCursor]] = []
        try:
            taken = self._gather(runs, moved)
            if moved or self._untried:  # a log that cannot be written shows before there is a hit
                await self._writer.append(runs)
                self._untried = False
        except (RetryError, OSError) as error:
            for spool in self._spools.values():  # not only those in `moved`: reading may have failed midway
                spool.rewind()
            raise RetryError(str(error)) from error
        except JournalDamageError as error:
            raise FatalError(f"{error}; move that spool directory away to go on without it") from error
        self._acknowledge(moved)
        self.counters.rounds += bool(moved)
        self.counters.hits += sum(map(len, runs.values()))
        self.counters.bytes += taken
        return taken

    def _gather(self, runs: dict[int, list[bytes]], moved: list[tuple[_Spool, SpoolCursor]]) -> int:
        """Read every spool's share of a round: hits into `runs`, coming cursors into `moved`. Return the bytes."""
        partitions = self._writer.partitions
        share = max(self._batch_bytes_max // max(self._active, 1), SHARE_BYTES_MIN)
        taken = 0
        for spool in self._in_turn():
            position, damaged = spool.cursor
            left = share
            while left > 0 and (chunk := spool.reader.read(left)) is not None:
                size = sum(map(len, chunk.payloads))
                left -= size
                taken += size
                position = chunk.after
                damaged += chunk.gap
                group(chunk.payloads, partitions, runs)
            spool.drained = left > 0
            if position != spool.cursor.position:
                moved.append((spool, SpoolCursor(position, damaged)))
        self._active = len(moved)
        return taken

    def _in_turn(self) -> list[_Spool]:
        spools = list(self._spools.values())
        self._turn = (self._turn + 1) % max(len(spools), 1)
        return spools[self._turn :] + spools[: self._turn]

    def _acknowledge(self, moved: Iterable[tuple[_Spool, SpoolCursor]]) -> None:
        """Move the cursors that the log has acknowledged, then end what is behind them."""
        cursors = self._cursors
        assert cursors is not None, "step comes after open"
        passed = []
        for spool, cursor in moved:
            self.counters.damaged += cursor.damaged - spool.cursor.damaged
            if cursor.position.ordinal != spool.cursor.position.ordinal:
                passed.append(spool)
            spool.cursor = cursors.spools[spool.directory.name] = cursor
            self._dirty = True
        self._end_drained(cursors)
        quiet = self._dirty and not self._active
        if passed or quiet or self._clock_s() - self._saved_at_s >= SAVE_EVERY_S:
            self._save()
        # Where no cursor could be written, the disk may be full: what is acknowledged must go all the same, and may. A
        # reader that starts from an old cursor knows that deleted segments are no gap (`skip_deleted`).
        for spool in passed:
            with suppress(OSError):  # tried again behind the next segment
                spool.reader.delete_before(spool.cursor.position)

    def _save(self) -> None:
        """Write the cursors if they moved; on a disk that refuses, try again in the next round."""
        if self._dirty and self._cursors is not None:
            try:
                self._cursors.save()
            except OSError as error:
                logger.warning("the cursors cannot be written now: %s", error)
                return
            self._dirty = False
            self._saved_at_s = self._clock_s()

    def _end_drained(self, cursors: Cursors) -> None:
        """Ask drained spools' collectors whether they live; remove those found drained once more under their lock."""
        now_s = self._clock_s()
        ended = []
        for spool in self._spools.values():
            if not spool.drained:
                continue
            if spool.lock.held and not spool.reader.more():
                ended.append(spool)
            elif not spool.lock.held and now_s - spool.asked_at_s >= self._dead_check_s:
                spool.asked_at_s = now_s
                spool.lock.acquire()
        for spool in ended:
            lost = spool.reader.lost_behind()
            _, damaged = spool.cursor
            number = max(spool.cursor.position.number, spool.reader.position.number)
            damaged += number - spool.cursor.position.number + lost
            self._finish(cursors, spool.directory, Totals(number + lost, damaged))
            self.counters.damaged += damaged - spool.cursor.damaged
            self._dirty = True

    def _finish(self, cursors: Cursors, directory: Path, totals: Totals) -> None:
        try:
            cursors.finish(directory.name, totals)
            if directory.exists():
                shutil.rmtree(directory)
        except OSError as error:  # `_refresh` finds it again, finished or not
            logger.warning("%s: cannot be removed now: %s", directory, error)
        spool = self._spools.pop(directory.name, None)
        if spool:
            spool.close()

    def _refresh(self) -> None:
        """Take up new spools, and let go of those that are gone or were finished."""
        cursors = self._cursors
        assert cursors is not None, "step comes after open"
        root = spool_root(self._data_dir)
        names = spool_names(self._data_dir)
        for name in names:
            if name in cursors.finished:
                shutil.rmtree(root / name, ignore_errors=True)
            elif name not in self._spools:
                self._spools[name] = _Spool(root / name, cursors.spools.get(name, SpoolCursor()))
        for name in cursors.spools.keys() - set(names):
            cursor = cursors.spools[name]
            logger.warning("spool %s is gone; %d of its hits were forwarded", name, cursor.position.number)
            self._finish(cursors, root / name, Totals(cursor.position.number, cursor.damaged))
        for name in self._spools.keys() - set(names):
            self._spools.pop(name).close()
        self.counters.spools = len(self._spools)

    def _back_off(self) -> float:
        self.counters.retries += 1
        self._untried = True
        self.counters.backoff_s = min(max(2 * self.counters.backoff_s, BACKOFF_S_MIN), BACKOFF_S_MAX)
        return self.counters.backoff_s

    async def _watch_lag(self) -> None:
        """Note the lag beside the rounds: one of them may wait for half a minute for a log that is away."""
        while True:
            with suppress(OSError):  # a spool that cannot be read is the round's to report
                self.counters.lag_bytes = sum(spool.unread_bytes() for spool in self._spools.values())
            await asyncio.sleep(LAG_EVERY_S)


def group(payloads: Iterable[bytes], partitions: int, runs: dict[int, list[bytes]]) -> None:
    """Add payloads to the run of their key's partition, in order; `hit.partition_of` with its call taken out."""
    for payload in payloads:
        if payload.startswith(PREFIX) and len(payload) > KEY_END:
            runs[crc32(payload[KEY_START:KEY_END]) % partitions].append(payload)
        else:
            runs[PARTITION_OF_STRAYS].append(payload)


def _data_bytes(path: Path, start: int) -> int:
    """Return how many bytes were written behind `start`: preallocated zeros follow, and no page of hits is zeros."""
    with suppress(OSError), path.open("rb") as file:
        written, zeros = start, os.fstat(file.fileno()).st_size
        while written < zeros:
            middle = (written + zeros) // 2
            page = os.pread(file.fileno(), PAGE_BYTES, middle).rstrip(b"\0")
            if page:
                written = middle + len(page)
            else:
                zeros = middle
        return max(written - start, 0)
    return 0
