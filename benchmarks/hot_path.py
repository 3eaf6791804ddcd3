"""The hot path alone: from the bytes of a returning visitor's pixel request to the frame to write and the answer.

Everything that the collector does for such a hit in Python runs here as it does there, but for the event loop and the
kernel: `Connection.data_received`, `RequestBatch.take` with all that it calls, the frames' encoding, and the answers.
`python -m benchmarks.hot_path N` handles N hits and ends: the guard counts its instructions (`benchmarks/guard.py`),
and `--time` prints microseconds a hit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import cast

from infra.journal.frame import encode_all
from ingest.client_address import Peer
from ingest.cookieless import DailySalts
from ingest.counters import Counters
from ingest.event_head import EventHeads
from ingest.group_commit import GroupCommit
from ingest.http_protocol import Connection, Edge
from ingest.http_strict import HttpLimits
from ingest.pixel_head import PixelHeads
from ingest.routes import Routes
from ingest.spool import Spool
from schemas.settings import load

VISITORS = 2000
CONNECTIONS = 64


class NoSpool:
    """A spool that encodes its frames and writes none."""

    id = "00000000000000aa"
    segment_bytes = 1 << 25
    wants_prepare = False
    full = False
    segments_begun = 0
    next_seq = 0

    def append(self, hits: list[bytes]) -> int:
        """Encode."""
        self.next_seq += len(encode_all(hits))
        return len(hits)

    def prepare(self) -> bool:
        """Have room."""
        return True

    def close(self) -> None:
        """Hold nothing."""


def no_salts() -> DailySalts:
    """Have none: no site is cookieless."""
    raise AssertionError("the hot path has no salt")


def requests() -> list[bytes]:
    """Return the request of each visitor, as `edge_requests.py` sends them."""
    now = int(time.time())
    found = []
    for visitor in range(1, VISITORS + 1):
        query = (
            f"s=shop&e=PageView&u=https%3A%2F%2Fshop.example%2Fproducts%2F{visitor:05d}%3Futm_source%3Dnewsletter"
            f"&r=https%3A%2F%2Fshop.example%2F&id={visitor * 7919:08x}&t={now}000&l=en-US"
        )
        found.append(
            f"GET /p.gif?{query:x<160} HTTP/1.1\r\n"
            'Host: t.shop.example\r\nConnection: keep-alive\r\nsec-ch-ua-platform: "Windows"\r\n'
            "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            f"Chrome/13{visitor % 10}.0.0.0 Safari/537.36\r\n"
            'sec-ch-ua: "Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"\r\n'
            "sec-ch-ua-mobile: ?0\r\nAccept: image/avif,image/webp,image/apng,image/svg+xml,*/*;q=0.8\r\n"
            "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
            f"Referer: https://shop.example/products/{visitor:05d}\r\n"
            "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
            f"Cookie: _ga=GA1.1.{visitor * 104729}.1700000000; _hs={visitor * 7919:016x}.{now - 86400}\r\n\r\n".encode()
        )
    return found


async def handle(count: int) -> float:
    """Handle `count` hits in groups of CONNECTIONS, one a connection; return seconds."""
    settings = load()
    counters = Counters()
    group = GroupCommit(
        cast("Spool", NoSpool()),
        counters,
        hits_max=settings.group_hits_max,
        bytes_max=settings.group_bytes_max,
        disk=False,
    )
    limits = HttpLimits(
        settings.target_bytes_max, settings.head_bytes_max, settings.headers_max, settings.body_bytes_max
    )
    heads = PixelHeads(settings.pixel_path, settings.client_address_header, limits)
    event_heads = EventHeads(settings.events_path, settings.client_address_header, limits)
    edge = Edge(group, Routes(settings, group, counters, heads, no_salts), heads, event_heads, counters)
    connections = [Connection(edge) for _ in range(CONNECTIONS)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for connection in connections:
        connection.peer = Peer("127.0.0.1", trusted=False, ip_member=b',"ip":"127.0.0.0"')
        connection.handle = nowhere
    await asyncio.sleep(0)
    heads_of = requests()
    began = time.perf_counter()
    for first in range(0, count, CONNECTIONS):
        for place, connection in enumerate(connections):
            connection.data_received(heads_of[(first + place) % VISITORS])
        edge.take_reads()
        await asyncio.sleep(0)
    used_s = time.perf_counter() - began
    if counters.hits_kept < count:
        raise AssertionError(f"{counters.hits_kept} hits kept of {count}")
    group.close()
    os.close(nowhere)
    return used_s


def main() -> None:
    """Handle as many hits as the arguments say."""
    parser = argparse.ArgumentParser(description="the hot path alone")
    parser.add_argument("hits", type=int)
    parser.add_argument("--time", action="store_true", help="print microseconds a hit")
    given = parser.parse_args()
    used_s = asyncio.run(handle(given.hits))
    if given.time:
        print(f"{used_s / given.hits * 1e6:.2f} us a hit")


if __name__ == "__main__":
    main()
