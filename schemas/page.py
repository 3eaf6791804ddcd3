"""Page and referrer addresses: a URL's host, path and query. Pure.

Promise: no input raises; the cost is linear in the URL's length. Hosts come out as browsers put them in
`location.hostname`: lower case, punycode, no port, no user, no trailing dot. The rules follow the WHATWG URL standard
(url.spec.whatwg.org) for http and https, but repair nothing inside a URL: what a browser would have to mend is no URL.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

import idna

PAGES_CACHED_MAX = 16_384
PAGE_CACHED_CHARS_MAX = 1_024  # longer URLs hardly repeat; so the cache stays below 32 MiB of text
HOST_CHARS_MAX = 253  # RFC 1035, without the trailing dot
LABEL_CHARS_MAX = 63
PORT_MAX = 65_535

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/\\?#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DOT = re.compile("[.\u3002\uff0e\uff61]")  # what IDNA takes for a dot (UTS 46)
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Page(NamedTuple):
    """An http(s) URL: `host` as above (IPv6 in brackets), `path` from its first slash, `query` without its '?'.

    Path and query keep their percent-encoding; user, port and fragment are gone.
    """

    host: str
    path: str
    query: str


def split_page(url: str) -> Page | None:
    """Return the URL's parts, or None when it is no absolute http(s) URL."""
    return split_cached(url) if len(url) <= PAGE_CACHED_CHARS_MAX else _split(url)


def _split(url: str) -> Page | None:
    url = url.strip()
    scheme = _SCHEME.match(url)
    if scheme is None or _CONTROL.search(url):
        return None
    start = scheme.end()
    end_match = _AUTHORITY_END.search(url, start)
    end = end_match.start() if end_match else len(url)
    host = _host_of(url[start:end])
    if not host:
        return None
    rest, _, _fragment = url[end:].partition("#")
    path, _, query = rest.partition("?")
    return Page(host, path.replace("\\", "/") or "/", query)


split_cached = lru_cache(PAGES_CACHED_MAX)(_split)


def _host_of(authority: str) -> str:
    """Return the normalized host of `user@host:port`, or '' when there is none."""
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


def _is_port(text: str) -> bool:
    """Tell whether `text` is nothing, ':' or ':' and a port number."""
    if text in ("", ":"):
        return True
    digits = text[1:]
    return text[0] == ":" and len(digits) <= 5 and digits.isascii() and digits.isdigit() and int(digits) <= PORT_MAX


def normal_host(name: str) -> str:
    """Return a host name in lower-case punycode without its trailing dot, or '' when it is no host name."""
    host = name.lower().removesuffix(".")
    if len(host) > HOST_CHARS_MAX or max(map(len, _DOT.split(host))) > LABEL_CHARS_MAX:
        return ""  # before IDNA, whose cost grows with the square of a label's length
    try:
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
        labels = host.split(".")
        if labels[-1].isdigit():  # the URL standard: a host that ends in a number is an IPv4 address or nothing
            return str(IPv4Address(host))
    except (AddressValueError, UnicodeError):  # idna.IDNAError is a UnicodeError
        return ""
    fits = len(host) <= HOST_CHARS_MAX and max(map(len, labels)) <= LABEL_CHARS_MAX
    return host if fits and _HOST.fullmatch(host) else ""
