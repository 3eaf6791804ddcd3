"""The protocol with one guard taken out: what FACTS lists as having broken it, each as a patch of the product's code.

Every mutant takes a pytest MonkeyPatch. `GUARDS` is the table; the simulation must find each of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import count

import msgspec
import pytest
from support.guard_search import Guard
from support.simulated_clickhouse import Table
from support.simulated_edge import SimulatedCollector, SimulatedForwarder
from support.simulated_log import SimulatedLog, SimulatedWriter
from support.simulated_traffic import Rejected

from consumers import clickhouse_store, session_state, sessionize, worker
from consumers.batch import Loaded, Prepared
from consumers.clickhouse_store import ClickHouseStore
from consumers.log_reader.port import Registered
from consumers.pipeline import finish
from consumers.session_state import SessionState
from consumers.store import Place, Resume, SessionRow
from infra.journal.reader import Chunk, JournalReader
from ingest import forwarder
from schemas.hit import KEY_END, KEY_START
from schemas.session import Session
from schemas.session_membership import event_key, find


def free_boundaries(patch: pytest.MonkeyPatch) -> None:
    """A successor takes what is there now instead of the registered batch."""

    def registered(log: SimulatedLog, partition: int) -> Registered | None:
        found = log.committed.get(partition)
        if found:
            found = log.committed[partition] = found._replace(last=log.end(partition) - 1)
        return found

    patch.setattr(SimulatedLog, "registered", registered)


def unfenced(patch: pytest.MonkeyPatch) -> None:
    """A registration is accepted from anybody."""
    patch.setattr(SimulatedLog, "fenced", False)


def marks_from_events(patch: pytest.MonkeyPatch) -> None:
    """The highest numbers seen are read from the rows that were kept."""
    resume = ClickHouseStore.resume

    def from_events(store: ClickHouseStore, topic: str, partition: int, before: int) -> Resume:
        highest: dict[int, int] = {}
        for row in store._client._clickhouse.rows("events"):
            if row["log_partition"] == partition and row["log_offset"] < before:
                highest[row["spool_id"]] = max(row["spool_seq"], highest.get(row["spool_id"], 0))
        return resume(store, topic, partition, before)._replace(marks=list(highest.items()))

    patch.setattr(ClickHouseStore, "resume", from_events)


def rejected_ids_remembered(patch: pytest.MonkeyPatch) -> None:
    """A rejected hit's id enters its visitor's session in memory."""

    def remembering(prepared: Sequence[Prepared], state: SessionState, replayed: Iterable[str]) -> Loaded:
        loaded = finish(prepared, state, replayed)
        for row in loaded.rejected:
            hit = msgspec.json.decode(row.record.value)
            given = dict(pair.split("=") for pair in hit["query"].split("&"))
            session = find(state.of((given["s"], int(hit["visitor_id"], 16))), hit["received_at"], state.rule)
            if session is not None and "id" in given:
                session.event_keys = (*session.event_keys, event_key("PageView", given["id"], is_server=False))
        return loaded

    patch.setattr(worker, "finish", remembering)


def expiry_by_batch(patch: pytest.MonkeyPatch) -> None:
    """At a batch's end, sessions that are older than the gap are over."""

    def expiring(prepared: Sequence[Prepared], state: SessionState, replayed: Iterable[str]) -> Loaded:
        loaded = finish(prepared, state, replayed)
        newest = max((event.received_at for _, event in loaded.events), default=0)
        for site, visitors in state._sites.items():
            for visitor in visitors:
                known = state.of((site, visitor))
                visitors[visitor] = tuple(one for one in known if one.last_ts + state.rule.gap_ms >= newest)
        return loaded

    patch.setattr(worker, "finish", expiring)


