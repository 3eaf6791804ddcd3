"""The command `hitstream`. Each subcommand is thin, and imports what it needs only when it is called.

An error that the user can set right is one line on stderr, with what to do next, and exit code 2.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from infra.command import rejected_command, report_command, salt_command, site_command
from infra.command.errors import UserError, cause
from infra.command.logs import silence_libraries
from schemas.errors import FatalError, RetryError
from schemas.settings import load
from schemas.settings_error import SettingsError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
DEMO_VISITORS = 2_000

app = typer.Typer(
    name="hitstream",
    help="Event ingestion: answered means kept, and kept means counted once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
app.add_typer(report_command.app, name="report")
app.add_typer(rejected_command.app, name="rejected")
app.add_typer(site_command.app, name="site")
app.add_typer(salt_command.app, name="salt")


def main() -> None:
    """Run the command line; the entry point."""
    silence_libraries()
    try:
        app()
    except (UserError, SettingsError, FatalError) as error:
        _fail(str(error))
    except RetryError as error:
        _fail(
            f"ClickHouse at {load().clickhouse_address} does not answer ({cause(error)}): "
            "start the box with `hitstream up`, or set CLICKHOUSE_URL"
        )
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone: `hitstream sql … | head`
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"hitstream: {message}\n")
    sys.exit(EXIT_USER_ERROR)


def _run(command: str) -> None:
    from infra.command.foreground import run_box

    raise typer.Exit(run_box(load(), command))


@app.command()
def up() -> None:
    """Run the whole box: collectors, forwarder, log, workers and, unless CLICKHOUSE_URL is set, ClickHouse."""
    _run("up")


@app.command()
def demo(
    *,
    visitors: Annotated[int, typer.Option(min=1, help="How many visitors come.")] = DEMO_VISITORS,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the box running.")] = False,
    with_kafka: Annotated[
        bool, typer.Option("--kafka", help="Through Kafka: KAFKA_BOOTSTRAP_SERVERS, else a local Apache Kafka.")
    ] = False,
) -> None:
    """Run a box on free ports, send it shop traffic, and show ledger, funnel and attribution."""
    from infra.command.demo import run_demo

    raise typer.Exit(run_demo(visitors=visitors, keep=keep, with_kafka=with_kafka))


@app.command()
def collect() -> None:
    """Run the collectors only."""
    _run("collect")


@app.command()
def forward() -> None:
    """Run the forwarder only: spools to the event log."""
    _run("forward")


@app.command()
def work() -> None:
    """Run the workers only: the event log to ClickHouse."""
    _run("work")


@app.command()
def clickhouse() -> None:
    """Run the embedded ClickHouse only, on the data directory."""
    from infra.command.foreground import run_clickhouse

    raise typer.Exit(run_clickhouse(load()))


@app.command()
def kafka() -> None:
    """Run a local Apache Kafka, on the data directory: one node, for trying out and for tests. Needs Java and Maven."""
    from infra.command.local_kafka import run_kafka

    raise typer.Exit(run_kafka(load()))


@app.command()
def migrate() -> None:
    """Create or update the tables in ClickHouse."""
    from infra.command.database import migrate_now

    migrate_now(load())


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="The query; `-` reads it from standard input.")],
    output_format: Annotated[
        str, typer.Option("--format", help="A ClickHouse format: PrettyCompact, JSON, CSVWithNames, …")
    ] = "PrettyCompact",
) -> None:
    """Run SQL in the database `hitstream` and print the answer."""
    from infra.command.sql import run_sql

    run_sql(load(), sys.stdin.read() if query == "-" else query, output_format)


@app.command()
def ledger(
    output_format: Annotated[str, typer.Option("--format", help="table or json")] = "table",
    by: Annotated[str, typer.Option("--by", help="`spool` adds one row per spool.")] = "",
) -> None:
    """Account for every hit: appended = inserted + rejected + duplicate + filtered + damaged + in flight."""
    from infra.command.accounts import show_ledger

    _one_of("--format", output_format, ("table", "json"))
    _one_of("--by", by, ("", "spool"))
    raise typer.Exit(show_ledger(load(), output_format, per_spool=by == "spool"))


@app.command()
def settings(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """Show every setting: its value, where it comes from, and what it means."""
    from infra.command.settings_page import markdown_page, settings_table

    if markdown:
        sys.stdout.write(markdown_page())
        return
    _print(settings_table(load()))


@app.command()
def doctor() -> None:
    """Check this machine and these settings, and say what to do about each problem."""
    from infra.command.doctor import examine, findings_table

    findings = examine()
    _print(findings_table(findings))
    raise typer.Exit(0 if all(finding.good for finding in findings) else 1)


@app.command("compile")
def compile_hot_path() -> None:
    """Compile the collector's and the worker's hot path with mypyc; hits cost less. Needs a C compiler."""
    from rich.console import Console

    from infra import compiled

    if compiled.state() != compiled.COMPILED:
        with Console(stderr=True).status("compiling the hot path; about a minute"):
            compiled.build()
    typer.echo("the hot path is compiled: boxes that start from now on use it")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        names = ", ".join(repr(name) for name in allowed if name)
        raise UserError(f"{option} {value!r} is not known: use {names}")


def _print(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


if __name__ == "__main__":
    main()
