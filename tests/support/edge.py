"""An in-process collector for tests: real event loop, real sockets, real spool; raw bytes in, answers and hits out."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from typing import NamedTuple

import orjson
import uvloop

from infra.journal.reader import JournalReader
from ingest.collector import serve
from ingest.counters import Counters
from schemas.settings import load

HOST = b"Host: t.example\r\n"
COOKIE = b"Cookie: _hs=00000000000000ab.%d\r\n" % (time.time() - 3600)
PIXEL = b"GET /p.gif?s=shop&e=PageView HTTP/1.1\r\n" + HOST + b"\r\n"
PROBE = b"GET /probe HTTP/1.1\r\n" + HOST + b"\r\n"
PIXEL_SEEN = b"GET /p.gif?s=shop&e=PageView HTTP/1.1\r\n" + HOST + COOKIE + b"\r\n"
ANSWER_S_MAX = 10


def post(body, *lines, path=b"/e"):
    head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def closing(request):
    return request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def statuses(answers):
    return [answer.status for answer in answers]


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes


def answers_of(data, *, heads=()):
    """Parse answers; those at the places in `heads` answer a HEAD. Fails on anything left over."""
    found, at = [], 0
    while at < len(data):
        end = data.index(b"\r\n\r\n", at)
        first, *lines = data[at:end].split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        for line in lines:
            name, value = line.split(b": ", 1)
            assert name.lower() == b"set-cookie" or name.lower() not in headers
            headers[name.lower()] = b"\n".join(filter(None, (headers.get(name.lower()), value)))
        at = end + 4 + (0 if len(found) in heads else int(headers.get(b"content-length", b"0")))
        assert at <= len(data)
        found.append(Answer(int(status), headers, data[end + 4 : at]))
    return found


def hits_in(spool_root):
    """All hits of all spools, in order, decoded; checks that names are dense."""
    hits = []
    for directory in sorted(spool_root.iterdir()):
        if not directory.is_dir():
            continue
        reader = JournalReader(directory)
        number = 0
        while (chunk := reader.read(1 << 20)) is not None:
            assert chunk.gap == 0
            for payload in chunk.payloads:
                hit = orjson.loads(payload)
                assert (hit["spool_id"], hit["spool_seq"]) == (directory.name, number)
                number += 1
                hits.append(hit)
        reader.close()
    return hits


class Edge(NamedTuple):
    port: int
    collector: object
    counters: Counters
    spool_root: object
    stop: asyncio.Event
    task: asyncio.Task
    sock: socket.socket

    def hits(self):
        return hits_in(self.spool_root)

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *pieces, heads=()):
        """Send pieces, each after the server had a turn at the former; return the answers up to the server's close."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.002)
        data = await asyncio.wait_for(reader.read(-1), ANSWER_S_MAX)
        writer.close()
        return answers_of(data, heads=heads)

    async def probed(self, *pieces, heads=()):
        """Send pieces and a probe behind them; return the answers, and whether the connection took the probe."""
        answers = await self.exchange(*pieces, closing(PROBE), heads=heads)
        if answers and answers[-1].status == 404:
            return answers[:-1], True
        return answers, False


@asynccontextmanager
async def edge(tmp_path, sock=None, **overrides):
    """A collector on a free port; ends in order, or the test fails."""
    settings = load(data_dir=tmp_path, **{"collectors": 1, **overrides})
    own = sock is None
    if own:
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    started = asyncio.get_running_loop().create_future()
    stop, counters = asyncio.Event(), Counters()
    root = tmp_path / "spool"
    task = asyncio.create_task(serve(settings, sock, root, counters, stop=stop, ready=started.set_result))
    await asyncio.wait({started, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield Edge(sock.getsockname()[1], started.result(), counters, root, stop, task, sock)
    finally:
        stop.set()
        try:
            await asyncio.wait_for(task, ANSWER_S_MAX)
        finally:
            if own:
                sock.close()


def run(main):
    """Run an async test on the loop that the collector uses."""
    return uvloop.run(asyncio.wait_for(main(), 60))


def plain(hit):
    """A hit without what differs from run to run."""
    return {name: value for name, value in hit.items() if name not in ("spool_id", "spool_seq", "received_at")}
