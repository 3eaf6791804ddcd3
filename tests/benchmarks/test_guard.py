"""The hot-path guard under valgrind: one needless decode a hit does not pass."""

import orjson
import pytest
from support.programs import needed

from benchmarks.guard import BOUNDS, INSTRUCTIONS_MARGIN, Check, build_of_python, instructions

NEEDLESS_DECODE = """
import orjson
from ingest.hit_builder import HitBuilder
pixel = HitBuilder.pixel
HitBuilder.pixel = lambda self, *parts: decoded(pixel(self, *parts))
def decoded(hit):
    orjson.loads(hit)
    return hit
"""


def check(patch=""):
    recorded = orjson.loads(BOUNDS.read_bytes())["instructions"].get(build_of_python())
    committed = recorded or instructions()  # a Python without a bound is held against itself
    return Check("instructions a hit", instructions(patch), committed, INSTRUCTIONS_MARGIN)


@pytest.mark.outside
def test_one_needless_decode_a_hit_fails_the_guard():
    needed("valgrind", "valgrind")
    found = check(NEEDLESS_DECODE)
    assert found.measured > found.committed * found.margin


@pytest.mark.parametrize(
    ("measured", "committed", "fine"),
    [(100, 100, True), (109, 100, True), (111, 100, False), (50, 100, True), (100, 0, False), (0, 100, False)],
)
def test_what_passes_a_bound_or_has_none_fails(measured, committed, fine):
    assert Check("x", measured, committed, 1.10).fine is fine
