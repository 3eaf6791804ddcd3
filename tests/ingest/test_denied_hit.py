"""A denied event keeps what the worker would have made of the whole one, as far as it names nobody; nothing else."""

from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.edge import COOKIE, HOST, closing, edge, plain, post, run, statuses
from support.simulated_hits import BASE_MS, hit

from consumers.decode import decode
from consumers.enrich.event import Enricher
from consumers.rules import Enrichment
from ingest.denied_hit import KEPT, denied_event
from ingest.given import UNREADABLE, given_in_event, given_in_query
from ingest.hit_builder import json_text
from schemas.limits import Limits
from schemas.rejection import Reason, Rejection
from schemas.validate import validate

LIMITS = Limits()
SECRET = "e3b0c44298fc1c14"
GPC = b"Sec-GPC: 1\r\n"


def kept(referer="", **given):
    return orjson.loads(denied_event(given, json_text(referer.encode())))


def test_all_that_is_kept():
    event = kept(
        s="shop", e="Purchase", u="https://user:pw@Shop.example:8443/a%20b/ä?uid=7#top", r="https://A.example/x?q=me",
        v="012.50", cur="eur", t="1750000000000.7", sent=1750000000009, id=SECRET, uid=SECRET, oid=SECRET, c="0",
    )  # fmt: skip
    assert event == {
        "s": "shop", "e": "Purchase", "u": "/a%20b/ä", "r": "a.example", "v": "12.5", "cur": "EUR",
        "t": 1750000000000, "sent": 1750000000009,
    }  # fmt: skip
    assert set(event) == set(KEPT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s", "a b"), ("s", 7), ("s", ["x"]), ("e", "1a"), ("e", "x" * 65), ("e", True), ("v", "12,5"), ("v", "-1"),
        ("v", "1e15"), ("v", "1" * 41), ("v", True), ("cur", "XYZ"), ("cur", 978), ("t", "now"), ("sent", []),
        ("u", "/relative"), ("u", "javascript:x"), ("u", {"x": 1}),
    ],
)  # fmt: skip
def test_what_is_not_well_formed_leaves_no_byte(name, value):
    event = kept(**{"s": "shop", name: value})
    assert event[name] == UNREADABLE
    made = validate(decode(hit(visitor=0, consent="denied_gpc", event=event)), LIMITS)
    assert isinstance(made, Rejection)
    assert str(value) not in made.detail


def test_times_are_cut_to_what_a_clock_can_say():
    assert kept(t="123456789012345678901234567890")["t"] == 10**15
    assert kept(t=-5, sent="1e30") == {"t": 0, "sent": 10**15}
    assert kept(t=10**15 + 7, sent=10**15 + 2) == {"t": 10**15 + 5, "sent": 10**15}


@pytest.mark.parametrize(
    ("u", "r", "host"),
    [
        ("https://shop.example/", "https://search.example/?q=me", "search.example"),
        ("https://shop.example/", "https://shop.example/cart", ""),
        ("https://www.shop.example/", "https://checkout.shop.example/", ""),
        ("https://m.shop.example/", "https://shop.example/", ""),
        ("https://shop.example/", "https://notshop.example/", "notshop.example"),
        ("https://a.co.uk/", "https://b.co.uk/", "b.co.uk"),
        ("https://shop.example/", "android-app://com.Google.android.gm/x", "com.google.android.gm"),
        ("https://shop.example/", "about:blank", ""),
        ("https://shop.example/", ["x"], ""),
        ("not a page", "https://search.example/", "search.example"),
    ],
)
def test_the_referrer_is_a_host_and_not_the_pages_own(u, r, host):
    assert kept(u=u, r=r).get("r", "") == host


