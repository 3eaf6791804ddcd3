"""Where an assigned Kafka partition goes on: decided from what is committed and what the log still holds. Pure.

- The committed offset is the first one of the registered batch; its metadata say where that batch ends.
- Nothing is passed over silently: what the log no longer holds is an error, or, where the setting accepts it, a count.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from consumers.log_reader.port import Registered
from schemas.errors import FatalError, RetryError


class Committed(NamedTuple):
    """A group's committed offset of a partition, and the commit's metadata."""

    offset: int
    metadata: str | None


class Place(NamedTuple):
    """The batch that is registered, the offset to read from, and how many records before it were lost."""

    registered: Registered | None
    start: int
    expired: int = 0


def metadata_of(batch: Registered) -> str:
    """Return the metadata of a commit: what of a batch its committed first offset does not say."""
    return orjson.dumps({"last": batch.last, "at_ms": batch.at_ms, "rules": batch.rules}).decode()


def registered_of(committed: Committed) -> Registered | None:
    """Return what a commit registered; None when it is none of ours."""
    try:
        content = orjson.loads(committed.metadata or "")
        last, at_ms, rules = content["last"], content["at_ms"], content.get("rules", "")
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(last, int) or not isinstance(at_ms, int) or not isinstance(rules, str) or last < committed.offset:
        return None
    return Registered(committed.offset, last, at_ms, rules)


def place_of(where: str, committed: Committed | None, log_start: int, log_end: int, *, skip_expired: bool) -> Place:
    """Return where to go on in a partition that holds offsets from `log_start` to before `log_end`.

    `where` names partition and group in messages. Raises FatalError when the log cannot give what comes next.
    """
    if committed is None:
        return Place(None, log_start)
    registered = registered_of(committed)
    if registered is None:
        raise FatalError(
            f"{where}: offset {committed.offset} was not committed by hitstream (were offsets reset?): delete the "
            "group's offsets of this topic (kafka-consumer-groups.sh --delete-offsets), see docs/kafka.md"
        )
    first = registered.first
    if first > log_end:
        raise FatalError(
            f"{where}: offset {first} is committed, but the log ends at {log_end}: the topic was made anew, or lost "
            "records. See 'A topic made anew' in docs/kafka.md"
        )
    if first >= log_start:
        return Place(registered, first)
    if not skip_expired:
        raise FatalError(
            f"{where}: offsets {first}..{log_start - 1} were deleted by the topic's retention before their batch was "
            f"done. HITSTREAM_KAFKA_SKIP_EXPIRED=true goes on at {log_start}, counts them in hitstream_worker_expired "
            "and leaves them missing in the ledger; raise the topic's retention.ms"
        )
    return Place(registered, log_start, log_start - first)


def check_count(topic: str, count: int, wanted: int) -> None:
    """Return when a topic has the partitions it should have; 0: it is not there. Raises RetryError."""
    if not count:
        raise RetryError(f"topic {topic!r} is not there yet; the forwarder makes it")
    if count != wanted:
        raise RetryError(
            f"topic {topic!r} has {count} partitions, the setting `partitions` says {wanted}; nothing is read. The "
            f"count is fixed when the topic is made: set HITSTREAM_PARTITIONS={count} if hits were never sent with "
            "another count, else see 'The partition count' in docs/kafka.md"
        )
