"""FastAPI + aiokafka, for uvicorn: a pixel route that sends the hit and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from benchmarks.rivals.kafka_producer import GIF, HEADERS, TOPIC, producer, record


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Start the producer with the application and stop it with it."""
    app.state.producer = producer()
    await app.state.producer.start()
    yield
    await app.state.producer.stop()


app = FastAPI(lifespan=running)


@app.get("/p.gif")
async def pixel(request: Request) -> Response:
    """Send the hit, answer the GIF."""
    address = request.client.host if request.client else ""
    await app.state.producer.send(TOPIC, record(request.url.query, request.headers.items(), address))
    return Response(GIF, media_type="image/gif", headers=HEADERS)
