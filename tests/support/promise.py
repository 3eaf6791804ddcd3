"""The promise, checked on a box's tables: answered means kept, and kept means counted once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from support.box import Box
from support.sessions_reference import NO_SESSION, carried_campaign, sessions

CLICK_IDS = ("gclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid")
ROWS_PER_SLICE = 100_000


def check_each_once(box: Box, acknowledged: Iterable[int], unknown: Iterable[int]) -> None:
    """Every acknowledged id is in `events` exactly once, an unanswered one at most once, and no other is there."""
    counted = {
        int(row["event_id"]): row["n"]
        for row in box.rows("SELECT event_id, count() AS n FROM events GROUP BY event_id")
    }
    expected = set(acknowledged)
    lost = sorted(expected - counted.keys())
    doubled = sorted(name for name, n in counted.items() if n != 1)
    strangers = sorted(counted.keys() - expected - set(unknown))
    assert not lost, f"{len(lost)} acknowledged hits are lost: {lost[:10]}"
    assert not doubled, f"{len(doubled)} hits are counted more than once: {doubled[:10]}"
    assert not strangers, f"{len(strangers)} rows that nobody sent: {strangers[:10]}"


def check_sessions(box: Box) -> int:
    """Sessions equal CONTRACT's rule on the stored rows in log order; `sessions` equals `events`. Return how many."""
    [rows] = box.query("SELECT count() AS n, uniqExact(session_id) - max(visitor_id = 0) AS sessions FROM events")
    slices = rows["n"] // ROWS_PER_SLICE + 1  # of visitors: the reference needs all rows of each at once
    expected = sum(_check_sessions_of(box, f"visitor_id % {slices} = {slice_}") for slice_ in range(slices))
    assert rows["sessions"] == expected, "sessions of the reference are one"
    different = box.query(
        """
        SELECT count() AS n FROM
        (SELECT session_id, count() AS events, min(ts) AS first_ts, max(ts) AS last_ts, max(is_bot) AS is_bot
         FROM events WHERE visitor_id != 0 GROUP BY session_id) AS e
        FULL JOIN (SELECT session_id, events, first_ts, last_ts, is_bot FROM sessions) AS s USING session_id
        WHERE e.events != s.events OR e.first_ts != s.first_ts OR e.last_ts != s.last_ts OR e.is_bot != s.is_bot"""
    )
    assert different == [{"n": 0}], "`sessions` differs from `events`"
    assert box.query("SELECT count() AS n FROM sessions") == [{"n": expected}]
    return expected


def _check_sessions_of(box: Box, visitors: str) -> int:
    """Check the stored rows of some visitors; return how many sessions the reference makes of them."""
    rows = box.query(
        "SELECT site, visitor_id, toUnixTimestamp64Milli(ts) AS ts, log_partition, log_offset, url_query, session_id,"
        f" toUnixTimestamp64Milli(session_start) AS session_start FROM events WHERE {visitors}"
    )
    place, expected = sessions([row | carried_campaign(row["url_query"], CLICK_IDS) for row in rows])
    stored = defaultdict(set)
    for row, index in zip(rows, place, strict=True):
        if index == NO_SESSION:
            assert row["session_id"] == 0
            continue
        stored[index].add((row["session_id"], row["session_start"]))
    assert all(len(names) == 1 for names in stored.values()), "a session of the reference is stored as several"
    for index, names in stored.items():
        assert next(iter(names))[1] == expected[index].opened_ts
    return len(expected)


def check_ledger(box: Box, timeout_s: float = 120.0) -> dict[str, int]:
    """The ledger balances and nothing is in flight or damaged; return it."""
    ledger = box.wait_drained(timeout_s)
    assert ledger["balance"] == 0, ledger
    assert ledger["damaged"] == 0, ledger
    assert ledger["appended"] == ledger["inserted"] + ledger["rejected"] + ledger["duplicate"] + ledger["filtered"]
    return ledger
