"""Seeded shop traffic: an endless-looking day at a shop, as the HTTP requests its visitors' browsers send.

Promise: the same (seed, now_ms, visitors, site) give the same requests, byte for byte. Every request says what
becomes of it (see `traffic.Request`). Visits lie in the six days before `now_ms`, some end at it. A browser that kept
its hits until now gives `t` and `sent`, both by its own clock, which may be wrong by hours; others give `t` alone;
some live visits give no time. All of a visitor's requests come in order, mixed with those of others; at most
`ACTIVE_MAX` visitors are held in memory.

What is sent twice has the same bytes, so `t`, `sent` and `id` too, and follows at once or at the end of the visitor's
requests, hours of event time later. Only events with an id, of visitors with a cookie, are sent twice: the others
could not be recognized. A late hit is one that its browser sent after the rest of all visits. Visits lie at least two
hours apart, so that neither makes another session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from benchmarks.malformed import KINDS, Context
from benchmarks.shop_visit import Event, Shopper, Visit
from benchmarks.shop_world import BOTS, BROWSERS, HOST, LOCALES, PRODUCTS, SOURCES, Browser, Locale, Source
from benchmarks.traffic import Header, Request, beacon, numbered, pixel, visitor_cookie

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PAST_MS = 6 * DAY_MS
VISIT_APART_MS = 3 * HOUR_MS  # a visit lasts less than one
ACTIVE_MAX = 64
MALFORMED_SHARE = 0.025
BOT_SHARE = 0.06
SENT_AGAIN_SHARE = 0.02
LATE_SHARE = 0.03
HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 6, 7, 8, 8, 9, 10, 9, 8, 8, 9, 10, 12, 14, 15, 12, 8, 4)  # UTC
NO_ID = "no id"
SEARCH_REFERRERS = ("https://www.google.com/", "")


Weighted = TypeVar("Weighted", Browser, Locale)


class Client(NamedTuple):
    """One browser: what it puts into every request. `visitor` 0: it keeps no cookie; `consent` '': never asked."""

    headers: tuple[Header, ...]
    address: str
    visitor: int
    language: str
    screen: str
    consent: str
    skew_ms: int  # how far its clock is ahead
    says_sent: bool


def shop_requests(seed: int, now_ms: int, visitors: int = 1_000, site: str = "shop") -> Iterator[Request]:
    """Yield the traffic of `visitors` visitors, hits numbered from 0.

    About 14 requests a visitor. Of all requests 2.5 % are malformed or odd (`malformed.KINDS`, each in turn), of the
    visitors 6 % bots.
    """
    return numbered(_mixed(seed, now_ms, visitors, site))


def _mixed(seed: int, now_ms: int, visitors: int, site: str) -> Iterator[Request]:
    """Yield the visitors' requests in turn, with malformed ones in between."""
    rng = Random(f"shop {seed}")
    odd = Context(Random(f"odd {seed}"), now_ms, site)
    odd_kinds = list(KINDS)
    odd.rng.shuffle(odd_kinds)
    odd_made = 0
    waiting = iter(range(visitors))
    active: list[Iterator[Request]] = []
    while True:
        while len(active) < ACTIVE_MAX and (number := next(waiting, None)) is not None:
            active.append(_visitor_requests(Random(f"{seed} {number}"), now_ms, site))
        if not active:
            return
        place = rng.randrange(len(active))
        request = next(active[place], None)
        if request is None:
            active[place] = active[-1]
            active.pop()
            continue
        yield request
        if rng.random() < MALFORMED_SHARE:
            yield odd_kinds[odd_made % len(odd_kinds)](odd)
            odd_made += 1


def _visitor_requests(rng: Random, now_ms: int, site: str) -> Iterator[Request]:
    if rng.random() < BOT_SHARE:
        return _bot_requests(rng, now_ms, site)
    return _shopper_requests(rng, now_ms, site)