def rebuild_cut_by_row_time(patch: pytest.MonkeyPatch) -> None:
    """Sessions are rebuilt from recent rows only, instead of from all rows of recent sessions."""
    query = ClickHouseStore.all_sessions

    def cut(store: ClickHouseStore, places: Sequence[Place]) -> Iterator[SessionRow]:
        short = [place._replace(rule=msgspec.structs.replace(place.rule, length_ms_max=0)) for place in places]
        return query(store, short)

    patch.setattr(ClickHouseStore, "all_sessions", cut)


def minutes_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A rebuilt session does not know how many events its latest minute had."""
    unpacked = session_state.unpacked

    def forgetting(packed: bytes) -> Session:
        return msgspec.structs.replace(unpacked(packed), minute_events=1)

    patch.setattr(session_state, "unpacked", forgetting)
    patch.setattr(clickhouse_store, "unpacked", forgetting)


def session_id_drawn(patch: pytest.MonkeyPatch) -> None:
    """A session's id is drawn when it is opened."""
    draw = count(1)
    patch.setattr(sessionize, "session_id", lambda *_: next(draw))


def numbers_from_0_under_the_old_id(patch: pytest.MonkeyPatch) -> None:
    """A collector that starts again goes on under its first spool's id, with numbers from 0."""
    turn = SimulatedCollector.turn
    first: dict[SimulatedCollector, str] = {}

    def named(self: SimulatedCollector) -> None:
        def with_old_id(make: Callable[[str, int], bytes], spool_id: str, seq: int) -> bytes:
            return make(first.setdefault(self, spool_id), seq)

        if self._script:
            self._script[0] = [partial(with_old_id, make) for make in self._script[0]]
        turn(self)

    patch.setattr(SimulatedCollector, "turn", named)


def one_look_at_the_tail(patch: pytest.MonkeyPatch) -> None:
    """The reader goes to the successor without reading the tail once more."""

    def read(self: JournalReader, bytes_max: int) -> Chunk | None:
        while True:
            chunk = self._tail(bytes_max)
            if chunk is not None:
                return chunk
            successor = self._successor()
            if successor is None:
                return None
            self._gap = 0
            self._stand(successor, 0, successor.base)

    patch.setattr(JournalReader, "read", read)


def two_requests_in_flight(patch: pytest.MonkeyPatch) -> None:
    """The second half of a run is sent before the first is acknowledged, and lands before it."""
    halves = SimulatedWriter._halves

    def swapped(self: SimulatedWriter, runs: Mapping[int, Sequence[bytes]]) -> Iterator[Callable[[], None]]:
        return reversed(list(halves(self, runs)))

    patch.setattr(SimulatedWriter, "_halves", swapped)


def going_on_after_a_time_out(patch: pytest.MonkeyPatch) -> None:
    """After an append that failed the forwarder reads on where it stood."""
    patch.setattr(forwarder._Spool, "rewind", lambda self: None)


def partition_count_changes(patch: pytest.MonkeyPatch) -> None:
    """A forwarder that starts finds the log with another number of partitions."""
    die = SimulatedForwarder.die

    def changed(self: SimulatedForwarder) -> None:
        die(self)
        self.writer.shrunk = True

    patch.setattr(SimulatedWriter, "shrunk", False, raising=False)
    patch.setattr(SimulatedForwarder, "die", changed)
    patch.setattr(SimulatedWriter, "partitions", property(lambda self: 1 if self.shrunk else self._log.partitions))


def small_token_window(patch: pytest.MonkeyPatch) -> None:
    """The deduplication window holds three blocks of a table."""
    init = Table.__init__
    patch.setattr(Table, "__init__", lambda self, window: init(self, min(window, 3)))


def replays_known_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """A replay is compared with its own batch alone."""
    patch.setattr(ClickHouseStore, "replayed", lambda *_: set())


def replays_looked_up_anywhere(patch: pytest.MonkeyPatch) -> None:
    """Replays are looked up in all of the partition's events: a batch formed again finds its own rows."""
    replayed = ClickHouseStore.replayed

    def anywhere(store: ClickHouseStore, partition: int, before: int, names: AbstractSet[str]) -> set[str]:
        del before
        return replayed(store, partition, 1 << 62, names)

    patch.setattr(ClickHouseStore, "replayed", anywhere)


