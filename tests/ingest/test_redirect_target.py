"""Targets of /c: what a browser may be sent to, byte for byte, and nothing else; and their signatures."""

import base64
import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.redirect_target import signature, signed, target_of

ID = ("hsclid", "f1")
KEY = "k" * 43


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://shop.example", "https://shop.example/?hsclid=f1"),
        ("https://shop.example/", "https://shop.example/?hsclid=f1"),
        ("https://shop.example?a=1", "https://shop.example/?a=1&hsclid=f1"),
        ("HTTPS://Shop.Example:8443/A?b=C#d", "https://shop.example:8443/A?b=C&hsclid=f1#d"),
        ("http://shop.example/a?", "http://shop.example/a?hsclid=f1"),
        ("http://shop.example/a?b&", "http://shop.example/a?b&hsclid=f1"),
        ("http://shop.example/a#b?c=d", "http://shop.example/a?hsclid=f1#b?c=d"),
        ("http://shop.example/#", "http://shop.example/?hsclid=f1#"),
        ("http://shop.example/a?b=c?d=e", "http://shop.example/a?b=c?d=e&hsclid=f1"),
        ("http://shop.example/a?hsclid=old&b=1", "http://shop.example/a?b=1&hsclid=f1"),
        ("http://shop.example/a?b=1&HSCLID=x&hscli%64=y&hsl=z&hsclid", "http://shop.example/a?b=1&hsclid=f1"),
        ("http://shop.example/a?nothsclid=1", "http://shop.example/a?nothsclid=1&hsclid=f1"),
        ("http://shop.example/a%20b?c=%zz%", "http://shop.example/a%20b?c=%zz%&hsclid=f1"),
        ("http://shop.example/a b?c d", "http://shop.example/a%20b?c%20d&hsclid=f1"),
        ("http://shop.example/straße?ä=ö#ü", "http://shop.example/stra%C3%9Fe?%C3%A4=%C3%B6&hsclid=f1#%C3%BC"),
        ("http://münchen.example/", "http://xn--mnchen-3ya.example/?hsclid=f1"),
        ("http://\N{FULLWIDTH LATIN SMALL LETTER S}hop.example/", "http://shop.example/?hsclid=f1"),
        ("http://shop.example./", "http://shop.example/?hsclid=f1"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]:80/?hsclid=f1"),
        ("http://shop.example/@x:y", "http://shop.example/@x:y?hsclid=f1"),
        ("http://shop.example/?u=https://other.example/", "http://shop.example/?u=https://other.example/&hsclid=f1"),
    ],
)
def test_target(url, sent):
    assert target_of(url).url(ID) == sent


TRICKS = [
    "", "/", "//evil.example/", "///evil.example", "/\\evil.example", "evil.example", "https:evil.example",
    "https:/evil.example", "https:///evil.example", "https://", "https://?a", "https://#a", "https:\\\\evil.example",
    "javascript:alert(1)", "JAVASCRIPT://shop.example/%0aalert(1)", "data:text/html,x", "ftp://shop.example/",
    "file:///etc/passwd", "android-app://a.b/", "view-source:https://shop.example/",
    "https://user@shop.example/", "https://shop.example@evil.example/", "https://shop.example:pass@evil.example/",
    "https://@shop.example/", "https://shop.example%40evil.example/", "https://shop.example\\@evil.example/",
    "https://shop.example\\.evil.example/", "https://evil.example\\shop.example/", "https://shop.example/\\evil",
    "https://shop.example%2eevil.example/", "https://shop.example%00.evil.example/", "https://shop .example/",
    "https://shop.example/\r\nSet-Cookie: a=b", "https://shop.example/\n", "https://shop.example/\x00",
    "https://shop.example\t.evil.example/", "ht\ntps://shop.example/", " https://shop.example/", "\x01https://a.example/",
    "https://shop.example:99999/", "https://shop.example:80:90/", "https://shop.example:x/", "https://[::1/",
    "https://[::1]evil.example/", "https://1.2.3/", "https://..evil.example/", "https://shop.example/\x7f",
]  # fmt: skip


@pytest.mark.parametrize("url", TRICKS)
def test_no_target(url):
    assert target_of(url) is None


def test_look_alikes_are_other_hosts():
    for alike in (
        "https://sh\N{CYRILLIC SMALL LETTER O}p.example/",
        "https://shop.ex\N{CYRILLIC SMALL LETTER A}mple/",
        "https://\N{CYRILLIC SMALL LETTER DZE}hop.example/",
        "https://shop\N{IDEOGRAPHIC FULL STOP}evil.example/",
    ):
        target = target_of(alike)
        assert target is None or target.host != "shop.example"


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.text("ab.:/?#@\\%[]&= \r\n\tä\N{IDEOGRAPHIC FULL STOP}", max_size=40).map("https://".__add__)
)
def test_what_is_sent_is_what_was_checked(url):
    target = target_of(url)
    if target is None:
        return
    sent = target.url(ID)
    assert sent.isascii()
    assert sent.isprintable()
    assert not set(sent) & set(" \\")
    parts = urlsplit(sent)
    assert parts.scheme in ("http", "https")
    assert parts.netloc.partition("]")[2 if "]" in parts.netloc else 0].partition(":")[0] in ("", target.host)
    assert "@" not in parts.netloc
    assert parts.query.split("&")[-1] == "hsclid=f1"
    again = target_of(sent)
    assert again == target, "sent on, it stays what it is"


def test_a_signature_is_as_the_contract_says():
    for url in ("https://shop.example/?a=b", "https://münchen.example/ü"):
        mac = hmac.new(KEY.encode(), b"shop\n" + url.encode(), hashlib.sha256).digest()
        padded = base64.urlsafe_b64encode(mac).decode()
        assert padded.endswith("=")
        assert signature(KEY, "shop", url) == padded.rstrip("=")
        for sig in (padded, padded.rstrip("=")):
            assert signed(KEY, "shop", url, sig)
            assert not signed(KEY, "blog", url, sig)
            assert not signed(KEY, "shop", url + "/", sig)
            assert not signed(KEY + "k", "shop", url, sig)
            assert not signed("", "shop", url, sig)
        for wrong in ("", "=", padded + "=", padded[1:], padded[:-2], padded.swapcase(), "ä" * 43):
            assert not signed(KEY, "shop", url, wrong)


def test_without_a_key_nothing_is_signed_not_even_by_the_empty_key():
    assert not signed("", "shop", "https://evil.example/", signature("", "shop", "https://evil.example/"))


def test_the_example_in_the_docs_signs_the_same():
    page = (Path(__file__).parents[2] / "docs" / "click-redirects.md").read_text()
    example = {}
    exec(page.partition("```python\n")[2].partition("```")[0], example)
    url = example["click_url"]("https://hits.example", KEY, "shop", "https://münchen.example/?a=b c")
    given = dict(parse_qsl(urlsplit(url).query))
    assert signed(KEY, "shop", "https://münchen.example/?a=b c", given["sig"])
    assert given["u"] == "https://münchen.example/?a=b c"
