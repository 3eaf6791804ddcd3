"""Referrers: outside hosts by name, the site itself and everything else as none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import grows_linearly

from consumers.enrich.campaign import NO_CAMPAIGN
from consumers.enrich.channel import channel, referrer_cached, referrer_host
from schemas.page import PAGE_CACHED_CHARS_MAX


@pytest.mark.parametrize(
    ("referrer", "page_host", "site_domains", "host"),
    [
        ("https://www.google.com/", "shop.example", (), "www.google.com"),
        ("https://WWW.Google.com:443/search?q=x", "shop.example", (), "www.google.com"),
        ("https://blog.example.org/post", "www.shop.example.com", (), "blog.example.org"),
        ("https://one.github.io/", "two.github.io", (), "one.github.io"),
        ("http://münchen.de/", "shop.example", (), "xn--mnchen-3ya.de"),
        ("", "shop.example", (), ""),
        ("no url", "shop.example", (), ""),
        ("about:blank", "shop.example", (), ""),
        ("javascript:alert(1)", "shop.example", (), ""),
        ("ftp://other.example/", "shop.example", (), ""),
        ("https://shop.example.com/a", "shop.example.com", (), ""),
        ("https://www.shop.example.com/a", "pay.shop.example.com", (), ""),
        ("https://example.co.uk/", "www.example.co.uk", (), ""),
        ("https://other.co.uk/", "www.example.co.uk", (), "other.co.uk"),
        ("https://pay.other.net/", "shop.example", ("shop.example", "other.net"), ""),
        ("https://other.net/", "shop.example", ["www.Other.NET"], ""),
        ("https://xn--mnchen-3ya.de/", "shop.example", ("münchen.de",), ""),
        ("https://another.net/", "shop.example", ("other.net",), "another.net"),
        ("https://other.net.evil.org/", "shop.example", ("other.net",), "other.net.evil.org"),
        ("https://other.net/", "shop.example", ("",), "other.net"),
        ("http://127.0.0.1:8000/a", "127.0.0.1", (), ""),
        ("http://127.0.0.2/a", "127.0.0.1", (), "127.0.0.2"),
        ("http://localhost:3000/a", "localhost", (), ""),
        ("http://localhost/a", "127.0.0.1", (), "localhost"),
        ("http://[::1]:3000/", "[::1]", (), ""),
        ("http://[::2]/", "[::1]", (), "[::2]"),
        ("https://www.google.com/", "", (), "www.google.com"),
        (
            "android-app://com.google.android.googlequicksearchbox/https/www.google.com",
            "shop.example",
            (),
            "com.google.android.googlequicksearchbox",
        ),
        ("android-app://com.Slack", "shop.example", (), "com.slack"),
        ("android-app://", "shop.example", (), ""),
        ("android-app://<script>/", "shop.example", (), ""),
        ("android-app://" + "a" * 8_000, "shop.example", (), ""),
    ],
)
def test_referrer(referrer, page_host, site_domains, host):
    assert referrer_host(referrer, page_host, site_domains) == host


def test_the_sites_own_pages_are_direct():
    assert channel(NO_CAMPAIGN, referrer_host("https://www.shop.example/", "shop.example", ())) == "Direct"


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=80), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_gives_a_host_or_nothing(referrer, page_host, site_domains):
    for text in (referrer, "https://" + referrer, "android-app://" + referrer):
        assert referrer_host(text, page_host, site_domains).isascii()


@pytest.mark.parametrize("unit", ["a", "a.", "/", "@", "a_"])
def test_time_is_linear(unit):
    assert grows_linearly(lambda text: referrer_host("https://" + text, "shop.example", ("other.net",)), unit)
    assert grows_linearly(lambda text: referrer_host("android-app://" + text, "shop.example", ()), unit)


def test_repeated_referrers_are_cached_and_long_ones_are_not():
    referrer_cached.cache_clear()
    for _ in range(3):
        referrer_host("https://www.google.com/", "shop.example", ("shop.example",))
    assert referrer_cached.cache_info().hits == 2
    assert referrer_host("https://a.example/" + "x" * PAGE_CACHED_CHARS_MAX, "shop.example", ()) == "a.example"
    assert referrer_cached.cache_info().currsize == 1
