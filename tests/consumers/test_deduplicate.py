"""Transport duplicates: what does not exceed a spool's highest number, exactly."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.deduplicate import Marks


def test_numbers_rise_and_what_does_not_was_there():
    marks = Marks()
    assert [marks.resent(1, seq) for seq in (0, 1, 1, 0, 3, 2)] == [False, False, True, True, False, True]


def test_spools_are_apart():
    marks = Marks([(1, 5)])
    assert marks.resent(1, 5)
    assert not marks.resent(2, 5)
    assert not marks.resent(1, 6)


@given(st.lists(st.integers(1, 6)), st.integers(0, 20))
def test_a_forwarder_that_starts_again_from_any_earlier_place_doubles_nothing(runs, hits):
    """A run is resent from any place not behind what was acknowledged; every hit is let through once, in order."""
    marks = Marks()
    passed = []
    at = 0
    for run in [*runs, hits]:
        at = max(at - run, 0)  # back to the cursor
        for seq in range(at, min(at + 2 * run, hits)):
            if not marks.resent(9, seq):
                passed.append(seq)
            at = seq + 1
    assert passed == list(range(len(passed)))
