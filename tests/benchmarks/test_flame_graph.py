"""Flame graphs: frames add up, callers lie under their callees, and the picture is well-formed and small."""

from xml.etree import ElementTree as ET

import pytest

from benchmarks.flame_graph import Frame, collapsed, drawn, frames, shares

STACKS = {("main",): 10, ("main", "a"): 30, ("main", "a", "b"): 50, ("main", "c"): 10}


def test_lines_of_the_raw_format_become_stacks():
    lines = ["main;a 3\n", "main;a 4", "main;b c;d (x.py:1) 2", "", "no number", "  "]
    assert collapsed(lines) == {("main", "a"): 7, ("main", "b c", "d (x.py:1)"): 2}


def test_a_caller_is_as_wide_as_its_own_time_and_its_callees():
    assert frames(STACKS) == [
        Frame("main", 0, 0, 100),
        Frame("a", 1, 10, 80),
        Frame("b", 2, 40, 50),
        Frame("c", 1, 90, 10),
    ]


def test_what_is_too_narrow_is_left_out_and_shifts_nothing():
    stacks = {("main", "a"): 1, ("main", "b"): 9_998, ("main", "c"): 1}
    assert frames(stacks) == [Frame("main", 0, 0, 10_000), Frame("b", 1, 1, 9_998)]


def test_shares_are_by_name_greatest_first():
    assert shares(STACKS, lambda stack: stack[-1]) == {"b": 0.5, "a": 0.3, "c": 0.1, "main": 0.1}
    assert shares(STACKS, lambda stack: stack[0]) == {"main": 1.0}
    assert list(shares(STACKS, lambda stack: stack[-1], most=2)) == ["b", "a"]


def test_the_picture_is_well_formed_whatever_names_hold():
    stacks = {("<module>", f'operator<< & "{number}"'): 1 for number in range(300)}
    picture = drawn("a < b & c", stacks)
    rects = [element for element in ET.fromstring(picture).iter() if element.tag.endswith("rect")]
    assert len(rects) == 302
    assert all(0 <= float(rect.get("x", 0)) <= 1200 for rect in rects)


@pytest.mark.parametrize("depth", [10, 200])
def test_a_picture_stays_small(depth):
    stacks = {tuple(f"function_{number}_{level}" for level in range(depth)): number for number in range(300)}
    picture = drawn("many", stacks)
    assert 10_000 < len(picture) < 300_000
