"""The pure middle: a batch of records becomes rows.

decode -> drop resent -> validate -> enrich -> drop replayed -> sessionize -> drop repeats: each step is a module, in
log order. The result depends on the records and on the state before the batch, never on a clock or on where earlier
batches ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import unquote_plus

from consumers.batch import Loaded, Prepared, RejectedRecord, SpoolCount
from consumers.decode import Name, aliases_of, decode, name_in, name_of
from consumers.deduplicate import Marks
from consumers.drop_replayed import Replays
from consumers.enrich.event import Enricher
from consumers.enrich.network import UNKNOWN_NETWORKS, Networks
from consumers.log_reader.port import Record
from consumers.rules import Rules
from consumers.session_state import SessionState, VisitorKey
from consumers.sessionize import sessionize, visitors_of
from schemas.event import Event
from schemas.hit import Hit
from schemas.limits import Limits
from schemas.rejection import Reason, Rejection
from schemas.validate import validate

NO_NAME: Final[Name] = (0, 0, 0)  # a record that is no hit has no spool; its row in `batches` has spool 0
SITE_CHARS_MAX = 64

Enrich = Callable[[Event, Hit, str], None]


def prepare(
    records: Sequence[Record], marks: Marks, rules: Rules, networks: Networks = UNKNOWN_NETWORKS
) -> list[Prepared]:
    """Decode, drop what was sent again, validate and enrich: all that needs no session. `networks` knows addresses.

    A batch's records may come in any number of runs, in their order.
    """
    return prepare_with(records, marks, rules.limits, Enricher(rules.domains, rules.enrichment, networks).enrich)


def prepare_with(records: Sequence[Record], marks: Marks, limits: Limits, enrich: Enrich) -> list[Prepared]:
    """Do as `prepare`, with a step `enrich` that writes into an event what its hit and referrer say."""
    prepared: list[Prepared] = []
    for record in records:
        hit = decode(record.value)
        item = _named(record, hit, marks)
        prepared.append(item)
        if not isinstance(hit, Rejection) and not item.resent:
            referrer = _validated(item, hit, limits)
            if item.event is not None:
                _enriched(item, item.event, hit, referrer, enrich)
    return prepared


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


def _named(record: Record, hit: Hit | Rejection, marks: Marks) -> Prepared:
    """Return a record with its name, and whether it was sent again, or why it is no hit."""
    if isinstance(hit, Rejection):
        known = name_in(record.value)
        if known and marks.resent(known[0], known[1]):
            return Prepared(record, known, resent=True)
        return Prepared(record, known or NO_NAME, rejection=hit)
    name = name_of(hit)
    if marks.resent(name[0], name[1]):
        return Prepared(record, name, resent=True)
    return Prepared(record, name, replay_of=hit.replay_of)


def _validated(item: Prepared, hit: Hit, limits: Limits) -> str:
    """Give a record its event, or say why it has none; return the referrer as given."""
    try:
        validated = validate(hit, limits)
    except Exception as error:  # noqa: BLE001  one hit that a step cannot take must not stop its partition for ever
        validated = _unprocessable(error)
    if isinstance(validated, Rejection):
        item.site, item.rejection = _site_of(hit), validated
        return ""
    event, referrer = validated
    item.site, item.event, item.aliases = event.site, event, aliases_of(hit)
    return referrer


def _enriched(item: Prepared, event: Event, hit: Hit, referrer: str, enrich: Enrich) -> None:
    """Enrich an event, or say that this cannot be done."""
    try:
        enrich(event, hit, referrer)
    except Exception as error:  # noqa: BLE001  as above
        item.site, item.event, item.rejection = _site_of(hit), None, _unprocessable(error)


def _unprocessable(error: Exception) -> Rejection:
    return Rejection(Reason.UNPROCESSABLE, f"{type(error).__name__}: {error}")


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
