"""Screen sizes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.screen import UINT16_MAX, screen


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("1920x1080", (1920, 1080)),
        ("390X844", (390, 844)),
        ("65535x65535", (65_535, 65_535)),
        ("0x0", (0, 0)),
        ("", (0, 0)),
        ("65536x1", None),
        ("1x65536", None),
        ("1920", None),
        ("1920x", None),
        ("x1080", None),
        ("1920x1080x24", None),
        ("-1x5", None),
        ("1920 x 1080", None),
        ("1920x1080\n", None),
        ("123456x1", None),
        ("\u0661x\u0662", None),
        ("9" * 8192 + "x1", None),
    ],
)
def test_size(size, pixels):
    assert screen(size) == pixels


@settings(deadline=None)
@given(st.integers(0, UINT16_MAX), st.integers(0, UINT16_MAX))
def test_what_was_written_comes_back(width, height):
    assert screen(f"{width}x{height}") == (width, height)


@settings(deadline=None)
@given(st.text(max_size=50))
def test_any_text_gives_a_size_or_none(text):
    size = screen(text)
    assert size is None or all(0 <= side <= UINT16_MAX for side in size)