def _shopper_requests(rng: Random, now_ms: int, site: str) -> Iterator[Request]:
    locale = _weighted(rng, LOCALES)
    starts = _visit_starts(rng, now_ms)
    client = _client(rng, locale, (starts or [now_ms])[0])
    shopper = Shopper(
        locale.currency, intent=rng.random() * 0.6, experiment=rng.choice(("", "", "checkout:a", "checkout:b"))
    )
    is_live = not starts or rng.random() < 0.15
    at_end: list[Request] = []
    for visit_number, start_ms in enumerate([*starts, now_ms] if is_live else starts):
        events = Visit(rng, shopper, _source(rng, visit_number), start_ms).events
        if visit_number == len(starts):
            _end_at(events, now_ms, timeless=rng.random() < 0.4)
        for request in _transported(rng, client, _completed(rng, client, events, now_ms, site)):
            if request.method == "POST" and rng.random() < LATE_SHARE:
                at_end.append(request._replace(note="late"))
                continue
            yield request
            if not client.visitor or request.note == NO_ID:
                continue
            copy = request._replace(duplicates=request.events, note="sent again")
            chance = rng.random()
            if chance < SENT_AGAIN_SHARE:
                yield copy
            elif chance < SENT_AGAIN_SHARE * 1.3:
                at_end.append(copy)
    yield from at_end


def _visit_starts(rng: Random, now_ms: int) -> list[int]:
    """Return the starts of the visitor's past visits, in order, far enough apart; none for a first live visit."""
    count = rng.choices((0, 1, 2, 3, 5), (8, 47, 23, 15, 7))[0]
    midnight_ms = now_ms - now_ms % DAY_MS
    starts: list[int] = []
    for _ in range(count):
        hour = rng.choices(range(24), HOUR_WEIGHTS)[0]
        start_ms = midnight_ms - rng.randrange(6) * DAY_MS + hour * HOUR_MS + rng.randrange(HOUR_MS)
        fits = all(abs(start_ms - other) >= VISIT_APART_MS for other in starts)
        if fits and now_ms - PAST_MS < start_ms < now_ms - VISIT_APART_MS:
            starts.append(start_ms)
    return sorted(starts)


def _end_at(events: list[Event], now_ms: int, *, timeless: bool) -> None:
    """Move a visit so that its last event is now, or take its times away."""
    last = events[-1]["t"]
    assert isinstance(last, int)
    for event in events:
        time_ms = event["t"]
        assert isinstance(time_ms, int)
        event["t"] = None if timeless else time_ms - last + now_ms


def _source(rng: Random, visit_number: int) -> Source:
    weights = [source.later if visit_number else source.first for source in SOURCES]
    return rng.choices(SOURCES, weights)[0]


