"""Plain ASGI + aiokafka, for Granian: the least Python between a request and its Kafka record."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.rivals.kafka_producer import GIF, HEADERS, TOPIC, producer, record

ANSWER = [(b"content-type", b"image/gif"), (b"content-length", b"%d" % len(GIF))] + [
    (name.lower().encode(), value.encode()) for name, value in HEADERS.items()
]
started: list[AIOKafkaProducer] = []


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI's own shapes
    """Send the hit, answer the GIF; start and stop the producer with the server."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    headers = ((name.decode(), value.decode("latin-1")) for name, value in scope["headers"])
    value = record(scope["query_string"].decode("latin-1"), headers, scope["client"][0])
    await started[0].send(TOPIC, value)
    await send({"type": "http.response.start", "status": 200, "headers": ANSWER})
    await send({"type": "http.response.body", "body": GIF})


async def _lifespan(receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI's own shapes
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            started.append(producer())
            await started[0].start()
            await send({"type": "lifespan.startup.complete"})
        else:
            await started[0].stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