@pytest.mark.parametrize(
    ("given", "referer", "page"),
    [
        ({"u": "https://www.shop.example/a"}, "", "/a"),
        ({"u": "https://elsewhere.example/a"}, "", UNREADABLE),
        ({}, "https://elsewhere.example/a", UNREADABLE),
        ({"e": "EmailOpen"}, "https://mail.example/inbox", "/inbox"),
        ({"e": "EmailOpen", "u": "https://mail.example/inbox"}, "", UNREADABLE),
    ],
)
def test_a_page_on_no_domain_of_the_site_leaves_no_byte(given, referer, page):
    event = orjson.loads(denied_event(given, json_text(referer.encode()), ("shop.example",)))
    assert event["u"] == page
    whole = validate(decode(hit(event=given, referer=referer)), Limits(domains={"shop": ("shop.example",)}))
    assert isinstance(whole, Rejection) == (page == UNREADABLE)


def test_the_page_is_the_referer_fields_where_none_is_given():
    assert kept("https://shop.example/p/1?token=x") == {"u": "/p/1"}
    assert kept("https://shop.example/p/1", r="https://shop.example/") == {"u": "/p/1"}
    assert kept("nonsense") == kept() == {}


TEXTS = {
    "s": ["shop", "", "a b"],
    "e": ["", "Purchase", "Käse"],
    "v": ["", "1.25", "x", "-1", "0.00005"],
    "cur": ["", "usd", "EURO"],
    "t": ["", str(BASE_MS - 5000), "5000", "1e20", "x"],
    "sent": ["", str(BASE_MS), "9000", "1e19"],
    "u": ["", "https://shop.example/a/b?c=d#e", "http://10.0.0.1", "ftp://x/"],
    "r": ["", "https://www.google.com/search?q=x", "https://blog.shop.example/", "about:blank"],
    "uid": ["", SECRET],
}
PARAMETERS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in TEXTS.items()})
COMPARED = (
    "site",
    "event_name",
    "value",
    "currency",
    "ts",
    "ts_source",
    "received_at",
    "url_path",
    "ref_host",
    "source",
)


def outcome(payload, domains):
    decoded = decode(payload)
    made = validate(decoded, LIMITS)
    if isinstance(made, Rejection):
        return None
    event, referrer = made
    Enricher(domains, Enrichment()).enrich(event, decoded, referrer)
    return event


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    PARAMETERS, st.sampled_from([{}, {"shop": ("shop.example",)}]), st.sampled_from(["", "https://shop.example/z?y"])
)
def test_the_worker_makes_the_same_of_it_as_of_the_whole_hit(parameters, domains, referer):
    given = {name: value for name, value in parameters.items() if value}
    whole = outcome(hit(0, visitor=0, query=urlencode(given), referer=referer), domains)
    query, text = urlencode(given).encode(), json_text(referer.encode())
    for event in (denied_event(given_in_query(query), text), denied_event(given_in_event(given), text)):
        bare = orjson.loads(hit(0, visitor=0, source="pixel", consent="denied_dnt", event={}))
        denied = outcome(orjson.dumps(bare | {"event": orjson.loads(event)}), domains)
        assert (denied is None) == (whole is None)
        if denied is not None and whole is not None:
            for name in COMPARED:
                assert getattr(denied, name) == getattr(whole, name), name
            assert (denied.url_host, denied.url_query, denied.user_id, denied.visitor_id) == ("", "", "", 0)
            assert (denied.browser, denied.os, denied.device, denied.is_bot) == ("", "", "", False)


# through the edge


