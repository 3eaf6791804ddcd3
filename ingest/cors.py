"""CORS for the events path: the exact Origin, credentials, `Vary: Origin`. Pure.

Promise: an Origin is echoed only when it has an Origin's form (RFC 6454: `null` or scheme://host[:port]) and the sites
allow it; another one gets an answer without `Access-Control-Allow-Origin`, which browsers then keep from the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from schemas.site import Site

PREFLIGHT_MAX_AGE_S = 7200
ORIGINS_CACHED_MAX = 1024
ORIGIN_BYTES_MAX = 400  # longer than any that has the form; the cache holds none of these
VARY = b"Vary: Origin\r\n"

_ORIGIN = re.compile(rb"null|[A-Za-z][A-Za-z0-9+.-]{0,31}://[A-Za-z0-9._~%\-\[\]:]{1,300}").fullmatch
_WEB = re.compile(rb"https?://([^:]+)(?::\d{1,5})?").fullmatch
_PREFLIGHT = (
    b"Access-Control-Allow-Methods: POST, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type\r\n"
    b"Access-Control-Max-Age: %d\r\n" % PREFLIGHT_MAX_AGE_S
)


class Cors:
    """Which origins are answered.

    With sites that all have domains: those domains and what lies below them, over http and https, on any port, and
    the sites' further `origins`. Else any: a site without domains may be anywhere.
    """

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._any = not sites or not all(site.domains for site in sites.values())
        self._ends = tuple(f".{domain}".encode() for site in sites.values() for domain in site.domains)
        self._origins = frozenset(origin.encode() for site in sites.values() for origin in site.origins)
        self._allows = lru_cache(ORIGINS_CACHED_MAX)(self._decide)

    def answer_lines(self, origin: bytes | None) -> bytes:
        """Return the header lines that every answer to a POST carries."""
        if origin is None or len(origin) > ORIGIN_BYTES_MAX or not self._allows(origin):
            return VARY
        return b"Access-Control-Allow-Origin: " + origin + b"\r\nAccess-Control-Allow-Credentials: true\r\n" + VARY

    def preflight_lines(self, origin: bytes | None) -> bytes:
        """Return the header lines of the answer to OPTIONS."""
        lines = self.answer_lines(origin)
        return lines if lines is VARY else lines + _PREFLIGHT

    def _decide(self, origin: bytes) -> bool:
        if not _ORIGIN(origin):
            return False
        if self._any:
            return True
        low = origin.lower()
        web = _WEB(low)
        return (web is not None and (b"." + web[1]).endswith(self._ends)) or low in self._origins
