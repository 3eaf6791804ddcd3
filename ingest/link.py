"""The cross-domain link parameter `hsl=<visitor>.<birth s>.<expires s>.<sig>`: a visitor goes on under one id. Pure.

A cookie ends with its domain. `/c` therefore hands a visitor's id on in the target, when that is on another of the
site's own domains; where the visitor arrives, the collector takes it up instead of making a new one.

- `sig` is an HMAC-SHA256 under the site's link key, cut to 128 bits, base64url, of LF `hsl` LF site LF and what stands
  in front of it. No site id begins with LF, so no signature of a redirect's target is one of these.
- It is believed until `expires`, `link_ttl_s` after the click, and only where a visitor has no valid cookie. Within
  that time it can be used again: whoever shares the address then shares the visitor.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hmac import compare_digest, digest
from typing import Any, Final

import orjson

from ingest.hit_builder import NO_VISITOR
from ingest.visitor import BORN_AHEAD_S_MAX
from schemas.host import is_on, normal_host
from schemas.page import LINK_PARAMETER
from schemas.parameters import RejectError, from_query
from schemas.settings import Settings

SIGNATURE_BYTES = 16

TRACE: Final = LINK_PARAMETER.encode()  # where this does not stand, nobody arrives by a link

_FORM = re.compile(r"([0-9a-f]{16})\.([1-9][0-9]{0,10})\.([1-9][0-9]{0,10})\.([A-Za-z0-9_-]{22})")
_PORT = re.compile(r":[0-9]*$")


Visitor = tuple[bytes, int]  # id, and the second of birth


class Links:
    """Hands visitors on and takes them up, by one state of the settings. Times are seconds since 1970."""

    def __init__(self, settings: Settings) -> None:
        self._site = settings.site
        self._ttl_s = settings.link_ttl_s

    def leads_on(self, site: str, target_host: str, host: str) -> bool:
        """Return whether a target is on a domain of the site's that a Host field is not on, and can be signed."""
        domains = self._site(site).domains if self._site(site).link_key else ()
        here = normal_host(_PORT.sub("", host))
        shared = (domain for domain in domains if is_on(target_host, (domain,)))
        return is_on(target_host, domains) and not is_on(here, shared)

    def parameter(self, site: str, visitor: bytes, birth_s: int, now_s: int) -> str:
        """Return what `hsl` says of a visitor who leaves now."""
        said = f"{visitor.decode()}.{birth_s}.{now_s + self._ttl_s}"
        return f"{said}.{_signature(self._site(site).link_key, site, said)}"

    def arrival_in_query(self, query: bytes, referer: bytes, now_s: int) -> Visitor | None:
        """Return the visitor who arrives at a pixel's page; query and Referer as insides of JSON strings."""
        try:
            found = from_query(orjson.loads(b'"%b"' % query))
        except RejectError:
            return None
        return self.arrival(found.get("s", ""), found.get("u") or orjson.loads(b'"%b"' % referer), now_s)

    def arrival_in_events(self, events: Sequence[Mapping[str, Any]], now_s: int) -> Visitor | None:
        """Return the visitor who arrives at the page of one of a POST's events."""
        places = ((event.get("s"), event.get("u")) for event in events)
        named = (self.arrival(s, u, now_s) for s, u in places if isinstance(s, str) and isinstance(u, str))
        return next(filter(None, named), None)

    def arrival(self, site: str, url: str, now_s: int) -> Visitor | None:
        """Return id and birth of the visitor who arrives at `url`, a page of `site`; None where it names none."""
        form = _FORM.fullmatch(_parameter_of(url))
        if form is None:
            return None
        visitor, birth_s, expires_s = form[1].encode(), int(form[2]), int(form[3])
        link_key = self._site(site).link_key
        right = compare_digest(form[4], _signature(link_key, site, form[0].rpartition(".")[0]))
        if not (link_key and right) or expires_s < now_s:
            return None
        return None if birth_s > now_s + BORN_AHEAD_S_MAX or visitor == NO_VISITOR else (visitor, birth_s)


def _parameter_of(url: str) -> str:
    query = url.partition("#")[0].partition("?")[2]
    values = (part.partition("=")[2] for part in query.split("&") if part.startswith(f"{LINK_PARAMETER}="))
    return next(values, "")


def _signature(link_key: str, site: str, said: str) -> str:
    mac = digest(link_key.encode(), f"\n{LINK_PARAMETER}\n{site}\n{said}".encode(), "sha256")
    return urlsafe_b64encode(mac[:SIGNATURE_BYTES]).rstrip(b"=").decode()
