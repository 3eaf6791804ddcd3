"""What a batch became, as columns; each column a value per row, of the type its table has."""

import re
from decimal import Decimal
from importlib.resources import files
from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from support.events import event_of, fields_of
from support.simulated_hits import BASE_MS

from consumers.batch import Batch, RejectedRecord, SpoolCount
from consumers.log_reader.port import Record
from consumers.rows import NO_ADDRESS, address_text, batch_columns, event_columns, rejected_columns
from schemas.event import Item
from schemas.rejection import Reason, Rejection

BATCH = Batch("hits", 3, 10, 19, BASE_MS, [])


def event(**fields):
    required = {
        "site": "shop",
        "event_name": "PageView",
        "visitor_id": 7,
        "ts": BASE_MS,
        "ts_source": "client",
        "received_at": BASE_MS + 1,
        "source": "pixel",
        "spool_id": 1,
        "spool_seq": 2,
    }
    return event_of(**required | fields)


def columns_of(table):
    migrations = sorted(files("schemas").joinpath("clickhouse").iterdir(), key=lambda path: path.name)
    text = "\n".join(path.read_text() for path in migrations if path.name.endswith(".sql"))
    body = re.search(rf"CREATE TABLE IF NOT EXISTS {table}\n\((.*?)\n\)\nENGINE", text, re.DOTALL)[1]
    made = [line.split()[0] for line in body.splitlines() if re.match(r"    [a-z_]+ ", line) and "INDEX" not in line]
    alters = re.findall(rf"ALTER TABLE {table}\s(.*?);\n", text, re.DOTALL)
    return made + re.findall(r"ADD COLUMN IF NOT EXISTS ([a-z_]+) ", " ".join(alters))


def test_events():
    item = Item("s", "n", "c", Decimal("1.5"), 2)
    columns = event_columns(BATCH, [(10, event(ip="192.0.2.0", items=(item,))), (12, event(value=Decimal("0.1")))])
    assert set(columns) == set(columns_of("events"))
    assert columns["log_offset"] == [10, 12]
    assert [columns[name] for name in ("log_partition", "batch_first", "batch_last")] == [[3, 3], [10, 10], [19, 19]]
    assert [columns[name] for name in ("ts", "received_at")] == [[BASE_MS] * 2, [BASE_MS + 1] * 2]
    assert columns["items"] == [(("s", "n", "c", Decimal("1.5"), 2),), ()]
    assert columns["value"] == [0, Decimal("0.1")]
    assert columns["ip"] == ["::ffff:192.0.2.0", NO_ADDRESS]


def test_every_value_stands_under_the_name_of_its_field():
    fields = fields_of(event_of())
    texts = {name: name for name, value in fields.items() if isinstance(value, str)}
    numbers = {name: 1000 * number for number, name in enumerate(fields) if type(fields[name]) is int}
    columns = event_columns(BATCH, [(10, event_of(**texts, **numbers, is_bot=True))])
    expected = {**texts, **numbers, "is_bot": True, "ip": NO_ADDRESS}
    assert {name: values for name, values in columns.items() if name in expected} == {
        name: [value] for name, value in expected.items()
    }


def test_columns_made_again_are_the_same():
    events = [(10, event(ip="192.0.2.0")), (12, event(ip="2001:db8::"))]
    assert event_columns(BATCH, events) == event_columns(BATCH, events)


def test_rejected():
    rejection = Rejection(Reason.BAD_JSON, "why")
    named = RejectedRecord(Record(11, b"", b"raw"), rejection, BASE_MS + 5, "shop", 1, 2)
    nameless = RejectedRecord(Record(12, b"", b"\xff"), rejection, 0, "", 0, 0)
    columns = rejected_columns(BATCH, [named, nameless])
    assert set(columns) == set(columns_of("rejected"))
    assert columns["received_at"] == [BASE_MS + 5, BASE_MS], "a record that names no time gets the batch's"
    assert columns["raw"] == [b"raw", b"\xff"]
    assert columns["reason"] == ["bad_json", "bad_json"]
    assert columns["log_offset"] == [11, 12]


def test_batches():
    first, second = SpoolCount(1, 5, 9, BASE_MS + 5), SpoolCount(0, 0, 0, 0)
    first.inserted, first.rejected, first.duplicate, first.filtered, first.resent = 1, 2, 3, 4, 5
    second.rejected = 1
    columns = batch_columns(BATCH, [first, second])
    assert set(columns) == set(columns_of("batches")) - {"loaded_at"}
    assert columns["topic"] == ["hits", "hits"]
    assert columns["received_at"] == [BASE_MS + 5, BASE_MS]
    assert [columns[name][0] for name in ("inserted", "rejected", "duplicate", "filtered", "resent")] == [1, 2, 3, 4, 5]


def test_every_column_has_a_value_per_row():
    columns = batch_columns(BATCH, [SpoolCount(1, 0, 0, 0)] * 3)
    assert {len(values) for values in columns.values()} == {3}


@given(st.ip_addresses())
def test_any_address_is_an_ipv6_one_and_comes_back(address):
    back = IPv6Address(address_text(str(address)))
    assert address in (back, back.ipv4_mapped)


@given(st.text(max_size=20))
def test_what_is_no_address_is_none(text):
    assert IPv6Address(address_text(text))
