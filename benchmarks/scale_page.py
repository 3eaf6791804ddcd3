"""docs/scale.md, from the committed results: `python -m benchmarks.scale_page > docs/scale.md`.

Promise: every measured figure on the page comes from a committed result, every other one from a named assumption or the
seeded model; a test holds the page against this module.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.end_to_end_page import BOX, KAFKA, LINE_CHARS, RESULT
from benchmarks.partition_model import Fleet, drain, even, rebalance, shares
from benchmarks.results_file import RESULTS
from benchmarks.scale_model import ROLES, Assumed, Measured, measured, need, per_core
from schemas.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
RATES = (10_000, 100_000, 1_000_000)
SEED = 7
VISITORS = 50_000
SKEWS = ((0.0, "all alike"), (0.5, "mild"), (0.8, "strong"), (1.0, "one in a dozen hits from one visitor"))
OUTAGES_S = (60, 600, 3600)
LOADS = (0.5, 0.7, 0.9)
JOIN_S = 3.0
REBUILD_S = 10.0
ASSUMED_MEANING = {
    "core_busy_max": "a core is at most so busy at the peak",
    "peak_over_mean": "peak rate ÷ mean rate; cores are for the peak, disk and money for the mean",
    "kafka_replicas": "copies of a partition",
    "kafka_retention_days": "how long hits stay in Kafka",
    "clickhouse_replicas": "copies of a shard, each of which merges on its own",
    "clickhouse_retention_days": "how long events stay",
    "query_share": "CPU for reports ÷ CPU for loading",
    "clickhouse_cores_a_shard": "cores of one server",
    "host_cores": "cores of an edge host and of a broker",
    "partitions_a_worker": "so many times more partitions than workers, so that workers can be added",
    "price_core_month": "€ a core and month, its memory included",
    "price_disk_gb_month": "€ a GB and month",
    "price_traffic_out_gb": "€ a GB of answers",
}


def page(end_to_end: dict[str, Any], flames: dict[str, Any] | None = None) -> str:
    """Return the page; without `flames`, nothing about where the time goes."""
    known, assumed = measured(end_to_end["figures"], KAFKA), Assumed()
    parts = (
        HEAD,
        _measured_part(end_to_end, known),
        _need_part(known, assumed),
        _ceilings_part(known, assumed),
        _model_part(known, assumed),
        *([_flames_part(flames["figures"])] if flames else []),
    )
    return "\n".join(wrapped(part) + "\n" for part in parts)


def wrapped(text: str) -> str:
    """Return Markdown with its paragraphs and list items filled to LINE_CHARS; headings and tables as they are."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if block.startswith(("|", "#")):
            blocks.append(block)
            continue
        items = re.split(r"\n(?=- )", block)
        indent = "  " if block.startswith("- ") else ""
        blocks.append("\n".join(fill(" ".join(item.split()), indent) for item in items))
    return "\n\n".join(blocks)


