"""Scrubbing: what is private goes, wherever and however it is written; the rest stays byte for byte, in linear time."""

from __future__ import annotations

import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import grows_linearly

from consumers.enrich.scrub import MARKER, QUERIES_CACHED_MAX, QUERY_CACHED_CHARS_MAX, Scrub, query_cached
from consumers.enrich.scrub import without_click_ids as without
from consumers.enrich.tables import CLICK_IDS, PRIVATE_ALWAYS, PRIVATE_LONG

SCRUB = Scrub()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
BACK = "back=https%3A%2F%2Fs.example%2F%3F"
SECRET = "0123456789abcdefABCDEF"


@pytest.mark.parametrize(
    ("query", "scrubbed"),
    [
        ("", ""),
        ("a=1&b", "a=1&b"),
        ("q=jo.e%2Bnews%40mail.example.co.uk&b=2", f"q={MARKER}&b=2"),
        ("q=joe@m%C3%BCller.example", f"q={MARKER}"),
        ("joe@shop.example", MARKER),
        ("joe%40shop.example=1&a=2", f"{MARKER}=1&a=2"),
        ("q=from%3Ajoe%40shop.example%2Cann%40shop.example", f"q=from%3A{MARKER}%2C{MARKER}"),
        ("email=joe", f"email={MARKER}"),
        ("E-Mail=joe&customer_email=x", f"E-Mail={MARKER}&customer_email={MARKER}"),
        ("user%5Bpassword%5D=a", f"user%5Bpassword%5D={MARKER}"),
        ("accessToken=a&access_token=b&access-token=c", "&".join(f"access{s}oken={MARKER}" for s in ("T", "_t", "-t"))),
        (f"token={SECRET}&code={SECRET}&session={SECRET}", f"token={MARKER}&code={MARKER}&session={MARKER}"),
        ("token=no&code=SALE20&session=2", "token=no&code=SALE20&session=2"),
        ("state=nothing+private+here+at+all", "state=nothing+private+here+at+all"),
        ("password=&token=", "password=&token="),
        (f"x={JWT}&y=1", f"x={MARKER}&y=1"),
        (f"{BACK}access_token%3Dabc%26a%3D1", f"{BACK}access_token%3D{MARKER}%26a%3D1"),
        ("back=a%3D1%26password%3Dx", f"back=a%3D1%26password%3D{MARKER}"),
        (f"{BACK}a%3D1", f"{BACK}a%3D1"),
        ("r=https%3A%2F%2Fs.example%2F%3Fu%3Djoe%2540x.example", f"r=https%3A%2F%2Fs.example%2F%3Fu%3D{MARKER}"),
        ("mc_eid=1a2b3c", f"mc_eid={MARKER}"),
        (f"utm_source=joe@shop.example&utm_term={JWT}", f"utm_source={MARKER}&utm_term={MARKER}"),
        ("UTM_Content=a%40b.example", f"UTM_Content={MARKER}"),
    ],
)  # fmt: skip
def test_queries(query, scrubbed):
    assert SCRUB.query(query) == scrubbed
    assert SCRUB.query(scrubbed) == scrubbed


@pytest.mark.parametrize(
    "query",
    [
        "utm_source=news&utm_term=a+b&utm_content=" + SECRET,
        f"gclid={JWT}&fbclid=IwAR0_{SECRET}",
        "img=logo@2x.png&pkg=@scope/core@17.0.1&at=/@joe.doe/&v=1@2.3",
        "a=b;c=d&x=%zz&%=%&=&&",
        "email&password",
    ],
)
def test_campaigns_and_what_only_looks_private_stay(query):
    assert SCRUB.query(query) == query


@pytest.mark.parametrize("name", sorted(PRIVATE_ALWAYS))
def test_every_private_name(name):
    assert SCRUB.query(f"a=1&{name.upper()}=x") == f"a=1&{name.upper()}={MARKER}"
    assert SCRUB.value(f"{name[:2]}_{name[2:]}", "x") == MARKER


@pytest.mark.parametrize("name", sorted(PRIVATE_LONG))
def test_every_name_whose_long_values_are_private(name):
    assert SCRUB.value(name, SECRET) == MARKER
    assert SCRUB.value(name, SECRET[:15]) == SECRET[:15]
    assert SCRUB.value(name, f"{SECRET[:8]} {SECRET[:8]}") == f"{SECRET[:8]} {SECRET[:8]}"


