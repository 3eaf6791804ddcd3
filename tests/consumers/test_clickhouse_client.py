"""The client against a real server: one block under one token, every type of `events`, errors sorted into two roots."""

import gc
import threading
import weakref
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv6Address

import msgspec
import pytest
from support.events import event_of

from consumers.batch import Batch
from consumers.clickhouse_client import ClickHouse
from consumers.rows import event_columns
from schemas.errors import FatalError, RetryError
from schemas.event import Item

AT = 1_700_000_000_123
ITEMS = [("sku-1", "Größe «L»", "shirts", Decimal("9.9900"), 2), ("sku-2", "", "", Decimal("0.0001"), 1)]


@pytest.fixture
def client(clickhouse_url, fresh_database):
    made = ClickHouse(clickhouse_url, database=fresh_database, timeout_s=30)
    yield made
    made.close()


@pytest.fixture
def reader(clickhouse_url):
    """For tests that write nothing: a fresh database takes half a second of a core."""
    made = ClickHouse(clickhouse_url, database="hitstream", timeout_s=30)
    yield made
    made.close()


def events(count, **columns):
    """Columns of `events` for `count` hits of one visitor each."""
    return {
        "site": ["shop"] * count,
        "event_name": ["PageView"] * count,
        "ts": [AT + index for index in range(count)],
        "received_at": [AT] * count,
        "session_start": [AT] * count,
        "visitor_id": [index + 1 for index in range(count)],
        "session_id": [index + 1 for index in range(count)],
        "log_offset": list(range(count)),
        **columns,
    }


def test_each_type_comes_back_as_it_went_in(client):
    client.insert(
        "events",
        events(
            2,
            title=["Ünïcode\t\n\0'\\", ""],
            value=[Decimal("123456.7891"), Decimal(0)],
            items=[ITEMS, []],
            props=[{"a": "b", "ключ": "значение"}, {}],
            ip=[IPv6Address("2001:db8::1"), IPv6Address("::ffff:192.0.2.0")],
            screen_w=[1920, 65535],
            spool_id=[2**64 - 1, 0],
        ),
        token="t1",
    )
    rows = client.query(
        "SELECT title, value, items, props, ip, screen_w, spool_id, toUnixTimestamp64Milli(ts), ts, country"
        " FROM events ORDER BY log_offset"
    )
    first, second = rows
    assert first[:3] == ("Ünïcode\t\n\0'\\", Decimal("123456.7891"), first[2])
    assert [tuple(item.values()) if isinstance(item, dict) else tuple(item) for item in first[2]] == ITEMS
    assert first[3] == {"a": "b", "ключ": "значение"}
    assert first[4] == IPv6Address("2001:db8::1")
    assert first[5:8] == (1920, 2**64 - 1, AT)
    assert first[8].replace(tzinfo=UTC) == datetime.fromtimestamp(AT / 1000, UTC)
    assert first[9] == ""
    assert str(second[4]) in ("192.0.2.0", "::ffff:192.0.2.0", "::ffff:c000:200")


def event(**fields):
    required = {"site": "shop", "event_name": "PageView", "source": "pixel", "ts_source": "client", "visitor_id": 7}
    return event_of(**required | {"ts": AT, "received_at": AT, "spool_id": 1, "spool_seq": 2} | fields)


def test_each_value_of_an_event_comes_back_as_it_went_in(client):
    text = "Ünïcode\t\n\0'\\\"\u2028"
    whole = event(
        **dict.fromkeys(("event_id", "url_path", "title", "country", "replay_of"), text),
        value=Decimal("99999999999999.9999"),
        items=tuple(Item(*item) for item in ITEMS),
        props={"a": "b", "ключ": text},
        ip="192.0.2.0",
        is_bot=True,
        screen_w=65535,
        visitor_id=2**64 - 1,
        session_start=AT - 1,
    )
    batch = Batch("hits", 3, 2**63, 2**64 - 1, AT, [])
    columns = event_columns(batch, [(2**64 - 2, whole), (2**64 - 1, event(ip="2001:db8::1"))])
    client.insert("events", columns, token="j")
    columns = "event_id, url_path, title, country, replay_of, value, items, props, is_bot, screen_w, visitor_id"
    first, second = client.query(f"SELECT {columns} FROM events ORDER BY log_offset")
    assert first[:6] == (text, text, text, text, text, Decimal("99999999999999.9999"))
    assert [tuple(item.values()) if isinstance(item, dict) else tuple(item) for item in first[6]] == ITEMS
    assert first[7:] == ({"a": "b", "ключ": text}, 1, 65535, 2**64 - 1)
    assert second[:8] == ("", "", "", "", "", Decimal(0), [], {})
    place = "toUnixTimestamp64Milli(session_start), ip, log_partition, batch_first, batch_last, log_offset"
    first, second = client.query(f"SELECT {place} FROM events ORDER BY log_offset")
    assert (first[0], *first[2:]) == (AT - 1, 3, 2**63, 2**64 - 1, 2**64 - 2)
    assert str(first[1]) in ("192.0.2.0", "::ffff:192.0.2.0", "::ffff:c000:200")
    assert second[:2] == (0, IPv6Address("2001:db8::1"))


