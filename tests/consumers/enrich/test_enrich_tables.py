"""The data tables: what is malformed or contradictory is refused at import."""

from __future__ import annotations

import re

import pytest

from consumers.enrich import tables


@pytest.mark.parametrize(
    "text",
    [
        "search",
        "search\ta\tb",
        "sports\ta",
        "search\ta, a",
        "search\ta\nsocial\ta",
        "search\tA",
        "search\ta,b, ",
        "search\t",
    ],
)
def test_malformed_sources_are_refused(monkeypatch, tmp_path, text):
    _serve(monkeypatch, tmp_path, "sources.tsv", text)
    with pytest.raises(ValueError, match=r"sources\.tsv"):
        tables._sources()


@pytest.mark.parametrize("text", ["gclid\tgoogle", "gclid\ta\tb\t\tc\ngclid\ta\tb\t\tc", "GCLID\ta\tb\t\tc"])
def test_malformed_click_ids_are_refused(monkeypatch, tmp_path, text):
    _serve(monkeypatch, tmp_path, "click_ids.tsv", text)
    with pytest.raises(ValueError, match=r"click_ids\.tsv"):
        tables._click_ids()


def _serve(monkeypatch, folder, name, text):
    (folder / "data").mkdir()
    (folder / "data" / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(tables, "files", lambda _package: folder)


def test_sources_are_written_as_documented():
    word = r"[a-z0-9!+&_-]+(?: [a-z]+)?"
    host = r"\.?[a-z0-9-]+(?:[._][a-z0-9-]+)*(?:\.\*)?"
    assert [name for name in tables.SOURCES if not re.fullmatch(f"{word}|{host}", name)] == []


def test_a_click_ids_medium_and_source_come_together():
    assert all(bool(platform.source) == bool(platform.medium) for platform in tables.CLICK_IDS.values())
