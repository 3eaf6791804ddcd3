"""The status page: one self-contained HTML document, no script, no asset, all text escaped. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from infra.metrics_merge import LABEL

REFRESH_S = 5
SKIPPED = ("process_", "python_")  # the client library's own families; the page shows hitstream's
STYLE = """
:root{color-scheme:light dark;--line:#8883;--soft:#8888;--good:#1a9c5b;--bad:#d0393b;--wait:#c98a12}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem}
h1{font-size:1.4rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.2rem 0;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.85rem}td.n,th.n{text-align:right}
.dot{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.5em;background:var(--wait)}
.good{background:var(--good)}.bad{background:var(--bad)}code{font-size:.9em}
"""


class PageRow(NamedTuple):
    """One process: its name, state, readiness in words, pid, seconds running, restarts, and why it last ended."""

    name: str
    state: str
    readiness: str
    pid: int
    running_s: float
    restarts: int
    last_exit: str


def page_html(title: str, *, ready: bool, rows: Sequence[PageRow], families: Iterable[Metric]) -> str:
    """Return the page."""
    verdict = "ready: hits are kept" if ready else "not ready"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_S}">
<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1><span class="dot {"good" if ready else "bad"}"></span>{escape(title)}</h1>
<p>{verdict} · this page reloads every {REFRESH_S} s · <a href="/metrics">/metrics</a> ·
<a href="/readyz">/readyz</a> · <a href="/healthz">/healthz</a></p>
<h2>Processes</h2>
<table><tr><th>process<th>readiness<th class="n">pid<th class="n">running<th class="n">restarts<th>last end</tr>
{"".join(_process_row(row) for row in rows)}</table>
<h2>Counters</h2>
<table><tr><th>metric<th>labels<th class="n">value, all processes</tr>
{"".join(_family_rows(families))}</table>
</body></html>
"""


def _process_row(row: PageRow) -> str:
    colour = "good" if row.readiness == "ready" or row.state == "done" else ""
    if not row.pid and row.state != "done":
        colour = "bad"
    return (
        f'<tr><td><span class="dot {colour}"></span>{escape(row.name)}<td>{escape(row.readiness)}'
        f'<td class="n">{row.pid or ""}<td class="n">{_duration(row.running_s)}'
        f'<td class="n">{row.restarts}<td>{escape(row.last_exit)}</tr>\n'
    )


def _family_rows(families: Iterable[Metric]) -> Iterable[str]:
    for family in families:
        if family.type not in ("counter", "gauge") or family.name.startswith(SKIPPED):
            continue
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in family.samples:
            labels = tuple(item for item in sample.labels.items() if item[0] != LABEL)
            sums[labels] = sums.get(labels, 0.0) + sample.value
        for labels, value in sums.items():
            shown = " ".join(f"{name}={text}" for name, text in labels)
            yield (
                f'<tr><td title="{escape(family.documentation)}"><code>{escape(family.name)}</code>'
                f'<td>{escape(shown)}<td class="n">{_number(value)}</tr>\n'
            )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