def test_a_large_batch_is_one_block_and_its_repeat_adds_nothing(client):
    batch = Batch("hits", 3, 0, 29_999, AT, [])
    columns = event_columns(
        batch, [(offset, event(visitor_id=offset + 1, title="x" * 1200)) for offset in range(30_000)]
    )
    for _ in range(2):
        client.insert("events", columns, token=batch.token)
        assert client.query(
            "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND level = 0"
        ) == [(1,)]
        assert client.query("SELECT count() FROM events") == [(30_000,)]


def test_columns_that_are_empty_in_every_row_come_back_empty_or_as_given(client):
    nothing = dict.fromkeys(("title", "country"), [""] * 2) | {"value": [Decimal(0)] * 2, "items": [[], []]}
    client.insert("events", events(2, **nothing, props=[{}, {}], screen_w=[0, 0], ip=["::", "::"]), token="e")
    found = client.query("SELECT title, country, value, items, props, screen_w, ip FROM events")
    assert found == [("", "", Decimal(0), [], {}, 0, IPv6Address("::"))] * 2
    client.insert("batches", {"topic": [""], "log_partition": [0], "loaded_at": [0]}, token="b")
    assert client.query("SELECT topic, toUnixTimestamp64Milli(loaded_at) FROM batches") == [("", 0)], "no default of it"


def test_rows_that_do_not_fit_their_columns_are_fatal(client):
    with pytest.raises(FatalError):
        client.insert("events", {"ip": ["1234"]}, token="x")
    assert client.query("SELECT count() FROM events") == [(0,)]


def test_rejected_rows_keep_their_bytes(client):
    raw = bytes(range(256))
    client.insert("rejected", {"received_at": [AT], "reason": ["bad_json"], "raw": [raw]}, token="r")
    assert client.query_text("SELECT hex(raw) FROM rejected", "TSVRaw").strip() == raw.hex().upper().encode()


def test_a_repeated_token_adds_nothing_here_nor_in_a_views_target(client):
    for _ in range(3):
        client.insert("events", events(500), token="hits:3:0-499")
    assert client.query("SELECT count(), uniqExact(log_offset) FROM events") == [(500, 500)]
    assert client.query("SELECT sum(events), count() FROM sessions") == [(500, 500)]
    client.insert("events", events(500), token="hits:3:500-999")
    assert client.query("SELECT count() FROM events") == [(1000,)]
    assert client.query("SELECT sum(events) FROM sessions") == [(1000,)]


def test_a_token_heals_an_insert_that_reached_the_table_but_not_the_view(client):
    client.command("DETACH TABLE session_parts_mv")
    client.insert("events", events(10), token="half")
    client.command("ATTACH TABLE session_parts_mv")
    assert client.query("SELECT count() FROM sessions") == [(0,)]
    client.insert("events", events(10), token="half")
    assert client.query("SELECT count() FROM events") == [(10,)]
    assert client.query("SELECT count() FROM sessions") == [(10,)]


def test_a_large_batch_is_one_block(client):
    rows = 30_000
    client.insert("events", events(rows, title=["x" * 40] * rows), token="large")
    assert client.query(
        "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND level = 0"
    ) == [(1,)]
    client.insert("events", events(rows, title=["x" * 40] * rows), token="large")
    assert client.query("SELECT count() FROM events") == [(rows,)]


