"""The few parameters that the verdict and a denied hit depend on, read as the worker reads them. Pure.

Promise: no input raises. Names and values are those of `schemas.parameters`, of a repeated parameter the first that is
not empty counts, and escapes in a name hide nothing. Where the worker would reject the hit for a value, UNREADABLE
stands for it here: it is no site, no event name, no number, no URL, and no yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from schemas.parameters import RejectError, percent_decoded

NAMES = frozenset(("s", "e", "u", "r", "c", "v", "cur", "t", "sent"))
UNREADABLE = "?"

Given = dict[str, Any]  # of a query text, of JSON what stood there; empty ones are left out

# A query that names `c` holds one of these; most that hold one name it.
CHOICE: Final = b"c="
CHOICE_ESCAPED: Final = b"%63="


def given_in_query(query: bytes) -> Given:
    """Return what a query says, given as the inside of its JSON string (as hits hold it)."""
    found: Given = {}
    for pair in orjson.loads(b'"%b"' % query).split("&"):
        name, _, value = pair.partition("=")
        name = _decoded(name)
        if name not in NAMES or name in found:
            continue
        value = _decoded(value)
        if value:
            found[name] = value
    return found


def given_in_event(event: Mapping[str, Any]) -> Given:
    """Return what a JSON event says."""
    return {name: value for name, value in event.items() if name in NAMES and value is not None and value != ""}


def _decoded(text: str) -> str:
    if "%" in text or "+" in text:
        try:
            text = percent_decoded(text, "")
        except RejectError:
            return UNREADABLE
    return UNREADABLE if "\0" in text else text
