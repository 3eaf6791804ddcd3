"""Loads that are under way while the worker goes on."""

from threading import Barrier, Event

import pytest

from consumers.inserts import Inserts
from schemas.errors import FatalError, RetryError

WAIT_S = 10


@pytest.fixture
def two():
    made = Inserts(2)
    yield made
    made.close()


def test_without_threads_a_load_is_done_at_once():
    loads, ticks = [], iter([1.0, 3.5])
    inserts = Inserts(clock_s=lambda: next(ticks))
    future = inserts.start(lambda *what: loads.append(what), "batch", "loaded")
    assert (future.done(), future.result(), loads) == (True, 2.5, [("batch", "loaded")])
    assert not inserts.wait(WAIT_S)
    inserts.close()


@pytest.mark.parametrize("error", [RetryError, FatalError])
def test_without_threads_what_a_load_raises_is_raised_where_it_is_asked(error):
    def broken(*_):
        raise error("busy")

    future = Inserts().start(broken, None, None)
    with pytest.raises(error, match="busy"):
        future.result()


def test_loads_run_side_by_side_and_no_more_than_may_be(two):
    together, end = Barrier(3), Event()

    def load(*_):
        together.wait(WAIT_S)
        end.wait(WAIT_S)

    futures = [two.start(load, None, None) for _ in range(2)]
    together.wait(WAIT_S)
    assert two.start(load, None, None) is None
    assert not any(future.done() for future in futures)
    end.set()
    assert two.wait(WAIT_S)
    assert any(future.done() for future in futures)
    for future in futures:
        future.result(WAIT_S)
    two.start(lambda *_: None, None, None).result(WAIT_S)


def test_what_a_load_raises_is_raised_where_it_is_asked(two):
    def broken(*_):
        raise RetryError("busy")

    future = two.start(broken, None, None)
    assert two.wait(WAIT_S)
    with pytest.raises(RetryError, match="busy"):
        future.result(WAIT_S)


def test_the_end_waits_for_what_is_under_way(two):
    begun, seen = Event(), []

    def load(*_):
        begun.set()
        seen.append("end")

    two.start(load, None, None)
    two.close()
    assert begun.is_set()
    assert seen == ["end"]
