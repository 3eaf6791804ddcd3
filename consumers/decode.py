"""Step 1: a record's bytes become a Hit, or a rejection. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.consent import DENIED, Verdict
from schemas.hit import HEX_ID, HIT_VERSION, SOURCES, Hit, parsed_name
from schemas.rejection import Reason, Rejection
from schemas.session import Aliases
from schemas.spool_id import spool_number

RECEIVED_MS_MIN: Final = 946_684_800_000  # 2000-01-01: before it no collector ran
RECEIVED_MS_MAX: Final = 4_102_444_800_000  # 2100-01-01: behind it a clock is broken, and DateTime64 text gets odd
UINT64: Final = 1 << 64
GRANTED: Final = frozenset(verdict.value for verdict in Verdict if verdict not in DENIED) | {""}

NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

is_hex_id: Final = HEX_ID.fullmatch
_decoder: Final = msgspec.json.Decoder(Hit)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


# A hit's name, and when it came, 0: not known. Enough to count it and to know it again.
Name = tuple[int, int, int]
NAME_FIELDS: Final = ("spool_id", "spool_seq", "received_at")


def decode(value: bytes) -> Hit | Rejection:
    """Return the hit in a record's value. A field this release does not know is ignored; a version is not."""
    try:
        hit = _decoder.decode(value)
    except msgspec.ValidationError as error:
        return _rejected_shape(value, str(error))
    except NO_JSON as error:
        return Rejection(Reason.BAD_JSON, str(error))
    if hit.v != HIT_VERSION:
        return Rejection(Reason.BAD_VERSION, f"hit format {hit.v}; this worker reads {HIT_VERSION}")
    wrong = _wrong_field(hit)
    return Rejection(Reason.BAD_HIT, wrong) if wrong else hit


def name_of(hit: Hit) -> Name:
    """Return a hit's name."""
    return spool_number(hit.spool_id), hit.spool_seq, hit.received_at


def aliases_of(hit: Hit) -> Aliases | None:
    """Return a cookieless visitor's ids under the other days' salts; None where the hit names none."""
    if not (hit.visitor_before or hit.visitor_after):
        return None
    return Aliases(int(hit.visitor_before or "0", 16), int(hit.visitor_after or "0", 16))


def name_in(value: bytes) -> Name | None:
    """Return the name of a hit that this release cannot read, where the record has one.

    So what a newer collector wrote is counted for its spool, and once, however often it is forwarded.
    """
    try:
        fields = _fields.decode(value)
    except NO_JSON:
        return None
    spool_id, spool_seq, received_at = [_plain(fields, name) for name in NAME_FIELDS]
    if not isinstance(spool_id, str) or not is_hex_id(spool_id):
        return None
    if not _is_int(spool_seq) or not 0 <= spool_seq < UINT64:
        return None
    known = _is_int(received_at) and RECEIVED_MS_MIN <= received_at < RECEIVED_MS_MAX
    return int(spool_id, 16), spool_seq, received_at if known else 0


def _plain(fields: dict[str, msgspec.Raw], name: str) -> Any:  # noqa: ANN401  whatever stands there
    try:
        return msgspec.json.decode(fields[name])
    except (KeyError, *NO_JSON):
        return None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_field(hit: Hit) -> str:
    """Return what is wrong with a field's value, or ""."""
    if (
        spool_number(hit.spool_id) < 0
        or not is_hex_id(hit.visitor_id)
        or (hit.key != hit.visitor_id and not is_hex_id(hit.key))
        or (hit.visitor_before and not is_hex_id(hit.visitor_before))
        or (hit.visitor_after and not is_hex_id(hit.visitor_after))
    ):
        return "key, spool_id and visitors' ids are 16 lower-case hex digits"
    if not 0 <= hit.spool_seq < UINT64:
        return f"spool_seq {hit.spool_seq} is no unsigned 64-bit number"
    if not RECEIVED_MS_MIN <= hit.received_at < RECEIVED_MS_MAX:
        return f"received_at {hit.received_at} is not in ms since 1970"
    if hit.source not in SOURCES:
        return f"source {hit.source!r} is none of {', '.join(SOURCES)}"
    if hit.replay_of and parsed_name(hit.replay_of) is None:
        return f"replay_of {hit.replay_of[:80]!r} is no hit's name"
    return "" if hit.consent in GRANTED else _wrong_consent(hit)


def _wrong_consent(hit: Hit) -> str:
    if hit.consent not in DENIED:
        return f"consent {hit.consent[:80]!r} is no verdict that this release knows"
    if hit.event is None or int(hit.visitor_id, 16):
        return f"a hit with the verdict {hit.consent} has an event and no visitor"
    return ""


def _rejected_shape(value: bytes, detail: str) -> Rejection:
    """Tell a newer format from a wrong one: a version we do not know explains a shape we do not know."""
    try:
        shape = msgspec.json.decode(value)
    except NO_JSON:
        return Rejection(Reason.BAD_JSON, detail)
    version = shape.get("v") if isinstance(shape, dict) else None
    if _is_int(version) and version != HIT_VERSION:
        return Rejection(Reason.BAD_VERSION, f"hit format {version}; this worker reads {HIT_VERSION}")
    return Rejection(Reason.BAD_HIT, detail)
