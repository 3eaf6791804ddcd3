"""Every combination of mode and signals against the rule in words; and `c` as the worker would read it."""

from itertools import product

import pytest

from ingest.consent import DNT, GPC, Choice, choice_of, verdict_of
from schemas.consent import Verdict

MODES = ("opt-in", "opt-out", "none")
CHOICES = (None, Choice.NO, Choice.YES, Choice.ANALYTICS)


def expected(mode, choice, signals, opted_out):
    """DESIGN's order, written as a list of noes: the first names the verdict; then what says yes."""
    noes = [
        ("denied_optout", opted_out),
        ("denied_param", choice is Choice.NO),
        ("denied_gpc", signals & GPC and mode != "none"),
        ("denied_dnt", signals & DNT and mode != "none"),
    ]
    said = {Choice.YES: "granted", Choice.ANALYTICS: "granted_analytics"}
    silent = {"opt-in": "denied_default", "opt-out": "not_objected", "none": "not_required"}
    return next((name for name, no in noes if no), said.get(choice, silent[mode]))


def test_any_no_is_a_no_and_the_first_names_the_verdict():
    seen = set()
    for mode, choice, signals, opted_out in product(MODES, CHOICES, range(4), (False, True)):
        verdict = verdict_of(mode, choice, signals, opted_out=opted_out)
        assert verdict == expected(mode, choice, signals, opted_out), (mode, choice, signals, opted_out)
        seen.add(verdict)
    assert seen == set(Verdict)


@pytest.mark.parametrize(
    ("c", "choice"),
    [
        (None, None),
        ("", None),
        ("0", Choice.NO),
        ("1", Choice.YES),
        (0, Choice.NO),
        (1, Choice.YES),
        (False, Choice.NO),
        (True, Choice.YES),
        ("analytics", Choice.ANALYTICS),
        ("analytics,ads", Choice.YES),
        ("ads, Analytics", Choice.YES),
        ("ANALYTICS,functional", Choice.ANALYTICS),
        ("ads", Choice.NO),
        ("functional", Choice.NO),
        (" ", Choice.NO),
        ("yes", Choice.NO),
        ("01", Choice.NO),
        (2, Choice.NO),
        (1.0, Choice.NO),
        ([1], Choice.NO),
        ({"analytics": True}, Choice.NO),
    ],
)
def test_what_c_says(c, choice):
    assert choice_of(c) is choice
