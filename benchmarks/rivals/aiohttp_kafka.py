"""aiohttp + aiokafka: a pixel handler that sends the hit and answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from benchmarks.rivals.kafka_producer import GIF, HEADERS, TOPIC, producer, record

PRODUCER = web.AppKey("producer", AIOKafkaProducer)


async def pixel(request: web.Request) -> web.Response:
    """Send the hit, answer the GIF."""
    headers = ((name.lower(), value) for name, value in request.headers.items())
    await request.app[PRODUCER].send(TOPIC, record(request.query_string, headers, request.remote or ""))
    return web.Response(body=GIF, content_type="image/gif", headers=HEADERS)


async def running(app: web.Application) -> AsyncIterator[None]:
    """Start the producer with the application and stop it with it."""
    app[PRODUCER] = producer()
    await app[PRODUCER].start()
    yield
    await app[PRODUCER].stop()


def main() -> None:
    """Serve."""
    uvloop.install()
    app = web.Application()
    app.router.add_get("/p.gif", pixel)
    app.cleanup_ctx.append(running)
    port = int(os.environ["RIVAL_PORT"])
    web.run_app(app, host="127.0.0.1", port=port, reuse_port=True, access_log=None, print=None)


if __name__ == "__main__":
    main()