def replays_under_a_key_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """A replay of a hit without visitor draws its log key anew."""
    draw = count(1)
    replay = Rejected.replay

    def rekeyed(self: Rejected, spool: str, seq: int) -> bytes:
        value = replay(self, spool, seq)
        return value[:KEY_START] + b"%016x" % next(draw) + value[KEY_END:]

    patch.setattr(Rejected, "replay", rekeyed)


def tokens_trusted(patch: pytest.MonkeyPatch) -> None:
    """A batch that was begun is inserted under its token again, and taken for loaded."""
    patch.setattr(ClickHouseStore, "heal", lambda store, batch, loaded, **_: store.load(batch, loaded))


def healed_once(patch: pytest.MonkeyPatch) -> None:
    """Whoever heals takes one further token, and does not look again."""
    patch.setattr(clickhouse_store, "HEALS_MAX", 1)


def sessions_left_alone(patch: pytest.MonkeyPatch) -> None:
    """Whoever heals looks at the rows of `events` alone."""
    patch.setattr(ClickHouseStore, "_mend_sessions", lambda *_: None)


GUARDS = (
    Guard(
        "A killed worker's insert lands after its successor chose other boundaries.", free_boundaries, "kill", "drawn"
    ),
    Guard("A zombie does the same after a rebalance.", free_boundaries, "stall", "small", first=40),
    Guard("Two members register different ends, unfenced.", unfenced, "stall", "drawn"),
    Guard("Marks rebuilt from `events` forget rejected and duplicate hits.", marks_from_events, "kill", "drawn"),
    Guard(
        "Ids of rejected hits are remembered without a kill, forgotten after one.", rejected_ids_remembered, "", "small"
    ),
    Guard("Expiry at the end of a batch makes sessions depend on boundaries.", expiry_by_batch, "", "drawn"),
    Guard(
        "A rebuild cut by row time loses the late row that opened a session.",
        rebuild_cut_by_row_time,
        "kill",
        "aged",
        first=25,
    ),
    Guard("(issue 5) A bot's rate is counted from a restart on.", minutes_forgotten, "kill", "drawn"),
    Guard("A session id drawn at forming differs after a half-done batch.", session_id_drawn, "kill", "drawn"),
    Guard("A restarted spool numbers from 0 under the old id.", numbers_from_0_under_the_old_id, "kill", "small"),
    Guard(
        "The reader deletes a segment whose tail was written between its looks.", one_look_at_the_tail, "stall", "drawn"
    ),
    Guard("Two requests in flight land out of order.", two_requests_in_flight, "", "drawn"),
    Guard(
        "(DESIGN 4) After a time-out the forwarder starts from the cursor.", going_on_after_a_time_out, "retry", "small"
    ),
    Guard("The partition count changes while a resend is pending.", partition_count_changes, "kill", "small"),
    Guard("Other partitions' blocks push a token out of the window.", small_token_window, "kill", "drawn", first=18),
    Guard(
        "(issue 7) A kill of ClickHouse leaves tokens without rows.",
        tokens_trusted,
        "tear at insert events*",
        "drawn",
    ),
    Guard(
        "(issue 7) One more kill leaves such a token of what heals.",
        healed_once,
        "tear at insert events*, tear at insert events*healed*",
        "drawn",
    ),
    Guard("(issue 7) ... and in the view's target.", sessions_left_alone, "tear at insert events* block 1", "drawn"),
    Guard("(issue 4) Replays of one hit in several batches.", replays_known_in_memory_only, "", "replays"),
    Guard(
        "(issue 4) A batch formed again finds its own replays.", replays_looked_up_anywhere, "kill", "replays", first=70
    ),
    Guard("(issue 4) Replays of one hit in two partitions.", replays_under_a_key_of_their_own, "", "replays"),
)
