"""Bodies packed and unpacked by Content-Encoding and Accept-Encoding: lz4, zstd, gzip, deflate.

Promise: what unpacks to more than it should comes in bounded parts, so that a reader can stop. ClickHouse's own block
framing (`compress=1`, `decompress=1`) is another thing and refused by `request`.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]  # lz4 ships no types

from infra.clickhouse_server import errors

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# As ClickHouse prefers them when a client takes several.
ENCODINGS = ("lz4", "zstd", "gzip", "deflate")
PART_BYTES_MAX = 1024 * 1024


class Packer(Protocol):
    """Packs one body."""

    def compress(self, data: bytes, /) -> bytes:
        """Return the packed bytes that are ready."""

    def flush(self) -> bytes:
        """Return the rest; the body ends."""


class _Lz4Packer:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = b""
        self._started = False

    def compress(self, data: bytes, /) -> bytes:
        begin = b"" if self._started else bytes(self._frame.begin())
        self._started = True
        return begin + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        return self.compress(b"") + bytes(self._frame.flush())


def accepted(header: str) -> str:
    """Return the encoding to answer in for an Accept-Encoding header, "" for none."""
    offered = set()
    for part in header.lower().split(","):
        name, _, weight = part.strip().partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            offered.add(name.strip())
    return next((name for name in ENCODINGS if name in offered), "")


def packer(encoding: str) -> Packer:
    """Return a packer for one of `ENCODINGS`."""
    if encoding == "lz4":
        return _Lz4Packer()
    if encoding == "zstd":
        return zstd.ZstdCompressor(level=1)
    return zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)


class Unpacker:
    """Unpacks one body, several frames or members in a row included. Raises ServerError for damaged data."""

    def __init__(self, encoding: str) -> None:
        names = {"lz4": self._frames, "zstd": self._frames, "gzip": self._zlib, "deflate": self._zlib, "": self._plain}
        encoding = {"x-gzip": "gzip", "identity": ""}.get(encoding.lower(), encoding.lower())
        if encoding not in names:
            raise errors.not_implemented(f"Content-Encoding {encoding} is not supported")
        self._encoding = encoding
        self._unpack: Callable[[bytes], Iterator[bytes]] = names[encoding]
        self._wbits = 31 if encoding == "gzip" else 15
        self._inner = self._fresh()
        self._open = False

    def _fresh(self) -> object:
        if self._encoding == "lz4":
            return lz4.frame.LZ4FrameDecompressor()
        if self._encoding == "zstd":
            return zstd.ZstdDecompressor()
        return zlib.decompressobj(self._wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` unpacks to, in bounded parts."""
        try:
            yield from self._unpack(data)
        except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
            code, name = {
                "lz4": (618, "LZ4_DECODER_FAILED"),
                "zstd": (561, "ZSTD_DECODER_FAILED"),
            }.get(self._encoding, (354, "ZLIB_INFLATE_FAILED"))
            raise errors.ServerError(code, name, f"the {self._encoding} body is damaged: {error}", status=400) from None

    def end(self) -> None:
        """Say that the body is complete. Raises ServerError if it was cut."""
        if self._open:
            raise errors.ServerError(
                23, "CANNOT_READ_FROM_ISTREAM", f"the {self._encoding} body is cut short", status=400
            )

    def _plain(self, data: bytes) -> Iterator[bytes]:
        yield data

    def _zlib(self, data: bytes) -> Iterator[bytes]:
        while data:
            inner = self._inner
            assert isinstance(inner, type(zlib.decompressobj()))
            yield inner.decompress(data, PART_BYTES_MAX)
            self._open = not inner.eof
            if inner.eof:
                data, self._inner = inner.unused_data, self._fresh()
            else:
                data = inner.unconsumed_tail

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data or not getattr(self._inner, "needs_input", True):
            inner = self._inner
            assert isinstance(inner, lz4.frame.LZ4FrameDecompressor | zstd.ZstdDecompressor)
            yield inner.decompress(data, PART_BYTES_MAX)
            self._open = not inner.eof
            data = b""
            if inner.eof:
                data, self._inner = inner.unused_data or b"", self._fresh()
