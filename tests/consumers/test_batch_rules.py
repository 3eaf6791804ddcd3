"""A batch is judged by the rules it was registered under, whoever forms it again with whatever settings."""

import msgspec
import pytest
from support.simulated_hits import BASE_MS, hit
from support.worker_box import RULES, Box, hits

from consumers.batch_rules import BatchRules
from consumers.rules import Rules
from schemas.errors import RetryError
from schemas.limits import Limits
from schemas.session import SessionRule

SHOP_ONLY = msgspec.structs.replace(RULES, rules=Rules(Limits(sites=frozenset({"shop"})), {"shop": ("shop.example",)}))
TABLES = ("events", "rejected", "batches")


def cut_in_half(rules, values, tables=1):
    """A box that died once it had filled so many of its batch's tables."""
    box = Box(values, rules=rules)
    insert = box.clickhouse.insert

    def dying(table, columns, *, token):
        nonlocal tables
        if table in TABLES:
            if not tables:
                raise RetryError("and then it is killed")
            tables -= 1
        insert(table, columns, token=token)

    box.clickhouse.insert = dying
    box.step(2)
    box.clickhouse.insert = insert
    return box


def successor(box, values, rules):
    return Box(values, box.log.registered, box.clickhouse, rules)


@pytest.mark.parametrize(
    ("before", "after", "tables"),
    [(SHOP_ONLY, RULES, tables) for tables in (0, 1, 2)] + [(RULES, SHOP_ONLY, tables) for tables in (0, 1)],
)
def test_a_batch_that_was_cut_in_half_is_formed_again_by_the_rules_it_was_registered_under(before, after, tables):
    values = [hit(0), hit(1, params={"s": "blog"}), hit(2), hit(3, params={"s": "blog"})]
    whole = Box(values[:3], rules=before)
    whole.step(2)
    first = cut_in_half(before, values[:3], tables)
    again = successor(first, values, after)
    again.step(2)
    assert again.calls == [("heal", 0, 2)]
    for table in TABLES:
        assert again.clickhouse.rows(table) == whole.clickhouse.rows(table), "as if nobody had died"
    again.step(4)
    assert again.calls[1:] == [("register", 3, 3), ("load", 3, 3)]
    assert again.log.registered.rules != first.log.registered.rules
    assert again.rows() == whole.rows() + ([3] if after is RULES else []), "what follows is judged by the new rules"
    assert len(again.clickhouse.rows("batch_rules")) == 2


def test_sessions_after_a_batch_by_other_rules_follow_todays_rule():
    short = msgspec.structs.replace(RULES, session=SessionRule(gap_ms=60_000, event_ids_max=1))
    values = [hit(seq, at=BASE_MS + seq * 90_000, params={"id": str(seq)}) for seq in range(4)]
    values += [hit(4, at=BASE_MS + 270_000, params={"id": "2"})]
    again = successor(cut_in_half(short, values[:3]), values, RULES)
    again.step(6)
    sessions = [row["session_id"] for row in again.clickhouse.rows("events")]
    assert len(set(sessions[:3])) == 3, "a gap of 90 s ended a session then"
    assert sessions[2:] == [sessions[2]] * 2, "and does so no longer; the repeat of id 2 is known again"


def test_a_rebuild_that_fails_after_such_a_batch_is_tried_again():
    first = cut_in_half(SHOP_ONLY, hits(3))
    again = successor(first, hits(6), RULES)
    again.step(1)
    resume, failures = again.store.resume, [RetryError("x"), RetryError("y")]

    def failing(*place):
        if failures:
            raise failures.pop()
        return resume(*place)

    again.store.resume = failing
    again.step(8)
    assert not failures
    assert again.rows() == [0, 1, 2, 3, 4, 5]


def test_rules_that_are_lost_are_replaced_by_todays_and_that_is_said(caplog):
    first = cut_in_half(SHOP_ONLY, hits(3))
    first.clickhouse.tables["batch_rules"].rows.clear()
    again = successor(first, hits(3), RULES)
    again.step(2)
    assert again.rows() == [0, 1, 2]
    assert f"registered under rules {first.log.registered.rules}, which ClickHouse lacks" in caplog.text


def test_rules_are_kept_once_and_read_back_as_they_were():
    box = Box(hits(3), rules=SHOP_ONLY)
    box.step(3)
    Box(hits(3), box.log.registered, box.clickhouse, SHOP_ONLY).step(2)
    (row,) = box.clickhouse.rows("batch_rules")
    rules = BatchRules.of(SHOP_ONLY.rules, SHOP_ONLY.session)
    assert row == {"name": rules.name, "rules": rules.text}
    assert BatchRules.from_text(rules.text).name == rules.name == box.log.registered.rules


def test_the_name_depends_on_every_rule_and_on_no_order():
    sites = BatchRules.of(Rules(Limits(sites=frozenset("abc")), {"a": (), "b": ()}), SessionRule())
    assert BatchRules.of(Rules(Limits(sites=frozenset("cba")), {"b": (), "a": ()}), SessionRule()).name == sites.name
    others = [
        BatchRules.of(Rules(Limits(sites=frozenset("ab")), {"a": (), "b": ()}), SessionRule()),
        BatchRules.of(Rules(Limits(sites=frozenset("abc")), {"a": ("a.example",), "b": ()}), SessionRule()),
        BatchRules.of(Rules(Limits(sites=frozenset("abc"), items_max=1), {"a": (), "b": ()}), SessionRule()),
        BatchRules.of(Rules(Limits(sites=frozenset("abc")), {"a": (), "b": ()}), SessionRule(gap_ms=1)),
        BatchRules.of(
            Rules(Limits(sites=frozenset("abc")), {"a": (), "b": ()}), SessionRule(sites={"a": SessionRule(gap_ms=1)})
        ),
    ]
    assert len({sites.name, *(other.name for other in others)}) == 6


