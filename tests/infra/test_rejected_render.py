"""What a terminal shows of rejected records: whole, readable, and not steered by what came in."""

import io

import pytest
from rich.console import Console

from infra.rejected_render import (
    HEX_BYTES_SHOWN_MAX,
    RAW_CHARS_SHOWN_MAX,
    raw_text,
    reasons_table,
    record_page,
    records_table,
    verdicts_table,
)

RECORD = {
    "received_at_ms": 1_750_000_000_123,
    "reason": "unknown_site",
    "detail": "site 'blog' is not defined",
    "site": "blog",
    "name": "0000000000000001:5",
    "topic": "hits",
    "partition": 3,
    "offset": 17,
    "replay_of": "",
    "replayed": False,
}


def shown(renderable):
    console = Console(file=io.StringIO(), width=160, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def test_json_is_indented_and_numbers_stay():
    assert raw_text(b'{"a":1.10,"b":[12345678901234567890123]}') == (
        '{\n  "a": 1.10,\n  "b": [\n    12345678901234567890123\n  ]\n}'
    )


@pytest.mark.parametrize("raw", [b"nope", b"\xff\x00A", b'{"a":', b""])
def test_what_is_no_json_is_a_hex_dump(raw):
    text = raw_text(raw)
    assert text == ("(no bytes)" if not raw else f"00000000  {raw.hex(' '):<47}  {readable(raw)}")


def readable(raw):
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)


def test_a_hex_dump_is_cut_and_says_so():
    lines = raw_text(b"\xff" * 10_000_000).splitlines()
    assert len(lines) == HEX_BYTES_SHOWN_MAX // 16 + 1
    assert lines[1].startswith("00000010  ff ff")
    assert f"{10_000_000 - HEX_BYTES_SHOWN_MAX:,} bytes more" in lines[-1]


def test_long_json_is_cut_and_says_so():
    text = raw_text(b'{"a":"' + b"x" * 2 * RAW_CHARS_SHOWN_MAX + b'"}')
    assert len(text) < RAW_CHARS_SHOWN_MAX + 100
    assert "characters more" in text


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b31m", "\u202e", "\x07"])
def test_bytes_cannot_steer_the_terminal(evil):
    record = RECORD | {"detail": f"is {evil} bad", "site": evil, "reason": "bad_site"}
    verdict = {"name": "n", "was": "w", "now": "rejected", "why": evil}
    page = record_page(record, f'{{"a":"{evil}"}}'.encode(), f"rejected: {evil}")
    for renderable in (records_table([record]), page, verdicts_table([verdict])):
        assert evil not in shown(renderable)
        assert "\N{REPLACEMENT CHARACTER}" in shown(renderable)


def test_markup_is_text():
    assert "[bold]x[/bold]" in shown(records_table([RECORD | {"detail": "[bold]x[/bold]"}]))


def test_a_page_has_everything():
    page = shown(record_page(RECORD, b'{"q":1}', "passes"))
    for word in ("0000000000000001:5", "unknown_site", "is not defined", "2025-06-15 15:06:40 UTC", "blog"):
        assert word in page
    assert "topic hits, partition 3, offset 17, 7 bytes" in page
    assert '"q": 1' in page
    assert "passes" in page


def test_bars_are_in_proportion():
    lines = shown(reasons_table([("bad_url", 1000), ("bad_json", 500)])).splitlines()
    bars = {line.split()[0]: line.count("█") for line in lines if "bad" in line}
    assert bars["bad_url"] == 2 * bars["bad_json"] > 0
