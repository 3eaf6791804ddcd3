"""`hitstream rejected list | show | replay`: options to what `rejected.py` does."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.command.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Rejected records: list them, show one, replay them.")

LIST_MAX = 50
REPLAY_MAX = 100_000

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="This reason only; may be repeated.")]
Names = Annotated[list[str] | None, typer.Option("--name", help="This record only; may be repeated.")]
Site = Annotated[str, typer.Option(help="This site only, as the record says it.")]
Since = Annotated[str, typer.Option(help="Received from here on: a date, a datetime, or how long ago (7d); UTC.")]
Until = Annotated[str, typer.Option(help="Received before this.")]


@app.command("list")
def list_records(  # noqa: PLR0913  a command's options are its arguments
    *,
    reason: Reasons = None,
    site: Site = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, help="How many records, the newest first.")] = LIST_MAX,
    output_format: Annotated[str, typer.Option("--format", help="table, json or csv")] = "table",
) -> None:
    """Count rejected records by reason and list the newest."""
    from infra.command.rejected import show_list
    from infra.command.rejected_records import wanted
    from schemas.settings import load

    _one_of(output_format, ("table", "json", "csv"))
    which = wanted(reasons=reason or (), site=site, since=since, until=until)
    show_list(load(), which, limit, output_format)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="SPOOL:NUMBER or TOPIC:PARTITION:OFFSET, as `list` shows it.")],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write just the record's bytes.")] = False,
) -> None:
    """Show all of one rejected record, and what would become of it now."""
    from infra.command.rejected import show_record
    from schemas.settings import load

    show_record(load(), name, raw=raw)


@app.command()
def replay(  # noqa: PLR0913  a command's options are its arguments
    *,
    reason: Reasons = None,
    name: Names = None,
    site: Site = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, help="How many hits at most are appended.")] = REPLAY_MAX,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of each; write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replay what would be rejected again, too.")] = False,
    output_format: Annotated[str, typer.Option("--format", help="table or json")] = "table",
) -> None:
    """Send rejected hits again. Each is counted once, however often it is replayed."""
    from infra.command.rejected import replay as replay_records
    from infra.command.rejected_records import wanted
    from schemas.settings import load

    _one_of(output_format, ("table", "json"))
    which = wanted(reasons=reason or (), names=name or (), site=site, since=since, until=until)
    done = replay_records(load(), which, limit=limit, dry_run=dry_run, force=force, output_format=output_format)
    raise typer.Exit(done)


def _one_of(output_format: str, allowed: tuple[str, ...]) -> None:
    if output_format not in allowed:
        raise UserError(f"--format {output_format!r} is not known: use {', '.join(allowed)}")
