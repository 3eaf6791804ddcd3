"""What is kept of an event without consent: site, event, value, currency, times, the page's path, the referrer's host.

Promise: nothing else passes, and nothing passes under these names that is not what the name says. A value that the
worker would reject the hit for becomes UNREADABLE: the hit is rejected all the same, without its bytes. Amounts and
times are written anew, so that they hold a number and nothing more. Pure.

Of the page only the path is kept, so whether the referrer is the page's own site is decided here, by the two hosts: the
same one, or one below the other, a leading `www.` aside. What the site's `domains` say beyond that, the worker knows;
but whether the page is on them can be told only here, and a page that is not leaves no byte either.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from ingest.given import UNREADABLE, Given
from schemas.host import is_on
from schemas.page import android_package, split_page
from schemas.parameters import RejectError, number
from schemas.validate import EMAIL_OPEN, EVENT_NAME, SITE, currency, money

KEPT = ("s", "e", "v", "cur", "t", "sent", "u", "r")  # members of a denied hit's event
MS_MAX = 10**15  # beyond it goes no clock; the worker finds the time too old or ahead all the same


def denied_event(given: Given, referer: bytes, domains: tuple[str, ...] = ()) -> bytes:
    """Return the JSON of a denied hit's event. `referer` is the Referer field as the inside of a JSON string.

    `domains` are the site's; an email is opened on the reader's own pages, so there the field is not held to them.
    """
    url = given["u"] if "u" in given else orjson.loads(b'"%b"' % referer)
    page = split_page(url) if isinstance(url, str) else None
    kept = {name: _checked(given[name], check) for name, check in _CHECKS.items() if name in given}
    _cut_times(kept)
    if page is None:
        is_wrong = "u" in given
    else:
        is_held = "u" in given or given.get("e") != EMAIL_OPEN
        is_wrong = is_held and bool(domains) and not is_on(page.host, domains)
    if is_wrong:
        kept["u"] = UNREADABLE
    elif page is not None:
        kept["u"] = page.path
    referrer = given.get("r")
    host = _referrer_host(referrer, page.host if page else "") if isinstance(referrer, str) else ""
    if host:
        kept["r"] = host
    return orjson.dumps(kept)


def _checked(value: object, check: Callable[[object], str | int | None]) -> str | int:
    try:
        checked = check(value)
    except RejectError:
        return UNREADABLE
    return UNREADABLE if checked is None else checked


def _site(value: object) -> str | None:
    return value if isinstance(value, str) and SITE.fullmatch(value) else None


def _event_name(value: object) -> str | None:
    return value if isinstance(value, str) and EVENT_NAME.fullmatch(value) else None


def _amount(value: object) -> str:
    return f"{money('v', number('v', value)).normalize():f}"


def _currency(value: object) -> str | None:
    return currency(value) if isinstance(value, str) else None


def _time(value: object) -> int:
    return int(number("t", value))


def _cut_times(kept: dict[str, str | int]) -> None:
    """Cut `t` and `sent` to what a clock can say. With both of them the worker asks for their difference alone."""
    t, sent = kept.get("t"), kept.get("sent")
    if isinstance(sent, int):
        kept["sent"] = _cut(sent, 0)
    if isinstance(t, int):
        kept["t"] = _cut(sent, 0) + _cut(t - sent, -MS_MAX) if isinstance(sent, int) else _cut(t, 0)


def _cut(ms: int, least: int) -> int:
    return max(least, min(ms, MS_MAX))


_CHECKS: dict[str, Callable[[object], str | int | None]] = {
    "s": _site,
    "e": _event_name,
    "v": _amount,
    "cur": _currency,
    "t": _time,
    "sent": _time,
}


def _referrer_host(referrer: str, page_host: str) -> str:
    """Return the host of a referrer, or the package of an Android app; "" when it is none, or the page's own site."""
    page = split_page(referrer)
    if page is None:
        return android_package(referrer)
    ours, theirs = page_host.removeprefix("www."), page.host.removeprefix("www.")
    if ours == theirs or ours.endswith("." + theirs) or theirs.endswith("." + ours):
        return ""
    return page.host
