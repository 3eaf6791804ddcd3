"""The client's address: who sent the request, and what `ip_keep` leaves of it. Pure.

- The header is believed only when the peer itself is a trusted proxy. From its right end, entries that are trusted
  proxies are skipped; the first that is not is the client.
- A malformed entry ends the walk: the client is then the entry to its right (the last good one), or the peer. Nothing
  to the left of what cannot be read is believed.
- When every entry is trusted, the left-most is the client. Ports, brackets and quotes are taken off; an IPv4-mapped
  IPv6 address is its IPv4 address.
- What is kept of it is /24 and /48 (`truncated`), all (`full`) or nothing (`none`). The whole address leaves this
  module for a cookieless visitor's keyed hash alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from ingest.hit_builder import text_member

Address = IPv4Address | IPv6Address
CACHED_MAX = 16_384
ENTRY_CHARS_MAX = 64
IPV4_KEPT_MASK = 0xFFFFFF00  # /24
IPV6_KEPT_MASK = ((1 << 48) - 1) << 80  # /48

_PARAMETER = re.compile(r"""\s*([A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,"\s]*)\s*""")


class Peer(NamedTuple):
    """Who holds the other end of a connection: address, whether it is a trusted proxy, and the hit's `ip` member."""

    host: str
    trusted: bool
    ip_member: bytes


class ClientAddresses:
    """Finds client addresses by the settings' rule; answers are cached by peer and header."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network], header: str, keep: str) -> None:
        self._trusted = tuple(trusted)
        self._forwarded = header == "forwarded"
        self._keep = keep
        self.member = lru_cache(CACHED_MAX)(self._member)
        self.whole = lru_cache(CACHED_MAX)(self._whole)

    def trusts(self, peer: str) -> bool:
        """Whether the peer is a trusted proxy; its header and its X-Forwarded-Proto are then believed."""
        address = parse(peer)
        return address is not None and self._is_trusted(address)

    def https(self, forwarded: bytes | None, proto: bytes | None) -> bool:
        """Whether a trusted proxy says that the client came over https.

        That is the last element of X-Forwarded-Proto, or of `Forwarded` (proto=) where that header is the chosen one.
        """
        if proto is not None and proto.rpartition(b",")[2].strip().lower() == b"https":
            return True
        if not self._forwarded or forwarded is None:
            return False
        last = _elements(forwarded)[-1:]
        return bool(last) and _parameters(last[0]).get("proto", "").lower() == "https"

    def _member(self, peer: str, header: bytes | None) -> bytes:
        """Return the hit's `ip` member, b"" for none; `header` is None for an untrusted peer."""
        return text_member(b"ip", self.kept(peer, header).encode())

    def _whole(self, peer: str, header: bytes | None) -> bytes:
        """Return the client's address, b"" where it has none; `header` is None for an untrusted peer."""
        return str(self._client(peer, header) or "").encode()

    def kept(self, peer: str, header: bytes | None) -> str:
        """Return what is kept of the client's address, "" for nothing; `header` is None for an untrusted peer."""
        client = None if self._keep == "none" else self._client(peer, header)
        if client is None:
            return ""
        return str(client if self._keep == "full" else truncated(client))

    def _client(self, peer: str, header: bytes | None) -> Address | None:
        client = parse(peer)
        if header is not None:
            for entry in reversed(_elements(header)):
                address = parse(_parameters(entry).get("for", "") if self._forwarded else entry)
                if address is None:
                    break
                client = address
                if not self._is_trusted(address):
                    break
        return client

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted if network.version == address.version)


def parse(text: str) -> Address | None:
    """Return the address of `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`, quoted or not; None if it is none."""
    text = text.strip().strip('"')
    if not text or len(text) > ENTRY_CHARS_MAX or "%" in text:
        return None
    if text[0] == "[":
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not _is_port(port.removeprefix(":"), port[:1])):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port, ":"):
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def truncated(address: Address) -> Address:
    """Return the network part that is kept: /24 of IPv4, /48 of IPv6."""
    if isinstance(address, IPv4Address):
        return IPv4Address(int(address) & IPV4_KEPT_MASK)
    return IPv6Address(int(address) & IPV6_KEPT_MASK)


def _is_port(digits: str, colon: str) -> bool:
    return colon == ":" and digits.isascii() and digits.isdigit() and len(digits) <= len("65535")


def _elements(header: bytes) -> list[str]:
    """Return a header's elements: what stands between commas, quoted or not.

    A quote that a client opens and does not close must not take in what the proxies behind it append. An element with
    a quoted comma is cut in two that cannot be read, and no address or scheme has one.
    """
    return [element.strip() for element in header.decode("latin-1").split(",")]


def _parameters(element: str) -> dict[str, str]:
    """Return the parameters of one `Forwarded` element, names lower-cased; {} when it is malformed (RFC 7239)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PARAMETER.match(element, at)
        if match is None or match[1].lower() in found:
            return {}
        found[match[1].lower()] = match[2].strip('"')
        at = match.end()
        if at < len(element) and element[at] != ";":
            return {}
        at += 1
    return found
