"""Two releases of the hit format side by side, as docs/kafka.md promises: added fields need no order of upgrades."""

import msgspec
from support.simulated_hits import hit

from consumers.decode import decode, name_in
from schemas.hit import HIT_VERSION, Hit
from schemas.rejection import Reason

FIELDS_SINCE_VERSION_1 = {"key", "v", "spool_id", "spool_seq", "received_at", "source", "visitor_id"}


class NewerHit(Hit, frozen=True, gc=False):
    """What a next release might send: the same version, and a field more."""

    screen: str = ""


def test_an_older_worker_meets_a_newer_hit():
    newer = msgspec.json.decode(hit(3), type=NewerHit)
    value = msgspec.json.encode(msgspec.structs.replace(newer, screen="10x20"))
    assert b"screen" in value
    assert decode(value) == decode(hit(3))


def test_a_newer_worker_meets_an_older_hit():
    newer = msgspec.json.decode(hit(3), type=NewerHit)
    assert newer.screen == ""
    assert newer.spool_seq == 3


def test_a_field_that_is_added_has_a_default():
    required = {field.name for field in msgspec.structs.fields(Hit) if field.required}
    assert required == FIELDS_SINCE_VERSION_1, "a new field without a default breaks older collectors' hits"


def test_a_new_version_is_kept_as_rejected_and_counted_for_its_spool():
    value = hit(3, v=HIT_VERSION + 1, source="hologram")
    assert decode(value).reason == Reason.BAD_VERSION
    assert name_in(value)[1] == 3
