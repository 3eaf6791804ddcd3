"""What decides about the hits of pixels, POSTs and clicks, whichever way they came in; by one state of the settings."""

from __future__ import annotations

from typing import NamedTuple

from ingest.client_address import ClientAddresses, Peer
from ingest.cookieless_sites import CookielessSites
from ingest.counters import Counters
from ingest.denials import Denials
from ingest.link import Links
from ingest.rulings import Rulings
from ingest.visitor import Visitors


class Decisions(NamedTuple):
    """All of it. A hit's members may take `members_bytes_max` bytes together."""

    counters: Counters
    addresses: ClientAddresses
    visitors: Visitors
    rulings: Rulings
    denials: Denials
    cookieless: CookielessSites
    links: Links
    members_bytes_max: int

    def ip_member(self, peer: Peer, address: bytes | None) -> bytes:
        """Return the hit's `ip` member; `address` is the address field's value, believed of a trusted proxy alone."""
        return self.addresses.member(peer.host, address) if peer.trusted else peer.ip_member

    def is_https(self, peer: Peer, address: bytes | None, proto: bytes | None) -> bool:
        """Return whether a trusted proxy says that the client came over https."""
        return peer.trusted and self.addresses.https(address, proto)

    def mint(self) -> bytes:
        """Return the id of a new visitor, and count him."""
        self.counters.visitors_minted += 1
        return self.visitors.mint()
