"""POSTs of events from browsers: what is kept of each event, and the answer.

Promise: all events of a POST are kept, or none. `usual` is the cheaper way to what `take` comes to for most: one event
of a returning visitor, to a site whose visitors have a cookie, where nobody says anything of consent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from infra.journal.frame import HEADER_BYTES
from ingest.client_address import Peer
from ingest.cors import Cors
from ingest.counters import Refusal
from ingest.decisions import Decisions
from ingest.event_body import has_json_type, parse_events
from ingest.given import given_in_event
from ingest.group_commit import GroupCommit, Taken
from ingest.hit_builder import HIT_FIXED_BYTES, NO_VISITOR, text_member
from ingest.http_response import refusal, response
from ingest.http_strict import RefusedError
from ingest.link import TRACE
from ingest.pixel_head import Fields, Sent
from ingest.rulings import Ruling
from ingest.visitor import OPTED_OUT, Visitors
from schemas.settings import Settings

ANSWERS_CACHED_MAX = 1024
POST_BYTES_MAX = 4 * 1024 * 1024  # of one POST's hits: each repeats the request's header fields


class Usual(NamedTuple):
    """What a usual POST comes to: its hit, the ruling on it, the answer when it is kept and when it is not."""

    hit: bytes
    ruling: Ruling
    answer: bytes
    full_answer: bytes


class Events:
    """Takes POSTs, by one state of the settings."""

    def __init__(self, settings: Settings, group: GroupCommit, cors: Cors, decisions: Decisions) -> None:
        self._group = group
        self._cors = cors
        self._decisions = decisions
        self._visitors: Visitors = decisions.visitors
        self._members_bytes_max: int = decisions.members_bytes_max
        self._usual_anywhere, self._usual_of = decisions.rulings.usual_anywhere, decisions.rulings.usual
        self._events_max = settings.post_events_max
        self._depth_max = settings.json_depth_max
        self._retry_after = b"Retry-After: %d\r\n" % settings.retry_after_s
        self._usual_answers = lru_cache(ANSWERS_CACHED_MAX)(self._answers_to)

    def usual(self, peer: Peer, fields: Fields, body: bytes, seq: int) -> Usual | None:
        """Return what a usual POST comes to as hit number `seq`, by the visitors' time; None: ask `take`."""
        cookie, address, _, common, referer, _, signals, sent = fields
        answers = self._usual_answers(sent)
        if answers is None or signals or body.count(b"{") + body.count(b"[") > self._depth_max:
            return None
        visitor = self._visitors.returning(cookie)
        if visitor is None:
            return None
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(event, dict) or "events" in event or "c" in event:
            return None
        site = event.get("s")
        ruling = self._usual_anywhere or self._usual_of.get(site if isinstance(site, str) else "")
        if ruling is None:
            return None
        members = (self._decisions.ip_member(peer, address), common, text_member(b"referer", referer))
        hit = self._group.builder.beacon(seq, visitor, ruling.known, b"".join(members), orjson.dumps(event))
        return Usual(hit, ruling, *answers) if len(hit) <= self._members_bytes_max else None

    def take(self, peer: Peer, fields: Fields, body: bytes) -> Taken:
        """Return what any POST comes to. Raises RefusedError."""
        origin, content_type = fields[-1]
        lines = self._cors.answer_lines(origin)
        try:
            events = parse_events(body, content_type, self._events_max, self._depth_max)
            return self._taken(peer, fields, events, lines)
        except RefusedError as error:
            raise RefusedError(error.reason, lines) from error

    def _taken(self, peer: Peer, fields: Fields, events: list[dict[str, Any]], lines: bytes) -> Taken:
        if not events:
            answer = response(204, lines, None)
            return Taken(204, answer, answer, [])
        bodies = [orjson.dumps(event) for event in events]
        cookie, address, proto, common, referer, _, signals, _ = fields
        members = b"".join((self._decisions.ip_member(peer, address), common, text_member(b"referer", referer)))
        sizes = [len(members) + len(body) for body in bodies]
        bound = sum(sizes) + len(sizes) * (HIT_FIXED_BYTES + HEADER_BYTES)
        if max(sizes) > self._members_bytes_max or bound > min(self._group.post_bytes_max, POST_BYTES_MAX):
            raise RefusedError(Refusal.HIT_TOO_LARGE)
        group, decisions = self._group, self._decisions
        seq = group.open(bound, len(bodies))
        known = self._visitors.read(cookie, group.now_s)
        rulings = [decisions.rulings.of(event, signals, opted_out=known == OPTED_OUT) for event in events]
        sites = [decisions.cookieless.of(event.get("s")) for event in events]
        named = not all(
            ruling.denial is not None or site is not None for ruling, site in zip(rulings, sites, strict=True)
        )
        found = known or (
            named and any(TRACE in text for text in bodies) and decisions.links.arrival_in_events(events, group.now_s)
        )
        visitor, birth_s = found or (decisions.mint() if named else NO_VISITOR, group.now_s)
        hits: list[bytes] = []
        for event, body, ruling, site in zip(events, bodies, rulings, sites, strict=True):
            place = seq + len(hits)
            decisions.counters.verdicts[ruling.verdict] += 1
            if ruling.denial is not None:
                hits += decisions.denials.hits(place, b"beacon", ruling.denial, given_in_event(event), referer)
            elif site is not None:
                names = decisions.cookieless.names(group.now_s, site, peer, address, common)
                own = (names.key, names.visitor, names.mark(ruling.known))
                hits.append(group.builder.event(place, b"beacon", *own, members, body))
            else:
                mark = ruling.known if found else ruling.new
                hits.append(group.builder.beacon(place, visitor, mark, members, body))
        if named and (known is None or group.now_s - birth_s > self._visitors.renew_s):
            https = decisions.is_https(peer, address, proto)
            lines += self._visitors.set_cookie(visitor, birth_s, https=https)
        return Taken(204, *self._answers(lines), hits)

    def _answers_to(self, sent: Sent) -> tuple[bytes, bytes] | None:
        """Return the answers to a usual POST from an Origin, None where its Content-Type is to be refused."""
        origin, content_type = sent
        return self._answers(self._cors.answer_lines(origin)) if has_json_type(content_type) else None

    def _answers(self, lines: bytes) -> tuple[bytes, bytes]:
        """Return the answers to a POST: it is kept, the spool is full."""
        return response(204, lines, None), refusal(Refusal.SPOOL_FULL, self._retry_after + lines)
