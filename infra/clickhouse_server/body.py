"""The request's body: unpacked, in bounded parts, with a limit on how long a client may keep it waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import BodyPartReader, web

from infra.clickhouse_server import errors
from infra.clickhouse_server.compression import Unpacker
from infra.clickhouse_server.counters import Counters

READ_BYTES = 64 * 1024
IDLE_S_MAX = 60.0
FORM_FIELDS_MAX = 1024
FORM_BYTES_MAX = 256 * 1024 * 1024


class Body:
    """Reads the body of one request. Raises ServerError for damaged, cut or stalled bodies."""

    def __init__(self, http: web.Request, encoding: str, counters: Counters) -> None:
        self._parts = self._unpacked(http, Unpacker(encoding), counters)
        self.ended = False

    async def read(self, size: int) -> bytes:
        """Return at least `size` bytes, fewer only at the end; then `ended` is set."""
        parts: list[bytes] = []
        have = 0
        while have < size and not self.ended:
            part = await anext(self._parts, None)
            if part is None:
                self.ended = True
                break
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    @staticmethod
    async def _unpacked(http: web.Request, unpacker: Unpacker, counters: Counters) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(IDLE_S_MAX):
                    raw = await http.content.read(READ_BYTES)
            except TimeoutError:
                message = f"Timeout exceeded: no data from the client for {IDLE_S_MAX:.0f} s"
                raise errors.ServerError(209, "SOCKET_TIMEOUT", message, status=408) from None
            except (OSError, web.RequestPayloadError) as error:
                message = f"the client ended the request in its middle ({error})"
                raise errors.ServerError(23, "CANNOT_READ_FROM_ISTREAM", message, status=400) from None
            if not raw:
                unpacker.end()
                return
            for part in unpacker.feed(raw):
                if part:
                    counters.bytes_in += len(part)
                    yield part


@dataclass(frozen=True)
class ExternalTable:
    """A table that came with the query in a multipart body."""

    name: str
    structure: str
    format: str
    data: bytes


async def read_form(http: web.Request, counters: Counters) -> tuple[dict[str, str], list[ExternalTable]]:
    """Return the fields and the external tables of a multipart body, bounded. Raises ServerError."""
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    left = FORM_BYTES_MAX
    try:
        async with asyncio.timeout(IDLE_S_MAX):
            reader = await http.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise errors.bad("a multipart body has named parts")
                data = bytearray()
                while chunk := await part.read_chunk():
                    data += chunk
                    if len(data) > left:
                        raise errors.bad(f"a multipart body has at most {FORM_BYTES_MAX} bytes")
                left -= len(data)
                counters.bytes_in += len(data)
                if part.filename is None:
                    fields[part.name] = data.decode("utf-8", "surrogateescape")
                else:
                    files.append((part.name, bytes(data)))
                if len(fields) + len(files) > FORM_FIELDS_MAX:
                    raise errors.bad(f"a multipart body has at most {FORM_FIELDS_MAX} parts")
    except (TimeoutError, OSError, ValueError, web.RequestPayloadError) as error:
        raise errors.bad(f"the multipart body cannot be read: {error}") from None
    return fields, [_external(name, data, {**dict(http.query), **fields}) for name, data in files]


def _external(name: str, data: bytes, named: Mapping[str, str]) -> ExternalTable:
    structure = named.get(f"{name}_structure", "")
    if not structure and (types := named.get(f"{name}_types")):
        structure = ", ".join(f"_{index} {each}" for index, each in enumerate(types.split(","), 1))
    if not structure:
        raise errors.bad(f"external table {name} has neither {name}_structure nor {name}_types")
    return ExternalTable(name, structure, named.get(f"{name}_format") or "TabSeparated", data)


def about_tables(tables: list[ExternalTable]) -> frozenset[str]:
    """Return the names of the parameters that describe external tables."""
    return frozenset(f"{table.name}_{kind}" for table in tables for kind in ("structure", "types", "format"))
