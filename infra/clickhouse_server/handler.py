"""One HTTP exchange: read the request, run its statement in a worker thread, send the answer as ClickHouse does.

Invariants: an error before the first byte of the answer has its own status and `X-ClickHouse-Exception-Code`; one
after it stands in the body, framed by the tag that `X-ClickHouse-Exception-Tag` announced, and the connection is cut.
An INSERT whose body is complete goes on to its end when the client leaves; one cut in its body leaves nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from infra.clickhouse_server import body as bodies
from infra.clickhouse_server import compression, errors, guard, request, statement
from infra.clickhouse_server.body import Body, ExternalTable
from infra.clickhouse_server.counters import Counters
from infra.clickhouse_server.engine import Engine, EngineError
from infra.clickhouse_server.request import Request
from infra.clickhouse_server.sessions import Sessions
from infra.clickhouse_server.slots import RESERVE, RUNNING_MAX, Slots
from infra.clickhouse_server.statement import InsertHead
from infra.clickhouse_server.work import First, Work

QUERY_BYTES_MAX = 16 * 1024 * 1024
VALUES_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class Exchange:
    """One request, as far as it is read: its text is complete unless it begins an INSERT."""

    http: web.Request
    wanted: Request
    body: Body
    text: bytes
    head: InsertHead | None
    tables: list[ExternalTable]


class Handler:
    """Answers requests over one engine; used from one event loop."""

    def __init__(self, engine: Engine, password: str, hosts: frozenset[str], counters: Counters | None = None) -> None:
        self._engine = engine
        self._password = password
        self._hosts = hosts
        self._slots = Slots()
        self._sessions = Sessions()
        self._running: set[str] = set()
        self._threads = ThreadPoolExecutor(RUNNING_MAX + RESERVE, "clickhouse")
        self._name = socket.gethostname()
        self.counters = counters or Counters()

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one request; the only route."""
        refused = request.refusal(http, self._hosts)
        if refused is not None:
            reason, text = refused
            self.counters.refused[reason] += 1
            return web.Response(status=403, text=text + "\n")
        reads = http.method in ("GET", "HEAD")
        if reads and (http.path in ("/ping", "/replicas_status") or (http.path == "/" and not http.query_string)):
            return web.Response(text="Ok.\n")
        if http.path != "/" or (not reads and http.method not in ("POST", "PUT")):
            text = f"There is no handle for {http.method} {http.path}\nUse / or /ping, GET or POST.\n"
            return web.Response(status=404 if http.path != "/" else 501, text=text)
        query_id = http.query.get("query_id", "")
        try:
            request.authenticate(http, self._password)
            return await self._answer(http)
        except errors.ServerError as error:
            return self._failure(error, query_id)
        except (OSError, EngineError) as error:
            return self._failure(
                errors.ServerError(1001, "STD_EXCEPTION", f"{type(error).__name__}: {error}"), query_id
            )

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        tables: list[ExternalTable] = []
        form: dict[str, str] | None = None
        if http.content_type == "multipart/form-data" and http.can_read_body:
            form, tables = await bodies.read_form(http, self.counters)
        wanted = request.parse(http, form, bodies.about_tables(tables))
        body = Body(http, wanted.body_encoding, self.counters)
        if form is not None or not http.can_read_body:
            body.ended = True
        text, head = await self._text(wanted, body)
        if wanted.query_id in self._running:
            message = f"Query with id {wanted.query_id} is already running"
            raise errors.ServerError(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", message)
        self._running.add(wanted.query_id)
        try:
            reserve = head is None and statement.in_reserve(guard.cut(text.decode("latin-1")))
            async with self._slots.place(reserve=reserve):
                if http.transport is None or http.transport.is_closing():
                    raise errors.ServerError(210, "NETWORK_ERROR", "the client left before its statement began")
                return await self._execute(Exchange(http, wanted, body, text, head, tables))
        finally:
            self._running.discard(wanted.query_id)

    async def _text(self, wanted: Request, body: Body) -> tuple[bytes, InsertHead | None]:
        """Return the text, and the INSERT it begins with; the text is complete unless there is one."""
        text = wanted.query.encode("utf-8", "surrogateescape")
        if text and not body.ended:
            text += b"\n"
        while True:
            text += await body.read(CHUNK_BYTES)
            try:
                head = statement.insert_head(text.decode("latin-1"))
            except errors.ServerError:
                if body.ended:
                    raise
                head = None  # a quote or a comment goes on in what is still to come
            if head is not None or body.ended:
                return text, head
            if len(text) > QUERY_BYTES_MAX:
                raise errors.syntax(f"Max query size exceeded: {QUERY_BYTES_MAX} bytes")

    async def _execute(self, exchange: Exchange) -> web.StreamResponse:
        wanted, head = exchange.wanted, exchange.head
        started = time.monotonic_ns()
        session = None
        if wanted.session_id:
            ident, now = wanted.session_id, time.monotonic()
            session = self._sessions.take(ident, wanted.session_timeout_s, now, check=wanted.session_check)
        work = Work(self._engine, wanted, session)
        self.counters.running += 1
        try:
            for table in exchange.tables:
                await self._thread(work.add_table, table.name, table.structure, table.format, table.data)
            if head is None:
                self.counters.queries += 1
                first = await self._thread(work.run, exchange.text)
            else:
                self.counters.inserts += 1
                await self._insert(work, head, exchange.text, exchange.body)
                first = First(b"", more=False, format=wanted.default_format)
            return await self._send(exchange.http, wanted, work, first, started)
        finally:
            await asyncio.shield(self._thread(work.close))
            self.counters.running -= 1
            if session is not None:
                self._sessions.give_back(session, time.monotonic())
            self._sessions.sweep(time.monotonic())
            self.counters.sessions = len(self._sessions)

    async def _insert(self, work: Work, head: InsertHead, text: bytes, body: Body) -> None:
        data = text[head.data_start :]
        if head.input_format.lower() == "values":
            while not body.ended:
                data += await body.read(CHUNK_BYTES)
                if len(data) > VALUES_BYTES_MAX:
                    raise errors.bad(f"VALUES take at most {VALUES_BYTES_MAX} bytes; use another format")
            await self._thread(work.check_values, data)
        await self._thread(work.begin_insert, head)
        if data:
            await self._thread(work.append, data)
        while not body.ended:
            if part := await body.read(CHUNK_BYTES):
                await self._thread(work.append, part)
        await self._thread(work.finish_insert)

    async def _send(
        self, http: web.Request, wanted: Request, work: Work, first: First, started: int
    ) -> web.StreamResponse:
        headers = {
            "Content-Type": statement.CONTENT_TYPES.get(first.format.lower(), "text/plain; charset=UTF-8"),
            "X-ClickHouse-Summary": work.summary.header(time.monotonic_ns() - started),
            "X-ClickHouse-Query-Id": wanted.query_id,
            "X-ClickHouse-Format": first.format,
            **self._common_headers(),
        }
        if wanted.answer_encoding:
            headers["Content-Encoding"] = wanted.answer_encoding
            headers["Vary"] = "Accept-Encoding"
        packer = compression.packer(wanted.answer_encoding) if wanted.answer_encoding else None
        if not first.more:
            data = first.data
            if packer is not None:
                data = await self._thread(lambda: packer.compress(first.data) + packer.flush())
            self.counters.bytes_out += len(data)
            return web.Response(body=data, headers=headers)
        tag = secrets.token_hex(8)
        answer = web.StreamResponse(headers={**headers, "X-ClickHouse-Exception-Tag": tag})
        answer.enable_chunked_encoding()
        await answer.prepare(http)
        if http.method == "HEAD":
            return answer
        part: bytes | None = first.data
        failure: errors.ServerError | None = None
        while part is not None:
            await self._write(answer, part if packer is None else await self._thread(packer.compress, part))
            try:
                part = await self._thread(work.more)
            except errors.ServerError as error:
                failure, part = error, self._framed(error, tag)
                await self._write(answer, part if packer is None else packer.compress(part))
                part = None
        if packer is not None:
            await self._write(answer, packer.flush())
        if failure is not None:
            self.counters.errors[failure.name] += 1
            answer.force_close()
            await answer.write(b"")
            if http.transport is not None:
                http.transport.close()  # what is written goes out; the last chunk never comes
            return answer
        await answer.write_eof()
        return answer

    async def _write(self, answer: web.StreamResponse, data: bytes) -> None:
        if data:
            self.counters.bytes_out += len(data)
            await answer.write(data)

    def _framed(self, error: errors.ServerError, tag: str) -> bytes:
        text = error.text(self._engine.version).encode("utf-8", "surrogateescape")
        marker = b"__exception__\r\n"
        return b"\r\n" + marker + f"{tag}\r\n".encode() + text + f"{len(text)} {tag}\r\n".encode() + marker

    def _failure(self, error: errors.ServerError, query_id: str) -> web.Response:
        self.counters.errors[error.name] += 1
        headers = {"X-ClickHouse-Exception-Code": str(error.code), **self._common_headers()}
        if query_id and query_id.isprintable():
            headers["X-ClickHouse-Query-Id"] = query_id
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        body = error.text(self._engine.version).encode("utf-8", "surrogateescape")
        answer = web.Response(status=error.status, body=body, headers=headers)
        answer.content_type = "text/plain"
        answer.charset = "UTF-8"
        return answer

    def _common_headers(self) -> dict[str, str]:
        return {"X-ClickHouse-Server-Display-Name": self._name, "X-ClickHouse-Timezone": self._engine.timezone}

    async def _thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        """Close the sessions and wait for the threads; no request is running."""
        self._sessions.close()
        self._threads.shutdown()
