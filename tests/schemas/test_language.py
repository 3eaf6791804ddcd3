"""Languages: normalized tags, from the parameter or else the header."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import grows_linearly

from schemas.language import LANGUAGE_CHARS_MAX, language


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("en-US", "en-US"),
        ("en-us", "en-US"),
        ("EN_us", "en-US"),
        ("de", "de"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("sl-rozaj-biske", "sl-rozaj-biske"),
        ("de-DE-u-co-phonebk", "de-DE-u-co-phonebk"),
        ("en-x-us", "en-x-us"),
        (" fr-CH ;q=0.9, fr;q=0.8", "fr-CH"),
        ("de-DE,de;q=0.9,en;q=0.8", "de-DE"),
        ("", ""),
        ("*", ""),
        ("e", ""),
        ("english language", ""),
        ("en-", ""),
        ("-en", ""),
        ("en--US", ""),
        ("12-34", ""),
        ("ünicode", ""),
        ("en-US\n", "en-US"),
        ("en-US\x00", ""),
        ("<script>", ""),
        ("en" + "-abcdefgh" * 4, ""),
    ],
)
def test_tag(value, tag):
    assert language(value, "") == tag
    assert language("", value) == tag


def test_the_parameter_comes_before_the_header():
    assert language("de", "en-US,en;q=0.5") == "de"
    assert language("??", "en-US,en;q=0.5") == "en-US"


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_text_gives_a_tag_or_nothing(text):
    tag = language(text, "")
    assert len(tag) <= LANGUAGE_CHARS_MAX
    assert language(tag, "") == tag


@pytest.mark.parametrize("unit", ["a", "a-", "-", "ab-", ",", ";"])
def test_time_is_linear(unit):
    assert grows_linearly(lambda text: language(text, text), unit)
