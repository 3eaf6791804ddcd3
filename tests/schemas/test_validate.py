"""Every closed reason by example, in query string and JSON; event time; exact amounts."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.events import fields_of
from support.simulated_hits import BASE_MS, DAY_MS, hit

from consumers.decode import decode
from schemas.event import Item
from schemas.hit import Hit
from schemas.limits import Limits
from schemas.parameters import NUMBERS, TEXT
from schemas.rejection import Reason, Rejection
from schemas.validate import event_time, objection, validate

LIMITS = Limits()
HIT = orjson.loads(hit())
DOMAINS = {"shop": ("shop.example", "shop.test")}
SMALL = Limits(sites=frozenset(("shop", "blog")), domains=DOMAINS, items_max=2, properties_max=2, field_chars_max=100)


def validated(limits=LIMITS, **fields):
    return validate(decode(hit(**fields)), limits)


def event_of(limits=LIMITS, **fields):
    made = validated(limits, **fields)
    assert not isinstance(made, Rejection), made
    return made[0]


def both(**parameters):
    """The event of these parameters; it is the same whether they came in a query or as JSON."""
    query = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in parameters.items()
    }
    from_query, from_json = event_of(params=query), event_of(event=parameters)
    assert (from_query.source, from_json.source) == ("pixel", "beacon")
    from_json.source = from_query.source
    assert fields_of(from_query) == fields_of(from_json)
    return from_query


# What each reason looks like. Those of the record's shape (bad_json, bad_hit, bad_version) are decode's;
# unprocessable is the pipeline's.
WRONG = [
    (Reason.TOO_LONG, {"ti": "x" * 101}),
    (Reason.TOO_LONG, {"p." + "k" * 65: "v"}),
    (Reason.TOO_LONG, {"p.": "v"}),
    (Reason.TOO_LONG, {"items": [{"sku": "x" * 101}]}),
    (Reason.BAD_SITE, {"s": ""}),
    (Reason.BAD_SITE, {"s": "a b"}),
    (Reason.BAD_SITE, {"s": "-a"}),
    (Reason.BAD_SITE, {"s": "x" * 65}),
    (Reason.UNKNOWN_SITE, {"s": "other"}),
    (Reason.BAD_EVENT_NAME, {"e": "1a"}),
    (Reason.BAD_EVENT_NAME, {"e": "a b"}),
    (Reason.BAD_EVENT_NAME, {"e": "a" * 65}),
    (Reason.BAD_EVENT_NAME, {"e": "Käse"}),
    (Reason.BAD_EVENT_NAME, {"e": "PageView\n"}),
    (Reason.BAD_URL, {"u": "ftp://example.com/"}),
    (Reason.BAD_URL, {"u": "/relative"}),
    (Reason.BAD_URL, {"u": "http://"}),
    (Reason.WRONG_DOMAIN, {"s": "shop", "u": "https://other.example/"}),
    (Reason.WRONG_DOMAIN, {"s": "shop", "u": "https://badshop.example/"}),
    (Reason.WRONG_DOMAIN, {"s": "shop", "e": "EmailOpen", "u": "https://other.example/"}),
    (Reason.BAD_TIME, {"t": "yesterday"}),
    (Reason.BAD_TIME, {"sent": "1e99"}),
    (Reason.BAD_VALUE, {"v": "-0.01"}),
    (Reason.BAD_VALUE, {"v": "12,50"}),
    (Reason.BAD_VALUE, {"v": "NaN"}),
    (Reason.BAD_VALUE, {"v": "100000000000000"}),
    (Reason.BAD_VALUE, {"v": "99999999999999.99995"}),
    (Reason.BAD_VALUE, {"items": [{"sku": "a", "price": -1}]}),
    (Reason.BAD_VALUE, {"items": [{"sku": "a", "price": "x"}]}),
    (Reason.BAD_CURRENCY, {"cur": "XYZ"}),
    (Reason.BAD_CURRENCY, {"cur": "euro"}),
    (Reason.BAD_ITEMS, {"items": {"sku": "a"}}),
    (Reason.BAD_ITEMS, {"items": ["a"]}),
    (Reason.BAD_ITEMS, {"items": [{"sku": ["a"]}]}),
    (Reason.BAD_ITEMS, {"items": [{"sku": "a\0"}]}),
    (Reason.BAD_ITEMS, {"items": [{"qty": -1}]}),
    (Reason.BAD_ITEMS, {"items": [{"qty": 1.5}]}),
    (Reason.BAD_ITEMS, {"items": [{"qty": 1 << 32}]}),
    (Reason.BAD_ITEMS, {"items": [{"qty": True}]}),
    (Reason.BAD_ITEMS, {"items": [{"qty": "many"}]}),
    (Reason.BAD_TYPE, {"items": [{"price": True}]}),
    (Reason.TOO_MANY_ITEMS, {"items": [{"sku": "a"}] * 3}),
    (Reason.TOO_MANY_PROPERTIES, {"p.a": "1", "p.b": "2", "p.c": "3"}),
    (Reason.BAD_ENCODING, {"ti": "a\0b"}),
]


@pytest.mark.parametrize(("reason", "parameters"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_in_query_and_json(reason, parameters):
    query = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in parameters.items()
    }
    for made in (validated(SMALL, params=query), validated(SMALL, event=parameters)):
        assert isinstance(made, Rejection)
        assert made.reason is reason
        assert made.detail
    assert objection({"s": "shop"} | parameters, SMALL) == made


def test_every_reason_has_an_example():
    elsewhere = {Reason.BAD_JSON, Reason.BAD_HIT, Reason.BAD_VERSION, Reason.UNPROCESSABLE}
    assert {reason for reason, _ in WRONG} | elsewhere == set(Reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"params": {"s": "shop", "u": "https://shop.example/a"}},
        {"params": {"s": "shop", "u": "https://deep.www.shop.test:8443/"}},
        {"params": {"s": "shop", "u": "https://SHOP.example./"}},
        {"params": {"s": "shop"}, "referer": "https://www.shop.example/"},
        {"params": {"s": "shop"}},
        {"params": {"s": "shop"}, "referer": "no URL"},
        {"params": {"s": "blog", "u": "https://anywhere.example/"}},
        {"params": {"s": "shop", "e": "EmailOpen"}, "referer": "https://webmail.example/"},
    ],
)
def test_a_page_on_the_sites_domains_passes_and_so_does_no_page(fields):
    assert event_of(SMALL, **fields).site in ("shop", "blog")


def test_a_pixel_on_a_foreign_page_is_rejected_by_its_referer():
    made = validated(SMALL, params={"s": "shop"}, referer="https://copy.example/")
    assert made == Rejection(Reason.WRONG_DOMAIN, "the page is on 'copy.example', no domain of site 'shop'")


def test_a_10_000_item_cart():
    made = validated(event={"items": [{"sku": "a", "price": "1"}] * 10_000})
    assert made.reason is Reason.TOO_MANY_ITEMS


def test_all_parameters():
    event = both(
        s="shop",
        e="Purchase",
        u="https://Shop.example:8443/a%20b?utm_source=x&q=1#top",
        id="e1",
        ti="Käse & Brot",
        l="de_at",
        sr="1920x1080",
        v="12.34",
        cur="eur",
        oid="o1",
        uid="u1",
        ab="hero:b",
        items=[{"sku": "s", "name": "n", "category": "c", "price": 1.5, "qty": 2}, {"sku": 7, "qty": "3"}],
        **{"p.color": "red", "p.size": "xl"},
    )
    assert (event.site, event.event_name, event.event_id, event.title) == ("shop", "Purchase", "e1", "Käse & Brot")
    assert (event.url_host, event.url_path, event.url_query) == ("shop.example", "/a%20b", "utm_source=x&q=1")
    assert (event.lang, event.screen_w, event.screen_h) == ("de-AT", 1920, 1080)
    assert (event.value, event.currency, event.order_id, event.user_id) == (Decimal("12.34"), "EUR", "o1", "u1")
    assert (event.ab, event.props) == ("hero:b", {"color": "red", "size": "xl"})
    assert event.items == (Item("s", "n", "c", Decimal("1.5"), 2), Item("7", "", "", Decimal(0), 3))


def test_consent_is_the_verdict_of_the_edge_whatever_the_parameter_says():
    assert event_of(params={"c": "1"}).consent == ""
    assert event_of(params={"c": "1"}, consent="not_required").consent == "not_required"
    assert event_of(event={"c": 1}, consent="granted", source="server").consent == "granted"


def test_of_a_denied_hit_the_page_is_a_path_and_the_referrer_a_host():
    denied = {"visitor_id": "0" * 16, "consent": "denied_gpc"}
    event, referrer = validated(event={"u": "/p/1;a=%3F", "r": "a.example", "v": "1.5", "cur": "EUR"}, **denied)
    assert (event.url_host, event.url_path, event.url_query, referrer) == ("", "/p/1;a=%3F", "", "https://a.example/")
    assert (event.visitor_id, event.value, event.currency) == (0, Decimal("1.5"), "EUR")
    event, referrer = validated(event={}, **denied)
    assert (event.url_path, referrer, event.event_name) == ("", "", "PageView")
    assert validated(event={"u": "?"}, **denied).reason is Reason.BAD_URL


def test_an_absent_event_is_a_page_view_and_an_absent_page_the_referer():
    event = event_of(referer="https://shop.example/from?a=1", visitor=0xABC)
    assert (event.event_name, event.url_host, event.url_path, event.url_query) == (
        "PageView",
        "shop.example",
        "/from",
        "a=1",
    )
    assert event.visitor_id == 0xABC
    assert (event.ts, event.ts_source, event.received_at) == (BASE_MS, "received", BASE_MS)


def test_a_referer_that_is_no_page_is_not_the_sites_mistake():
    assert event_of(referer="about:blank").url_host == ""


def test_the_referrer_comes_out_as_given():
    assert validated(params={"r": "https://a.example/"})[1] == "https://a.example/"


def test_an_email_pixel_is_an_email():
    assert event_of(params={"e": "EmailOpen"}).source == "email"
    assert event_of(event={"e": "EmailOpen"}).source == "beacon"


def test_a_malformed_screen_is_none():
    assert (both(sr="large").screen_w, both(sr="1x70000").screen_h) == (0, 0)


AGE, AHEAD = LIMITS.event_age_ms_max, LIMITS.event_ahead_ms_max


@pytest.mark.parametrize(
    ("t", "sent", "expected"),
    [
        (None, None, (BASE_MS, "received")),
        (None, BASE_MS - 5, (BASE_MS, "received")),
        (BASE_MS - 5, None, (BASE_MS - 5, "client")),
        (BASE_MS - 9000, BASE_MS - 4000, (BASE_MS - 5000, "shifted")),
        (5_000, 9_000, (BASE_MS - 4000, "shifted")),  # a clock that is decades off
        (BASE_MS - AGE, None, (BASE_MS - AGE, "client")),
        (BASE_MS - AGE - 1, None, (BASE_MS, "too_old")),
        (BASE_MS + AHEAD, None, (BASE_MS + AHEAD, "client")),
        (BASE_MS + AHEAD + 1, None, (BASE_MS, "ahead")),
        (BASE_MS + 366 * DAY_MS, None, (BASE_MS, "ahead")),
        (-1, None, (BASE_MS, "too_old")),
        (0, 1 << 62, (BASE_MS, "too_old")),
    ],
)
def test_event_time(t, sent, expected):
    assert event_time(BASE_MS, t, sent, LIMITS) == expected


@given(st.integers(-(2**62), 2**62), st.none() | st.integers(-(2**62), 2**62))
def test_event_time_never_leaves_its_window(t, sent):
    ts, _ = event_time(BASE_MS, t, sent, LIMITS)
    assert BASE_MS - AGE <= ts <= BASE_MS + AHEAD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("0.1", "0.1"),
        ("19.99", "19.99"),
        ("0.00005", "0"),  # half to even
        ("0.00015", "0.0002"),
        ("0.00025", "0.0002"),
        ("99999999999999.9999", "99999999999999.9999"),
        ("1e3", "1000"),
        ("1E-40", "0"),
    ],
)
def test_amounts_are_exact(text, value):
    assert both(v=text).value == Decimal(value)


@given(st.integers(0, 10**18 - 1))
def test_any_amount_that_fits_comes_out_as_it_went_in(units):
    amount = Decimal(units).scaleb(-4)
    assert event_of(params={"v": str(amount)}).value == amount


def test_a_json_float_counts_as_its_shortest_text():
    assert event_of(event={"v": 0.1}).value == Decimal("0.1")
    assert event_of(event={"v": 1.1 + 2.2}).value == Decimal("3.3000")


known = (*sorted(TEXT | NUMBERS), "items", "p.k", "x")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["sku", "price", "qty", "name"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(known), json_values, max_size=6))
def test_any_event_is_kept_or_rejected_with_a_reason(parameters):
    event = {"s": "shop"} | parameters
    made = validate(Hit(**HIT, event=event), SMALL)
    if isinstance(made, Rejection):
        assert made.reason in Reason
        assert objection(event, SMALL) == made
    else:
        assert objection(event, SMALL) is None
        assert 0 <= made[0].value < Decimal(10) ** 14
