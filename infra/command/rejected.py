"""`hitstream rejected`: what was rejected and why, and how it is replayed once the reason is gone.

- Judging runs the worker's own pure steps (decode, validate, enrich) with the settings of this command.
- A replay appends only what would pass now and has no row in `events` yet; whether it has is decided again, exactly, by
  the worker. So this may be called any number of times, also while an earlier replay is on its way.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console

from consumers.batch import Batch
from consumers.decode import decode
from consumers.deduplicate import Marks
from consumers.log_reader.port import Record
from consumers.pipeline import prepare
from consumers.rules import Rules
from infra import rejected_render, report_render
from infra.command import rejected_records as records
from infra.command.database import open_client
from infra.command.errors import UserError, cause
from infra.command.rejected_records import Client, Found, Wanted
from infra.command.worker_rules import worker_rules
from ingest.forwarder_cursor import spool_root
from ingest.replay import Replay, ReplaySpool
from ingest.spool import SpoolError
from schemas.errors import FatalError
from schemas.rejection import Rejection
from schemas.settings import Settings

WIDTH_PIPED = 180
PASSES, REJECTED, NO_HIT, PRESENT = "passes", "rejected", "no hit", "present"
REPLAYED = "replayed"
SPOOL_FULL = "spool full"
VERDICTS_KEPT_MAX = 100_000
COLUMNS = ("received_at", "reason", "detail", "site", "name", "topic", "partition", "offset", "replay_of", "replayed")

Verdict = dict[str, Any]


def show_list(settings: Settings, which: Wanted, limit: int, output_format: str) -> None:
    """Print counts by reason and the newest records. Raises UserError."""
    with _client(settings) as client:
        counts = records.reasons(client, which)
        found = records.newest(client, which, limit)
        present = records.present(client, found)
    objects = [record.as_object(replayed=record.root in present) for record in found]
    if output_format != "table":
        rows = [{name: one[name] for name in COLUMNS} for one in objects]
        report_render.render(rows, output_format, _console(), COLUMNS)
        return
    console = _console()
    if not counts:
        console.print("No rejected records here. Widen --since and --until, or leave filters out.")
        return
    console.print(rejected_render.reasons_table(counts))
    console.print(rejected_render.records_table(objects))
    total = sum(count for _, count in counts)
    if total > len(found):
        console.print(f"the newest {len(found):,} of {total:,}; --limit shows more")
    console.print("next: hitstream rejected show NAME · hitstream rejected replay --dry-run")


def show_record(settings: Settings, name: str, *, raw: bool) -> None:
    """Print all of one record, or with `raw` just its bytes. Raises UserError."""
    with _client(settings) as client:
        found = records.newest(client, records.wanted(names=(name,)), 1, with_raw=True)
        present = records.present(client, found)
    if not found:
        raise UserError(f"no rejected record is named {name}: `hitstream rejected list` shows their names")
    (record,) = found
    if raw:
        sys.stdout.buffer.write(record.raw)
        return
    verdict = judged(record, worker_rules(settings).rules, present)
    now = verdict["now"] if verdict["now"] in (PASSES, PRESENT) else f"{verdict['now']}: {verdict['why']}"
    content = record.as_object(replayed=record.root in present)
    _console().print(rejected_render.record_page(content, record.raw, now), soft_wrap=True)


def replay(  # noqa: PLR0913  what a command may be told
    settings: Settings, which: Wanted, *, limit: int, dry_run: bool, force: bool, output_format: str
) -> int:
    """Replay records, or say what a replay would do; return 1 when the spool was full before all were appended.

    At most `limit` are appended. Raises UserError.
    """
    outcome = Outcome()
    spool = None if dry_run else _LazySpool(settings, outcome)
    try:
        with _client(settings) as client:
            for verdict, found in _verdicts(client, which, worker_rules(settings).rules, force=force):
                if found and outcome.replays >= limit:
                    outcome.limit = limit
                    break
                outcome.add(verdict, replays=found is not None)
                if found and spool and not spool.add(found, verdict):
                    break
    finally:
        if spool:
            spool.close()
    _print_replay(outcome, output_format, dry_run=dry_run)
    return 1 if outcome.counts[SPOOL_FULL] else 0


class Outcome:
    """What became of the records of a replay: counts of all, and the first VERDICTS_KEPT_MAX verdicts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.verdicts: list[Verdict] = []
        self.replays = 0
        self.limit = 0  # reached, if not 0
        self.spool_id = ""

    def add(self, verdict: Verdict, *, replays: bool) -> None:
        """Take a verdict down; `replays`: its record is to be appended."""
        self.counts[verdict["now"]] += 1
        self.replays += replays
        if len(self.verdicts) < VERDICTS_KEPT_MAX:
            self.verdicts.append(verdict)

    def became(self, verdict: Verdict, now: str) -> None:
        """Change a verdict that was taken down."""
        self.counts[verdict["now"]] -= 1
        self.counts[now] += 1
        verdict["now"] = now


