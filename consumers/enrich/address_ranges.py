"""Ranges of addresses, as those that datacentres publish, and whether an address lies in one. Pure.

Accepted: a text of one CIDR range or address a line, `#` begins a comment; or any JSON (the files of AWS, Google Cloud,
Azure and others), of which every text that is a CIDR range counts, wherever it stands.

An address is looked up as it was kept. Where that is its /24 or /48, ranges narrower than that are left out: they would
label strangers, or nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import msgspec

AddressRange = IPv4Network | IPv6Network
PREFIX_KEPT = {4: 24, 6: 48}  # of `ip_keep = "truncated"`
RANGES_MAX = 2_000_000
JSON_DEPTH_MAX = 64


def parse_ranges(content: bytes) -> list[AddressRange]:
    """Return the ranges of a file. Raises ValueError, which says where, for what is neither form."""
    text = content.decode()  # a UnicodeDecodeError is a ValueError
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = list(_ranges_in(msgspec.json.decode(content), 0))
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"no JSON: {error}") from None
    else:
        found = list(_lines(text))
    if len(found) > RANGES_MAX:
        raise ValueError(f"{len(found)} ranges, more than {RANGES_MAX}")
    return found


class AddressRanges:
    """A set of ranges; `covers` takes the logarithm of their number."""

    def __init__(self, ranges: Iterable[AddressRange] = (), *, truncated: bool = False) -> None:
        spans: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        self.too_narrow = 0
        for item in ranges:
            if truncated and item.prefixlen > PREFIX_KEPT[item.version]:
                self.too_narrow += 1
                continue
            spans[item.version].append((int(item.network_address), int(item.broadcast_address)))
        self._firsts: dict[int, list[int]] = {}
        self._lasts: dict[int, list[int]] = {}
        for version, found in spans.items():
            merged = list(_merged(sorted(found)))
            self._firsts[version] = [first for first, _ in merged]
            self._lasts[version] = [last for _, last in merged]

    def __len__(self) -> int:
        """Return the number of ranges, merged where they touch."""
        return sum(map(len, self._firsts.values()))

    def covers(self, address: str) -> bool:
        """Tell whether an address lies in a range; what is no address lies in none."""
        try:
            parsed = IPv6Address(address) if ":" in address else IPv4Address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number = int(parsed)
        place = bisect_right(self._firsts[parsed.version], number) - 1
        return place >= 0 and number <= self._lasts[parsed.version][place]


def _lines(text: str) -> Iterator[AddressRange]:
    for number, line in enumerate(text.splitlines(), 1):
        written = line.partition("#")[0].strip()
        if written:
            try:
                yield ip_network(written, strict=False)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _ranges_in(value: object, depth: int) -> Iterator[AddressRange]:
    if isinstance(value, str) and "/" in value:
        try:
            yield ip_network(value, strict=False)
        except ValueError:
            return  # a URL, a date: not every text is a range
    elif isinstance(value, (list, dict)) and depth < JSON_DEPTH_MAX:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _ranges_in(inner, depth + 1)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield sorted spans with those that touch or overlap made one."""
    current: tuple[int, int] | None = None
    for first, last in spans:
        if current is not None and first <= current[1] + 1:
            current = (current[0], max(current[1], last))
        else:
            if current is not None:
                yield current
            current = (first, last)
    if current is not None:
        yield current