@pytest.mark.parametrize(
    ("path", "scrubbed"),
    [
        ("/", "/"),
        ("/u/joe@shop.example/orders", f"/u/{MARKER}/orders"),
        ("/u/joe%40shop.example", f"/u/{MARKER}"),
        ("/cart;jsessionid=1A53;v=2/x;y", f"/cart;jsessionid={MARKER};v=2/x;y"),
        (f"/reset/{JWT}/go", f"/reset/{MARKER}/go"),
    ],
)
def test_paths(path, scrubbed):
    assert SCRUB.path(path) == scrubbed
    assert SCRUB.page(path, "email=x") == (scrubbed, f"email={MARKER}")


def test_texts():
    assert SCRUB.text("Welcome, Joe <joe@shop.example>!") == f"Welcome, Joe <{MARKER}>!"
    assert SCRUB.text("50 % off at 40 @ home") == "50 % off at 40 @ home"


def test_names_and_patterns_by_setting():
    scrub = Scrub(["Kunden-Nr"], [r"\bDE[0-9]{20}\b", "geheim"])
    assert scrub.query("kundennr=7&x=DE01234567890123456789") == f"kundennr={MARKER}&x={MARKER}"
    assert scrub.text("ein geheimer Ort, José") == f"ein {MARKER}er Ort, José"
    assert scrub.path("/DE01234567890123456789/") == f"/{MARKER}/"
    assert SCRUB.query("kundennr=7") == "kundennr=7"


LOCAL = st.from_regex(r"joe[A-Za-z0-9._-]{0,20}", fullmatch=True)
DOMAIN = st.from_regex(r"[a-z0-9]{1,10}(?:\.[a-z0-9]{1,10}){0,2}\.[a-z]{2,10}", fullmatch=True)
AROUND = st.text(alphabet='ab1 &=/?#;,:<>"()\n', max_size=20)


@given(
    AROUND, LOCAL, DOMAIN, AROUND, st.sampled_from([str, quote, quote_plus, lambda text: quote(quote(text, ""), "")])
)
def test_an_address_is_gone_however_it_is_encoded(before, local, domain, after, written):
    text = written(f"{before} {local}@{domain} {after}")
    for scrubbed in (SCRUB.text(text), SCRUB.query(text), SCRUB.path(text)):
        assert MARKER in scrubbed
        assert domain not in scrubbed
        assert local not in scrubbed


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_page_is_scrubbed_once_and_for_all(path, query):
    once = SCRUB.page(path, query)
    assert SCRUB.page(*once) == once


@pytest.mark.parametrize("unit", ["a@b.", "%2540", "eyJaaaaaaaaa.", "é@é.", "%3D@a.", ";a=", "&token=", "aaaaaaaa"])
def test_hostile_pages_take_linear_time(unit):
    assert grows_linearly(SCRUB.query, unit)
    assert grows_linearly(SCRUB.path, unit)


@pytest.mark.parametrize("unit", ["a", "x", "ax", "é"])
def test_no_pattern_makes_a_text_crawl(unit):
    scrub = Scrub((), ["(a+)+$", "(x|x)*y", "(.*)*z"])
    began = time.process_time()
    scrub.text((unit * 8192)[:8192])  # the longest that `field_chars_max` lets through
    assert time.process_time() - began < 0.1


def test_without_click_ids_keeps_everything_else():
    query = "&".join(["a=1", *(f"{name}=x" for name in CLICK_IDS), "GCLID=y", "utm_source=google", "gclid", "b"])
    assert without("a=%20&gcl%69d=x&b") == "a=%20&b", "an escaped name is the same name"
    assert without(query) == "a=1&utm_source=google&b"
    assert without("") == ""


def test_the_cache_is_bounded_holds_short_queries_and_is_hit():
    query_cached.cache_clear()
    for _ in range(2):
        SCRUB.page("/a", "b=c")
        SCRUB.page("/a", "b=" + "c" * QUERY_CACHED_CHARS_MAX)
    info = query_cached.cache_info()
    assert (info.hits, info.currsize, info.maxsize) == (1, 1, QUERIES_CACHED_MAX)
