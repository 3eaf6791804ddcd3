"""Group commit: a batch's hits, or a loop tick's, are appended with one write, then their answers go out (invariant 1).

- Answers leave in the order in which requests were added, so also in request order on every connection; an answer that
  keeps nothing goes through the same queue.
- A group is closed at `group_hits_max` hits or before it would pass `group_bytes_max`, else at the end of the tick. A
  request whose hits alone are larger is a group of its own.
- With `sync = "disk"` answers wait for an fdatasync in a thread, one at a time; groups appended meanwhile share the
  next one.
- How long each request took is counted, as what its whole tick took: from the first bytes read to the last answer.
- What the spool does not keep gets its other answer, 503 (a click goes on, 302), and is counted. While it is full,
  making room is tried again every RETRY_FULL_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Final, NamedTuple

from infra.journal.frame import HEADER_BYTES
from ingest.client import Client
from ingest.counters import Counters, Refusal
from ingest.hit_builder import HitBuilder
from ingest.spool import Spool

RETRY_FULL_S = 0.25
STATUS_FROM: Final = len(b"HTTP/1.1 ")
STATUS_TO: Final = len(b"HTTP/1.1 200")

log = logging.getLogger(__name__)


# A request that waits for its answer: its connection, how many of the group's hits are its own, status and answer when
# they are kept, and the answer when they are not. A plain tuple, because one is made for every hit.
Entry = tuple[Client, int, int, bytes, bytes]
# One of a batch: its connection, the answer when it is kept, and when it is not.
Answer = tuple[Client, bytes, bytes]


class Taken(NamedTuple):
    """What a request comes to: status and answer if its hits are kept, the answer if not, and the hits."""

    status: int
    answer: bytes
    full_answer: bytes
    hits: list[bytes]


class GroupCommit:
    """Collects one tick's requests; `now_s`, `builder` and `next_seq` are right for the hit that is added next."""

    def __init__(self, spool: Spool, counters: Counters, *, hits_max: int, bytes_max: int, disk: bool) -> None:
        self.builder = HitBuilder(spool.id)
        self.bytes_max = min(bytes_max, spool.segment_bytes)
        self.post_bytes_max = spool.segment_bytes
        self.now_s = 0
        self.failed: OSError | None = None
        self._spool = spool
        self._counters = counters
        self.hits_max = hits_max
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._hits: list[bytes] = []
        self._bytes = 0
        self._first_seq = 0
        self._entries: list[Entry] = []
        self._scheduled = False
        self._arrived_ns = 0
        self._unsynced: list[tuple[int, list[Entry]]] = []  # when they arrived, and they
        self._syncing = False
        self._preparing = False
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._prepare_soon()

    def arrive(self) -> None:
        """Note that bytes were read; not needed while other bytes of this tick wait to be taken."""
        if not self._entries:
            self._arrived_ns = perf_counter_ns()

    def open(self, bytes_bound: int, hits: int = 1) -> int:
        """Begin a request whose hits take at most `bytes_bound` bytes; return the number of its first hit.

        Closes the group before it if both together would be too large. Sets the time of a fresh group.
        """
        count = len(self._hits)
        if count and (self._bytes + bytes_bound > self.bytes_max or count + hits > self.hits_max):
            self.flush()
            count = 0
        if not count:
            now = time.time()
            self.now_s = int(now)
            self.builder.at(int(now * 1000))
            self._first_seq = self._spool.next_seq
        return self._first_seq + count

    def open_batch(self) -> int:
        """Begin a batch of pixel requests, behind all that was added before; return the number of its first hit."""
        self.flush()
        return self.open(0)

    def add_batch(self, status: int, hits: list[bytes], answers: list[Answer]) -> None:
        """Add requests with one hit each, none on a connection that waits for an answer already: the hot path of `add`.

        Together they are no more than a group may be; all get `status` when they are kept.
        """
        if self._disk:
            for hit, (client, answer, full_answer) in zip(hits, answers, strict=True):
                self.add((client, 1, status, answer, full_answer), [hit])
            return
        kept = self._append(hits) if hits else 0
        for client, answer, _ in answers[:kept] if kept < len(hits) else answers:
            client.send(answer)
        self._counters.answers[status] += kept
        for client, _, full_answer in answers[kept:]:
            self._counters.refused[Refusal.SPOOL_FULL] += 1
            self._counters.answers[503] += 1
            client.send(full_answer)
        self._counters.handled(len(hits), perf_counter_ns() - self._arrived_ns)

    def add(self, entry: Entry, hits: list[bytes]) -> None:
        """Add a request and its hits, built with the number that `open` gave."""
        self._hits += hits
        self._bytes += sum(map(len, hits)) + HEADER_BYTES * len(hits)
        entry[0].unanswered += 1
        self._entries.append(entry)
        if len(self._entries) >= self.hits_max or len(self._hits) >= self.hits_max:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_tick)

    def _end_of_tick(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Append the group's hits with one write and answer, or hand the answers to the next sync."""
        entries, self._entries = self._entries, []
        hits, self._hits = self._hits, []
        self._bytes = 0
        if not entries:
            return
        if hits:
            kept = self._append(hits)
            if kept < len(hits):
                entries = self._refuse(entries, kept)
        if self._disk:
            self._unsynced.append((self._arrived_ns, entries))
            self._sync_soon()
        else:
            self._answer(entries, self._arrived_ns)

    def _append(self, hits: list[bytes]) -> int:
        """Append with one write; return how many, from the first on, are kept."""
        kept = self._spool.append(hits)
        if kept:
            self._counters.group(kept, sum(map(len, hits)) + HEADER_BYTES * len(hits))
        if self._spool.wants_prepare:
            self._prepare_soon()
        return kept

    def _answer(self, entries: list[Entry], arrived_ns: int) -> None:
        answers = self._counters.answers
        for connection, _, status, answer, _ in entries:
            answers[status] += 1
            connection.send(answer)
            connection.unanswered -= 1
            if connection.held and not connection.unanswered:
                self._loop.call_soon(connection.proceed)
        self._counters.handled(len(entries), perf_counter_ns() - arrived_ns)

    def _refuse(self, entries: list[Entry], kept: int) -> list[Entry]:
        """Return the entries with those refused whose hits are not all among the first `kept`."""
        decided: list[Entry] = []
        for entry in entries:
            connection, hits, _, _, full_answer = entry
            kept -= hits
            if hits and kept < 0:
                self._counters.refused[Refusal.SPOOL_FULL] += 1
                decided.append((connection, 0, int(full_answer[STATUS_FROM:STATUS_TO]), full_answer, full_answer))
            else:
                decided.append(entry)
        return decided

    # waiting for the disk

    def _sync_soon(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        covered, self._unsynced = self._unsynced, []
        if not any(hits for _, entries in covered for _, hits, _, _, _ in entries):
            self._synced(covered, None)
            return
        self._counters.syncs += 1
        future = self._loop.run_in_executor(self._worker, self._spool.sync)
        future.add_done_callback(lambda done: self._synced(covered, done))

    def _synced(self, covered: list[tuple[int, list[Entry]]], done: asyncio.Future[None] | None) -> None:
        self._syncing = False
        error = done.exception() if done is not None else None
        if error is not None:  # what is on disk is unknown now, so nothing may be promised any more
            log.critical("the spool cannot be synced, ending: %s", error)
            self.failed = error if isinstance(error, OSError) else OSError(str(error))
        for arrived_ns, entries in covered:
            self._answer(entries if error is None else self._refuse(entries, 0), arrived_ns)
        if self._unsynced:
            self._sync_soon()

    # room

    def _prepare_soon(self) -> None:
        if self._preparing:
            return
        self._preparing = True
        future = self._loop.run_in_executor(self._worker, self._spool.prepare)
        future.add_done_callback(self._prepared)

    def _prepared(self, done: asyncio.Future[bool]) -> None:
        self._counters.segments = self._spool.segments_begun
        if done.result():
            self._preparing = False
        elif not self._closed:
            self._retry = self._loop.call_later(RETRY_FULL_S, self._prepare_again)

    def _prepare_again(self) -> None:
        self._preparing = False
        self._prepare_soon()

    @property
    def ready(self) -> bool:
        """Whether a hit that comes now can be kept."""
        return not self._spool.full and self.failed is None

    @property
    def idle(self) -> bool:
        """Whether nothing waits for its answer."""
        return not self._entries and not self._unsynced and not self._syncing

    async def settled(self) -> None:
        """Return when nothing waits for its answer; nothing may be added meanwhile."""
        while not self.idle:
            await asyncio.wrap_future(self._worker.submit(int))  # behind the sync that runs now

    def close(self) -> None:
        """End the thread; nothing may be waiting."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._worker.shutdown(wait=True)
        self._spool.close()
