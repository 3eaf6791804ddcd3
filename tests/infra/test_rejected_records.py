"""Filters, pages and names of rejected records, against a real ClickHouse."""

import pytest
from support.simulated_hits import BASE_MS, DAY_MS, hit, records

from consumers.batch import Batch
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from infra.command import rejected_records
from infra.command.errors import UserError
from infra.command.rejected import judged
from infra.command.rejected_records import newest, pages, present, reasons, wanted
from infra.migrate import migrate
from schemas.hit import name_text
from schemas.limits import Limits
from schemas.session import SessionRule

RULE = SessionRule()
ONLY_SHOP = Rules(Limits(sites=frozenset({"shop"})), {})
ANY_SITE = Rules(Limits(), {})
ODD = b'\xff\x00"\n'
VALUES = [
    hit(0, params={"s": "blog", "p.a": "b"}),
    hit(1, at=BASE_MS + 1, params={"v": "wrong"}),
    hit(2, at=BASE_MS + 2),
    ODD,
    hit(3, at=BASE_MS + DAY_MS, params={"s": "blog"}, replay_of=name_text(9, 9)),
    hit(4, at=BASE_MS + 2 * DAY_MS, params={"s": "blog", "v": "wrong"}),
    hit(0, spool=5, replay_of=name_text(1, 1)),
]


@pytest.fixture(scope="module")
def client(clickhouse_url):
    admin = ClickHouse(clickhouse_url, database="")
    name = "test_rejected_records"
    admin.command(f"DROP DATABASE IF EXISTS {name} SYNC")
    made = ClickHouse(clickhouse_url, database=name, timeout_s=60)
    migrate(made)
    batch = Batch("hits", 5, 10, 9 + len(VALUES), BASE_MS, records(VALUES, 10))
    loaded = finish(prepare(batch.records, Marks(), ONLY_SHOP), SessionState(RULE, 1 << 60))
    ClickHouseStore(made).load(batch, loaded)
    yield made
    made.close()
    admin.command(f"DROP DATABASE IF EXISTS {name} SYNC")
    admin.close()


def names(found):
    return [record.name for record in found]


def all_of(client, **filters):
    return [record for page in pages(client, wanted(**filters)) for record in page]


ALL = [name_text(1, 0), "hits:5:13", name_text(1, 1), name_text(1, 3), name_text(1, 4)]


@pytest.mark.parametrize("page_rows", [1, 2, 500])
def test_pages_give_each_record_once_oldest_first_with_its_bytes(client, monkeypatch, page_rows):
    monkeypatch.setattr(rejected_records, "PAGE_ROWS", page_rows)
    found = all_of(client)
    assert names(found) == ALL
    assert [record.raw for record in found] == [VALUES[place] for place in (0, 3, 1, 4, 5)]


def test_the_newest_come_first(client):
    assert names(newest(client, wanted(), 3)) == ALL[:-4:-1]
    assert reasons(client, wanted()) == [("bad_value", 2), ("unknown_site", 2), ("bad_json", 1)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"reasons": ("unknown_site",)}, [ALL[0], ALL[3]]),
        ({"reasons": ("unknown_site", "bad_json")}, [ALL[0], ALL[1], ALL[3]]),
        ({"site": "blog"}, [ALL[0], ALL[3], ALL[4]]),
        ({"site": "it's\\"}, []),
        ({"since": "2025-06-16"}, [ALL[3], ALL[4]]),
        ({"until": "2025-06-16"}, ALL[:3]),
        ({"since": "2025-06-16", "until": "2025-06-17", "site": "blog"}, [ALL[3]]),
        ({"names": (ALL[4], ALL[1])}, [ALL[1], ALL[4]]),
        ({"names": ("hits:5:10",)}, [ALL[0]]),
        ({"names": ("other:5:10", name_text(2, 0), "hits:4:10")}, []),
    ],
)
def test_filters(client, filters, expected):
    assert names(all_of(client, **filters)) == expected


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"reasons": ("nonsense",)}, "use bad_json, bad_hit"),
        ({"since": "yesterday"}, "is no time"),
        ({"names": ("x",)}, "is no name of a rejected record"),
        ({"names": (":5:10",)}, "is no name of a rejected record"),
        ({"names": ("hits:5:-1",)}, "is no name of a rejected record"),
        ({"names": ("hits:5:" + "9" * 20,)}, "is no name of a rejected record"),
    ],
)
def test_a_wrong_filter_says_what_to_write(filters, words):
    with pytest.raises(UserError, match=words):
        wanted(**filters)


def test_what_has_a_row_and_what_has_not(client):
    found = all_of(client)
    assert present(client, found) == {name_text(1, 1)}, "its replay passed"
    assert present(client, []) == set()


def test_verdicts_are_the_workers_own(client):
    found = all_of(client)
    done = present(client, found)
    before = [judged(record, ONLY_SHOP, done) for record in found]
    after = [judged(record, ANY_SITE, done) for record in found]
    assert [one["now"] for one in before] == ["rejected", "no hit", "present", "rejected", "rejected"]
    assert [one["now"] for one in after] == ["passes", "no hit", "present", "passes", "rejected"]
    assert before[0]["why"] == "unknown_site: site 'blog' is not defined"
    assert after[1]["why"].startswith("cannot be replayed: bad_json")
    assert after[4]["why"].startswith("bad_value: ")
    assert after[3]["replay_of"] == name_text(9, 9), "a replay of a replay names the first"
    assert after[0]["replay_of"] == found[0].name
