"""What an insert met, from what the engine noted before and after it; on the engine itself: test_clickhouse_server."""

import pytest

from infra.clickhouse_server.write_errors import error_met

BEFORE = b"62\t7\n252\t1\n"


@pytest.mark.parametrize(
    ("notes", "code"),
    [
        (b"", None),
        (b"62\tSYNTAX_ERROR\t7\told\t0\n252\tTOO_MANY_PARTS\t1\told\t0\n", None),
        (b"252\tTOO_MANY_PARTS\t2\tours\t1\n", 252),
        (b"469\tVIOLATED_CONSTRAINT\t1\tours \\' \xff\t1\n", 469),
        (b"252\tTOO_MANY_PARTS\t2\tthe one of another\t0\n", None),  # one error, and that is another's
        (b"252\tTOO_MANY_PARTS\t3\tthe one of another\t0\n", 236),  # the former may be ours
        (b"469\tVIOLATED_CONSTRAINT\t2\tthe one of another\t0\n", 236),
        (b"469\tVIOLATED_CONSTRAINT\t2\tanother's\t0\n252\tTOO_MANY_PARTS\t2\tours\t1\n", 252),
    ],
)
def test_an_error_that_is_ours_or_may_hide_ours_counts(notes, code):
    met = error_met(BEFORE, notes)
    assert (met.code if met else None) == code
