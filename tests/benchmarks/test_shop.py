"""Shop traffic: the same for the same seed, what it says of itself is true, and it looks like a shop."""

import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from random import Random
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from benchmarks.malformed import KINDS, Context
from benchmarks.shop import PAST_MS, VISIT_APART_MS, shop_requests
from benchmarks.traffic import render

NOW_MS = 1_763_820_000_000
STANDARD = {"PageView", "ViewContent", "Search", "AddToCart", "InitiateCheckout", "AddPaymentInfo", "Purchase", "Lead"}
STANDARD |= {"CompleteRegistration", "Contact", "Click", "Engagement", "EmailOpen"}


@cache
def traffic(visitors=600, seed=1):
    return list(shop_requests(seed, NOW_MS, visitors))


def parsed(request):
    """Return the request's events as the collector would see them."""
    if request.method == "GET":
        query = urlsplit(request.target.decode("ascii")).query
        event = {name: values[0] for name, values in parse_qs(query, encoding="utf-8", errors="replace").items()}
        event.setdefault("u", dict(request.headers).get(b"Referer", b"").decode())
        return [event]
    body = orjson.loads(request.body)
    if isinstance(body, dict):
        body = body.get("events", body)
    return body if isinstance(body, list) else [body]


def shoppers():
    """Yield the requests of shoppers, not of the malformed clients between them."""
    for request in traffic():
        kept = request.events and not request.rejected and not request.raw
        if kept and b"broken client" not in dict(request.headers).get(b"User-Agent", b""):
            yield request


def test_the_same_seed_time_and_visitors_give_the_same_bytes():
    first = [render(request, b"h") for request in shop_requests(7, NOW_MS, 40)]
    assert first == [render(request, b"h") for request in shop_requests(7, NOW_MS, 40)]
    assert first != [render(request, b"h") for request in shop_requests(8, NOW_MS, 40)]


def test_hits_are_numbered_densely_and_events_is_what_a_request_carries():
    number = 0
    for request in traffic():
        assert request.number == number
        number += request.events
        if request.events and not request.raw:
            assert len(parsed(request)) == request.events
            assert len(request.rejected) + request.duplicates <= request.events


def test_what_is_sent_again_was_sent_before_in_the_same_bytes_with_ids_and_a_cookie_jar():
    sent = set()
    again = 0
    for request in traffic():
        key = (request.visitor, request.target, request.body)
        if request.duplicates:
            again += 1
            assert key in sent
            assert request.visitor
            assert request.duplicates == request.events
            assert all(event.get("id") and event.get("c") != "0" for event in parsed(request))
        elif request.events:
            assert key not in sent or not request.visitor
        sent.add(key)
    assert again > 50


def test_visits_lie_within_the_past_days_at_least_hours_apart():
    times = defaultdict(set)
    for request in shoppers():
        for event in parsed(request):
            if request.visitor and event.get("t"):
                times[request.visitor].add(int(event["t"]) + (NOW_MS - int(event.get("sent", NOW_MS))))
    several = 0
    for own in times.values():
        ordered = sorted(own)
        assert ordered[0] >= NOW_MS - PAST_MS
        assert ordered[-1] <= NOW_MS
        gaps = [later - earlier for earlier, later in pairwise(ordered) if later - earlier > 300_000]
        assert all(gap > VISIT_APART_MS // 2 for gap in gaps), "a visit has no pause that would split its session"
        several += bool(gaps)
    assert several > 100


def test_it_looks_like_a_shop():
    names = Counter()
    sources = set()
    by_pixel = Counter()
    for request in shoppers():
        by_pixel[request.method] += 1
        for event in parsed(request):
            names[event.get("e", "PageView")] += 1
            sources.update(re.findall(r"utm_medium=([^&]+)", event["u"]))
            sources.update(re.findall(r"[?&](\w*cl\w*id)=", event["u"]))
            sources.add(urlsplit(event.get("r", "")).netloc)
    assert set(names) <= STANDARD
    funnel = [names[name] for name in ("PageView", "ViewContent", "AddToCart", "InitiateCheckout", "Purchase")]
    assert funnel == sorted(funnel, reverse=True)
    assert funnel[-1] > 20
    assert {"cpc", "email", "paid_social", "gclid", "fbclid", "msclkid", "chatgpt.com", "www.google.com"} <= sources
    assert by_pixel["GET"] > by_pixel["POST"] > 200
    currencies = {e["cur"] for r in shoppers() for e in parsed(r) if e.get("e") == "Purchase"}
    assert currencies == {"EUR", "USD"}


def test_a_purchase_has_its_order_and_its_items_add_up():
    orders = Counter()
    for request in shoppers():
        for event in parsed(request):
            if event.get("e") != "Purchase" or request.duplicates:
                continue
            items = event["items"] if isinstance(event["items"], list) else orjson.loads(event["items"])
            cents = sum(round(item["price"] * 100) * item["qty"] for item in items)
            assert round(float(event["v"]) * 100) == cents
            orders[event["oid"]] += 1
    assert len(orders) > 20
    assert max(orders.values()) == 2, "a thank-you page that was opened again"


def test_some_visitors_return_with_their_cookie_and_bots_are_among_them():
    cookies = [value for request in traffic() for name, value in request.headers if name == b"Cookie"]
    assert cookies
    assert all(re.fullmatch(rb"_hs=[0-9a-f]{16}\.\d{10}", cookie) for cookie in cookies)
    agents = Counter(dict(request.headers).get(b"User-Agent", b"") for request in traffic())
    for bot in (b"Googlebot", b"curl/", b"HeadlessChrome"):
        assert any(bot in agent for agent in agents)
    assert any(b"iPhone" in agent for agent in agents)
    assert any(b"Windows" in agent for agent in agents)


def test_addresses_are_given_as_the_proxy_would():
    addresses = {request.client_ip for request in shoppers()}
    assert len(addresses) > 300
    assert any(":" in address for address in addresses)


def test_every_malformed_kind_takes_its_turn():
    notes = Counter(request.note for request in traffic(visitors=600))
    assert all(notes[kind(Context(Random(1), NOW_MS, "shop")).note] for kind in KINDS)


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_malformed_request_says_what_becomes_of_it(number):
    first, again = (KINDS[number](Context(Random(5), NOW_MS, "shop")) for _ in range(2))
    assert first == again
    assert first.note
    refused = not first.expects(200) and not first.expects(204)
    assert refused == (first.events == 0)
    assert len(first.rejected) <= first.events
    assert render(first, b"h").count(b"\n") >= 2 or first.raw
