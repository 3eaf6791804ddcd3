from ipaddress import ip_network

import pytest

from ingest.client_address import ClientAddresses

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def addresses(header="x-forwarded-for", keep="full", trusted=PROXIES):
    return ClientAddresses(trusted, header, keep)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (None, "10.0.0.1"),
        (b"198.51.100.7", "198.51.100.7"),
        (b"1.1.1.1, 198.51.100.7", "198.51.100.7"),
        (b"198.51.100.7, 10.9.9.9", "198.51.100.7"),
        (b"198.51.100.7:1234, fd00::1, [fd00::2]:80", "198.51.100.7"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"::ffff:198.51.100.7", "198.51.100.7"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"1.1.1.1, unknown", "10.0.0.1"),
        (b"1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        (b"1.1.1.1,", "10.0.0.1"),
        (b"", "10.0.0.1"),
        (b"1.2.3.4:99999999", "10.0.0.1"),
        (b"1.2.3.4:x", "10.0.0.1"),
        (b"[::1", "10.0.0.1"),
        (b"[::1]x", "10.0.0.1"),
        (b"fe80::1%eth0", "10.0.0.1"),
        (b"\xff\xfe", "10.0.0.1"),
        (b"1" * 5000, "10.0.0.1"),
        (b'", 198.51.100.7', "198.51.100.7"),
        (b'"1.1.1.1, 198.51.100.7, 10.0.0.2', "198.51.100.7"),
    ],
)
def test_the_right_most_address_that_is_no_proxy(header, client):
    assert addresses().kept("10.0.0.1", header) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"for=198.51.100.7", "198.51.100.7"),
        (b'for="[2001:db8::1]:443";proto=https, for=10.0.0.2', "2001:db8::1"),
        (b"For=198.51.100.7;by=10.0.0.1", "198.51.100.7"),
        (b"for=_hidden, for=10.0.0.2", "10.0.0.2"),
        (b'for="a,b", for=198.51.100.7', "198.51.100.7"),
        (b"for=1.1.1.1;for=2.2.2.2", "10.0.0.1"),
        (b'for=", for=198.51.100.7', "198.51.100.7"),
        (b'for="\\", for="[2001:db8::1]:443"', "2001:db8::1"),
        (b'for=1.1.1.1;x="a,b", for=10.0.0.2', "10.0.0.2"),
        (b"198.51.100.7", "10.0.0.1"),
    ],
)
def test_forwarded(header, client):
    assert addresses("forwarded").kept("10.0.0.1", header) == client


@pytest.mark.parametrize(
    ("keep", "peer", "kept"),
    [
        ("full", "198.51.100.7", "198.51.100.7"),
        ("truncated", "198.51.100.7", "198.51.100.0"),
        ("truncated", "::ffff:198.51.100.7", "198.51.100.0"),
        ("truncated", "2001:db8:1:2::3", "2001:db8:1::"),
        ("none", "198.51.100.7", ""),
        ("full", "", ""),
    ],
)
def test_what_is_kept(keep, peer, kept):
    found = addresses(keep=keep)
    assert found.kept(peer, None) == kept
    assert found.member(peer, None) == (b',"ip":"' + kept.encode() + b'"' if kept else b"")


def test_who_is_trusted():
    found = addresses()
    assert found.trusts("10.1.2.3")
    assert found.trusts("::ffff:10.1.2.3")
    assert not found.trusts("198.51.100.7")
    assert not found.trusts("")


@pytest.mark.parametrize(
    ("header", "forwarded", "proto", "https"),
    [
        ("x-forwarded-for", None, b"https", True),
        ("x-forwarded-for", None, b"http, HTTPS", True),
        ("x-forwarded-for", None, b"https, http", False),
        ("x-forwarded-for", None, None, False),
        ("x-forwarded-for", b"for=1.1.1.1;proto=https", None, False),
        ("forwarded", b"for=1.1.1.1;proto=https", None, True),
        ("forwarded", b"proto=https, for=1.1.1.1", None, False),
        ("forwarded", b"", None, False),
        ("forwarded", b'for=", for=1.1.1.1;proto=https', None, True),
        ("forwarded", b'proto=https;x=", for=1.1.1.1;proto=http', None, False),
    ],
)
def test_https(header, forwarded, proto, https):
    assert addresses(header).https(forwarded, proto) is https
