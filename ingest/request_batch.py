"""The hot path: one tick's requests, from the bytes of each to one write to the spool and the answers.

Promise: what is answered here is kept and answered exactly as `Routes.pixel` and `Events.take` do it, only cheaper. It
leaves to them the hits that have more to decide: signals, a `c`, a site that is cookieless or usually denied, a visitor
who opted out or arrives by a link, a hit that is too large, more than one event. What is no common request at all is
the connection's own affair.

`PixelHeads.recognize` is the first half of each turn, `HitBuilder.pixel` the last step.
"""

from __future__ import annotations

from infra.journal.frame import HEADER_BYTES
from ingest.client import Client
from ingest.event_head import EventHeads
from ingest.given import CHOICE, CHOICE_ESCAPED
from ingest.group_commit import Answer, GroupCommit
from ingest.http_response import PIXEL
from ingest.link import TRACE
from ingest.pixel_head import Fields, PixelHeads
from ingest.routes import Routes
from ingest.visitor import OPTED_OUT

Read = tuple[Client, bytes]


class RequestBatch:
    """Takes reads of connections whose next bytes begin a request, one read of each."""

    def __init__(self, heads: PixelHeads, event_heads: EventHeads, routes: Routes, group: GroupCommit) -> None:
        self._heads = heads
        self._event_heads = event_heads
        self._routes = routes
        self._group = group

    def take(self, reads: list[Read], loop_s: float) -> None:
        """Keep and answer the reads' requests; `loop_s` is when they came, for the time limits."""
        others = self._take_pixels(reads, loop_s)
        if others:
            for client, data in self._take_posts(others, loop_s):
                client.read(data)
            self._group.flush()

    def _take_pixels(self, reads: list[Read], loop_s: float) -> list[Read]:
        """Take the pixel requests; return the reads that are none."""
        group, routes, heads = self._group, self._routes, self._heads
        seq = group.open_batch()
        usual, usual_anywhere, verdicts, visitors, builder = (
            routes.usual_in_query,
            routes.usual_anywhere,
            routes.verdicts,
            routes.visitors,
            group.builder,
        )
        visitors.at(group.now_s)
        hit_bytes_max, room, full = routes.members_bytes_max, group.bytes_max, routes.full
        hits: list[bytes] = []
        answers: list[Answer] = []
        unusual: list[tuple[Client, Fields]] = []
        others: list[Read] = []
        for read in reads:
            client, data = read
            client.queued = False
            fields = heads.recognize(data)
            if fields is None:
                others.append(read)
                continue
            client.since_s = loop_s
            cookie, address, proto, members, referer, query, signals, _ = fields
            ruling = usual_anywhere or usual.get(query.partition(b"&")[0])
            if ruling is None or signals or query.find(CHOICE) >= 0 or query.find(CHOICE_ESCAPED) >= 0:
                unusual.append((client, fields))
                continue
            host, trusted, ip = client.peer
            if trusted:
                ip = routes.address_member(host, address)
            verdict, _, mark, _ = ruling
            visitor, answer = visitors.returning(cookie), PIXEL
            if visitor is None:
                known = visitors.read(cookie, group.now_s)
                if known == OPTED_OUT or (known is None and (query + referer).find(TRACE) >= 0):
                    unusual.append((client, fields))
                    continue
                visitor, mark, answer = routes.introduced(known, ruling, https=trusted and routes.https(address, proto))
            hit = builder.pixel(seq, visitor, visitor, mark, ip, members, referer, query)
            size = len(hit)
            room -= size + HEADER_BYTES
            if size > hit_bytes_max or room < 0:
                unusual.append((client, fields))
                continue
            verdicts[verdict] += 1
            seq += 1
            hits.append(hit)
            answers.append((client, answer, full))
        group.add_batch(200, hits, answers)
        for client, fields in unusual:
            routes.pixel(client, fields)
        if unusual:
            group.flush()
        return others

    def _take_posts(self, reads: list[Read], loop_s: float) -> list[Read]:
        """Take the POSTs of events; return the reads that are none."""
        group, routes, heads = self._group, self._routes, self._event_heads
        events, verdicts, room = routes.events, routes.verdicts, group.bytes_max
        seq = group.open_batch()
        routes.visitors.at(group.now_s)
        hits: list[bytes] = []
        answers: list[Answer] = []
        unusual: list[tuple[Client, Fields, bytes]] = []
        others: list[Read] = []
        for read in reads:
            client, data = read
            posted = heads.recognize(data)
            if posted is None:
                others.append(read)
                continue
            client.since_s = loop_s
            fields, body = posted
            usual = events.usual(client.peer, fields, body, seq)
            if usual is not None:
                hit, ruling, answer, full_answer = usual
                room -= len(hit) + HEADER_BYTES
            if usual is None or room < 0:
                unusual.append((client, fields, body))
                continue
            verdicts[ruling.verdict] += 1
            seq += 1
            hits.append(hit)
            answers.append((client, answer, full_answer))
        group.add_batch(204, hits, answers)
        for client, fields, body in unusual:
            routes.post(client, fields, body)
        return others
