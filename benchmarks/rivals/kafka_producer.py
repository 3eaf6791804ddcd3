"""The rivals' producer: aiokafka with the settings that a careful user picks. `send` does not wait for the broker.

So a rival's answer promises less than ours: a hit whose answer is out lives in memory until its batch is acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import orjson
from aiokafka import AIOKafkaProducer

TOPIC = os.environ.get("RIVAL_TOPIC", "rival")
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
HEADERS = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "cross-origin"}
KEPT = ("user-agent", "referer", "accept-language", "cookie")


def producer() -> AIOKafkaProducer:
    """Return the producer, not started."""
    return AIOKafkaProducer(
        bootstrap_servers=os.environ["RIVAL_KAFKA"],
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        linger_ms=20,
        max_batch_size=512 * 1024,
    )


def record(query: str, headers: Iterable[tuple[str, str]], address: str) -> bytes:
    """Return a hit as JSON: what the request said."""
    kept = {name: value for name, value in headers if name in KEPT}
    return orjson.dumps({"query": query, "ip": address, **kept})
