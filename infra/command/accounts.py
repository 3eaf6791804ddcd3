"""`hitstream ledger`: reads spools, log and `batches`, and shows whether every hit is accounted for.

The three are read one after the other while hits may be moving. A difference with nothing in flight is therefore looked
at again before it is called one.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.table import Table

from infra import ledger
from infra.command.database import open_client
from infra.command.errors import UserError, cause
from infra.command.event_log import log_ends, topic_of
from infra.journal.cursor import StateDamageError
from infra.ledger import Ledger, LoadedState, PartitionState, SpoolState
from schemas.errors import FatalError, RetryError
from schemas.settings import Settings

LOOKS_MAX = 5
LOOK_PAUSE_S = 0.2
WIDTH_PIPED = 140
CLICKHOUSE_WAIT_S = 10.0  # a box that starts, or starts its ClickHouse again, is waited for

_SPOOLS = """
SELECT spool_id, sum(inserted), sum(rejected), sum(duplicate), sum(filtered), sum(resent)
FROM batches WHERE topic = {topic:String} GROUP BY spool_id"""
_PARTITIONS = """
SELECT log_partition, max(batch_last) FROM batches WHERE topic = {topic:String} GROUP BY log_partition"""


class Client(Protocol):
    """What the ledger needs of ClickHouse."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        ...


def read_ledger(settings: Settings) -> Ledger:
    """Return the ledger of all spools. Raises UserError, RetryError."""
    return _read(settings)[0]


def show_ledger(settings: Settings, output_format: str, *, per_spool: bool) -> int:
    """Print the ledger as table or json; return 1 when it does not balance although nothing is in flight."""
    total, spools = _read(settings)
    if output_format == "json":
        content = ledger.as_json(total, spools if per_spool else None)
        sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH_PIPED)
        console.print(_table(total))
        if per_spool:
            console.print(_spool_table(spools))
        console.print(ledger.verdict(total), style="green" if total.balance == 0 else "bold red")
    return 1 if total.settled and total.balance else 0


def _read(settings: Settings) -> tuple[Ledger, list[tuple[int, Ledger]]]:
    """Return the ledger of all spools and each one's."""
    deadline_s = time.monotonic() + CLICKHOUSE_WAIT_S
    looks = 0
    while True:
        try:
            with open_client(settings) as client:
                spools, loaded, partitions = _states(settings, client)
        except RetryError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_PAUSE_S)
            continue
        except FatalError as error:
            raise UserError(f"{cause(error)}; if tables are missing, run `hitstream migrate`") from None
        except StateDamageError as error:
            raise UserError(f"{error}: start the forwarder, which sets it aside and sends again") from None
        total = ledger.total(spools, loaded, partitions)
        looks += 1
        if not (total.settled and total.balance) or looks == LOOKS_MAX:
            return total, ledger.by_spool(spools, loaded)
        time.sleep(LOOK_PAUSE_S)


def _states(settings: Settings, client: Client) -> tuple[list[SpoolState], list[LoadedState], list[PartitionState]]:
    from ingest.forwarder_cursor import ledger_view

    spools = [
        SpoolState(int(ident, 16), state.appended, state.forwarded - state.damaged, state.damaged)
        for ident, state in ledger_view(settings.data_dir).items()
    ]
    ends = log_ends(settings)
    topic = {"topic": topic_of(settings)}
    loaded = [LoadedState(*(int(value) for value in row)) for row in client.query(_SPOOLS, topic)]
    last = {int(partition): int(batch_last) for partition, batch_last in client.query(_PARTITIONS, topic)}
    partitions = [PartitionState(number, end, last.get(number, -1) + 1) for number, end in ends.items()]
    return spools, loaded, partitions


def _table(total: Ledger) -> Table:
    table = Table(title="ledger", title_justify="left")
    table.add_column("")
    table.add_column("hits", justify="right")
    table.add_column("meaning")
    for name, count, meaning in (
        ("appended", total.appended, "answered and on disk"),
        ("- inserted", total.inserted, "rows in events"),
        ("- rejected", total.rejected, "rows in rejected, each with its reason"),
        ("- duplicate", total.duplicate, "sent again by the client: counted, not kept"),
        ("- filtered", total.filtered, "left out by rule"),
        ("- damaged", total.damaged, "lost to damage of the disk"),
        ("- in flight", total.in_flight, f"{total.in_spool:,} in spools, {total.in_log:,} in the log"),
    ):
        table.add_row(name, f"{count:,}", meaning)
    table.add_section()
    table.add_row("balance", f"{total.balance:,}", "0: every hit is accounted for", style="bold")
    table.add_row("resent", f"{total.resent:,}", "sent again within hitstream and dropped; outside the balance")
    return table


def _spool_table(spools: list[tuple[int, Ledger]]) -> Table:
    table = Table(title="by spool (one per collector start)", title_justify="left")
    columns = ("appended", "inserted", "rejected", "duplicate", "filtered", "damaged", "in_flight", "balance", "resent")
    table.add_column("spool")
    for column in columns:
        table.add_column(column, justify="right")
    for ident, one in spools:
        counts = one.as_object()
        table.add_row(f"{ident:016x}", *(f"{counts[column]:,}" for column in columns))
    return table
