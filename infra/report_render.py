"""Rows of a report as a table for a terminal, as JSON or as CSV.

Promise: JSON and CSV are complete and plain; the table shows at most ROWS_SHOWN_MAX rows and says how many it left out.
Text that came in with a hit (paths, campaigns) cannot steer the terminal: what is not printable is shown as a
replacement. In a narrow terminal texts are folded; no column gives way, but the bar.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.report_options import ReportError

FORMATS = ("table", "json", "csv")
ROWS_SHOWN_MAX = 200
BAR_CELLS = 20
TEXT_CELLS_MIN = 8  # a column of texts folds them, but gets no narrower

_BLOCKS = "▏▎▍▌▋▊▉█"
_FRACTIONS = ("rate_total", "rate_step", "bot_share", "server_rate", "browser_rate")


def render(rows: Sequence[dict[str, Any]], fmt: str, console: Console, columns: Sequence[str] = ()) -> None:
    """Write `rows` to `console` as `table`, `json` (an array of objects) or `csv` (with a header). Raises ReportError.

    `columns` names the header of an empty CSV.
    """
    if fmt == "json":
        _write(console, orjson.dumps(list(rows), option=orjson.OPT_INDENT_2).decode() + "\n")
    elif fmt == "csv":
        _write(console, _csv(rows, columns))
    elif fmt == "table":
        _table(rows, console)
    else:
        raise ReportError(f"format {fmt!r} is unknown: choose one of {', '.join(FORMATS)}")


def bar(fraction: float, cells: int = BAR_CELLS) -> str:
    """Return a bar of block characters, `cells` wide at fraction 1, in steps of an eighth of a cell."""
    eighths = round(min(max(fraction, 0.0), 1.0) * cells * 8)
    return "█" * (eighths // 8) + (_BLOCKS[eighths % 8 - 1] if eighths % 8 else "")


def _write(console: Console, text: str) -> None:
    console.file.write(text)
    console.file.flush()


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    if not rows:
        console.print("No events in this range. Widen --since and --until, or check --site.")
        return
    shown = [{key: _cell(key, value) for key, value in row.items()} for row in rows[:ROWS_SHOWN_MAX]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for key, value in rows[0].items():
        title = key.replace("_", " ")
        if isinstance(value, str):
            table.add_column(title, overflow="fold", min_width=TEXT_CELLS_MIN)
        else:  # the heading is broken at its blanks
            cells = max(map(len, [*title.split(), *(row[key] for row in shown)]))
            table.add_column(title, justify="right", width=cells)
    with_bar = "rate_total" in rows[0]
    if with_bar:
        table.add_column("", width=BAR_CELLS, no_wrap=True)
    for row, texts in zip(rows, shown, strict=False):
        own = [Text(bar(row["rate_total"]), style="cyan")] if with_bar else []
        table.add_row(*map(Text, texts.values()), *own)
    console.print(table)
    if len(rows) > ROWS_SHOWN_MAX:
        console.print(f"and {len(rows) - ROWS_SHOWN_MAX:,} more rows; --format json or csv shows all")


def _cell(key: str, value: Any) -> str:  # noqa: ANN401  a row's values are text, int or float
    if isinstance(value, str):
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value) or "(none)"
    if key in _FRACTIONS:
        return f"{value:.1%}"
    if key == "duration_s_avg":
        return f"{value:,.1f}"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
