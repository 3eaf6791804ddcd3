"""One frame: `length u32 LE | crc32 u32 LE | payload`. Length 0 means "not written yet": segments start as zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from struct import Struct
from typing import Final

from isal.isal_zlib import crc32  # the crc32 of zlib, four times faster on a hit

HEADER: Final = Struct("<II")
HEADER_BYTES: Final = HEADER.size
PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024


def encode(payload: bytes) -> bytes:
    """Return the frame of a payload of 1 to PAYLOAD_BYTES_MAX bytes."""
    return HEADER.pack(len(payload), crc32(payload)) + payload


def encode_all(payloads: Sequence[bytes]) -> list[bytes]:
    """Return the frames of payloads of 1 to PAYLOAD_BYTES_MAX bytes each."""
    headers = map(HEADER.pack, map(len, payloads), map(crc32, payloads))  # no step of its own for each: the hot path
    return list(map(add, headers, payloads))


def decode(buffer: bytes) -> tuple[list[bytes], int]:
    """Return the payloads of the whole, undamaged frames that `buffer` starts with, and the bytes they take."""
    payloads: list[bytes] = []
    at = 0
    end = len(buffer)
    unpack = HEADER.unpack_from
    while at + HEADER_BYTES <= end:
        length, checksum = unpack(buffer, at)
        stop = at + HEADER_BYTES + length
        if not 0 < length <= PAYLOAD_BYTES_MAX or stop > end:
            break
        payload = buffer[at + HEADER_BYTES : stop]
        if crc32(payload) != checksum:
            break
        payloads.append(payload)
        at = stop
    return payloads, at


def wanted_bytes(buffer: bytes) -> int:
    """Return how many bytes the frame at the start of `buffer` claims to take; 0 when that is no possible frame."""
    if len(buffer) < HEADER_BYTES:
        return 0
    length, _ = HEADER.unpack_from(buffer)
    return HEADER_BYTES + length if 0 < length <= PAYLOAD_BYTES_MAX else 0


def whole_frames(frames: Iterable[bytes], written: int) -> int:
    """Return how many of `frames`, written back to back, lie wholly within the first `written` bytes."""
    count = 0
    for frame in frames:
        written -= len(frame)
        if written < 0:
            break
        count += 1
    return count