def judged(record: Found, rules: Rules, present: set[str]) -> Verdict:
    """Return what would become of a record now: passes, rejected, present (its hit has a row), or it is no hit."""
    verdict: Verdict = {"name": record.name, "was": record.reason, "replay_of": record.root}
    decoded = decode(record.raw)
    if isinstance(decoded, Rejection):
        why = f"{decoded.reason.value}: {decoded.detail}"
        return verdict | {"now": NO_HIT, "why": f"cannot be replayed: {why}"}
    if record.root in present:
        return verdict | {"now": PRESENT, "why": "its hit has a row in events"}
    row = Record(record.offset, decoded.key.encode(), record.raw)
    batch = Batch(record.topic, record.partition, record.offset, record.offset, record.received_at_ms, [row])
    (prepared,) = prepare(batch.records, Marks(), rules)
    if prepared.rejection:
        return verdict | {"now": REJECTED, "why": f"{prepared.rejection.reason.value}: {prepared.rejection.detail}"}
    return verdict | {"now": PASSES, "why": ""}


class _LazySpool:
    """The replays' spool, made when the first comes; replays are appended in groups."""

    GROUP_MAX = 500

    def __init__(self, settings: Settings, outcome: Outcome) -> None:
        self._settings = settings
        self._outcome = outcome
        self._spool: ReplaySpool | None = None
        self._waiting: list[tuple[Replay, Verdict]] = []
        self._full = False

    def add(self, found: Replay, verdict: Verdict) -> bool:
        """Take a replay; False when the spool is full."""
        self._waiting.append((found, verdict))
        return len(self._waiting) < self.GROUP_MAX or self._append()

    def close(self) -> None:
        """Append what waits and hand the spool over."""
        self._append()
        if self._spool:
            self._spool.close()

    def _append(self) -> bool:
        if self._waiting and not self._full:
            self._spool = self._spool or self._open()
            try:
                kept = self._spool.append([one for one, _ in self._waiting])
            except OSError as error:
                raise UserError(f"the replay's spool cannot be written: {error.strerror}; run it again") from error
            for place, (_, verdict) in enumerate(self._waiting):
                self._outcome.became(verdict, REPLAYED if place < kept else SPOOL_FULL)
            self._full = kept < len(self._waiting)
            self._waiting = []
        return not self._full

    def _open(self) -> ReplaySpool:
        settings = self._settings
        root = spool_root(settings.data_dir)
        if not root.is_dir():
            raise UserError(
                f"{root} is not there, so no forwarder takes hits from it: replay where collectors run, with their "
                "HITSTREAM_DATA_DIR"
            )
        try:
            spool = ReplaySpool(root, bytes_max=settings.spool_bytes_max, collectors=settings.collectors)
        except SpoolError as error:
            raise UserError(str(error)) from None
        self._outcome.spool_id = spool.id
        return spool


def _verdicts(client: Client, which: Wanted, rules: Rules, *, force: bool) -> Iterator[tuple[Verdict, Replay | None]]:
    """Yield each record's verdict, and its replay if it is to be appended; of one hit's records just one is."""
    taken: set[str] = set()
    for page in records.pages(client, which):
        present = records.present(client, page)
        for record in page:
            verdict = judged(record, rules, present)
            passes = verdict["now"] == PASSES or (force and verdict["now"] == REJECTED)
            if passes and record.root in taken:
                yield verdict | {"now": PRESENT, "why": "another record of its hit is replayed"}, None
                continue
            if passes:
                taken.add(record.root)
            yield verdict, Replay(record.raw, record.root) if passes else None


def _print_replay(outcome: Outcome, output_format: str, *, dry_run: bool) -> None:
    counts = {name: count for name, count in outcome.counts.most_common() if count}
    if output_format == "json":
        content = {
            "dry_run": dry_run,
            "spool_id": outcome.spool_id,
            "counts": counts,
            "limit_reached": bool(outcome.limit),
            "records": outcome.verdicts,
        }
        sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    console = _console()
    if not outcome.verdicts:
        console.print("No rejected records here. Widen --since and --until, or leave filters out.")
        return
    console.print(rejected_render.verdicts_table(outcome.verdicts))
    left = sum(counts.values()) - rejected_render.ROWS_SHOWN_MAX
    if left > 0:
        console.print(f"and {left:,} more; --format json shows them")
    console.print(", ".join(f"{name}: {count:,}" for name, count in counts.items()))
    if dry_run:
        console.print("a dry run: nothing was written. Without --dry-run, what passes is replayed")
    elif outcome.counts[REPLAYED]:
        console.print(
            f"appended {counts[REPLAYED]:,} hits to spool {outcome.spool_id}; the forwarder takes them from there. "
            "`hitstream ledger` says when they have arrived"
        )
    if outcome.counts[SPOOL_FULL]:
        console.print(
            f"the spools are full: {counts[SPOOL_FULL]:,} were not appended. Call it again when there is room"
        )
    if outcome.limit:
        console.print(f"--limit {outcome.limit:,} is reached: call it again once these have arrived, for the rest")


@contextmanager
def _client(settings: Settings) -> Iterator[Client]:
    try:
        with open_client(settings) as client:
            yield client
    except FatalError as error:
        raise UserError(f"{cause(error)}; if tables are missing, run `hitstream migrate`") from None


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_PIPED)
