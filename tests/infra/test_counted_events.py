"""Browser and server event of one id, from the hits to the reports, on a real engine: both are kept, one is counted."""

from __future__ import annotations

from itertools import product

import pytest
from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS, hit, records

from consumers.batch import Batch
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from infra.reports import ReportOptions, run
from schemas.limits import Limits
from schemas.session import SessionRule

RULE = SessionRule()
RULES = Rules(Limits(), {})
WINDOW_MS = 2 * DAY_MS
VISITOR = 7
NOBODY = 0


class Sent:
    """One event as it comes to a log partition; `after` is ms behind BASE_MS, of reception and of event time."""

    def __init__(self, source, *, partition=0, after=0, visitor=VISITOR, name="Purchase"):
        self.source = source
        self.partition = partition
        self.after = after
        self.visitor = visitor
        self.name = name

    def hit(self, event_id, seq):
        at = BASE_MS + self.after
        event = {"e": self.name, "id": event_id, "v": "10", "cur": "EUR"}
        return hit(seq, spool=self.partition + 1, visitor=self.visitor, at=at, event=event, source=self.source)


def browser(**fields):
    return Sent("beacon", **fields)


def server(**fields):
    return Sent("server", **fields)


# id -> what is sent in log order, and which sources are counted. Partition 1 is loaded behind partition 0.
PAIRS = {
    f"{first.source} {after} {visitor} {partition}": ([first, second], ["beacon"])
    for after, visitor, partition in product((0, 1, HOUR_MS), (VISITOR, NOBODY), (0, 1))
    for first, second in (
        (browser(), server(after=after, visitor=visitor, partition=partition)),
        (server(visitor=visitor), browser(after=after, partition=partition)),
    )
}
CASES = PAIRS | {
    "48 h": ([browser(), server(after=WINDOW_MS, visitor=NOBODY)], ["beacon"]),
    "48 h, server first": ([server(visitor=NOBODY), browser(after=WINDOW_MS)], ["beacon"]),
    "more than 48 h": ([browser(), server(after=WINDOW_MS + 1, visitor=NOBODY)], ["beacon", "server"]),
    "more, server first": ([server(visitor=NOBODY), browser(after=WINDOW_MS + 1)], ["beacon", "server"]),
    "server alone": ([server(partition=1, visitor=NOBODY)], ["server"]),
    "sent again": ([server(visitor=NOBODY), server(after=1, visitor=NOBODY, partition=1)], ["server"]),
    "sent again at once": ([server(visitor=NOBODY, partition=1), server(visitor=NOBODY, partition=1)], ["server"]),
    "sent again, one visitor": ([server(), server(after=1)], ["server"]),
    "sent again in another visit": ([server(), server(after=HOUR_MS)], ["server"]),
    "all of it twice": ([browser(), server(), server(), browser()], ["beacon"]),
    "another name": ([browser(), server(name="Lead")], ["beacon", "server"]),
    "a click": ([Sent("click"), server(visitor=NOBODY)], ["click"]),
}


@pytest.fixture(scope="module")
def client(clickhouse_url, module_database):
    client = ClickHouse(clickhouse_url, database=module_database, timeout_s=60)
    store = ClickHouseStore(client, RULE)
    client.duplicates = 0
    for partition in (0, 1):
        values = []
        for event_id, (sent, _) in CASES.items():
            for one in sent:
                if one.partition == partition:
                    values.append(one.hit(event_id, len(values)))
        batch = Batch("hits", partition, 0, len(values) - 1, BASE_MS, records(values))
        loaded = finish(prepare(batch.records, Marks(), RULES), SessionState(RULE, 1 << 60))
        assert not loaded.rejected
        client.duplicates += sum(count.duplicate for count in loaded.counts)
        store.load(batch, loaded)
    yield client
    client.close()


def sources(client, table):
    found = client.query(f"SELECT event_id, arraySort(groupArray(toString(source))) FROM {table} GROUP BY event_id")
    return {event_id: list(counted) for event_id, counted in found}


def test_one_is_counted_whatever_the_order_the_moment_and_the_partition(client):
    assert sources(client, "counted_events") == {event_id: counted for event_id, (_, counted) in CASES.items()}


def test_both_are_kept_and_only_a_sides_own_repeat_is_a_client_duplicate(client):
    kept = sources(client, "events")
    for event_id in PAIRS:
        assert kept[event_id] == ["beacon", "server"]
    assert kept["all of it twice"] == ["beacon", "server"]
    assert kept["sent again, one visitor"] == ["server"]
    assert client.duplicates == 3


def test_the_match_rate(client):
    rows = run("matches", client, ReportOptions(event="Purchase", by="site"))
    matched = len(PAIRS) + 4  # with the two at 48 h, all of it twice, and the click
    assert rows == [
        {
            "site": "shop",
            "server_events": matched + 7,
            "server_matched": matched,
            "server_rate": matched / (matched + 7),
            "browser_events": matched + 3,
            "browser_matched": matched,
            "browser_rate": matched / (matched + 3),
        }
    ]


def test_a_replayed_batch_adds_nothing_to_a_report(client):
    """What is counted, and what it is worth, is the browser's events and the servers' without any: once each."""
    rows = run("traffic", client, ReportOptions(by="event_name"))
    purchases = sum(len(counted) for _, counted in CASES.values()) - 1
    assert {row["event_name"]: row["events"] for row in rows} == {"Purchase": purchases, "Lead": 1}
