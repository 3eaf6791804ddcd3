"""The hot path: one tick's pixel requests, from the bytes of each to one write to the spool and the answers.

Promise: what is answered here is kept and answered exactly as `Routes.pixel` does it, only cheaper. This loop leaves to
it the hits that have more to decide: signals, a `c`, a site that is cookieless or usually denied, a visitor who opted
out or arrives by a link, a hit that is too large. A common POST of events goes to `Routes.events`; what else is no
common pixel request is the connection's own affair.

`PixelHeads.recognize` is the first half of each turn, `HitBuilder.pixel` the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infra.journal.frame import HEADER_BYTES
from ingest.client_address import Peer
from ingest.event_head import EventHeads
from ingest.given import CHOICE, CHOICE_ESCAPED
from ingest.group_commit import GroupCommit, Waiting
from ingest.http_response import PIXEL
from ingest.link import TRACE
from ingest.pixel_head import Fields, PixelHeads
from ingest.routes import Routes
from ingest.visitor import OPTED_OUT


class Reader(Waiting, Protocol):
    """A connection as the hot path sees it."""

    peer: Peer
    queued: bool
    since_s: float

    def read(self, data: bytes) -> None:
        """Take the requests in `data` one by one."""
        ...


class PixelBatch:
    """Takes reads of connections whose next bytes begin a request, one read of each."""

    def __init__(self, heads: PixelHeads, event_heads: EventHeads, routes: Routes, group: GroupCommit) -> None:
        self._recognize = heads.recognize
        self._recognize_post = event_heads.recognize
        self._routes = routes
        self._group = group

    def take(self, reads: Sequence[tuple[Reader, bytes]], loop_s: float) -> None:
        """Keep and answer the reads' requests; `loop_s` is when they came, for the time limits."""
        group, routes, recognize = self._group, self._routes, self._recognize
        seq = group.open_batch()
        usual, usual_anywhere, verdicts, visitors = (
            routes.usual_in_query,
            routes.usual_anywhere,
            routes.verdicts,
            routes.visitors,
        )
        visitors.at(group.now_s)
        returning, build = visitors.returning, group.builder.pixel
        hit_bytes_max, room = routes.members_bytes_max, group.bytes_max
        hits: list[bytes] = []
        answers: list[tuple[Waiting, bytes]] = []
        unusual: list[tuple[Reader, Fields]] = []
        others: list[tuple[Reader, bytes]] = []
        for connection, data in reads:
            connection.queued = False
            fields = recognize(data)
            if fields is None:
                others.append((connection, data))
                continue
            connection.since_s = loop_s
            cookie, address, proto, members, referer, query, signals, _ = fields
            ruling = usual_anywhere or usual.get(query.partition(b"&")[0])
            if ruling is None or signals or query.find(CHOICE) >= 0 or query.find(CHOICE_ESCAPED) >= 0:
                unusual.append((connection, fields))
                continue
            host, trusted, ip = connection.peer
            if trusted:
                ip = routes.address_member(host, address)
            verdict, _, mark, _ = ruling
            visitor, answer = returning(cookie), PIXEL
            if visitor is None:
                known = visitors.read(cookie, group.now_s)
                if known == OPTED_OUT or (known is None and (query + referer).find(TRACE) >= 0):
                    unusual.append((connection, fields))
                    continue
                visitor, mark, answer = routes.introduced(known, ruling, https=trusted and routes.https(address, proto))
            hit = build(seq, visitor, visitor, mark, ip, members, referer, query)
            size = len(hit)
            room -= size + HEADER_BYTES
            if size > hit_bytes_max or room < 0:
                unusual.append((connection, fields))
                continue
            verdicts[verdict] += 1
            seq += 1
            hits.append(hit)
            answers.append((connection, answer))
        group.add_batch(hits, answers, routes.full)
        for connection, fields in unusual:
            routes.pixel(connection, fields)
        for connection, data in others:
            self._take_other(connection, data, loop_s)
        group.flush()

    def _take_other(self, connection: Reader, data: bytes, loop_s: float) -> None:
        posted = self._recognize_post(data)
        if posted is None:
            connection.read(data)
        else:
            connection.since_s = loop_s
            self._routes.events(connection, *posted)
