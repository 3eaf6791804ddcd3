"""Fixtures that any test may ask for, each from its own module of tests/support; how two processes share the work."""

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["support.clickhouse", "support.kafka", "support.simulation"]

HEAVY = "guarantees"  # whole boxes under load, which want more than a core
LONG = (HEAVY, "simulation")  # begin, in this order, so that nothing long comes last
KAFKA = ("kafka", "event_log")  # in the names of the files that ask for the Kafka they share


class ByFile(LoadScopeScheduling):
    """A file's tests go to one process, so that fixtures are made once; those of HEAVY all to one, of KAFKA to one.

    So no two boxes are loaded at the same time, and one Kafka is started, not one in each process. xdist's own groups
    do not work with pytest 9.2, which does not take the names that they give to the tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        path = PurePath(file)
        if HEAVY in path.parts:
            return HEAVY
        return "kafka" if any(name in path.name for name in KAFKA) else file


def pytest_xdist_make_scheduler(config, log):
    """Return how processes share the tests."""
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Those of LONG begin."""
    items.sort(key=lambda item: [name not in item.path.parts for name in LONG])
