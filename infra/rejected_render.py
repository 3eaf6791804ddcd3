"""Rejected records in a terminal. Pure.

Promise: bytes that came in with a record cannot steer the terminal: what is not printable is shown as a replacement.
What is too long to show is cut, and says how much of it is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.report_render import bar

RAW_CHARS_SHOWN_MAX = 100_000
HEX_BYTES_SHOWN_MAX = 4096
HEX_ROW_BYTES = 16
ROWS_SHOWN_MAX = 200


def printable(text: str) -> str:
    """Return text whose every character is printable; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def instant(at_ms: int) -> str:
    """Return a time, in ms since 1970, as text in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def reasons_table(counts: Sequence[tuple[str, int]]) -> Table:
    """Return how many records each reason has, with a bar in proportion to the most."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("reason")
    table.add_column("records", justify="right")
    table.add_column("")
    most = max((count for _, count in counts), default=1)
    for reason, count in counts:
        table.add_row(printable(reason), f"{count:,}", Text(bar(count / most), style="cyan"))
    return table


def records_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a record: when, reason, detail, site, name, and whether its hit has a row by now."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("received (UTC)", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("detail", overflow="fold")
    table.add_column("site", overflow="fold")
    table.add_column("name", no_wrap=True)
    table.add_column("replayed", no_wrap=True)
    for record in records:
        texts = (record["reason"], record["detail"], record["site"], record["name"])
        done = "yes" if record["replayed"] else ""
        table.add_row(instant(record["received_at_ms"]), *(Text(printable(text)) for text in texts), done)
    return table


def record_page(record: Mapping[str, Any], raw: bytes, now: str) -> RenderableType:
    """Return all of one record; `now` says what would become of it with the settings as they are."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    place = f"topic {record['topic']}, partition {record['partition']}, offset {record['offset']}"
    for name, value in (
        ("name", record["name"]),
        ("reason", record["reason"]),
        ("detail", record["detail"]),
        ("received", f"{instant(record['received_at_ms'])} UTC"),
        ("site", record["site"] or "(none)"),
        ("record", f"{place}, {len(raw):,} bytes"),
        ("replay of", record["replay_of"] or "(none)"),
        ("replayed", "yes: its hit has a row in events" if record["replayed"] else "no"),
        ("now", now),
    ):
        table.add_row(name, Text(printable(value)))
    return Group(table, Text(), Text(raw_text(raw)))


def raw_text(raw: bytes) -> str:
    """Return a record's bytes: as indented JSON where they are JSON, else as a hex dump."""
    try:
        text = msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "\n".join(_hex_rows(raw))
    if len(text) > RAW_CHARS_SHOWN_MAX:
        left = len(text) - RAW_CHARS_SHOWN_MAX
        return f"{printable(text[:RAW_CHARS_SHOWN_MAX])}\n… and {left:,} characters more: --raw writes all of it"
    return printable(text)


def verdicts_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a record of a replay: its name, why it was rejected, and what becomes of it now."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("was", no_wrap=True)
    table.add_column("now", no_wrap=True)
    table.add_column("why", overflow="fold")
    for verdict in verdicts[:ROWS_SHOWN_MAX]:
        texts = (verdict["name"], verdict["was"], verdict["now"], verdict["why"])
        table.add_row(*(Text(printable(text)) for text in texts))
    return table


def _hex_rows(raw: bytes) -> Iterator[str]:
    for at in range(0, min(len(raw), HEX_BYTES_SHOWN_MAX), HEX_ROW_BYTES):
        row = raw[at : at + HEX_ROW_BYTES]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{at:08x}  {row.hex(' '):<{3 * HEX_ROW_BYTES - 1}}  {text}"
    if len(raw) > HEX_BYTES_SHOWN_MAX:
        yield f"… and {len(raw) - HEX_BYTES_SHOWN_MAX:,} bytes more: --raw writes all of them"
    if not raw:
        yield "(no bytes)"
