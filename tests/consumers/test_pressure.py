"""What a worker knows of ClickHouse's parts and of its own inserts."""

import pytest

from consumers.batch_pace import Pressure
from consumers.pressure import INSERT_KNOWN_S, PARTS_KNOWN_S, Gauge
from schemas.errors import RetryError


class Store:
    def __init__(self, *parts):
        self.counts = list(parts)
        self.asked = 0

    def parts(self):
        self.asked += 1
        count = self.counts.pop(0)
        if isinstance(count, Exception):
            raise count
        return count


def test_parts_are_counted_seldom_and_our_own_are_added_meanwhile():
    store = Store(7, 9)
    gauge = Gauge(store)
    assert gauge.read(1000.0) == Pressure(7, 0.0)
    gauge.note(3, 0.2, 1000.1)
    gauge.note(4, 0.3, 1000.1)
    gauge.note(3, 0.1, 1000.2)
    assert gauge.read(1000.9) == Pressure(10, pytest.approx(0.4))
    assert store.asked == 1
    assert gauge.read(1000.0 + PARTS_KNOWN_S) == Pressure(9, pytest.approx(0.4))


def test_a_clock_that_is_set_back_counts_again():
    gauge = Gauge(Store(7, 8))
    gauge.read(1000.0)
    assert gauge.read(5.0).parts == 8


def test_a_partition_that_loads_nothing_any_longer_counts_no_more():
    gauge = Gauge(Store(1, 1, 1))
    gauge.note(1, 5.0, 1000.0)
    gauge.note(2, 0.5, 1020.0)
    assert gauge.read(1021.0).inserts_s == 5.5
    assert gauge.read(1000.0 + INSERT_KNOWN_S).inserts_s == 0.5


def test_a_count_that_fails_is_asked_for_again():
    gauge = Gauge(Store(RetryError("down"), 3))
    with pytest.raises(RetryError):
        gauge.read(1000.0)
    assert gauge.read(1000.1).parts == 3
