"""What stands in the topic `hits`, read back with confluent-kafka and held against what was acknowledged.

A hit that was sent again stands there twice, under one name; whoever reads it takes, of each spool, what exceeds the
highest number seen in its partition (DESIGN, invariant 4), and so does this judge.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import orjson
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, TopicPartition

RECORDS_MAX = 10_000
POLL_S = 0.2
WAIT_S_MAX = 30.0
STALE_MS = 1_000


@dataclass
class Topic:
    """Hits by their number (the event id), as a worker would take them."""

    counts: bytearray = field(default_factory=bytearray)  # by number, how often it stands there
    hits: int = 0
    resent: int = 0
    gaps: int = 0  # numbers of a spool that no partition holds
    stale_until_ms: int = 0  # when the last hit older than STALE_MS was appended, by the broker's clock


def read_topic(servers: str, topic: str) -> Topic:
    """Read every partition to its present end. The topic must have the broker's append times."""
    found = Topic()
    marks: dict[tuple[str, int], int] = {}
    names: dict[str, bytearray] = defaultdict(bytearray)
    for message in _messages(servers, topic):
        hit = orjson.loads(message.value())
        spool, seq = hit["spool_id"], hit["spool_seq"]
        if seq <= marks.get((spool, message.partition()), -1):
            found.resent += 1
            continue
        marks[spool, message.partition()] = seq
        _count(names[spool], seq)
        _count(found.counts, int(parse_qs(hit["query"])["id"][0]))
        found.hits += 1
        kind, appended_ms = message.timestamp()
        assert kind == TIMESTAMP_LOG_APPEND_TIME
        if appended_ms - hit["received_at"] > STALE_MS:
            found.stale_until_ms = max(found.stale_until_ms, appended_ms)
    assert all(max(seen) == 1 for seen in names.values()), "a name stands in two partitions"
    tops: dict[str, int] = defaultdict(int)
    for (spool, _), seq in marks.items():
        tops[spool] = max(tops[spool], seq + 1)
    found.gaps = sum(tops.values()) - found.hits
    return found


def _count(counts: bytearray, number: int) -> None:
    if number >= len(counts):
        counts.extend(bytes(max(number + 1 - len(counts), len(counts))))
    counts[number] += 1


def _messages(servers: str, topic: str) -> Iterator:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "judge", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, WAIT_S_MAX).topics[topic].partitions
        left = {}
        for number in partitions:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, number), WAIT_S_MAX)
            assert start == 0
            if end:
                left[number] = end
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        deadline_s = time.monotonic() + WAIT_S_MAX
        while left:
            messages = consumer.consume(RECORDS_MAX, POLL_S)  # waits for so many, or so long
            assert messages or time.monotonic() < deadline_s, f"the topic ends before its end: {left}"
            if messages:
                deadline_s = time.monotonic() + WAIT_S_MAX
            for message in messages:
                assert message.error() is None, message.error()
                if message.offset() + 1 >= left.get(message.partition(), 0):
                    left.pop(message.partition(), None)
                yield message
    finally:
        consumer.close()
