"""The search for the rate that a pipeline holds, on pipelines whose rate is known."""

import pytest

from benchmarks.first_seen import Latency, latency
from benchmarks.paced_wrk import Answers, parsed, prepare
from benchmarks.steady_rate import GROWTH_LONG, STEP, Bounds, Look, bracket, confirm, judge, search, slope

WRK = """
  Latency Distribution
     50%  393.00us
     75%    0.90ms
     90%    2.10ms
     99%    4.52ms
  80218 requests in 4.02s, 20.9MB read
"""


def looks(*lags):
    return [Look(float(second), lag) for second, lag in enumerate(lags)]


def test_the_slope_is_that_of_a_line_through_all_looks():
    assert slope(looks(100, 200, 300)) == pytest.approx(100)
    assert slope(looks(900, 1100, 900, 1100, 900)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("answered_per_s", "lags", "queryable_s", "held"),
    [
        (1000, (900, 1100, 900, 1100, 900), 3.0, True),
        (1000, (900, 800, 700, 600, 500), 3.0, True),
        (1000, (900, 920, 940, 960, 980), 3.0, False),  # 2 % of the rate more each second
        (970, (900, 1100, 900, 1100, 900), 3.0, False),  # the edge does not hold it
        (1000, (10_900, 11_100, 10_900, 11_100, 10_900), 3.0, False),  # all wait for eleven seconds
        (1000, (900, 1100, 900, 1100, 900), 3.1, False),  # one of a hundred waits too long
    ],
)
def test_what_holds_a_rate(answered_per_s, lags, queryable_s, held):
    assert judge(1000, answered_per_s, looks(*lags), queryable_s, Bounds(GROWTH_LONG)).held is held


@pytest.mark.parametrize("holds_up_to", [3_000, 5_500, 9_900])
def test_the_search_ends_just_below_what_is_held(holds_up_to):
    asked = []

    def holds(rate):
        asked.append(rate)
        return rate <= holds_up_to

    found = search(holds, 2_500, 10_000, trials=6)
    assert found <= holds_up_to < found * 1.03
    assert len(asked) == 6


@pytest.mark.parametrize("holds_up_to", [700, 2_400, 2_501, 9_000, 25_000])
def test_the_bracket_holds_what_is_searched_for(holds_up_to):
    low, high = bracket(lambda rate: rate <= holds_up_to, 2_500, 1.6, trials=6)
    assert low <= holds_up_to < high == pytest.approx(1.6 * low)


def test_the_bracket_is_bounded():
    assert bracket(lambda _: True, 1_000, 2, trials=4) == (8_000, 16_000)
    assert bracket(lambda _: False, 1_000, 2, trials=4) == (62.5, 125)


@pytest.mark.parametrize(
    ("holds_up_to", "found", "trials"),
    [(1_000, 1_000, 2), (1_100, 1_000 / STEP, 3), (999, 1_000 * STEP, 2), (800, 1_000 * STEP**3, 4), (100, 0, 6)],
)
def test_long_trials_go_up_or_down_to_the_highest_rate_that_holds(holds_up_to, found, trials):
    asked = []

    def holds(rate):
        asked.append(rate)
        return rate <= holds_up_to

    assert confirm(holds, 1_000, 6) == pytest.approx(found)
    assert len(asked) == trials


def test_quantiles_of_latency_are_those_of_all_rows():
    times = [(1_000, 1_000.0 + waited) for waited in range(1, 101)]
    assert latency(times) == Latency(100, 51, 100, 100)
    assert latency([(5, 7.4)]) == Latency(1, 2, 2, 2)
    with pytest.raises(SystemExit):
        latency([])


def test_what_wrk_says_is_read():
    assert parsed(WRK, 1.6) == Answers(
        80218, pytest.approx(19954.7, rel=1e-4), 0.393, 4.52, pytest.approx(19.9, rel=1e-2)
    )


@pytest.mark.parametrize("said", ["", WRK.replace("80218", "0"), WRK + "Non-2xx or 3xx responses: 3"])
def test_a_run_that_did_not_go_well_ends_the_bench(said):
    with pytest.raises(SystemExit):
        parsed(said, 1.0)


def test_requests_are_whole_and_differ_by_visitor(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.paced_wrk.VISITORS", 200)
    path, size = prepare(tmp_path)
    parts = path.read_bytes().split(b"\0")[:-1]
    whole = [b"0123456789abcdef".join(parts[at : at + 2]) + b"1700000000000" + parts[at + 2] for at in range(0, 600, 3)]
    assert sum(map(len, whole)) / 200 == pytest.approx(size)
    assert all(request.startswith(b"GET /p.gif?s=shop&") and request.endswith(b"\r\n\r\n") for request in whole)
    assert len({request.partition(b"_hs=")[2][:16] for request in whole}) == 200
    assert len({request.partition(b"User-Agent: ")[2].partition(b"\r\n")[0] for request in whole}) > 20