def _client(rng: Random, locale: Locale, first_ms: int) -> Client:
    browser = _weighted(rng, BROWSERS)
    headers = _browser_headers(browser, locale)
    consent = rng.choices(("", "1", "analytics,ads", "0"), (80, 8, 8, 4))[0]
    keeps_cookies = consent != "0" and rng.random() < 0.96
    visitor = rng.randrange(1, 1 << 64) if keeps_cookies else 0
    if visitor and rng.random() < 0.4:  # was here before: brings its cookie; the others are given theirs
        headers = (*headers, visitor_cookie(visitor, first_ms // 1000 - rng.randrange(60, 200 * 86_400)))
    return Client(
        headers,
        _address(rng, rng.choice(locale.networks)),
        visitor,
        locale.language,
        rng.choice(browser.screens),
        consent,
        skew_ms=rng.randrange(-2 * HOUR_MS, 2 * HOUR_MS) if rng.random() < 0.1 else rng.randrange(-3_000, 3_000),
        says_sent=rng.random() < 0.75,
    )


def _browser_headers(browser: Browser, locale: Locale) -> tuple[Header, ...]:
    headers = [
        (b"User-Agent", browser.user_agent.encode()),
        (b"Accept", b"*/*"),
        (b"Accept-Language", locale.accept_language.encode()),
        (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    ]
    if browser.brands:
        headers += [
            (b"Sec-CH-UA", browser.brands.encode()),
            (b"Sec-CH-UA-Mobile", b"?1" if " Mobile " in browser.user_agent else b"?0"),
            (b"Sec-CH-UA-Platform", f'"{browser.platform}"'.encode()),
        ]
    return tuple(headers)


def _completed(rng: Random, client: Client, events: list[Event], now_ms: int, site: str) -> list[Event]:
    """Return the events as the snippet sends them: with site, id, language, screen, consent and the client's times."""
    completed = []
    for event in events:
        time_ms = event["t"]
        timed = isinstance(time_ms, int)
        skew_ms = client.skew_ms if client.says_sent else 0
        completed.append(
            {
                "s": site,
                **event,
                "id": f"{rng.getrandbits(64):016x}" if rng.random() < 0.97 else None,
                "t": time_ms + skew_ms if isinstance(time_ms, int) else None,
                "sent": now_ms + skew_ms if timed and client.says_sent else None,
                "l": client.language,
                "sr": client.screen,
                "c": client.consent or None,
            }
        )
    return completed


def _transported(rng: Random, client: Client, events: list[Event]) -> Iterator[Request]:
    """Yield the events' requests in order: page views as pixels, other events as pixels or beacons of one or more.

    The note is NO_ID when an event has none.
    """
    place = 0
    while place < len(events):
        event = events[place]
        end = place + 1
        if "e" not in event or event["e"] == "PageView" or rng.random() < 0.5:
            request = _as_pixel(rng, client, event)
        else:
            while end < min(len(events), place + 4) and events[end].get("e", "PageView") != "PageView":
                end += 1
            request = _as_beacon(rng, client, events[place:end])
        has_ids = all(event["id"] for event in events[place:end])
        yield request._replace(note="" if has_ids else NO_ID)
        place = end


def _as_pixel(rng: Random, client: Client, event: Event) -> Request:
    headers = [*client.headers, (b"Referer", str(event["u"]).encode())]
    if rng.random() < 0.05:  # an <img> in a template: the page is what the Referer header says
        event = {**event, "u": None}
    return pixel(event, headers, client.address, client.visitor)


def _as_beacon(rng: Random, client: Client, events: list[Event]) -> Request:
    carried = [{key: value for key, value in event.items() if value is not None} for event in events]
    page = str(events[0]["u"])
    origin = "/".join(page.split("/")[:3])
    headers = [*client.headers, (b"Origin", origin.encode()), (b"Referer", page.encode())]
    shapes: list[Any] = [carried, {"events": carried}]
    body = carried[0] if len(carried) == 1 and rng.random() < 0.7 else rng.choice(shapes)
    content_type = rng.choice((b"text/plain;charset=UTF-8", b"application/json"))
    return beacon(body, headers, content_type, client.address, client.visitor)


def _bot_requests(rng: Random, now_ms: int, site: str) -> Iterator[Request]:
    """Yield a robot's run over the shop's pages; most keep no cookie."""
    bot = rng.choice(BOTS)
    address = _address(rng, bot.network)
    headers = [(b"User-Agent", bot.user_agent.encode()), (b"Accept", b"*/*")]
    visitor = rng.randrange(1, 1 << 64) if "Headless" in bot.user_agent else 0
    time_ms = now_ms - rng.randrange(HOUR_MS, PAST_MS)
    for _ in range(rng.randint(1, bot.pages_max)):
        time_ms += rng.randint(500, 20_000)
        product = rng.choice(PRODUCTS)
        event: Event = {"s": site, "u": f"https://{HOST}/p/{product.sku.lower()}", "t": time_ms}
        event["r"] = rng.choice(SEARCH_REFERRERS) or None
        yield pixel(event, headers, address, visitor)
        if bot.runs_scripts and rng.random() < 0.5:
            yield pixel({**event, "e": "ViewContent", "t": time_ms + 300}, headers, address, visitor)
    if rng.random() < 0.2:
        yield Request("HEAD", b"/p.gif?s=" + site.encode(), headers, client_ip=address, events=0, note="HEAD")


def _address(rng: Random, network: str) -> str:
    if ":" in network:
        return f"{network}{rng.randrange(1, 0xFFFF):x}::{rng.randrange(1, 0xFFFF):x}"
    return f"{network}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def _weighted(rng: Random, things: Sequence[Weighted]) -> Weighted:
    return rng.choices(things, [thing.weight for thing in things])[0]
