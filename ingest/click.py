"""`GET /c?s=…&u=<url>&sig=…`: keeps a click and sends the browser on, with the click's id in the target.

Promise: a browser is sent nowhere but to a signed target or an allowed host (`redirect_target.py`); else the answer is
400. Nobody is kept waiting by a full spool: then, and for HEAD, the target goes out without an id, and nothing is kept.

- The hit: source `click`, event `Click`, `id` the new id, `p.target` the target without our parameters. The page it was
  clicked on, the Referer, is `u` if it is the site's, else `r`: a click on another's page has a referrer and no page.
- `hsclid` in the target is the same id, so the landing session's `click_id` names the click's `event_id`.
- Without consent the target goes out without an id, and of the click is kept what `denials.py` says.
- Of the link's other parameters `c uid ab p.*` are the event's; of a repeated one the first counts.
"""

from __future__ import annotations

import secrets

import orjson

from ingest.client_address import Peer
from ingest.counters import Refusal
from ingest.decisions import Decisions
from ingest.given import given_in_event
from ingest.group_commit import GroupCommit, Taken
from ingest.hit_builder import HIT_FIXED_BYTES
from ingest.http_response import response
from ingest.http_strict import RefusedError, Request
from ingest.pixel_head import PixelHeads
from ingest.redirect_target import CLICK_PARAMETER, Target, signed, target_of
from ingest.visitor import OPTED_OUT
from schemas.host import is_on
from schemas.page import LINK_PARAMETER, split_page
from schemas.parameters import PROPERTY, RejectError, percent_decoded
from schemas.settings import Settings
from schemas.validate import SITE

CLICK_ID_BYTES = 16
EVENTS_OWN = frozenset(("c", "uid", "ab"))
TARGET_PROPERTY = "p.target"


class Clicks:
    """Answers into `group`, by one state of the settings."""

    def __init__(self, settings: Settings, group: GroupCommit, heads: PixelHeads, decisions: Decisions) -> None:
        self._settings = settings
        self._group = group
        self._heads = heads
        self._decisions = decisions

    def take(self, peer: Peer, request: Request) -> Taken:
        """Return what a GET or a HEAD comes to. Raises RefusedError."""
        given = _given(request.query)
        site, target = self._allowed(given)
        plain = _found(target.url())
        if request.method == b"HEAD":
            return Taken(302, plain, plain, [])
        cookie, address, proto, common, _, _, signals, _ = self._heads.fields_of(request)
        decisions = self._decisions
        members = decisions.ip_member(peer, address) + common
        click_id = secrets.token_hex(CLICK_ID_BYTES)
        event = self._event(given, site, target, click_id, _text(request.header(b"referer") or b""))
        body = orjson.dumps(event)
        size = len(members) + len(body)
        if size > decisions.members_bytes_max:
            raise RefusedError(Refusal.HIT_TOO_LARGE)
        group = self._group
        seq = group.open(size + HIT_FIXED_BYTES)
        known = decisions.visitors.read(cookie, group.now_s)
        ruling = decisions.rulings.of(event, signals, opted_out=known == OPTED_OUT)
        decisions.counters.verdicts[ruling.verdict] += 1
        if ruling.denial is not None:
            return Taken(302, plain, plain, decisions.denials.hits(seq, b"click", ruling.denial, given_in_event(event)))
        parameters = [(CLICK_PARAMETER, click_id)]
        if decisions.cookieless.of(site) is not None:
            names = decisions.cookieless.names(group.now_s, site, peer, address, common)
            own = (names.key, names.visitor, names.mark(ruling.known))
            hit = group.builder.event(seq, b"click", *own, members, body)
            return Taken(302, _found(target.url(*parameters)), plain, [hit])
        visitor, birth_s = known or (decisions.mint(), group.now_s)
        hit = group.builder.event(seq, b"click", visitor, visitor, ruling.known if known else ruling.new, members, body)
        lines = b""
        if known is None or group.now_s - birth_s > decisions.visitors.renew_s:
            https = decisions.is_https(peer, address, proto)
            lines = decisions.visitors.set_cookie(visitor, birth_s, https=https)
        host = _text(request.header(b"host") or b"")
        if decisions.links.leads_on(site, target.host, host):
            parameters.append((LINK_PARAMETER, decisions.links.parameter(site, visitor, birth_s, group.now_s)))
        return Taken(302, _found(target.url(*parameters), lines), plain, [hit])

    def _allowed(self, given: dict[str, str]) -> tuple[str, Target]:
        """Return site and target of a link that may be followed. Raises RefusedError."""
        site, url = given.get("s", ""), given.get("u", "")
        defined = self._settings.sites
        target = target_of(url) if SITE.fullmatch(site) and (site in defined or not defined) else None
        if target is not None:
            rules = self._settings.site(site)
            if target.host in rules.redirect_hosts or signed(rules.link_key, site, url, given.get("sig", "")):
                return site, target
        raise RefusedError(Refusal.BAD_LINK)

    def _event(self, given: dict[str, str], site: str, target: Target, click_id: str, referer: str) -> dict[str, str]:
        """Return the click's event, in the parameters of every event."""
        event = {name: text for name, text in given.items() if name in EVENTS_OWN or name.startswith(PROPERTY)}
        event |= {"s": site, "e": "Click", "id": click_id, TARGET_PROPERTY: target.url()}
        page = split_page(referer)
        domains = self._settings.site(site).domains
        if page is not None and (not domains or is_on(page.host, domains)):
            event["u"] = referer
        elif referer:
            event["r"] = referer
        return event


def _given(query: bytes) -> dict[str, str]:
    """Return the parameters of a raw query that are not empty, the first of each name. Raises RefusedError."""
    given: dict[str, str] = {}
    try:
        for pair in query.decode("latin-1").split("&"):
            name, _, value = (percent_decoded(text, "") for text in pair.partition("="))
            if value:
                given.setdefault(name, value)
    except RejectError as error:
        raise RefusedError(Refusal.BAD_LINK) from error
    return given


def _text(value: bytes) -> str:
    """Return a header field's value as text: UTF-8 where it is UTF-8, else latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _found(url: str, lines: bytes = b"") -> bytes:
    return response(302, b"Location: %b\r\nCache-Control: no-store\r\n" % url.encode("ascii") + lines)
