"""The body of a POST of events: one event, an array of events, or `{"events": [...]}`, as JSON. Pure.

Promise: what comes out is a list of JSON objects, each within the limits, or the closed reason why not. Whether an
event means anything is the worker's business. Numbers and texts are as orjson reads them: NaN, Infinity, lone
surrogates and what is not UTF-8 are no JSON; of a repeated key the last counts.
"""

from __future__ import annotations

from typing import Any

import orjson

from ingest.counters import Refusal
from ingest.http_strict import RefusedError

MEDIA_TYPES = (b"application/json", b"text/plain")


def has_json_type(content_type: bytes | None) -> bool:
    """Whether a body may be events by its Content-Type. A missing one is fine."""
    return content_type is None or content_type.partition(b";")[0].strip().lower() in MEDIA_TYPES


def parse_events(body: bytes, content_type: bytes | None, events_max: int, depth_max: int) -> list[dict[str, Any]]:
    """Return the events of a body; [] for an empty array. Raises RefusedError."""
    events = parse_items(body, content_type, events_max, depth_max)
    if not all(isinstance(event, dict) for event in events):
        raise RefusedError(Refusal.BAD_BODY)
    return events


def parse_items(body: bytes, content_type: bytes | None, items_max: int, depth_max: int) -> list[Any]:
    """Return what a body lists, of whatever type, as `parse_events` does. Raises RefusedError."""
    if not has_json_type(content_type):
        raise RefusedError(Refusal.BAD_CONTENT_TYPE)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(Refusal.BAD_BODY) from error
    opened = body.count(b"[") + body.count(b"{")
    whole = value
    if isinstance(value, dict) and "events" in value:
        value = value["events"]
        if not isinstance(value, list):
            raise RefusedError(Refusal.BAD_BODY)
    items = value if isinstance(value, list) else [value]
    beside = sum(isinstance(item, dict) for item in items) - 1  # all but one lie beside the deepest of them
    if opened - beside > depth_max and depth(whole, depth_max) > depth_max:
        raise RefusedError(Refusal.BAD_BODY)
    if len(items) > items_max:
        raise RefusedError(Refusal.TOO_MANY_EVENTS)
    return items


def depth(value: object, depth_max: int) -> int:
    """Return how deeply objects and arrays nest in a JSON value, counting no further than `depth_max` + 1."""
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    found = 0
    while level and found <= depth_max:
        found += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return found
