"""Fixtures that any test may ask for, each from its own module of tests/support; how two processes share the work."""

import pytest

pytest_plugins = ["support.clickhouse", "support.kafka", "support.simulation"]

HEAVY = "guarantees"  # whole boxes under load, which want more than a core


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A file's tests go to one process, so that fixtures are made once; those of HEAVY all to one, and they begin.

    So no two boxes are loaded at the same time, and nothing long comes last.
    """
    for item in items:
        heavy = HEAVY in item.path.parts
        item.add_marker(pytest.mark.xdist_group(HEAVY if heavy else str(item.path)))
    items.sort(key=lambda item: HEAVY not in item.path.parts)
