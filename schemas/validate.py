"""The worker's step 3: a hit's parameters become an Event, or a rejection with a closed reason. Pure.

The rules are CONTRACT's. They stand here because the collector judges server events by them too: one implementation,
so that what it accepts is what the worker takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Final

from schemas.consent import DENIED
from schemas.currency import CURRENCIES
from schemas.event import ZERO, Event, Item
from schemas.hit import Hit
from schemas.host import is_on
from schemas.language import language
from schemas.limits import Limits
from schemas.page import Page, page_host, split_page
from schemas.parameters import PROPERTY, RejectError, from_json, number, parameters
from schemas.rejection import Reason, Rejection
from schemas.screen import NO_SCREEN, screen
from schemas.site import SITE_ID_PATTERN
from schemas.spool_id import spool_number

SITE: Final = re.compile(SITE_ID_PATTERN)
EVENT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
PAGE_VIEW: Final = "PageView"
EMAIL_OPEN: Final = "EmailOpen"
CENT_OF_CENT: Final = Decimal("0.0001")
VALUE_LIMIT: Final = Decimal(10) ** 14  # Decimal(18, 4)
QTY_MAX: Final = (1 << 32) - 1
PROPERTY_NAME_CHARS_MAX: Final = 64
AMOUNTS_CACHED_MAX = 4_096  # prices repeat
NAME_CHARS_MAX: Final = len(PROPERTY) + PROPERTY_NAME_CHARS_MAX
CACHED_PRICES: Final = frozenset((int, float))  # they hash fast, and are short
NO_PAGE: Final = Page("", "", "")
_exact = Context(prec=40, rounding=ROUND_HALF_EVEN)


def validate(hit: Hit, limits: Limits) -> tuple[Event, str] | Rejection:
    """Return the event of a hit and its referrer as given, or why there is none.

    A denied hit has the page's path as `u` and the referrer's host as `r`.
    """
    try:
        return _event(hit, limits)
    except RejectError as error:
        return error.rejection


def objection(event: Mapping[str, Any], limits: Limits) -> Rejection | None:
    """Return why a JSON event without a referer would be rejected, None when it passes.

    As `validate` says it, for less: no event is made.
    """
    try:
        found = from_json(event, limits.field_chars_max)
        url = found.get("u", "")
        host = page_host(url) if url else ""
        if url and not host:
            raise _no_url(url)
        _checked(found, host, limits)
    except RejectError as error:
        return error.rejection
    return None


def _checked(found: dict[str, Any], host: str, limits: Limits) -> tuple[str, str, tuple[Item, ...], list[str]]:
    """Return event name, site, items and the properties' parameters, of a page on `host`. Raises RejectError.

    All else that is known passes as it is, or is left out; amount and currency are asked of `money` and `currency`.
    """
    name = PAGE_VIEW
    if "e" in found and not EVENT_NAME.fullmatch(name := found["e"]):
        raise RejectError(Reason.BAD_EVENT_NAME, f"e={name[:80]!r} is no event name")
    site = found.get("s", "")
    if limits.sites is None or site not in limits.sites:
        _check_site(site, limits)
    if "u" in found or name != EMAIL_OPEN:  # an email is opened on the reader's own pages
        domains = limits.domains.get(site)
        if domains and host and host not in domains and not is_on(host, domains):
            raise RejectError(Reason.WRONG_DOMAIN, f"the page is on {host[:200]!r}, no domain of site {site!r}")
    if "v" in found:
        money("v", found["v"])
    if "cur" in found:
        currency(found["cur"])
    items = _items(found["items"], limits) if "items" in found else ()
    named = [parameter for parameter in found if parameter.startswith(PROPERTY)]
    if named:
        _check_properties(named, limits)
    return name, site, items, named


def _event(hit: Hit, limits: Limits) -> tuple[Event, str]:
    found = parameters(hit, limits.field_chars_max)
    denied = hit.consent in DENIED
    page = _path_alone(found.get("u", "")) if denied else _page(found.get("u", ""), hit.referer)
    name, site, items, named = _checked(found, page.host, limits)
    event = Event()
    event.site, event.event_name = site, name
    event.visitor_id = int(hit.visitor_id, 16)
    event.ts, event.ts_source = event_time(hit.received_at, found.get("t"), found.get("sent"), limits)
    event.received_at = hit.received_at
    event.source = "email" if name == EMAIL_OPEN and hit.source == "pixel" else hit.source
    event.spool_id, event.spool_seq = spool_number(hit.spool_id), hit.spool_seq
    event.event_id = found.get("id", "")
    event.url_host, event.url_path, event.url_query = page.host, page.path, page.query
    event.title = found.get("ti", "")
    event.items = items
    if named:
        event.props = {parameter[len(PROPERTY) :]: found[parameter] for parameter in named}
    event.consent = hit.consent
    event.lang = language(found.get("l", ""), hit.accept_language)
    event.ip, event.replay_of = hit.ip, hit.replay_of
    _add_rare(event, found)
    if "sr" in found:
        event.screen_w, event.screen_h = screen(found["sr"]) or NO_SCREEN
    referrer = found.get("r", "")
    return event, f"https://{referrer}/" if denied and referrer else referrer


def _add_rare(event: Event, found: dict[str, Any]) -> None:
    """Write in what most events have not."""
    if "uid" in found:
        event.user_id = found["uid"]
    if "v" in found:
        event.value = money("v", found["v"])
    if "cur" in found:
        event.currency = currency(found["cur"])
    if "oid" in found:
        event.order_id = found["oid"]
    if "ab" in found:
        event.ab = found["ab"]


def event_time(received_at: int, t: int | None, sent: int | None, limits: Limits) -> tuple[int, str]:
    """Return (`ts`, `ts_source`): `t` shifted by `received_at - sent`; too old or too far ahead: `received_at`."""
    if t is None:
        return received_at, "received"
    ts, source = t, "client"
    if sent is not None:
        ts, source = ts + received_at - sent, "shifted"
    if received_at - ts > limits.event_age_ms_max:
        return received_at, "too_old"
    if ts - received_at > limits.event_ahead_ms_max:
        return received_at, "ahead"
    return ts, source


def _check_site(site: str, limits: Limits) -> None:
    if not SITE.fullmatch(site):
        raise RejectError(Reason.BAD_SITE, f"s={site[:80]!r} is no site id" if site else "s is missing")
    if limits.sites is not None:
        raise RejectError(Reason.UNKNOWN_SITE, f"site {site!r} is not defined")


def _page(url: str, referer: str) -> Page:
    """Return the page's parts. A wrong `u` is the site's mistake and rejected; a wrong Referer is not the site's."""
    if url:
        page = split_page(url)
        if page is None:
            raise _no_url(url)
        return page
    return (split_page(referer) if referer else None) or NO_PAGE


