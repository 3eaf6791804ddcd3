"""The ledger's arithmetic and its words."""

import orjson
import pytest

from infra.ledger import LoadedState, PartitionState, SpoolState, as_json, by_spool, total, verdict

SPOOLS = [SpoolState(0xA, 100, 90, 4), SpoolState(0xB, 50, 50, 0)]


def loaded(missing=0):
    return [LoadedState(0xA, 60 - missing, 10, 5, 1, 7), LoadedState(0xB, 50, 0, 0, 0, 0)]


def test_hits_in_spool_and_log_are_in_flight():
    ledger = total(SPOOLS, loaded(), [PartitionState(0, 100, 93), PartitionState(1, 60, 53)])
    assert ledger.as_object() == {
        "appended": 150,
        "inserted": 110,
        "rejected": 10,
        "duplicate": 5,
        "filtered": 1,
        "damaged": 4,
        "in_flight": 20,
        "balance": 0,
        "in_spool": 6,
        "in_log": 14,
        "resent": 7,
    }
    assert verdict(ledger) == "balanced: every appended hit is accounted for, 20 on the way"


@pytest.mark.parametrize(
    ("appended", "inserted", "balance", "words"),
    [
        (10, 10, 0, "balanced: every appended hit is accounted for"),
        (10, 7, 3, "NOT balanced: 3 appended hits are missing"),
        (10, 12, -2, "NOT balanced: 2 hits more than were appended"),
    ],
)
def test_a_settled_ledger_is_exact(appended, inserted, balance, words):
    spools = [SpoolState(1, appended, appended, 0)]
    ledger = total(spools, [LoadedState(1, inserted, 0, 0, 0, 0)], [PartitionState(0, 12, 12)])
    assert (ledger.settled, ledger.balance, verdict(ledger)) == (True, balance, words)


def test_an_unsettled_ledger_says_so():
    ledger = total([SpoolState(1, 10, 10, 0)], [], [PartitionState(0, 12, 0)])
    assert ledger.balance == -2
    assert verdict(ledger).startswith("12 hits are on the way")


def test_what_the_log_has_more_of_than_batches_never_counts_below_zero():
    assert total([], [], [PartitionState(0, 5, 9)]).in_flight == 0


def test_by_spool_names_every_spool_and_a_stranger_does_not_balance():
    rows = by_spool(SPOOLS, [*loaded(), LoadedState(0xC, 3, 0, 0, 0, 0)])
    assert [(ident, ledger.in_spool, ledger.in_log, ledger.balance) for ident, ledger in rows] == [
        (0xA, 6, 14, 0),
        (0xB, 0, 0, 0),
        (0xC, 0, 0, -3),
    ]


def test_json_has_the_contract_names():
    ledger = total(SPOOLS, loaded(), [])
    content = orjson.loads(orjson.dumps(as_json(ledger, by_spool(SPOOLS, loaded()))))
    assert list(content)[:8] == [
        "appended",
        "inserted",
        "rejected",
        "duplicate",
        "filtered",
        "damaged",
        "in_flight",
        "balance",
    ]
    assert content["spools"][0]["spool_id"] == "000000000000000a"
    assert "spools" not in as_json(ledger)
