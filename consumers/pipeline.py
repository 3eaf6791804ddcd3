"""The pure middle: a batch of records becomes rows.

decode -> drop resent -> validate -> enrich -> drop replayed -> sessionize -> drop repeats: each step is a module, in
log order. The result depends on the records and on the state before the batch, never on a clock or on where earlier
batches ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote_plus

import msgspec

from consumers.batch import Batch, Loaded, RejectedRecord, SpoolCount
from consumers.decode import Name, aliases_of, decode, name_in, name_of
from consumers.deduplicate import Marks
from consumers.drop_replayed import Replays
from consumers.enrich.event import Enricher, Enrichment
from consumers.enrich.network import UNKNOWN_NETWORKS, Networks
from consumers.log_reader.port import Record
from consumers.session_state import SessionState, VisitorKey
from consumers.sessionize import sessionize, visitors_of
from schemas.event import Event
from schemas.hit import Hit
from schemas.rejection import Reason, Rejection
from schemas.session import Aliases
from schemas.validate import Limits, validate

NO_NAME = Name(0, 0, 0)  # a record that is no hit has no spool; its row in `batches` has spool 0
SITE_CHARS_MAX = 64


class Rules(msgspec.Struct, frozen=True):
    """What the steps depend on besides state: validation's limits, each site's own domains, what enrichment goes by."""

    limits: Limits
    domains: Mapping[str, Sequence[str]]
    enrichment: Enrichment = Enrichment()


class Prepared(msgspec.Struct, gc=False):
    """One record on its way: its event, or why it has none. `replay_of` is the hit that it replays, "": none.

    `aliases` are a cookieless visitor's ids of the days around.
    """

    record: Record
    name: Name
    site: str = ""
    event: Event | None = None
    rejection: Rejection | None = None
    resent: bool = False
    replay_of: str = ""
    aliases: Aliases | None = None


def prepare(batch: Batch, marks: Marks, rules: Rules, networks: Networks = UNKNOWN_NETWORKS) -> list[Prepared]:
    """Decode, drop what was sent again, validate and enrich: all that needs no session. `networks` knows addresses."""
    enricher = Enricher(rules.domains, rules.enrichment, networks)
    return [_prepare(record, marks, rules.limits, enricher) for record in batch.records]


def lookups(prepared: Sequence[Prepared], state: SessionState) -> set[VisitorKey]:
    """Return the visitors whose earlier sessions must be read before the batch can be sessionized."""
    wanted: set[VisitorKey] = set()
    for item in prepared:
        event = item.event
        if event is not None and event.visitor_id != 0 and state.needs_lookup(event.site, event.ts):
            wanted.update((event.site, visitor) for visitor in visitors_of(event, item.aliases))
    return wanted


def replayed_names(prepared: Sequence[Prepared]) -> set[str]:
    """Return the names of hits that the batch replays: of these `finish` must know which have rows."""
    return {item.replay_of for item in prepared if item.replay_of}


def finish(prepared: Sequence[Prepared], state: SessionState, replayed: Iterable[str] = ()) -> Loaded:
    """Drop replays of what has a row, give each event its session, drop repeats and count. Changes `state`.

    `replayed` are those of `replayed_names` that have a row from before the batch.
    """
    replays = Replays(replayed_names(prepared), replayed)
    events: list[tuple[int, Event]] = []
    rejected: list[RejectedRecord] = []
    counts: dict[int, SpoolCount] = {}
    for item in prepared:
        count = _count(counts, item)
        event = item.event
        if item.resent:
            count.resent += 1
        elif replays.drops(item.replay_of):
            count.filtered += 1
        elif event is None:
            count.rejected += 1
            rejected.append(_rejected(item))
        elif sessionize(event, item.record.offset, state, item.aliases):
            count.inserted += 1
            events.append((item.record.offset, event))
            replays.note(event)
        else:
            count.duplicate += 1
    if prepared:
        state.evict(max((event.received_at for _, event in events), default=0))
    return Loaded(events, rejected, list(counts.values()))


def _prepare(record: Record, marks: Marks, limits: Limits, enricher: Enricher) -> Prepared:
    hit = decode(record.value)
    if isinstance(hit, Rejection):
        known = name_in(record.value)
        if known and marks.resent(known.spool_id, known.spool_seq):
            return Prepared(record, known, resent=True)
        return Prepared(record, known or NO_NAME, rejection=hit)
    name = name_of(hit)
    if marks.resent(name.spool_id, name.spool_seq):
        return Prepared(record, name, resent=True)
    event = _event(hit, limits, enricher)
    if isinstance(event, Rejection):
        return Prepared(record, name, _site_of(hit), rejection=event, replay_of=hit.replay_of)
    return Prepared(record, name, event.site, event, replay_of=hit.replay_of, aliases=aliases_of(hit))


def _event(hit: Hit, limits: Limits, enricher: Enricher) -> Event | Rejection:
    try:
        validated = validate(hit, limits)
        if isinstance(validated, Rejection):
            return validated
        event, referrer = validated
        enricher.enrich(event, hit, referrer)
    except Exception as error:  # noqa: BLE001  one hit that a step cannot take must not stop its partition for ever
        return Rejection(Reason.UNPROCESSABLE, f"{type(error).__name__}: {error}")
    return event


def _site_of(hit: Hit) -> str:
    """Return what a rejected hit says its site is, cut, whether it is one or not."""
    if hit.event is None:
        said = (pair[2:] for pair in hit.query.split("&") if pair.startswith("s="))
        return unquote_plus(next(said, ""))[:SITE_CHARS_MAX]
    site = hit.event.get("s")
    return site[:SITE_CHARS_MAX] if isinstance(site, str) else ""


def _count(counts: dict[int, SpoolCount], item: Prepared) -> SpoolCount:
    spool_id, seq, received_at = item.name
    count = counts.get(spool_id)
    if count is None:
        count = counts[spool_id] = SpoolCount(spool_id, seq, seq, received_at)
    if seq > count.seq_max:  # the rule within a spool; calls of min and max would cost more than all else here
        count.seq_max = seq
    elif seq < count.seq_min:
        count.seq_min = seq
    if received_at > count.received_at:  # noqa: PLR1730  as above
        count.received_at = received_at
    return count


def _rejected(item: Prepared) -> RejectedRecord:
    if item.rejection is None:
        raise AssertionError("a record without an event has a rejection")
    spool_id, seq, received_at = item.name
    return RejectedRecord(item.record, item.rejection, received_at, item.site, spool_id, seq)
