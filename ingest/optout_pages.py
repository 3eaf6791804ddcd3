"""`/optout` and `/optin`: pages with one button, whose POST sets or takes back the opt-out cookie `_hs_out=1`.

Promise: nothing but a POST from the page itself changes the cookie. No image, link, script or form of another origin
can, and no page may frame these. No request to them is kept.

- Whether a POST is the page's own, the browser says: `Sec-Fetch-Site: same-origin`, which no script can set (W3C Fetch
  Metadata). Where the field is missing (over http, old browsers), `Origin` must name the host that was asked. With
  neither, or with either one twice, it is refused.
- Opting out takes the visitor's cookie back, too; who opts in again gets a new id with the next hit.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from ingest.client_address import ClientAddresses, Peer
from ingest.counters import Refusal
from ingest.group_commit import Taken
from ingest.http_response import response
from ingest.http_strict import RefusedError, Request
from ingest.visitor import Visitors, opted_out
from schemas.settings import Settings

LINES = (
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Cache-Control: no-store\r\n"
    b"Content-Security-Policy: default-src 'none'; form-action 'self'; frame-ancestors 'none'\r\n"
    b"X-Frame-Options: DENY\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Referrer-Policy: same-origin\r\n"  # with `no-referrer` the form's Origin would be `null`
)
PAGE = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n<meta name="robots" content="noindex">\n'
    "<title>{title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n{rest}\n</html>\n"
)
BUTTON = '<form method="post"><button>{label}</button></form>'
TITLES = {True: "Opt out", False: "Opt in"}
OUT = "This browser has opted out: what you do here is counted without anything that names you."
IN = "This browser has not opted out."

_ORIGIN = re.compile(rb"(https?)://([^/@?#\s]+)").fullmatch
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class OptoutPages(NamedTuple):
    """The two pages by one state of the settings. `links` are each page's relative address of the other."""

    addresses: ClientAddresses
    address_name: bytes
    visitors: Visitors
    optin_path: bytes
    links: dict[bool, str]

    def take(self, peer: Peer, request: Request) -> Taken:
        """Return what a GET, a HEAD or a POST comes to. Raises RefusedError."""
        out = request.path != self.optin_path
        if request.method == b"POST":
            if not _is_own(request):
                raise RefusedError(Refusal.CROSS_ORIGIN)
            proto, address = request.joined(b"x-forwarded-proto", b", "), request.joined(self.address_name, b", ")
            https = peer.trusted and self.addresses.https(address, proto)
            return _page(request, self.visitors.set_optout(out=out, https=https), self._text(out=out, is_out=out))
        is_out = opted_out(request.joined(b"cookie", b"; "))
        return _page(request, b"", self._text(out=out, is_out=is_out))

    def _text(self, *, out: bool, is_out: bool) -> str:
        """Return the page to opt out, or that to opt in, for a browser that has or has not opted out."""
        title = TITLES[out]
        rest = f'<a href="{self.links[out]}">{TITLES[not out]}</a>'
        if is_out != out:
            rest = BUTTON.format(label=title)
        return PAGE.format(title=title, text=OUT if is_out else IN, rest=rest)


def optout_pages(settings: Settings, addresses: ClientAddresses, visitors: Visitors) -> OptoutPages:
    """Return the pages that these settings serve."""
    out, back = settings.optout_path, settings.optin_path
    links = {
        True: posixpath.relpath(back, posixpath.dirname(out)),
        False: posixpath.relpath(out, posixpath.dirname(back)),
    }
    return OptoutPages(addresses, settings.client_address_header.encode(), visitors, back.encode(), links)


def _page(request: Request, lines: bytes, text: str) -> Taken:
    body = text.encode()
    answer = response(200, LINES + lines, body)
    if request.method == b"HEAD":
        answer = answer[: -len(body)]
    return Taken(200, answer, answer, [])


def _is_own(request: Request) -> bool:
    """Return whether a POST comes from a page of the origin that was asked."""
    sites, origins = request.headers.get(b"sec-fetch-site", []), request.headers.get(b"origin", [])
    if sites:
        return sites == [b"same-origin"]
    match = _ORIGIN(origins[0].lower()) if len(origins) == 1 else None
    host = (request.header(b"host") or b"").lower()
    if match is None or not host:
        return False
    port = _DEFAULT_PORTS[match[1]]
    return match[2].removesuffix(port) == host.removesuffix(port)