def test_a_denied_pixel(tmp_path):
    lines = COOKIE + GPC + b"User-Agent: Mozilla\r\nAccept-Language: de\r\nReferer: https://shop.example/p?a=b\r\n"
    query = b"s=shop&e=ViewContent&v=2&cur=EUR&uid=me&id=1&oid=2&p.k=v&ti=t"

    async def main():
        async with edge(tmp_path) as box:
            (answer,), _ = await box.probed(b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n")
            assert answer.status == 200
            assert b"set-cookie" not in answer.headers
            (hit,) = box.hits()
            assert hit["key"] not in ("00000000000000ab", "0" * 16)
            assert plain(hit) == {
                "key": hit["key"], "v": 1, "source": "pixel", "visitor_id": "0" * 16, "consent": "denied_gpc",
                "event": {"s": "shop", "e": "ViewContent", "v": "2", "cur": "EUR", "u": "/p"},
            }  # fmt: skip
            await box.probed(b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n")
            assert box.hits()[1]["key"] != hit["key"]
            assert box.counters.verdicts["denied_gpc"] == 2
            assert box.counters.visitors_minted == 0

    run(main)


def test_every_event_of_a_post_has_its_own_verdict(tmp_path):
    body = b'[{"s":"shop","c":0,"uid":"x"},{"s":"shop","c":"analytics"},{"s":"strict"},{"s":"strict","c":true}]'

    async def main():
        sites = {"shop": {}, "strict": {"consent": "opt-in"}}
        async with edge(tmp_path, sites=sites) as box:
            answers, _ = await box.probed(post(body), post(body, COOKIE.strip()), post(b'{"s":"shop","c":"0"}'))
            assert statuses(answers) == [204, 204, 204]
            assert [b"set-cookie" in answer.headers for answer in answers] == [True, False, False]
            verdicts = ["denied_param", "granted_analytics", "denied_default", "granted"]
            hits = box.hits()
            assert [hit["consent"] for hit in hits] == [*verdicts, *verdicts, "denied_param"]
            assert [hit["event"] for hit in hits[:4]] == [{"s": "shop"}, *orjson.loads(body)[1:2], {"s": "strict"},
                                                          orjson.loads(body)[3]]  # fmt: skip
            assert [hit["visitor_id"] == "0" * 16 for hit in hits] == [True, False, True, False] * 2 + [True]
            assert {hits[5]["visitor_id"], hits[7]["visitor_id"]} == {"00000000000000ab"}
            assert box.counters.visitors_minted == 1

    run(main)


CASES = [
    (b"s=a", b"", "not_objected"),
    (b"s=a", b"DNT: 1\r\n", "denied_dnt"),
    (b"s=a&c=1", b"DNT: 1\r\n", "denied_dnt"),
    (b"s=a&c=1", b"Cookie: _hs_out=1\r\n", "denied_optout"),
    (b"s=a&%63=0", b"", "denied_param"),
    (b"c=0&s=a", b"", "denied_param"),
    (b"s=a&c=analytics", b"", "granted_analytics"),
    (b"s=in", b"", "denied_default"),
    (b"e=x&s=in", b"", "denied_default"),
    (b"%73=in&s=a", b"", "denied_default"),
    (b"s=%69n", b"", "denied_default"),
    (b"s=in&c=1", b"", "granted"),
    (b"s=free", GPC + b"DNT: 1\r\n", "not_required"),
    (b"s=free&c=0", b"", "denied_param"),
    (b"s=unknown", b"", "not_objected"),
    (b"", b"", "not_objected"),
]


def test_the_fast_path_and_the_strict_reader_give_the_same_verdicts(tmp_path):
    async def main():
        sites = {"a": {}, "in": {"consent": "opt-in"}, "free": {"consent": "none"}}
        async with edge(tmp_path, sites=sites) as box:
            for query, lines, verdict in CASES:
                fast = b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"
                assert box.collector.edge.heads.recognize(fast) is not None
                await box.probed(fast, fast.replace(b"HTTP/1.1", b"HTTP/1.0"))
                await box.exchange(closing(fast))
                assert [hit["consent"] for hit in box.hits()[-2:]] == [verdict] * 2, query

    run(main)


def test_a_denied_hit_that_the_worker_rejects_shows_nothing(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            await box.probed(post(b'{"s":"shop@%s","c":0}' % SECRET.encode()))
            (hit,) = box.hits()
            made = validate(decode(orjson.dumps(hit)), LIMITS)
            assert made.reason is Reason.BAD_SITE
            assert SECRET not in orjson.dumps(hit).decode() + made.detail

    run(main)
