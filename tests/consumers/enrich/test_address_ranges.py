"""Ranges of addresses: both forms of file, odd ones, and look-ups against the obvious way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.enrich import address_ranges
from consumers.enrich.address_ranges import AddressRanges, parse_ranges

AWS = {
    "syncToken": "1",
    "createDate": "2026-01-01-00-00-00",
    "prefixes": [{"ip_prefix": "192.0.2.0/25", "region": "eu-central-1", "service": "EC2"}],
    "ipv6_prefixes": [{"ipv6_prefix": "2001:db8:1::/48", "service": "EC2"}],
}
GOOGLE = {"prefixes": [{"ipv4Prefix": "198.51.100.0/24"}, {"ipv6Prefix": "2001:db8:2::/44"}]}
AZURE = {"values": [{"name": "AzureCloud", "properties": {"addressPrefixes": ["203.0.113.0/24", "2001:db8:3::/48"]}}]}


def texts(content):
    return [str(item) for item in parse_ranges(content)]


@pytest.mark.parametrize(
    ("document", "ranges"),
    [
        (AWS, ["192.0.2.0/25", "2001:db8:1::/48"]),
        (GOOGLE, ["198.51.100.0/24", "2001:db8::/44"]),
        (AZURE, ["203.0.113.0/24", "2001:db8:3::/48"]),
        (["192.0.2.7/32", "https://a/b", "1/2", 7, None], ["192.0.2.7/32"]),
        ({}, []),
    ],
)
def test_published_json(document, ranges):
    assert texts(orjson.dumps(document)) == ranges
    assert texts(b" \n" + orjson.dumps(document, option=orjson.OPT_INDENT_2)) == ranges


def test_lines():
    content = b"# datacentres\r\n192.0.2.0/24\n\n  198.51.100.7 # one\n2001:db8::/32\n192.0.2.9/24\n"
    assert texts(content) == ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "192.0.2.0/24"]
    assert texts(b"") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"192.0.2.0/24\nexample.com\n", "line 2: 'example.com'"),
        (b"192.0.2.0/33", "line 1"),
        (b"{", "no JSON"),
        (b'["192.0.2.0/24"', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "decode"),
        (b"\x00\x01", "line 1"),
    ],
)
def test_what_is_neither_form_is_said(content, said):
    with pytest.raises(ValueError, match=said):
        parse_ranges(content)


def test_the_number_of_ranges_is_bounded(monkeypatch):
    monkeypatch.setattr(address_ranges, "RANGES_MAX", 2)
    assert len(parse_ranges(b"192.0.2.1\n192.0.2.2")) == 2
    with pytest.raises(ValueError, match="3 ranges, more than 2"):
        parse_ranges(b"192.0.2.1\n192.0.2.2\n192.0.2.3")


V4 = st.integers(0, 4095).map(lambda low: IPv4Address(0xC0000000 + low))
V6 = st.integers(0, 255).map(lambda low: IPv6Address(0x20010DB8 << 96 | low << 76))
RANGES = st.lists(
    st.tuples(V4, st.integers(20, 32)) | st.tuples(V6, st.integers(40, 56)), max_size=12
).map(lambda found: [ip_network(f"{address}/{bits}", strict=False) for address, bits in found])  # fmt: skip


@given(RANGES, st.lists(V4 | V6, min_size=1, max_size=20))
def test_covers_is_the_obvious_way(ranges, addresses):
    made = AddressRanges(ranges)
    assert len(made) <= len(ranges)
    for address in addresses:
        assert made.covers(str(address)) is any(address in item for item in ranges if item.version == address.version)


def test_edges_and_odd_addresses():
    made = AddressRanges(map(ip_network, ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/48"]))
    assert len(made) == 2
    for inside in ("192.0.2.0", "192.0.2.255", "::ffff:192.0.2.9", "2001:db8::", "2001:db8:0:ffff::1"):
        assert made.covers(inside), inside
    for outside in ("192.0.1.255", "192.0.3.0", "2001:db8:1::", "", "x", "192.0.2.0/24", "::ffff:192.0.3.0"):
        assert not made.covers(outside), outside


def test_ranges_narrower_than_a_kept_address_are_left_out():
    ranges = [ip_network(text) for text in ("192.0.2.0/28", "198.51.100.0/24", "2001:db8::/56", "2001:db8:1::/48")]
    made = AddressRanges(ranges, truncated=True)
    assert made.too_narrow == 2
    assert [made.covers(str(ip_address(item.network_address))) for item in ranges] == [False, True, False, True]
    assert AddressRanges(ranges).too_narrow == 0
