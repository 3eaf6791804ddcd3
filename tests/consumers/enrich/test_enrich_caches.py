"""The caches of the enrichment: all listed, all bounded, all countable."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import consumers.enrich
import schemas
from consumers.enrich.caches import CACHES, cache_info
from schemas.language import language


def test_every_cache_is_listed_and_bounded():
    found = set()
    for package in (consumers.enrich, schemas):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    found.add(value)
    assert found == set(CACHES.values())
    assert all(info.maxsize for info in cache_info().values())


def test_hits_are_counted_by_name():
    language("eo", "")
    before = cache_info()["language"].hits
    language("eo", "")
    assert cache_info()["language"].hits == before + 1
