"""`hitstream report NAME`: options to one report, its rows to the terminal, JSON or CSV."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Print one: funnel, attribution, sessions, channels, traffic, matches.")

Site = Annotated[str, typer.Option(help="This site only.")]
Since = Annotated[str, typer.Option(help="From here on: a date, a datetime, or how long ago (7d).")]
Until = Annotated[str, typer.Option(help="Before this: a date, a datetime, or how long ago.")]
By = Annotated[str, typer.Option(help="Break down by this column.")]
Tz = Annotated[str, typer.Option(help="Time zone of dates; default: the site's, else UTC.")]
Bots = Annotated[bool, typer.Option("--bots", help="With bots' sessions.")]
Format = Annotated[str, typer.Option("--format", help="table, json or csv")]


@app.command()
def funnel(  # noqa: PLR0913  a command's options are its arguments
    steps: Annotated[list[str], typer.Argument(help="Event names in order.")],
    *,
    window: Annotated[str, typer.Option(help="Longest time from first to last step: 30m, 7d.")] = "7d",
    site: Site = "",
    since: Since = "",
    until: Until = "",
    by: By = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """How many visitors went from step to step, in order."""
    asked = {"steps": tuple(steps), "window": window}
    _show("funnel", output_format, asked | _common(site, since, until, by, tz, bots=bots))


@app.command()
def attribution(  # noqa: PLR0913  a command's options are its arguments
    *,
    model: Annotated[
        str, typer.Option(help="first, last, last-non-direct, linear, time-decay, position, or all.")
    ] = "last-non-direct",
    lookback: Annotated[str, typer.Option(help="How old a touch may be: 30d.")] = "30d",
    event: Annotated[str, typer.Option(help="The conversion's event name.")] = "Purchase",
    currency: Annotated[str, typer.Option(help="Conversions in this currency only.")] = "",
    site: Site = "",
    since: Since = "",
    until: Until = "",
    by: By = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """Which channels earned the conversions and their value."""
    asked = {"model": model, "lookback": lookback, "event": event, "currency": currency}
    _show("attribution", output_format, asked | _common(site, since, until, by, tz, bots=bots))


@app.command()
def sessions(  # noqa: PLR0913  a command's options are its arguments
    *,
    site: Site = "",
    since: Since = "",
    until: Until = "",
    by: By = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """Sessions, visitors, bounces and durations."""
    _show("sessions", output_format, _common(site, since, until, by, tz, bots=bots))


@app.command()
def channels(  # noqa: PLR0913  a command's options are its arguments
    *,
    site: Site = "",
    since: Since = "",
    until: Until = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """Sessions, bounces and durations of each channel, day by day; fast at any size."""
    _show("channels", output_format, _common(site, since, until, "", tz, bots=bots))


@app.command()
def traffic(  # noqa: PLR0913  a command's options are its arguments
    *,
    site: Site = "",
    since: Since = "",
    until: Until = "",
    by: By = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """Events, page views, visitors and bots, by day or any column."""
    _show("traffic", output_format, _common(site, since, until, by, tz, bots=bots))


@app.command()
def matches(  # noqa: PLR0913  a command's options are its arguments
    *,
    event: Annotated[str, typer.Option(help="This event only; else Purchase and all that servers send.")] = "",
    site: Site = "",
    since: Since = "",
    until: Until = "",
    by: By = "",
    tz: Tz = "",
    bots: Bots = False,
    output_format: Format = "table",
) -> None:
    """How many server events met the browser's event of the same id, and the other way round."""
    _show("matches", output_format, {"event": event} | _common(site, since, until, by, tz, bots=bots))


def _common(  # noqa: PLR0913  the options that every report has
    site: str, since: str, until: str, by: str, tz: str, *, bots: bool
) -> dict[str, object]:
    return {"site": site, "since": since, "until": until, "by": by, "tz": tz, "bots": bots}


def _show(name: str, output_format: str, asked: dict[str, object]) -> None:
    from infra.command.database import show_report
    from schemas.settings import load

    show_report(load(), name, output_format, asked)