def _no_url(url: str) -> RejectError:
    return RejectError(Reason.BAD_URL, f"u={url[:200]!r} is no http(s) URL")


def _path_alone(path: str) -> Page:
    if path and not path.startswith("/"):
        raise RejectError(Reason.BAD_URL, f"u={path[:200]!r} is no path: the page's URL was no http(s) URL")
    return Page("", path, "")


def currency(code: str) -> str:
    """Return a currency's ISO 4217 code in upper case, "" for none. Raises RejectError."""
    if not code:
        return ""
    upper = code.upper()
    if upper not in CURRENCIES:
        raise RejectError(Reason.BAD_CURRENCY, f"cur={code[:20]!r} is no ISO 4217 code")
    return upper


@lru_cache(AMOUNTS_CACHED_MAX)
def money(name: str, value: Decimal | None) -> Decimal:
    """Return an amount in steps of 0.0001, rounded half to even. Raises RejectError."""
    if value is None:
        return ZERO
    if value < ZERO:
        raise RejectError(Reason.BAD_VALUE, f"{name}={value} is negative")
    rounded = value.quantize(CENT_OF_CENT, context=_exact) if value < VALUE_LIMIT else value
    if rounded >= VALUE_LIMIT:
        raise RejectError(Reason.BAD_VALUE, f"{name}={value} does not fit Decimal(18, 4)")
    return rounded


def _items(value: object, limits: Limits) -> tuple[Item, ...]:
    if not isinstance(value, list):
        raise RejectError(Reason.BAD_ITEMS, "items is no list")
    if len(value) > limits.items_max:
        raise RejectError(Reason.TOO_MANY_ITEMS, f"{len(value)} items, more than {limits.items_max}")
    return tuple(_item(item, limits) for item in value)


def _item(item: object, limits: Limits) -> Item:
    if not isinstance(item, dict):
        raise RejectError(Reason.BAD_ITEMS, "an item is no object")
    texts = [_item_text(item, name, limits) for name in ("sku", "name", "category")]
    price = item.get("price")
    amount = price_cached(price) if type(price) in CACHED_PRICES else _price(price)
    qty = item.get("qty", 1)
    if isinstance(qty, str) and qty.isascii() and qty.isdigit() and len(qty) <= 10:
        qty = int(qty)
    if isinstance(qty, float) and qty.is_integer():
        qty = int(qty)
    if isinstance(qty, bool) or not isinstance(qty, int) or not 0 <= qty <= QTY_MAX:
        raise RejectError(Reason.BAD_ITEMS, f"qty={qty!r} is no count")
    return Item(texts[0], texts[1], texts[2], amount, qty)


def _price(price: object) -> Decimal:
    return money("price", None if price is None or price == "" else number("price", price))


price_cached: Final = lru_cache(AMOUNTS_CACHED_MAX, typed=True)(_price)


def _item_text(item: dict[str, Any], name: str, limits: Limits) -> str:
    value = item.get(name)
    if value is None:
        return ""
    if isinstance(value, str) and len(value) <= limits.field_chars_max and "\0" not in value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or "\0" in value:
        raise RejectError(Reason.BAD_ITEMS, f"an item's {name} is no text")
    if len(value) > limits.field_chars_max:
        raise RejectError(Reason.TOO_LONG, f"an item's {name} has {len(value)} characters")
    return value


def _check_properties(named: list[str], limits: Limits) -> None:
    """Raise RejectError where parameters that are properties are too many, or one's name too long."""
    if len(named) > limits.properties_max:
        raise RejectError(Reason.TOO_MANY_PROPERTIES, f"{len(named)} properties, more than {limits.properties_max}")
    for name in named:
        if not len(PROPERTY) < len(name) <= NAME_CHARS_MAX:
            raise RejectError(Reason.TOO_LONG, f"a property's name has {len(name) - len(PROPERTY)} characters")