def test_session_rules_of_sites_are_written_down_and_read_back():
    slow, long = SessionRule(gap_ms=7), SessionRule(length_ms_max=9)
    rules = BatchRules.of(Rules(Limits(), {}), SessionRule(sites={"slow": slow, "long": long}))
    other_order = BatchRules.of(Rules(Limits(), {}), SessionRule(sites={"long": long, "slow": slow}))
    assert other_order.name == rules.name
    found = BatchRules.from_text(rules.text)
    assert (found.session, found.name) == (rules.session, rules.name)
    assert [found.session.of(site) for site in ("slow", "long", "x")] == [slow, long, rules.session]


def test_a_batch_is_cut_into_sessions_by_its_sites_rule_of_then():
    short = msgspec.structs.replace(RULES, session=SessionRule(sites={"shop": SessionRule(gap_ms=60_000)}))
    values = [hit(seq, at=BASE_MS + seq * 90_000) for seq in range(3)]
    again = successor(cut_in_half(short, values), values, RULES)
    again.step(2)
    assert len({row["session_id"] for row in again.clickhouse.rows("events")}) == 3


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"rules":7,"session":{}}'])
def test_a_text_that_is_none_is_none(text):
    assert BatchRules.from_text(text) is None


def test_a_text_of_a_release_with_fewer_rules_gets_their_defaults():
    found = BatchRules.from_text('{"rules":{"limits":{"items_max":3},"domains":{}},"session":{}}')
    assert found.rules == Rules(Limits(items_max=3), {})
    assert found.session == SessionRule()


def test_rules_that_change_hold_from_the_next_batch_on_and_lose_nothing():
    values = [hit(seq, params={"s": "blog" if seq % 2 else "shop"}) for seq in range(8)]
    box = Box(values)
    box.log.few = 2
    box.step(3, after_s=0.4)  # recovered, and two batches' worth of fetching: one is loaded, one is being gathered
    before = list(box.calls)
    box.worker.go_by(SHOP_ONLY)
    assert not box.worker.goes_by(SHOP_ONLY)
    box.step(12)
    assert box.worker.goes_by(SHOP_ONLY)
    registered = [call for call in box.calls if call[0] == "register"]
    assert box.calls[: len(before)] == before
    assert registered[-1][2] == 7
    first_by_new = registered[len([call for call in before if call[0] == "register"])][1]
    assert box.rows() == [seq for seq in range(8) if seq < first_by_new or seq % 2 == 0]
    assert 0 < first_by_new < 7
    assert box.log.registered.rules == BatchRules.of(SHOP_ONLY.rules, SHOP_ONLY.session).name
    assert len(box.clickhouse.rows("batch_rules")) == 2


def test_a_registration_under_way_keeps_its_rules_when_they_change():
    box = Box([*hits(3), hit(3, params={"s": "blog"})])
    box.step()
    box.log.fail["register"] = [RetryError("no answer")]
    box.step()
    box.worker.go_by(SHOP_ONLY)
    box.step(6)
    assert [call for call in box.calls if call[0] == "register"] == [("register", 0, 2)] * 2 + [("register", 3, 3)]
    assert len(box.clickhouse.rows("batch_rules")) == 2
    assert box.rows() == [0, 1, 2]


def test_a_worker_that_had_nothing_to_load_yet_goes_by_the_new_rules_from_its_first_batch_on():
    box = Box([])
    box.step(2)
    box.worker.go_by(SHOP_ONLY)
    box.step()
    box.log.records = Box([hit(0), hit(1, params={"s": "blog"}), hit(2)]).log.records
    box.step(3)
    assert box.rows() == [0, 2]
    assert [row["reason"] for row in box.clickhouse.rows("rejected")] == ["unknown_site"]


def test_what_gathered_when_the_rules_change_is_judged_by_the_new_ones_and_not_taken_for_sent_again():
    box = Box([hit(0), hit(1, params={"s": "blog"})])
    box.step(2)
    assert box.calls == [], "it waits for company"
    box.worker.go_by(SHOP_ONLY)
    box.step(4, after_s=0.6)
    assert box.calls == [("register", 0, 1), ("load", 0, 1)]
    assert box.rows() == [0]
    assert [row["reason"] for row in box.clickhouse.rows("rejected")] == ["unknown_site"]
    assert box.worker.counters.resent == 0


def test_sessions_go_on_by_a_rule_that_changes_meanwhile():
    short = msgspec.structs.replace(RULES, session=SessionRule(gap_ms=60_000))
    box = Box([hit(seq, at=BASE_MS + seq * 90_000) for seq in range(6)], rules=short)
    box.step(2)
    box.worker.go_by(RULES)
    box.step(4)
    ids = [row["session_id"] for row in box.clickhouse.rows("events")]
    assert len(set(ids[:3])) == 3
    assert len(set(ids[2:])) == 1, "what joins the last session of the old rule does so by the new one"


def test_the_same_rules_again_change_nothing():
    box = Box(hits(6))
    box.step(2)
    box.worker.go_by(msgspec.structs.replace(RULES, rules=Rules(Limits(), {})))
    assert box.step(1)
    assert box.calls == [("register", 0, 2), ("load", 0, 2), ("register", 3, 5), ("load", 3, 5)]
