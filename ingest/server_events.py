"""`POST /v1/events`: events that a site's own servers report, each judged here by the rules that the worker uses.

Promise: an item counts as accepted when its hit is kept, so all accepted items of a request are kept, or none (503). An
item that the worker would reject is not kept; the sender is told which, and why, by the closed reasons.

- Only a valid key opens the path (`schemas/server_key.py`), and a key speaks for one site: what names another is
  rejected.
- A server knows its visitor by `vid`, the id in the `_hs` cookie that a first-party server can read; without it there
  is no visitor, and the log key is random. Nothing that the sending server says of itself (address, agent) is kept.
- An item's `c` and the site's mode are asked for consent; without it only what `denials.py` says is kept. An item that
  is dropped for want of it counts as accepted, too: there is nothing to send again.
- A request that is refused whole is told why, by the reason that counts it (`counters.Refusal`): `{"error": "…"}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from infra.journal.frame import HEADER_BYTES
from ingest.counters import Counters, Refusal
from ingest.denials import Denials
from ingest.event_body import parse_items
from ingest.given import given_in_event
from ingest.group_commit import GroupCommit, Taken
from ingest.hit_builder import HIT_FIXED_BYTES, NO_VISITOR
from ingest.http_response import STATUS_OF, refusal, response
from ingest.http_strict import RefusedError, Request
from ingest.rulings import Rulings
from schemas.limits import limits_of
from schemas.rejection import Reason
from schemas.server_key import key_id, matches
from schemas.settings import Settings
from schemas.validate import objection

LINES = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
CHALLENGE = b'WWW-Authenticate: Bearer realm="hitstream"\r\n'
WRONG_KEY = b'WWW-Authenticate: Bearer realm="hitstream", error="invalid_token"\r\n'  # RFC 6750, 3.1

_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)").fullmatch
_VISITOR = re.compile(r"[0-9a-f]{16}").fullmatch
_NO_NAME = NO_VISITOR.decode()


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An item that will be kept: its log key and visitor as 16 hex digits, what stands behind it, its event as JSON."""

    key: bytes
    visitor: bytes
    mark: bytes
    event: bytes


class ServerEvents:
    """Answers into `group`, by one state of the settings. `random_key` returns 16 random hex digits."""

    def __init__(  # noqa: PLR0913, PLR0917  what the routes share
        self,
        settings: Settings,
        group: GroupCommit,
        counters: Counters,
        rulings: Rulings,
        denials: Denials,
        random_key: Callable[[], bytes],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._group = group
        self._counters = counters
        self._rulings = rulings
        self._denials = denials
        self._random_key = random_key
        self._now = now
        self._keys = {key.id: (site_id, key) for site_id, site in settings.sites.items() for key in site.keys}
        limits = limits_of(settings)
        self._limits = {
            site_id: msgspec.structs.replace(limits, sites=frozenset((site_id,))) for site_id in settings.sites
        }
        self._usual = {site_id: rulings.of({"s": site_id}, 0, opted_out=False) for site_id in settings.sites}
        self._events_max = settings.post_events_max
        self._depth_max = settings.json_depth_max
        self._hit_bytes_max = settings.hit_bytes_max - HIT_FIXED_BYTES
        self._full = refusal(Refusal.SPOOL_FULL, b"Retry-After: %d\r\n" % settings.retry_after_s)

    def take(self, request: Request) -> Taken:
        """Return what a POST comes to."""
        try:
            return self._taken(request)
        except RefusedError as error:
            self._counters.refused[error.reason] += 1
            status, body = STATUS_OF[error.reason], orjson.dumps({"error": error.reason.value})
            answer = response(status, LINES + error.lines, body)
            return Taken(status, answer, answer, [])

    def _taken(self, request: Request) -> Taken:
        """Return what an accepted POST comes to. Raises RefusedError."""
        site = self._site_of(request.headers.get(b"authorization", []), self._now())
        items = parse_items(request.body, request.header(b"content-type"), self._events_max, self._depth_max)
        accepted: list[Accepted | None] = []
        rejected: list[dict[str, Any]] = []
        for index, item in enumerate(items):
            judged = self._judge(item, site)
            if isinstance(judged, Reason):
                rejected.append({"index": index, "reason": judged.value})
            else:
                accepted.append(judged)
        hits = self._hits([item for item in accepted if item is not None])
        self._counters.server_rejected.update(Reason(item["reason"]) for item in rejected)
        body = orjson.dumps({"accepted": len(accepted), "rejected": rejected})
        return Taken(202, response(202, LINES, body), self._full, hits)

    def _site_of(self, authorization: list[bytes], now: datetime) -> str:
        """Return the site that the presented key speaks for. Raises RefusedError."""
        if not authorization:
            raise RefusedError(Refusal.UNAUTHORIZED, CHALLENGE)
        bearer = _BEARER(authorization[0]) if len(authorization) == 1 else None
        presented = bearer[1].decode() if bearer else ""
        site, key = self._keys.get(key_id(presented), ("", None))
        if not matches(presented, key, now):
            raise RefusedError(Refusal.UNAUTHORIZED, WRONG_KEY)
        return site

    def _judge(self, item: object, site: str) -> Accepted | Reason | None:
        """Return what is kept of an item, None when it is dropped, or why it is rejected."""
        if not isinstance(item, dict):
            return Reason.BAD_JSON
        if item.get("s") in (None, ""):
            item["s"] = site
        visitor = item.pop("vid", None)
        if visitor in (None, ""):
            visitor = _NO_NAME
        elif not isinstance(visitor, str) or not _VISITOR(visitor):
            return Reason.BAD_TYPE
        wrong = objection(item, self._limits[site])
        if wrong is not None:
            return wrong.reason
        ruling = self._rulings.of(item, 0, opted_out=False) if "c" in item else self._usual[site]
        self._counters.verdicts[ruling.verdict] += 1
        if ruling.denial is not None:
            kept = self._denials.strip(ruling.denial, given_in_event(item))
            return kept and Accepted(kept.key, NO_VISITOR, kept.mark, kept.event)
        key = self._random_key() if visitor == _NO_NAME else visitor.encode()
        return Accepted(key, visitor.encode(), ruling.known, orjson.dumps(item))

    def _hits(self, accepted: list[Accepted]) -> list[bytes]:
        """Return the hits, numbered for the group. Raises RefusedError where they are too large to be kept."""
        if not accepted:
            return []
        sizes = [len(item.event) for item in accepted]
        bound = sum(sizes) + len(sizes) * (HIT_FIXED_BYTES + HEADER_BYTES)
        if max(sizes) > self._hit_bytes_max or bound > self._group.post_bytes_max:
            raise RefusedError(Refusal.HIT_TOO_LARGE)
        seq = self._group.open(bound, len(accepted))
        event = self._group.builder.event
        return [
            event(seq + place, b"server", item.key, item.visitor, item.mark, b"", item.event)
            for place, item in enumerate(accepted)
        ]
