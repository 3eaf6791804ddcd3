"""Page and referrer addresses: a URL's host, path and query. Pure.

Promise: no input raises; the cost is linear in the URL's length. Hosts come out as browsers put them in
`location.hostname`: lower case, punycode, no port, no user, no trailing dot. The rules follow the WHATWG URL standard
(url.spec.whatwg.org) for http and https, but repair nothing inside a URL: what a browser would have to mend is no URL.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from schemas.host import HOST_CHARS_MAX, normal_host

PAGES_CACHED_MAX = 16_384
PAGE_CACHED_CHARS_MAX: Final = 1_024  # longer URLs hardly repeat; so the cache stays below 32 MiB of text
HOSTS_CACHED_MAX = 4_096
PORT_MAX = 65_535
LINK_PARAMETER: Final = "hsl"  # what `/c` adds to a target for the collector alone (ingest/link.py)

# Authority, and the rest from the character on that ends it. Linear: the authority can end at one place only.
_URL = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^\x00-\x1f\x7f/\\?#]*)((?:[/\\?#][^\x00-\x1f\x7f]*)?)").fullmatch
_ANDROID_APP = re.compile(r"android-app://([A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)+)(?:/|$)")


class Page(NamedTuple):
    """An http(s) URL: `host` as above (IPv6 in brackets), `path` from its first slash, `query` without its '?'.

    Path and query keep their percent-encoding; user, port and fragment are gone, and the query has no LINK_PARAMETER.
    """

    host: str
    path: str
    query: str


def split_page(url: str) -> Page | None:
    """Return the URL's parts, or None when it is no absolute http(s) URL."""
    return split_cached(url) if len(url) <= PAGE_CACHED_CHARS_MAX else _split(url)


def without_parameters(query: str, names: Container[str]) -> str:
    """Return a query without the parameters of these names, in any case of letters and however escaped."""
    return "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]).lower() not in names)


def android_package(referrer: str) -> str:
    """Return the package of an Android app's referrer (`android-app://<package>/…`) in lower case, '' for any other."""
    app = _ANDROID_APP.match(referrer.strip()[:HOST_CHARS_MAX])
    return app[1].lower() if app else ""


def page_host(url: str) -> str:
    """Return the host that `split_page` finds, "" where it finds no page; for less where a URL comes once."""
    match = _URL(url.strip())
    return _host_of(match[1]) if match else ""


def _split(url: str) -> Page | None:
    match = _URL(url.strip())
    host = _host_of(match[1]) if match else ""
    if match is None or not host:
        return None
    rest, _, _fragment = match[2].partition("#")
    path, _, query = rest.partition("?")
    if LINK_PARAMETER in query:
        query = without_parameters(query, (LINK_PARAMETER,))
    return Page(host, path.replace("\\", "/") or "/", query)


split_cached: Final = lru_cache(PAGES_CACHED_MAX)(_split)


def _host_of(authority: str) -> str:
    """Return the normalized host of `user@host:port`, or '' when there is none."""
    return host_cached(authority) if len(authority) <= HOST_CHARS_MAX else _authority_host(authority)


def _authority_host(authority: str) -> str:
    host_port = authority.rpartition("@")[2]
    if host_port.startswith("["):
        address, closed, port = host_port[1:].partition("]")
        if not closed or not _is_port(port) or "%" in address:
            return ""
        try:
            return f"[{IPv6Address(address).compressed}]"
        except AddressValueError:
            return ""
    host, colon, port = host_port.partition(":")
    if not _is_port(colon + port):
        return ""
    return normal_host(host)


host_cached = lru_cache(HOSTS_CACHED_MAX)(_authority_host)


def _is_port(text: str) -> bool:
    """Tell whether `text` is nothing, ':' or ':' and a port number."""
    if text in ("", ":"):
        return True
    digits = text[1:]
    return text[0] == ":" and len(digits) <= 5 and digits.isascii() and digits.isdigit() and int(digits) <= PORT_MAX