def test_a_batch_may_touch_more_than_a_hundred_months(client):
    months = 150
    received = [
        int(datetime(2000 + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000) for month in range(months)
    ]
    client.insert("events", events(months, received_at=received), token="wide")
    assert client.query("SELECT uniqExact(toYYYYMM(received_at)) FROM events") == [(months,)]


def test_parameters_columns_and_formats(reader):
    assert reader.query("SELECT {a:String}, {b:Array(UInt8)}", {"a": "it's\t\\", "b": [1, 2]}) == [("it's\t\\", [1, 2])]
    assert reader.query_columns("SELECT number AS n, toString(number) AS s FROM numbers(3)") == {
        "n": [0, 1, 2],
        "s": ["0", "1", "2"],
    }
    assert list(reader.query_columns("SELECT 1 AS n WHERE 0").get("n", [])) == []
    assert reader.query_text("SELECT {a:UInt8} AS x", "JSONEachRow", {"a": 7}) == b'{"x":7}\n'
    assert reader.query("SELECT count() FROM numbers(500000)") == [(500_000,)]
    assert len(reader.query("SELECT number FROM numbers(200000)")) == 200_000


class Numbered(msgspec.Struct, array_like=True):
    number: int
    text: str


def test_rows_that_are_streamed_are_all_rows_in_parts(reader):
    asked = "SELECT number, repeat('x', 40) FROM numbers({rows:UInt64})"
    parts = list(reader.stream(asked, {"rows": 100_000}, Numbered))
    assert [row.number for part in parts for row in part] == list(range(100_000))
    assert max(map(len, parts)) < 40_000
    assert list(reader.stream(asked, {"rows": 0}, Numbered)) == []
    with pytest.raises(FatalError, match="60"):
        next(reader.stream("SELECT * FROM nope", {}, Numbered))


def test_a_stream_that_meets_an_error_late_says_so_and_the_client_goes_on(reader):
    sql = "SELECT number, toString(throwIf(number = 900000)) FROM numbers(1000000)"
    parts = reader.stream(sql, {}, Numbered)
    assert 0 < len(next(parts)) < 900_000
    with pytest.raises(RetryError):
        list(parts)
    assert reader.query("SELECT 1") == [(1,)]


def test_an_empty_insert_sends_nothing(client):
    client.insert("events", {"site": []}, token="none")
    assert client.query("SELECT count() FROM events") == [(0,)]


def test_threads_share_a_client(client):
    failures = []

    def work(number):
        try:
            for step in range(5):
                client.insert("events", events(20, log_partition=[number] * 20), token=f"{number}-{step}")
                client.query("SELECT count() FROM events")
        except Exception as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert client.query("SELECT count() FROM events") == [(600,)]


@pytest.mark.parametrize(
    ("sql", "number"),
    [("SELEC 1", "62"), ("SELECT * FROM nope", "60"), ("SELECT nope", "47"), ("SELECT 1 SETTINGS nope = 1", "115")],
)
def test_wrong_sql_is_fatal(reader, sql, number):
    with pytest.raises(FatalError, match=number):
        reader.query(sql)


@pytest.mark.parametrize("code", [202, 241, 242, 252])
def test_an_overloaded_server_is_to_be_tried_again(reader, code):
    with pytest.raises(RetryError, match=str(code)):
        reader.query(f"SELECT throwIf(1, 'busy', toInt32({code})) SETTINGS allow_custom_error_code_in_throwif = 1")


def test_too_many_parts_are_waited_for(client):
    client.insert("events", events(1), token="first")
    client.command("ALTER TABLE events MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
    with pytest.raises(RetryError, match=r"252.*[Tt]oo many parts"):
        client.insert("events", events(1), token="second")
    client.command("ALTER TABLE events RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
    client.insert("events", events(1), token="second")
    assert client.query("SELECT count() FROM events") == [(2,)]


def test_a_server_that_may_only_be_read_is_waited_for(client, monkeypatch):
    client.insert("events", events(1), token="first")
    monkeypatch.setattr(client, "_cluster_settings", {"readonly": 1})  # as a user's profile has it
    with pytest.raises(RetryError, match=r"164.*readonly"):
        client.insert("events", events(1), token="second")
    monkeypatch.undo()
    assert client.query("SELECT count() FROM events") == [(1,)]


def test_wrong_columns_and_values_are_fatal(client):
    with pytest.raises(FatalError, match="no_such"):
        client.insert("events", {"no_such": [1]}, token="x")
    with pytest.raises(FatalError, match="IP"):
        client.insert("events", events(1, ip=["1234"]), token="x")
    with pytest.raises(FatalError):
        client.insert("events", events(1, value=["many"]), token="x")
    with pytest.raises(FatalError):
        client.insert("nope", {"a": [1]}, token="x")
    assert client.query("SELECT count() FROM events") == [(0,)]


class Column(list):
    """A list that a test can watch."""


def test_columns_are_let_go_when_they_are_sent_without_a_garbage_collector(client):
    column = Column(["PageView"])
    watched = weakref.ref(column)
    gc.disable()
    try:
        client.insert("events", events(1, event_name=column), token="t")
        del column
        assert watched() is None
    finally:
        gc.enable()


def test_the_address_is_checked():
    with pytest.raises(FatalError, match="CLICKHOUSE_URL"):
        ClickHouse("ftp://example.org")


def test_a_running_query_is_waited_for(clickhouse_url, client):
    other = ClickHouse(clickhouse_url, database="")

    def slow():
        other.insert(
            "FUNCTION null('a UInt8')",
            {"a": [1] * 3},
            token="slow",
            types={"a": "UInt8"},
        )
        other._call(
            lambda c: c.command(
                "SELECT sleepEachRow(0.5) FROM numbers(4) FORMAT Null", settings={"query_id": "slow-one"}
            )
        )

    thread = threading.Thread(target=slow)
    thread.start()
    seen = False
    while thread.is_alive() and not seen:
        seen = not client.wait_query_end("slow-one", 0)
    assert seen
    assert client.wait_query_end("slow-one", 20)
    thread.join(5)
    assert not thread.is_alive()
    other.close()


def test_an_insert_without_an_answer_returns_when_the_server_is_done(clickhouse_url, fresh_database):
    # It takes 2.2 s, longer than an answer is waited for; a busy server may begin it 1.8 s late.
    client = ClickHouse(clickhouse_url, database=fresh_database, timeout_s=2.0)
    client.command("CREATE TABLE slow (a UInt8, b UInt8 MATERIALIZED sleepEachRow(1.1)) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(RetryError):
        client.insert("slow", {"a": [1, 2]}, token="late")
    assert client.query("SELECT count() FROM slow") == [(2,)]
    client.close()
