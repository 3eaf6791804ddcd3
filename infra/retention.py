"""How long rows stay: the sites' `retention_days` and `rejected_retention_days` as ClickHouse's TTL of each table.

- A row leaves when the day it came in and the retention's days are over, at the next merge after that. `batches` stays:
  the ledger is of counts, so it balances whatever rows have left.
- A TTL takes rows, never an insert's deduplication token, so a repeated insert adds nothing, before and after. A batch
  that is healed later than its rows' retention inserts them once more, and they leave again; it is counted once.
- The same settings change nothing: a TTL is set only where the table has another one. hitstream owns its tables' TTL.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from infra.clickhouse_server.lexer import quote
from infra.cluster_ddl import LOCAL
from infra.migrate import Client

# A session's parts have one session_start, so a session leaves whole. Dates, as a DateTime would overflow in 2106.
_DAY_OF = {
    "events": "toDate(received_at)",
    "session_parts": "toDate(session_start)",
    "session_hours": "toDate(start_hour)",
    "rejected": "toDate(received_at)",
    "ad_spend": "day",
}
ALL = ""  # the condition that every row meets
_ENGINE = "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}"
_AS_WRITTEN = "SELECT formatQuerySingleLine({sql:String})"


class Retention(NamedTuple):
    """Days that rows stay: those of each of `sites` (None: for ever), of `others`, of `rejected` records at most."""

    sites: Mapping[str, int | None]
    others: int | None
    rejected: int


def set_retention(client: Client, retention: Retention, cluster: str = "") -> list[str]:
    """Give each table the TTL that the retention asks for; return the tables changed. Raises what the client raises."""
    changed = []
    on_cluster = f" ON CLUSTER {quote(cluster)}" if cluster else ""
    for table in _DAY_OF:
        name = table + (LOCAL if cluster else "")
        wanted = ttl(table, retention)
        if _as_written(client, wanted) == _in_force(client, name):
            continue
        change = f"MODIFY TTL {wanted}" if wanted else "REMOVE TTL"
        client.command(f"ALTER TABLE {name}{on_cluster} {change}")
        changed.append(name)
    return changed


def ttl(table: str, retention: Retention) -> str:
    """Return a table's TTL; "" for none. Rows that stay equally long make one rule."""
    conditions: dict[int, list[str]] = defaultdict(list)
    for days in {days for days in retention.sites.values() if days is not None}:
        sites = [quote(site) for site, its in sorted(retention.sites.items()) if its == days]
        conditions[days].append(f"site IN ({', '.join(sites)})")
    if retention.others is not None:
        known = ", ".join(quote(site) for site in sorted(retention.sites))
        conditions[retention.others].append(f"site NOT IN ({known})" if known else ALL)
    if table == "rejected":
        conditions = {days: some for days, some in conditions.items() if days < retention.rejected}
        conditions[retention.rejected] = [ALL]
    rules = []
    for days, some in sorted(conditions.items()):
        where = "" if ALL in some else f" WHERE {' OR '.join(some)}"
        rules.append(f"{_DAY_OF[table]} + toIntervalDay({days}) + toIntervalDay(1){where}")
    return ", ".join(rules)


def _as_written(client: Client, wanted: str) -> str:
    """Return a TTL as the server writes it, whatever its version."""
    if not wanted:
        return ""
    sql = f"CREATE TABLE t (n Int8) ENGINE = MergeTree ORDER BY n TTL {wanted}"
    return _ttl_in(str(client.query(_AS_WRITTEN, {"sql": sql})[0][0]))


def _in_force(client: Client, table: str) -> str:
    rows = client.query(_ENGINE, {"database": client.database, "table": table})
    return _ttl_in(str(rows[0][0])) if rows else ""


def _ttl_in(text: str) -> str:
    found = re.search(r" TTL (.*?)(?: SETTINGS .*)?$", text, re.DOTALL)
    return found[1] if found else ""
