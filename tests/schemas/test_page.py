"""Page URLs: hosts as browsers name them, nothing but http(s), linear time."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import grows_linearly

from schemas.page import PAGE_CACHED_CHARS_MAX, Page, page_host, split_cached, split_page


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://shop.example", Page("shop.example", "/", "")),
        ("https://shop.example/", Page("shop.example", "/", "")),
        ("HTTPS://Shop.EXAMPLE/Cart?A=b&c=%20d#top", Page("shop.example", "/Cart", "A=b&c=%20d")),
        ("http://shop.example:80/a", Page("shop.example", "/a", "")),
        ("http://shop.example:8443/a", Page("shop.example", "/a", "")),
        ("http://shop.example:/a", Page("shop.example", "/a", "")),
        ("http://user:pass@shop.example/a", Page("shop.example", "/a", "")),
        ("http://real.example@evil.example/", Page("evil.example", "/", "")),
        ("http://a@b@shop.example/", Page("shop.example", "/", "")),
        ("http://shop.example?q=1", Page("shop.example", "/", "q=1")),
        ("http://shop.example#f?no=query", Page("shop.example", "/", "")),
        ("http://shop.example/a?b?c#d?e", Page("shop.example", "/a", "b?c")),
        ("http://shop.example./", Page("shop.example", "/", "")),
        ("http://evil.example\\@shop.example/", Page("evil.example", "/@shop.example/", "")),
        ("  https://shop.example/a \n", Page("shop.example", "/a", "")),
        ("http://münchen.de/straße", Page("xn--mnchen-3ya.de", "/straße", "")),
        ("http://xn--mnchen-3ya.de/", Page("xn--mnchen-3ya.de", "/", "")),
        ("http://XN--MNCHEN-3YA.DE/", Page("xn--mnchen-3ya.de", "/", "")),
        ("http://localhost:3000/a", Page("localhost", "/a", "")),
        ("http://127.0.0.1:3000/a", Page("127.0.0.1", "/a", "")),
        ("http://[::1]:3000/a", Page("[::1]", "/a", "")),
        ("http://[2001:DB8:0:0::1]/a", Page("[2001:db8::1]", "/a", "")),
        ("http://my_host.example/", Page("my_host.example", "/", "")),
        ("http://shop.example/%zz%", Page("shop.example", "/%zz%", "")),
    ],
)
def test_url(url, page):
    assert split_page(url) == page


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/relative",
        "//shop.example/",
        "shop.example/a",
        "http:",
        "http://",
        "http:///a",
        "http://:80/",
        "http://user@/",
        "http:/shop.example",
        "ftp://shop.example/",
        "javascript:alert(1)",
        "data:text/html,http://shop.example/",
        "android-app://com.example/",
        "about:blank",
        "file:///etc/passwd",
        "http://shop example/",
        "http://shop.example:99999/",
        "http://shop.example:8a/",
        "http://shop.example:-1/",
        "http://a..b/",
        "http://.example/",
        "http://1.2.3.999/",
        "http://1.2.3/",
        "http://[::1/",
        "http://[::g]/",
        "http://[fe80::1%eth0]/",
        "http://[::1]x/",
        "http://shop.example%00/",
        "http://shop\x00.example/",
        "http://shop.example/a\nb",
        "http://shop.example/a\r\nSet-Cookie: x",
        "http://<script>/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 127 + "example/",
        "http://\u2603\u0301\u200d/",
        "http://xn--\u00e4/",
    ],
)
def test_no_url(url):
    assert split_page(url) is None
    assert page_host(url) == ""


labels = st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)


@settings(deadline=None)
@given(labels, labels, st.integers(0, 65_535), st.from_regex(r"(/[A-Za-z0-9%.~-]{0,9}){0,4}", fullmatch=True))
def test_agrees_with_the_standard_library_on_plain_urls(name, top, port, path):
    url = f"https://{name}.{top}:{port}{path}?a=b#c"
    known = urlsplit(url)
    assert split_page(url) == Page(known.hostname or "", known.path or "/", known.query)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=300), st.text(max_size=300).map("http://".__add__)))
def test_any_text_gives_a_page_or_none(text):
    page = split_page(text)
    assert page_host(text) == (page.host if page else "")
    if page is not None:
        assert page.host
        assert page.host.isascii()
        assert page.host == page.host.lower()
        assert split_page(f"http://{page.host}/") == Page(page.host, "/", "")
        assert page.path.startswith("/")


@pytest.mark.parametrize("unit", ["a", "a.", "@", ":", "[", "/", "?", "#", "%", "ä", "ä.", "\u3002", "\\", " "])
def test_time_is_linear(unit):
    assert grows_linearly(lambda text: split_page("http://" + text), unit)
    assert grows_linearly(lambda text: split_page("http://" + text + "\x01"), unit)


def test_long_urls_are_split_but_not_cached():
    split_cached.cache_clear()
    url = "https://shop.example/" + "a" * PAGE_CACHED_CHARS_MAX
    page = split_page(url)
    assert page is not None
    assert page.path == url.removeprefix("https://shop.example")
    assert split_cached.cache_info().currsize == 0
