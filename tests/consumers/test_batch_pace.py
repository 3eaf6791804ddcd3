"""When a batch is due: examples, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.batch_pace import BatchLimits, Gathered, Pressure, age_due_s, is_due

LIMITS = BatchLimits(rows_max=1000, bytes_max=1 << 20, age_s_min=0.25, age_s_max=2.0, parts_max=600)
CALM = Pressure()

limits = st.builds(
    lambda rows, size, least, more, parts: BatchLimits(rows, size, least + more, least, parts),
    st.integers(1, 10**6),
    st.integers(1, 1 << 30),
    st.floats(0, 10),
    st.floats(0.001, 60),
    st.integers(1, 10**5),
)
pressures = st.builds(Pressure, st.integers(0, 10**6), st.floats(0, 1000))
gathers = st.builds(Gathered, st.integers(0, 10**6), st.integers(0, 1 << 31), st.floats(0, 1000))


@pytest.mark.parametrize(
    ("pressure", "age_s"),
    [
        (CALM, 0.25),
        (Pressure(parts=9), 0.25),
        (Pressure(parts=30), 0.8),
        (Pressure(parts=60), 1.6),
        (Pressure(parts=75), 2.0),
        (Pressure(parts=599), 2.0),
        (Pressure(inserts_s=0.06), 0.25),
        (Pressure(inserts_s=0.25), 1.0),
        (Pressure(inserts_s=30), 2.0),
        (Pressure(parts=30, inserts_s=0.25), 1.0),
    ],
)
def test_a_batch_gathers_longer_the_more_clickhouse_has_to_do(pressure, age_s):
    assert age_due_s(pressure, LIMITS) == pytest.approx(age_s)
    assert not is_due(Gathered(1, 1, age_s - 0.01), pressure, LIMITS)
    assert is_due(Gathered(1, 1, age_s + 0.01), pressure, LIMITS)


@pytest.mark.parametrize("gathered", [Gathered(1000, 1, 0.0), Gathered(1, 1 << 20, 0.0)])
def test_a_full_batch_is_due_at_once(gathered):
    assert is_due(gathered, Pressure(599, 30), LIMITS)


def test_nothing_is_no_batch_however_old():
    assert not is_due(Gathered(0, 0, 1e9), CALM, LIMITS)


@given(gathers, pressures, limits)
def test_nothing_makes_a_part_where_there_are_too_many(gathered, pressure, limits):
    crowded = pressure._replace(parts=max(pressure.parts, limits.parts_max))
    assert not is_due(gathered, crowded, limits)


@given(gathers, pressures, limits)
def test_nothing_waits_longer_than_the_age_allows_where_there_are_few(gathered, pressure, limits):
    few = pressure._replace(parts=min(pressure.parts, limits.parts_max - 1))
    old = gathered._replace(records=max(gathered.records, 1), age_s=max(gathered.age_s, limits.age_s_max))
    assert is_due(old, few, limits)
    assert limits.age_s_min <= age_due_s(few, limits) <= limits.age_s_max


@given(gathers, pressures, limits, st.integers(0, 1000), st.floats(0, 100))
def test_more_to_do_never_makes_a_batch_due_sooner(gathered, pressure, limits, parts, inserts_s):
    more = Pressure(pressure.parts + parts, pressure.inserts_s + inserts_s)
    assert is_due(gathered, pressure, limits) or not is_due(gathered, more, limits)


@given(gathers, pressures, limits, gathers)
def test_what_is_due_stays_due_as_more_comes(gathered, pressure, limits, fresh):
    more = Gathered(*(one + other for one, other in zip(gathered, fresh, strict=True)))
    assert is_due(more, pressure, limits) or not is_due(gathered, pressure, limits)
