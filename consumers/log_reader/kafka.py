"""Kafka as a worker reads it: the worker's thread asks a group member that lives in a thread of its own.

- One member after another (`kafka_member.py`), each on an event loop of its own: heartbeats go out while the worker
  works, and a member that is of no use any longer leaves nothing behind.
- A question that the member did not answer before it ended is FencedError.
- What is in the way of a member is logged and stands in `trouble`, for readiness; the next one tries again, for ever.
  What trying again cannot help ends the worker (FatalError).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from consumers.log_reader.kafka_member import GroupMember
from consumers.log_reader.kafka_member import log_ends as ends_of
from consumers.log_reader.kafka_partition import KafkaPartitionLog, Taken
from consumers.log_reader.port import FencedError, PartitionLog
from schemas.errors import FatalError, RetryError
from schemas.settings import Settings

logger = logging.getLogger(__name__)

WAIT_SLICE_S = 0.05
WAIT_S_MIN = 0.005  # a partition that may not be worked on now must not make `wait` a busy loop
ANSWER_POLL_S = 1.0
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0
CLOSE_S_MAX = 10.0
SAY_AGAIN_S = 10.0

T = TypeVar("T")


class KafkaLogReader:
    """Fills the LogReader port as worker number `worker` of this host, a member of the group `kafka_group`.

    `wake` cuts `wait` short once it is set; `on_expired` is told how many records retention took before they were read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        worker: int = 0,
        wake: threading.Event | None = None,
        heartbeat_s: float | None = None,
        on_expired: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._instance = f"{settings.kafka_instance_id}-{worker}" if settings.kafka_instance_id else None
        self._wake = wake or threading.Event()
        self._heartbeat_s = heartbeat_s or min(3.0, settings.kafka_session_timeout_s / 4)
        self._on_expired = on_expired
        self._closing = threading.Event()
        self._fatal: FatalError | None = None
        self._member: GroupMember | None = None
        self._trouble = ""
        self._said_at_s = 0.0
        self._thread = threading.Thread(target=self._live, name="kafka", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps this worker from its share of the partitions; "": nothing."""
        member = self._member
        if member is not None and member.has_assignment:
            return ""
        return self._trouble or "joining the consumer group"

    def assigned(self) -> Sequence[PartitionLog]:
        """Return the partitions that are ours now. Raises FatalError."""
        if self._fatal:
            raise self._fatal
        return self._logs()

    def wait(self, timeout_s: float) -> None:
        """Return when a partition may have new records, when `wake` is set, at the latest after `timeout_s`."""
        now_s = time.monotonic()
        deadline_s, least_s = now_s + timeout_s, now_s + WAIT_S_MIN
        while not self._fatal and not self._wake.is_set():
            logs, member = self._logs(), self._member
            if any(log.more() for log in logs):
                self._wake.wait(max(least_s - time.monotonic(), 0))
                return
            rest_s = min(deadline_s - time.monotonic(), WAIT_SLICE_S)
            if rest_s <= 0:
                return
            if member is None or not logs:
                self._wake.wait(rest_s)
                continue
            with suppress(FencedError):
                self._ask(member, member.await_records(rest_s))

    def close(self) -> None:
        """Give the partitions back."""
        self._closing.set()
        member = self._member
        if member is not None:
            member.stop()
        self._thread.join(CLOSE_S_MAX)

    def take(self, log: KafkaPartitionLog, records_max: int) -> Taken:
        """See `kafka_partition.Member`."""
        return self._ask_for(log, lambda member: member.take(log, records_max))

    def commit(self, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        """See `kafka_partition.Member`."""
        self._ask_for(log, lambda member: member.commit(log, offset, metadata))

    def end_of(self, log: KafkaPartitionLog) -> int:
        """See `kafka_partition.Member`."""
        return self._ask_for(log, lambda member: member.end_of(log))

    def _logs(self) -> list[KafkaPartitionLog]:
        member = self._member
        return [log for log in member.logs if not log.over] if member else []

    def _ask_for(self, log: KafkaPartitionLog, question: Callable[[GroupMember], Coroutine[Any, Any, T]]) -> T:
        member = self._member
        if log.over or member is None:
            raise FencedError(f"partition {log.partition} is no longer ours")
        return self._ask(member, question(member))

    def _ask(self, member: GroupMember, question: Coroutine[Any, Any, T]) -> T:
        """Return the member's answer. Raises what it raises; FencedError when the member ends meanwhile."""
        try:
            answer: Future[T] = asyncio.run_coroutine_threadsafe(question, member.loop)
        except RuntimeError:  # its loop was closed just now
            question.close()
            raise FencedError("the group member has ended") from None
        while True:
            try:
                return answer.result(ANSWER_POLL_S)
            except CancelledError:
                raise FencedError("the group member has ended") from None
            except TimeoutError:
                if answer.done():
                    raise
                if self._member is not member:
                    answer.cancel()
                    raise FencedError("the group member has ended") from None

    def _live(self) -> None:
        """Be one member after another until closed; what the thread does."""
        pause_s = BACKOFF_S_MIN
        while not self._closing.is_set() and not self._fatal:
            try:
                asyncio.run(self._be_member())
            except RetryError as error:
                self._say(str(error))
            except FatalError as error:
                self._fatal = error
            except Exception as error:  # whatever it is, the worker must learn of it
                logger.exception("the Kafka reader ends on an error that is ours")
                self._fatal = FatalError(f"the Kafka reader failed: {error!r}")
            member, self._member = self._member, None
            pause_s = BACKOFF_S_MIN if member and member.has_assignment else min(2 * pause_s, BACKOFF_S_MAX)
            self._closing.wait(pause_s)

    async def _be_member(self) -> None:
        member = GroupMember(self._settings, self, self._instance, self._heartbeat_s, on_expired=self._on_expired)
        await member.reach()
        self._member = member
        if not self._closing.is_set():
            await member.live()

    def _say(self, trouble: str) -> None:
        """Log what is in the way, again only when it is something else or some time has passed."""
        if trouble != self._trouble or time.monotonic() - self._said_at_s >= SAY_AGAIN_S:
            self._trouble, self._said_at_s = trouble, time.monotonic()
            logger.warning("%s; trying again", trouble)


def log_ends(settings: Settings) -> dict[int, int]:
    """Return each partition's end; {} where there is no topic yet. Raises RetryError, which says what to do."""
    return asyncio.run(ends_of(settings))
