"""The reports answer the same over HTTP, with the client and the migrations that commands use, as in the engine."""

from __future__ import annotations

import json

import pytest
from support.report_engine import Engine

from consumers.clickhouse_client import ClickHouse
from infra.reports import REPORTS, ReportOptions, run

SITE = "my-shop.example"


def rows():
    """Return two visitors' ways, one denied hit, and a purchase that the server told again."""
    way = [
        *((1, "PageView", "pixel", ""), (1, "ViewContent", "pixel", ""), (1, "Purchase", "beacon", "p1")),
        *((1, "Purchase", "server", "p1"), (2, "PageView", "pixel", ""), (0, "PageView", "pixel", "")),
    ]
    return [
        {
            "site": SITE,
            "event_name": name,
            "event_id": event_id,
            "source": source,
            "ts": f"2026-01-01 10:00:{number:02}.000",
            "received_at": "2026-01-01 10:01:00.000",
            "session_start": "2026-01-01 10:00:00.000",
            "visitor_id": visitor_id,
            "session_id": 2**63 + visitor_id if visitor_id else 0,
            "channel": "Paid Search",
            "value": "19.9",
            "currency": "EUR",
            "log_offset": number,
            "spool_seq": number,
        }
        for number, (visitor_id, name, source, event_id) in enumerate(way)
    ]


@pytest.fixture
def client(clickhouse_url, fresh_database):
    client = ClickHouse(clickhouse_url, database=fresh_database)
    client.command("INSERT INTO events FORMAT JSONEachRow\n" + "\n".join(json.dumps(row) for row in rows()))
    yield client
    client.close()


def test_each_report_over_http(client):
    engine = Engine()
    engine.replace(rows())
    answers = {}
    for name in REPORTS:
        options = ReportOptions(steps=("PageView", "ViewContent", "Purchase"), site=SITE, by="channel")
        answers[name] = run(name, client, options)
        assert answers[name] == run(name, engine, options)
    engine.close()
    assert [row["count"] for row in answers["funnel"]] == [2, 1, 1]
    assert answers["attribution"] == [{"channel": "Paid Search", "conversions": 1.0, "value": 19.9}]
    assert answers["sessions"][0]["events"] == 4
    assert answers["traffic"][0]["events"] == 5
