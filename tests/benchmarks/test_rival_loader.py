"""The rival's loader makes a row of what the rival's edge sends: the columns of `events`, filled."""

from decimal import Decimal
from ipaddress import IPv6Address

from aiokafka import ConsumerRecord, TopicPartition

from benchmarks.rivals.kafka_producer import record
from benchmarks.rivals.kafka_to_clickhouse import COLUMNS, SESSION_GAP_MS, Sessions, rows
from consumers.batch import Batch
from consumers.rows import event_columns
from schemas.event import Event

AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
NOT_OURS_TO_FILL = {"country", "region", "city", "open_by", "open_reason", "replay_of"}  # no place database, no email


def consumed(query, offset, timestamp=1_700_000_000_000, cookie="_hs=00000000000000ff.1699999999"):
    headers = (("user-agent", AGENT), ("cookie", cookie), ("accept", "image/*"))
    value = record(query, headers, "192.0.2.77")
    return ConsumerRecord("hits", 3, offset, timestamp, 0, None, value, None, 0, len(value), ())


def rows_of(*records, sessions=None):
    found = rows({TopicPartition("hits", 3): list(records)}, sessions or Sessions())
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def test_its_columns_are_those_of_events():
    assert set(COLUMNS) | NOT_OURS_TO_FILL == set(event_columns(Batch("hits", 3, 0, 0, 0, []), [(0, Event())]))


def test_a_hit_becomes_a_row():
    page = "https%3A%2F%2Fshop.example%2Fp%3Futm_medium%3Demail%26utm_campaign%3Dnov"
    query = (
        f"s=shop&e=Purchase&id=a1&t=1700000000500&u={page}&r=https%3A%2F%2Fwww.google.com%2F&v=9.50&cur=EUR&sr=390x844"
    )
    (row,) = rows_of(consumed(query + "&p.color=red", 41))
    expected = {
        "site": "shop",
        "event_name": "Purchase",
        "event_id": "a1",
        "visitor_id": 255,
        "ts": 1_700_000_000_500,
        "received_at": 1_700_000_000_000,
        "channel": "Email",
        "utm_campaign": "nov",
        "ref_host": "www.google.com",
        "url_host": "shop.example",
        "url_path": "/p",
        "value": Decimal("9.50"),
        "props": {"color": "red"},
        "browser": "Chrome",
        "browser_version": "141",
        "os": "Windows",
        "device": "desktop",
        "screen_w": 390,
        "screen_h": 844,
        "ip": IPv6Address("::ffff:192.0.2.0"),
        "log_partition": 3,
        "log_offset": 41,
    }
    assert {name: row[name] for name in expected} == expected


def test_a_session_ends_after_a_gap():
    times = (0, 1_000, SESSION_GAP_MS + 1_000, 2 * SESSION_GAP_MS + 1_001)
    made = rows_of(*(consumed(f"s=shop&u=https%3A%2F%2Fa.example%2F&t={at}", at) for at in times))
    assert made[0]["session_id"] == made[1]["session_id"] == made[2]["session_id"] != made[3]["session_id"]
    assert {(row["batch_first"], row["batch_last"]) for row in made} == {(times[0], times[-1])}
