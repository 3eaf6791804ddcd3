"""What each request gets: the public port's table in CONTRACT, for requests that are well-formed HTTP.

Promise: every request handed in adds exactly one entry to the group commit, so exactly one answer follows; what a
request keeps, it keeps in that entry. The fast path and the strict reader meet in `pixel`, so that a request gets the
same hit and the same answer whichever of them read it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from infra.journal.frame import HEADER_BYTES
from ingest.click import Clicks
from ingest.client import Client
from ingest.client_address import ClientAddresses, Peer
from ingest.cookieless import DailySalts
from ingest.cookieless_sites import CookielessSites
from ingest.cors import Cors
from ingest.counters import Counters, Refusal
from ingest.decisions import Decisions
from ingest.denials import Denials
from ingest.events import Events
from ingest.given import given_in_query
from ingest.group_commit import GroupCommit, Taken
from ingest.hit_builder import HIT_FIXED_BYTES
from ingest.http_response import (
    PIXEL,
    PIXEL_END,
    PIXEL_HEAD,
    PIXEL_START,
    STATUS_OF,
    closing,
    kept_alive,
    refusal,
    response,
)
from ingest.http_strict import RefusedError, Request
from ingest.link import Links
from ingest.optout_pages import optout_pages
from ingest.pixel_head import Fields, PixelHeads
from ingest.rulings import Ruling, Rulings
from ingest.script import script_of
from ingest.server_events import ServerEvents
from ingest.visitor import OPTED_OUT, Known, Visitors
from schemas.settings import Settings

GET_METHODS = b"Allow: GET, HEAD\r\n"
PAGE_METHODS = b"Allow: GET, HEAD, POST\r\n"
SERVER_METHODS = b"Allow: POST\r\n"
EVENTS_METHODS = b"Allow: POST, OPTIONS\r\n"

Dress = Callable[[bytes], bytes]


def as_is(answer: bytes) -> bytes:
    """Return the answer of an HTTP/1.1 connection that stays open."""
    return answer


class Routes:
    """Answers requests into `group`. `salts` returns those of cookieless visitors, or raises SaltError."""

    def __init__(
        self,
        settings: Settings,
        group: GroupCommit,
        counters: Counters,
        heads: PixelHeads,
        salts: Callable[[], DailySalts],
    ) -> None:
        self._group = group
        self._counters = counters
        self._heads = heads
        self._salts = salts
        self.visitors = Visitors(
            renew_s=settings.cookie_renew_s, secure=settings.cookie_secure, third_party=settings.third_party
        )
        self.verdicts = counters.verdicts
        self._denials = Denials(group.builder, counters, self.visitors.mint)
        self._addresses = ClientAddresses(settings.trusted_proxies, settings.client_address_header, settings.ip_keep)
        self.address_member, self.https = self._addresses.member, self._addresses.https
        self._script = script_of(settings)
        self._optout_pages = optout_pages(settings, self._addresses, self.visitors)
        self._paths: dict[bytes, Callable[[Client, Request, Dress], None]] = {
            settings.click_path.encode(): self._on_click_path,
            settings.server_events_path.encode(): self._on_server_path,
            self._script.path: self._on_script_path,
            settings.optout_path.encode(): self._on_optout_path,
            settings.optin_path.encode(): self._on_optout_path,
            settings.events_path.encode(): self._on_events_path,
            settings.pixel_path.encode(): self._on_pixel_path,
        }
        self.members_bytes_max = min(settings.hit_bytes_max, group.post_bytes_max - HEADER_BYTES) - HIT_FIXED_BYTES
        self.full = refusal(Refusal.SPOOL_FULL, b"Retry-After: %d\r\n" % settings.retry_after_s)
        self.take_sites(settings)

    def take_sites(self, settings: Settings) -> None:
        """Go by the sites of these settings from now on. Raises SaltError, and then goes by the former ones."""
        self._cookieless = CookielessSites(settings, self._salts, self._addresses)
        self._cors = Cors(settings.sites)
        self._rulings = Rulings(settings)
        self.usual_in_query, self.usual_anywhere = self._rulings.usual_in_query, self._rulings.usual_anywhere
        self._server_events = ServerEvents(
            settings, self._group, self._counters, self._rulings, self._denials, self.visitors.mint
        )
        self._decisions = Decisions(
            self._counters,
            self._addresses,
            self.visitors,
            self._rulings,
            self._denials,
            self._cookieless,
            Links(settings),
            self.members_bytes_max,
        )
        self._clicks = Clicks(settings, self._group, self._heads, self._decisions)
        self.events = Events(settings, self._group, self._cors, self._decisions)

    def peer(self, host: str) -> Peer:
        """Return what to know of a connection's other end."""
        return Peer(host, self._addresses.trusts(host), self._addresses.member(host, None))

    def pixel(self, client: Client, fields: Fields, dress: Dress = as_is) -> None:
        """Keep a pixel's hit and answer with the GIF."""
        cookie, address, proto, common, referer, query, signals, _ = fields
        ip = self._decisions.ip_member(client.peer, address)
        size = len(ip) + len(common) + len(referer) + len(query)
        if size > self.members_bytes_max:
            self._refuse(client, Refusal.HIT_TOO_LARGE, dress)
            return
        group, answer, given = self._group, PIXEL, given_in_query(query)
        seq = group.open(size + HIT_FIXED_BYTES)
        known = self.visitors.read(cookie, group.now_s)
        ruling = self._rulings.of(given, signals, opted_out=known == OPTED_OUT)
        self.verdicts[ruling.verdict] += 1
        if ruling.denial is not None:
            hits = self._denials.hits(seq, b"pixel", ruling.denial, given, referer)
        elif (site := self._cookieless.of(given.get("s"))) is not None:
            names = self._cookieless.names(group.now_s, site, client.peer, address, common)
            mark = names.mark(ruling.known)
            hits = [group.builder.pixel(seq, names.key, names.visitor, mark, ip, common, referer, query)]
        else:
            https = self._decisions.is_https(client.peer, address, proto)
            linked = known is None and self._decisions.links.arrival_in_query(query, referer, group.now_s)
            if linked:
                (visitor, birth_s), mark = linked, ruling.known
                answer = self._with_cookie(visitor, birth_s, https=https)
            else:
                visitor, mark, answer = self.introduced(known, ruling, https=https)
            hits = [group.builder.pixel(seq, visitor, visitor, mark, ip, common, referer, query)]
        group.add((client, len(hits), 200, dress(answer), dress(self.full)), hits)

    def introduced(self, known: Known | None, ruling: Ruling, *, https: bool) -> tuple[bytes, bytes, bytes]:
        """Return id, mark and answer for a visitor with this cookie; None: a new one. The id stays in a cookie."""
        now_s = self._group.now_s
        if known is None:
            visitor = self._decisions.mint()
            return visitor, ruling.new, self._with_cookie(visitor, now_s, https=https)
        visitor, birth_s = known
        due = now_s - birth_s > self.visitors.renew_s
        return visitor, ruling.known, self._with_cookie(visitor, birth_s, https=https) if due else PIXEL

    def _with_cookie(self, visitor: bytes, birth_s: int, *, https: bool) -> bytes:
        return PIXEL_START + self.visitors.set_cookie(visitor, birth_s, https=https) + PIXEL_END

    def request(self, client: Client, request: Request, *, keep_alive: bool) -> None:
        """Answer a request that the strict reader read."""
        dress = closing if not keep_alive else kept_alive if request.http_1_0 else as_is
        path = self._paths.get(request.path)
        if path is None:
            self._refuse(client, Refusal.NOT_FOUND, dress)
        else:
            path(client, request, dress)

    def _on_pixel_path(self, client: Client, request: Request, dress: Dress) -> None:
        if request.method == b"GET":
            self.pixel(client, self._heads.fields_of(request), dress)
        elif request.method == b"HEAD":
            self._answer(client, 200, dress(PIXEL_HEAD))
        else:
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, GET_METHODS)

    def _on_events_path(self, client: Client, request: Request, dress: Dress) -> None:
        origin = request.header(b"origin")
        if request.method == b"POST":
            self.post(client, self._heads.fields_of(request), request.body, dress)
        elif request.method == b"OPTIONS":
            preflight = self._cors.preflight_lines(origin)
            self._answer(client, 204, dress(response(204, EVENTS_METHODS + preflight, None)))
        else:
            lines = EVENTS_METHODS + self._cors.answer_lines(origin)
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, lines)

    def _on_server_path(self, client: Client, request: Request, dress: Dress) -> None:
        if request.method == b"POST":
            self._taken(client, partial(self._server_events.take, request), dress)
        else:
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, SERVER_METHODS)

    def _on_click_path(self, client: Client, request: Request, dress: Dress) -> None:
        if request.method in {b"GET", b"HEAD"}:
            self._taken(client, partial(self._clicks.take, client.peer, request), dress)
        else:
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, GET_METHODS)

    def _on_script_path(self, client: Client, request: Request, dress: Dress) -> None:
        if request.method in (b"GET", b"HEAD"):
            status, answer = self._script.answer(request)
            self._answer(client, status, dress(answer))
        else:
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, GET_METHODS)

    def _on_optout_path(self, client: Client, request: Request, dress: Dress) -> None:
        if request.method in {b"GET", b"HEAD", b"POST"}:
            self._taken(client, partial(self._optout_pages.take, client.peer, request), dress)
        else:
            self._refuse(client, Refusal.METHOD_NOT_ALLOWED, dress, PAGE_METHODS)

    def refuse_and_close(self, client: Client, reason: Refusal) -> None:
        """Answer what is no well-formed request; the caller closes the connection behind it."""
        self._refuse(client, reason, closing)

    def post(self, client: Client, fields: Fields, body: bytes, dress: Dress = as_is) -> None:
        """Keep all events of a POST, or none, and answer."""
        self._taken(client, partial(self.events.take, client.peer, fields, body), dress)

    def _taken(self, client: Client, take: Callable[[], Taken], dress: Dress) -> None:
        """Keep and answer what a part of its own makes of a request."""
        try:
            status, answer, full, hits = take()
        except RefusedError as error:
            self._refuse(client, error.reason, dress, error.lines)
        else:
            self._group.add((client, len(hits), status, dress(answer), dress(full)), hits)

    def _answer(self, client: Client, status: int, answer: bytes) -> None:
        self._group.add((client, 0, status, answer, answer), [])

    def _refuse(self, client: Client, reason: Refusal, dress: Dress, lines: bytes = b"") -> None:
        self._counters.refused[reason] += 1
        self._answer(client, STATUS_OF[reason], dress(refusal(reason, lines)))