def fill(text: str, indent: str) -> str:
    """Return a paragraph in lines; those after the first are indented."""
    return textwrap.fill(text, LINE_CHARS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns but the first are numbers."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


READINGS = {
    "collector": "`client.py` writes the answers to the sockets, `runners.py` is the loop, which reads: the kernel's "
    "work, as any web server's. The hot path itself, and the one write of a tick to the spool, are the rest.",
    "forwarder": "It does not parse hits; what it does, it does once a batch: compress, send, save its cursor. A hit "
    "costs less where batches are larger.",
    "worker": "The steps of the pipeline are files of `consumers/` and `schemas/`.",
    "clickhouse": "`MergeMutate` merges parts, `RuntimeData` and `ThreadPool` insert and query, `python` is the HTTP "
    "endpoint. Fewer and larger blocks mean fewer merges.",
    "broker": "`C2` and `C1 CompilerThre` compile Java: a broker that has run for long has done with it. "
    "`data-plane-kafk` answers requests: larger batches are fewer of them.",
}
HEAD = """
# Scale

What 10,000, 100,000 and 1,000,000 hits a second take, from what a hit was measured to cost. This page is written by
`python -m benchmarks.scale_page > docs/scale.md` from `benchmarks/results`; `python -m benchmarks.bench_end_to_end`
measures and makes it anew.
"""


def _measured_part(result: dict[str, Any], known: Measured) -> str:
    machine, rows = result["machine"], result["figures"]["pipelines"]
    through, box = rows[KAFKA], rows[BOX]
    roles = (
        (role, f"{known.cpu_us[role]:.1f}", f"{per_core(known.cpu_us[role]):,.0f}", _of(box, role))
        for role in ROLES
        if role in known.cpu_us
    )
    sizes = (
        ("request, as a browser sends it", f"{known.request:,.0f}"),
        ("answer", f"{known.answer:,.0f}"),
        ("the hit's JSON, in the spool", f"{known.hit:,.0f}"),
        ("in Kafka's log, zstd, one copy", f"{known.log:,.0f}"),
        ("in ClickHouse, merged, one copy", f"{known.tables:,.0f}"),
    )
    return f"""
## What a hit costs

{through["hits_per_s"]:,} hits/s through Kafka and {box["hits_per_s"]:,} on the single box, each held for
{through["seconds"]:g} s on two cores ({machine["cpu"]}, Python {machine["python"]}, commit {result["commit"]}), load
generator included, with {result["figures"]["partitions"]} log partitions. CPU is user and system time. Batches grow
with the rate, and shrink with more partitions, so a hit costs less where more come.

{table(("process", "CPU µs a hit", "hits/s that fill a core", "µs on the single box"), roles)}

{table(("bytes a hit", ""), sizes)}
"""


def _of(row: dict[str, Any], role: str) -> str:
    cpu_us = row["cpu_us_per_hit"].get(role)
    return f"{cpu_us:.1f}" if cpu_us is not None else ""


def _need_part(known: Measured, assumed: Assumed) -> str:
    found = [need(rate, known, assumed) for rate in RATES]
    names = ("", *(f"{rate:,} hits/s" for rate in RATES))

    def line(name: str, value: str, form: str = ",.0f") -> tuple[str, ...]:
        return (name, *(format(getattr(one, value), form) for one in found))

    rows = (
        line("collectors (a core each)", "collectors"),
        line("edge hosts, a forwarder on each", "edge_hosts"),
        line("brokers", "brokers"),
        line("cores of brokers, replicas included", "broker_cores", ",.1f"),
        line("partitions", "partitions"),
        line("workers (a core each)", "workers"),
        line("ClickHouse shards", "shards"),
        line("cores of ClickHouse, replicas and queries included", "clickhouse_cores", ",.1f"),
        line("network at the edge, Mbit/s", "network_mbit"),
        line("Kafka's disk, GB", "kafka_gb"),
        line("ClickHouse's disk, GB more a month", "clickhouse_gb_month"),
        line("**€ a billion hits**", "euro", ",.0f"),
        line("… of it cores", "euro_cores", ",.0f"),
        line("… disk", "euro_disk", ",.0f"),
        line("… traffic", "euro_traffic", ",.0f"),
    )
    given = ((f"`{name}`", f"{getattr(assumed, name):g}", meaning) for name, meaning in ASSUMED_MEANING.items())
    return f"""
## What a rate takes

At the peak; every part scales by adding processes.

{table(names, rows)}

Assumed, in `benchmarks/scale_model.py`; prices are round figures of large clouds' lists, put your own in:

{table(("input", "value", "meaning"), given)}
"""


def _ceilings_part(known: Measured, assumed: Assumed) -> str:
    full = {role: per_core(cpu_us) for role, cpu_us in known.cpu_us.items()}
    spool_mb_s = full["collector"] * known.hit / 1e6
    block_rows = full["worker"] * assumed.core_busy_max / assumed.partitions_a_worker
    return f"""
## Where each part's ceiling is, and what moves it

- **Collector**: one core, {full["collector"]:,.0f} hits/s. More processes on the same port (`collectors`), then more
  hosts behind a load balancer; they share nothing. `sync = disk` lowers it to what the disk's `fdatasync` allows.
- **Spool**: the disk's bandwidth; a full collector writes {spool_mb_s:,.0f} MB/s. Its size is the outage it survives:
  `spool_bytes_max` of 8 GiB is {8 * 2**30 / known.hit / 1e6:,.1f} million hits.
- **Forwarder**: one process a host, {full["forwarder"]:,.0f} hits/s: it is full when
  {full["forwarder"] / full["collector"]:.1f} collectors are. More edge hosts, with fewer collectors on each.
- **Brokers**: {full["broker"]:,.0f} hits/s a core for a partition's leader. More brokers; larger batches.
- **Partitions**: a partition is loaded by one worker, so it is full at a worker's {full["worker"]:,.0f} hits/s, and
  there are never more workers at work than partitions. Their number is fixed when the topic is made (`partitions`):
  choose it for the rate to come. More than needed cost something, too: each makes blocks of its own.
- **Worker**: one core, {full["worker"]:,.0f} hits/s. More workers, up to the partitions.
- **ClickHouse**: {full["clickhouse"]:,.0f} hits/s a core for inserts, views and the first merges; those of larger
  parts come when a server has run for longer, and are on top. What moves it is the size of a block: at
  {assumed.partitions_a_worker} partitions a worker it has {block_rows:,.0f} rows when one is made a second. More shards
  (`clickhouse_cluster`), by visitor.
- **One visitor** is in one partition: nobody else can help with its hits. A site's hits are spread over all.
"""


def _model_part(known: Measured, assumed: Assumed) -> str:
    per_s = per_core(known.cpu_us["worker"])
    session_s = float(Settings.model_fields["kafka_session_timeout_s"].default)
    plan = need(100_000, known, assumed)
    loads = tuple(f"{load:.0%} busy" for load in LOADS)
    return f"""
## What arithmetic does not give

From a seeded model of partitions and workers (`benchmarks/partition_model.py`), a worker taking {per_s:,.0f} hits/s.

**Hot keys.** {VISITORS:,} visitors whose weights fall by a power of their rank: the fullest partition ÷ the mean one,
and how much of its workers' capacity a fleet for 100,000 hits/s ({plan.workers} workers, {plan.partitions} partitions)
has when the busiest one is full.

{table(("power", "12 partitions", "48", "192", "capacity"), _hot(per_s, plan.workers, plan.partitions))}

More partitions do not cure a hot visitor, they make its partition stand out more. A robot is best kept out at the edge.

**Backlog after an outage** of ClickHouse, 12 workers, 48 partitions, power 0.5: how long until all is loaded that
waited, by how busy the workers are without it. Hits wait in Kafka; none is lost.

{table(("outage", *loads), _drained(per_s))}

**A worker dies** and does not come back under its name: after {session_s:g} s (`kafka_session_timeout_s`) its
partitions go to the others. All stop for the rebalance ({JOIN_S:g} s) and rebuild their state (taken as
{REBUILD_S:g} s, the goal for a million visitors). The longest that a hit waits, and when all is caught up; "never":
those left do not hold the rate.

{table(("48 partitions", *loads), _lost(per_s, session_s))}

With `kafka_instance_id` set, a worker that is started again within that time has its partitions back without a
rebalance.
"""


def _hot(per_s: float, workers: int, partitions: int) -> Iterator[Sequence[str]]:
    for skew, meaning in SKEWS:
        over_mean = (f"{max(shares(count, VISITORS, skew, SEED)) * count:.2f}" for count in (12, 48, 192))
        fleet = Fleet(workers, per_s, shares(partitions, VISITORS, skew, SEED))
        yield (f"{skew:g}, {meaning}", *over_mean, f"{fleet.rate_max() / (workers * per_s):.0%}")


def _drained(per_s: float) -> Iterator[Sequence[str]]:
    fleet = Fleet(12, per_s, shares(48, VISITORS, 0.5, SEED))
    for outage_s in OUTAGES_S:
        found = (drain(fleet, load * fleet.rate_max(), outage_s) for load in LOADS)
        yield (f"{outage_s / 60:g} min", *(_duration(one.caught_up_s - outage_s) for one in found))


def _lost(per_s: float, session_s: float) -> Iterator[Sequence[str]]:
    for workers in (4, 12, 24):
        fleet = Fleet(workers, per_s, even(48))
        yield (f"{workers} workers", *(_recovery(fleet, load, session_s) for load in LOADS))


def _recovery(fleet: Fleet, load: float, session_s: float) -> str:
    try:
        found = rebalance(fleet, load * fleet.rate_max(), session_s, JOIN_S, REBUILD_S)
    except ValueError:
        return "never"
    return f"{found.wait_s_max:.0f} s, {_duration(found.caught_up_s)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _flames_part(figures: dict[str, Any]) -> str:
    found = figures["shares"]
    rows = (
        (
            f"[{role}](../benchmarks/results/flame_{role}.svg)",
            ", ".join(f"{name} {_percent(share)}" for name, share in of.items()),
        )
        for role, of in found.items()
    )
    paragraphs = "\n\n".join(f"**{role}.** {_reading(found[role])} {READINGS[role]}" for role in found)
    return f"""
## Where the time goes

At {figures["hits_per_s"]:,} hits/s through Kafka (`python -m benchmarks.flames`). Of the Python processes, shares go
by the innermost Python file, what it called included; of the others, by thread.

{table(("flame graph", "greatest shares of its CPU"), rows)}

{paragraphs}
"""


def _reading(shares: dict[str, float]) -> str:
    first, second = list(shares.items())[:2]
    return f"Most goes to `{first[0]}` ({_percent(first[1])}), then `{second[0]}` ({_percent(second[1])})."


def _percent(share: float) -> str:
    return f"{share:.0%}"


def text() -> str:
    """Return the page from the committed results; nothing before they were measured."""
    if not RESULT.exists():
        return ""
    flames = RESULTS / "flames.json"
    known = orjson.loads(flames.read_bytes()) if flames.exists() else None
    return page(orjson.loads(RESULT.read_bytes()), known)


def write() -> Path:
    """Write the page and return its path."""
    PAGE.write_text(text())
    return PAGE


if __name__ == "__main__":
    sys.stdout.write(text())
