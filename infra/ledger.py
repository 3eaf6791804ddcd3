"""The ledger (DESIGN, invariant 8): what was appended is inserted, rejected, duplicate, filtered, damaged or in flight.

Pure: counts in, counts out. `appended`, `forwarded` and `damaged` come from the spools, `inserted` to `resent` from
the table `batches`, the log's ends from the log. `resent` (transport duplicates) stands outside the balance.

While hits move, one may be counted on both sides of a step, or the counts may be of slightly different moments: only a
ledger with nothing in flight is exact, and that one must balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class SpoolState(NamedTuple):
    """A spool: hits appended, of those acknowledged by the log, of those lost to damage."""

    spool_id: int
    appended: int
    forwarded: int
    damaged: int


class LoadedState(NamedTuple):
    """What `batches` holds of a spool."""

    spool_id: int
    inserted: int
    rejected: int
    duplicate: int
    filtered: int
    resent: int


class PartitionState(NamedTuple):
    """A log partition: the offset the next record gets, and the offset behind the last loaded batch."""

    partition: int
    end: int
    loaded: int


class Ledger(NamedTuple):
    """The counts of one spool or of all. `in_flight` is in_spool + in_log; of one spool, `in_log` is what is left."""

    appended: int
    inserted: int
    rejected: int
    duplicate: int
    filtered: int
    damaged: int
    in_spool: int
    in_log: int
    resent: int

    @property
    def in_flight(self) -> int:
        """Hits that are kept and not yet loaded."""
        return self.in_spool + self.in_log

    @property
    def balance(self) -> int:
        """0 when every appended hit is accounted for; more: hits are missing; less: hits were counted twice."""
        loaded = self.inserted + self.rejected + self.duplicate + self.filtered
        return self.appended - loaded - self.damaged - self.in_flight

    @property
    def settled(self) -> bool:
        """Whether nothing is in flight, so that the balance is exact."""
        return self.in_flight == 0

    def as_object(self) -> dict[str, int]:
        """Return the ledger as CONTRACT names it."""
        return {
            "appended": self.appended,
            "inserted": self.inserted,
            "rejected": self.rejected,
            "duplicate": self.duplicate,
            "filtered": self.filtered,
            "damaged": self.damaged,
            "in_flight": self.in_flight,
            "balance": self.balance,
            "in_spool": self.in_spool,
            "in_log": self.in_log,
            "resent": self.resent,
        }


def total(spools: Iterable[SpoolState], loaded: Iterable[LoadedState], partitions: Iterable[PartitionState]) -> Ledger:
    """Return the ledger of all spools."""
    spools, loaded = list(spools), list(loaded)
    return Ledger(
        appended=sum(spool.appended for spool in spools),
        inserted=sum(row.inserted for row in loaded),
        rejected=sum(row.rejected for row in loaded),
        duplicate=sum(row.duplicate for row in loaded),
        filtered=sum(row.filtered for row in loaded),
        damaged=sum(spool.damaged for spool in spools),
        in_spool=sum(_in_spool(spool) for spool in spools),
        in_log=sum(max(state.end - state.loaded, 0) for state in partitions),
        resent=sum(row.resent for row in loaded),
    )


def by_spool(spools: Sequence[SpoolState], loaded: Iterable[LoadedState]) -> list[tuple[int, Ledger]]:
    """Return each spool's ledger, by spool id.

    The log is not counted per spool: what is forwarded and not loaded is taken to be in it, so a spool that misses
    hits shows them there; with nothing in flight in total, any such rest is a loss. Rows of `batches` whose spool is
    unknown here show as a negative balance.
    """
    rows = {row.spool_id: row for row in loaded}
    known = {spool.spool_id: spool for spool in spools}
    ledgers = []
    for spool_id in sorted(known.keys() | rows.keys()):
        spool = known.get(spool_id, SpoolState(spool_id, 0, 0, 0))
        row = rows.get(spool_id, LoadedState(spool_id, 0, 0, 0, 0, 0))
        done = row.inserted + row.rejected + row.duplicate + row.filtered
        in_log = max(spool.forwarded - done, 0)
        ledger = Ledger(spool.appended, *row[1:5], spool.damaged, _in_spool(spool), in_log, row.resent)
        ledgers.append((spool_id, ledger))
    return ledgers


def verdict(ledger: Ledger) -> str:
    """Return what the ledger says, in words."""
    if ledger.balance == 0:
        moving = "" if ledger.settled else f", {ledger.in_flight:,} on the way"
        return f"balanced: every appended hit is accounted for{moving}"
    if not ledger.settled:
        return f"{ledger.in_flight:,} hits are on the way: the balance is exact once they have arrived"
    if ledger.balance > 0:
        return f"NOT balanced: {ledger.balance:,} appended hits are missing"
    return f"NOT balanced: {-ledger.balance:,} hits more than were appended"


def as_json(ledger: Ledger, spools: Sequence[tuple[int, Ledger]] | None = None) -> dict[str, Any]:
    """Return the object of `--format json`; with `spools`, one more object per spool, ids as 16 hex digits."""
    result: dict[str, Any] = ledger.as_object()
    if spools is not None:
        result["spools"] = [{"spool_id": f"{ident:016x}", **one.as_object()} for ident, one in spools]
    return result


def _in_spool(spool: SpoolState) -> int:
    return max(spool.appended - spool.forwarded - spool.damaged, 0)
