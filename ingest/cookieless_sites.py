"""Which sites have no cookie, and what their visitors are called; by one state of the settings."""

from __future__ import annotations

from collections.abc import Callable

from ingest.client_address import ClientAddresses, Peer
from ingest.cookieless import DailySalts, Names
from schemas.settings import Settings


class CookielessSites:
    """Names the visitors of the sites whose `identity` is `cookieless`.

    `salts` is called where there is such a site, and what it raises is raised.
    """

    def __init__(self, settings: Settings, salts: Callable[[], DailySalts], addresses: ClientAddresses) -> None:
        self._settings = settings
        self._salts = salts() if settings.cookieless else None
        self._addresses = addresses

    def of(self, site: object) -> str | None:
        """Return the site that a hit names if it is cookieless, else None. What is no text names no site."""
        name = site if isinstance(site, str) else ""
        return name if self._salts and self._settings.site(name).identity == "cookieless" else None

    def names(self, now_s: int, site: str, peer: Peer, address: bytes | None, members: bytes) -> Names:
        """Return what the visitor behind a request is called on a cookieless site.

        `address` is the address field's value; `members` are the hit's fragments of the common fields.
        """
        if self._salts is None:
            raise AssertionError("a cookieless site has salts")
        header = address if peer.trusted else None
        whole, shown = self._addresses.whole(peer.host, header), self._addresses.member(peer.host, header)
        return self._salts.names(now_s, site.encode(), whole, members, shown)
