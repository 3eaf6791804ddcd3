"""A hit's parameters as text, whether they came in a query string or as JSON. Pure.

The same names mean the same in both (CONTRACT). Of a repeated parameter the first counts. Names that hitstream does not
know are dropped here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

import orjson

from schemas.hit import Hit
from schemas.rejection import Reason, Rejection

TEXT: Final = frozenset(("s", "e", "u", "r", "id", "ti", "l", "sr", "cur", "oid", "uid", "c", "ab"))
TIMES: Final = frozenset(("t", "sent"))
NUMBERS: Final = TIMES | {"v"}
IDS: Final = frozenset(("id", "oid", "uid"))  # a JSON client may send these as whole numbers
NO_TEXT: Final = NUMBERS | {"items"}
KNOWN: Final = TEXT | NO_TEXT
PROPERTY: Final = "p."
DIGITS_SAFE: Final = 20  # so short a row of digits is a number in range
DECODED_CACHED_MAX = 16_384
DECODED_CHARS_MAX: Final = 512  # longer values hardly repeat; so the cache stays below 32 MiB of text
USUAL_LIMIT: Final = 10**15  # JSON numbers nearer to 0, as times in ms and most amounts are, need no look at their size
BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class RejectError(Exception):
    """A parameter is wrong; `rejection` says which and how. Raised and caught within the validate step only."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


def parameters(hit: Hit, chars_max: int) -> dict[str, Any]:
    """Return the hit's known parameters. Raises RejectError.

    Text, of at most `chars_max` characters; `items` as parsed JSON; `t` and `sent` in whole ms; `v` as Decimal.
    """
    return from_query(hit.query, chars_max) if hit.event is None else from_json(hit.event, chars_max)


def from_query(query: str, chars_max: int = sys.maxsize) -> dict[str, Any]:
    """Return the parameters of a raw query string (application/x-www-form-urlencoded). Raises RejectError."""
    found: dict[str, Any] = {}
    has_plus = "+" in query
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name not in KNOWN:
            name = _decoded_name(name)
        if not name or name in found:
            continue
        if "%" in value or (has_plus and "+" in value):
            value = _decoded(value, name)
        if "\0" in value:
            raise RejectError(Reason.BAD_ENCODING, f"{name} holds a NUL")
        if not value:
            continue
        if name in NO_TEXT:
            found[name] = _parsed(name, value)
        elif len(value) > chars_max:
            raise _too_long(name, value, chars_max)
        else:
            found[name] = value
    return found


def _parsed(name: str, value: str) -> object:
    if name in TIMES:
        return time_ms(name, value)
    return number(name, value) if name in NUMBERS else _items_json(value)


def _decoded(value: str, name: str) -> str:
    """Return a value with `+` and %XX decoded, as `percent_decoded`: pages, referrers and titles repeat."""
    if len(value) > DECODED_CHARS_MAX:
        return percent_decoded(value, name)
    decoded = decoded_cached(value)
    return percent_decoded(value, name) if decoded is None else decoded


@lru_cache(DECODED_CACHED_MAX)
def decoded_cached(text: str) -> str | None:
    """Return a text with `+` and %XX decoded, None where that cannot be (the cache behind pixels' values)."""
    try:
        return percent_decoded(text, "")
    except RejectError:
        return None


def _decoded_name(name: str) -> str:
    """Return the parameter that a name, maybe encoded, means; "" for one that hitstream does not know."""
    if "%" in name or "+" in name:
        name = percent_decoded(name, "a parameter's name")
    return name if name in KNOWN or name.startswith(PROPERTY) else ""


def from_json(event: Mapping[str, Any], chars_max: int = sys.maxsize) -> dict[str, Any]:
    """Return the parameters of a JSON event. Raises RejectError."""
    found: dict[str, Any] = {}
    for name, value in event.items():
        if value is None or value == "":
            continue
        if name in TEXT or name.startswith(PROPERTY):
            text = value if isinstance(value, str) and "\0" not in value else _text(name, value)
            if len(text) > chars_max:
                raise _too_long(name, text, chars_max)
            found[name] = text
        elif name in TIMES:
            found[name] = time_ms(name, value)
        elif name in NUMBERS:
            found[name] = number(name, value)
        elif name == "items":
            found[name] = _items_json(value) if isinstance(value, str) else value
    return found


def percent_decoded(text: str, name: str) -> str:
    """Return text with `+` and %XX decoded as UTF-8. Raises RejectError where it is neither."""
    # As Python writes escapes, C decodes them all at once: each byte comes out as the character of its number.
    escaped = text.replace("+", " ").replace("\\", "%5C").replace("%", "\\x")
    try:
        return escaped.encode().decode("unicode_escape").encode("latin-1").decode()
    except UnicodeDecodeError:
        broken = BROKEN_PERCENT.search(text)
        wrong = "has a % without two hex digits" if broken else "is not UTF-8"
        raise RejectError(Reason.BAD_ENCODING, f"{name} {wrong}") from None


def time_ms(name: str, value: object) -> int:
    """Return a time as whole ms, what is behind the point cut off. Raises RejectError."""
    if type(value) is str and len(value) < DIGITS_SAFE and value.isdigit() and value.isascii():
        return int(value)
    return int(number(name, value))


def number(name: str, value: object) -> Decimal:
    """Return an exact number; a JSON float counts as the shortest text that gives it. Raises RejectError."""
    if type(value) is int and -USUAL_LIMIT < value < USUAL_LIMIT:
        return Decimal(value)
    if type(value) is float and 1 <= value < USUAL_LIMIT:
        return Decimal(repr(value))
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise RejectError(Reason.BAD_TYPE, f"{name} is {_json_type(value)}, not a number")
    text = value.strip() if isinstance(value, str) else repr(value)
    reason = Reason.BAD_VALUE if name in {"v", "price"} else Reason.BAD_TIME
    if len(text) > 40:  # no amount and no time is that long
        raise RejectError(reason, f"{name} has {len(text)} characters")
    try:
        result = Decimal(text)
    except InvalidOperation:
        raise RejectError(reason, f"{name}={text!r} is no number") from None
    if not result.is_finite() or abs(result.adjusted()) > 40:
        raise RejectError(reason, f"{name}={text!r} is out of range")
    return result


def _too_long(name: str, text: str, chars_max: int) -> RejectError:
    return RejectError(Reason.TOO_LONG, f"{name[:80]} has {len(text)} characters, more than {chars_max}")


def _text(name: str, value: object) -> str:
    """Return the text of what is none, or say what is wrong with it. Raises RejectError."""
    if isinstance(value, str):
        raise RejectError(Reason.BAD_ENCODING, f"{name} holds a NUL")
    if name in IDS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if name.startswith(PROPERTY) and isinstance(value, (int, float)):
        return orjson.dumps(value).decode() if isinstance(value, (bool, float)) else str(value)
    if name == "c" and isinstance(value, int) and value in {0, 1}:
        return str(int(value))
    raise RejectError(Reason.BAD_TYPE, f"{name} is {_json_type(value)}, not text")


def _items_json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RejectError(Reason.BAD_ITEMS, f"items is no JSON: {error}") from None


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
