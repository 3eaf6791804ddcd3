"""`hitstream site add | list | show | set | remove | key | link | snippet`: options over `sites.py`, `snippet.py`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.command.errors import UserError
from infra.command.link_command import link

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    no_args_is_help=True, help="Sites: define them, give them keys, print what to paste into their pages."
)
key_app = typer.Typer(no_args_is_help=True, help="Keys of a site for server events (POST /v1/events).")
app.add_typer(key_app, name="key")
app.command()(link)

RELOADED = "running processes read it within a few seconds"

Id = Annotated[str, typer.Argument(help="The site's id, the `s` of its hits.")]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="A domain, subdomains included; may be repeated.")]
Origins = Annotated[list[str] | None, typer.Option("--origin", help="A further origin of pages; may be repeated.")]
Consent = Annotated[str | None, typer.Option(help="opt-in, opt-out or none")]
Denied = Annotated[str | None, typer.Option(help="Of a denied hit keep: anonymous, or drop it.")]
Identity = Annotated[str | None, typer.Option(help="cookie or cookieless")]
UserId = Annotated[str | None, typer.Option(help="uid as given, or hashed")]
Gap = Annotated[int | None, typer.Option("--session-gap-s", help="A longer gap opens a new session.")]
Length = Annotated[int | None, typer.Option("--session-length-s-max", help="A session stays below this length.")]
Timezone = Annotated[str | None, typer.Option(help="IANA time zone of reports, such as Europe/Berlin.")]
Retention = Annotated[int | None, typer.Option("--retention-days", help="Rows leave ClickHouse after so many days.")]
Redirects = Annotated[
    list[str] | None, typer.Option("--redirect-host", help="A host that /c redirects to unsigned; may be repeated.")
]
Format = Annotated[str, typer.Option("--format", help="table or json")]


@app.command()
def add(  # noqa: PLR0913  a command's options are its arguments
    site: Id,
    *,
    domain: Domains = None,
    origin: Origins = None,
    consent: Consent = None,
    denied: Denied = None,
    identity: Identity = None,
    user_id: UserId = None,
    session_gap_s: Gap = None,
    session_length_s_max: Length = None,
    timezone: Timezone = None,
    retention_days: Retention = None,
    redirect_host: Redirects = None,
) -> None:
    """Define a site in the settings file, with a link key of its own."""
    from infra.command import sites

    given = _given(locals())
    path = sites.add(site, given)
    _say(f"site {site!r} is defined in {path}; {RELOADED}", f"next: hitstream site snippet {site}")
    if not domain:
        _say("it has no domain: pages of any host count as its own")
    _say_what_lacks()


@app.command("set")
def set_values(  # noqa: PLR0913  a command's options are its arguments
    site: Id,
    *,
    domain: Domains = None,
    origin: Origins = None,
    consent: Consent = None,
    denied: Denied = None,
    identity: Identity = None,
    user_id: UserId = None,
    session_gap_s: Gap = None,
    session_length_s_max: Length = None,
    timezone: Timezone = None,
    retention_days: Retention = None,
    redirect_host: Redirects = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", help="Back to the default; may be repeated.")] = None,
) -> None:
    """Change a site: what is given replaces what was there, the rest stays."""
    from infra.command import sites

    given = _given(locals())
    if not given and not unset:
        raise UserError(f"nothing to change: `hitstream site set {site} --help` lists what can be")
    _say(f"site {site!r} is changed in {sites.change(site, given, unset or ())}; {RELOADED}")
    _say_what_lacks()


@app.command()
def remove(site: Id) -> None:
    """Remove a site from the settings file. Its rows stay; its hits are rejected from now on."""
    from infra.command import sites
    from schemas.settings import load

    path = sites.remove(site)
    _say(f"site {site!r} is removed from {path}; {RELOADED}; its rows stay")
    if not load().sites:
        _say("no site is defined now: every well-formed site id and any Origin is accepted")


@app.command("list")
def list_sites(*, output_format: Format = "table") -> None:
    """List the sites that are defined."""
    from infra.command import sites
    from schemas.settings import load

    settings = load()
    if _is_json(output_format):
        _json([{"site": name, **sites.as_object(site)} for name, site in settings.sites.items()])
        return
    if not settings.sites:
        _say("no site is defined: every well-formed site id and any Origin is accepted", "next: hitstream site add ID")
        return
    table = _table("site", "domains", "consent", "identity", "time zone", "retention", "keys")
    for name, site in settings.sites.items():
        days = f"{site.retention_days} days" if site.retention_days else "for ever"
        keys = ", ".join(key.id for key in site.keys) or "none"
        table.add_row(name, ", ".join(site.domains) or "any", site.consent, site.identity, site.timezone, days, keys)
    _print(table)


@app.command()
def show(
    site: Id,
    *,
    with_secrets: Annotated[bool, typer.Option("--secrets", help="Show the link key, too.")] = False,
    output_format: Format = "table",
) -> None:
    """Show all that holds for a site, and what each value means."""
    from infra.command import sites
    from schemas.settings import load
    from schemas.site import Site

    found = sites.defined(load(), site)
    content = sites.as_object(found, with_secrets=with_secrets)
    if _is_json(output_format):
        _json({"site": site, **content})
        return
    table = _table(site, "value", "meaning")
    for name, field in Site.model_fields.items():
        value: Any = content[name]
        if name == "keys":
            value = [f"{key.id} ({sites.key_state(key, datetime.now(UTC))})" for key in found.keys]
        shown = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        table.add_row(name, shown, field.description, style="bold" if name in found.model_fields_set else "")
    _print(table)


@app.command()
def snippet(
    site: Id,
    *,
    base_url: Annotated[str, typer.Option(help="Where browsers reach hitstream, such as https://hits.example.")] = "",
    output_format: Annotated[
        str, typer.Option("--format", help="text, or html for what goes into every page alone")
    ] = "text",
) -> None:
    """Print what to paste into the site's pages and emails."""
    from infra.command import sites
    from infra.command.snippet import page
    from schemas.settings import load

    _one_of(output_format, ("text", "html"))
    settings = load()
    if settings.sites:
        sites.defined(settings, site)
    sys.stdout.write(page(settings, site, base_url, explained=output_format == "text"))


@key_app.command("add")
def add_key(site: Id) -> None:
    """Make a key and show it, this once; the settings file keeps its SHA-256."""
    from infra.command import sites
    from schemas.settings import load

    settings = load()
    sites.defined(settings, site)
    _show_key(*sites.add_key(settings, site))


@key_app.command("list")
def list_keys(site: Id, *, output_format: Format = "table") -> None:
    """List a site's keys by their ids."""
    from infra.command import sites
    from schemas.settings import load

    found = sites.defined(load(), site)
    if _is_json(output_format):
        _json(sites.as_object(found)["keys"])
        return
    table = _table("key", "state")
    for key in found.keys:
        table.add_row(key.id, sites.key_state(key, datetime.now(UTC)))
    _print(table)


@key_app.command("rotate")
def rotate_keys(
    site: Id,
    *,
    overlap: Annotated[str, typer.Option(help="How long the keys of today are still taken: 7d, 12h, 0s.")] = "7d",
) -> None:
    """Make a new key and let the others expire after the overlap; those that have expired go."""
    from infra.command import sites
    from infra.report_options import ReportError, duration_ms
    from schemas.settings import load

    try:
        span = timedelta(milliseconds=duration_ms(overlap, "--overlap"))
    except ReportError as error:
        raise UserError(str(error)) from None
    settings = load()
    sites.defined(settings, site)
    _show_key(*sites.rotate_keys(settings, site, span))
    taken = f"taken for {overlap} more" if span else "refused from now on"
    sys.stderr.write(f"the other keys of {site!r} are {taken}: `hitstream site key list {site}`\n")


@key_app.command("remove")
def remove_key(site: Id, key: Annotated[str, typer.Argument(help="The key's id.")]) -> None:
    """Take a key back: collectors that run refuse it within seconds."""
    from infra.command import sites

    _say(f"key {key!r} of {site!r} is removed from {sites.remove_key(site, key)}; {RELOADED}")


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a site that were given, by their names in the settings."""
    names = {"domain": "domains", "origin": "origins", "redirect_host": "redirect_hosts"}
    left_out = ("site", "unset", "sites")
    return {
        names.get(name, name): value
        for name, value in arguments.items()
        if name not in left_out and value is not None and value != []
    }


def _show_key(text: str, path: Path) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"shown this once; {path} keeps its SHA-256. {RELOADED.capitalize()}\n")


def _one_of(output_format: str, allowed: tuple[str, ...]) -> None:
    if output_format not in allowed:
        raise UserError(f"--format {output_format!r} is not known: use {', '.join(allowed)}")


def _is_json(output_format: str) -> bool:
    _one_of(output_format, ("table", "json"))
    return output_format == "json"


def _say_what_lacks() -> None:
    """Name the salt that a cookieless site needs, where there is none."""
    from ingest.salt_file import SaltFile
    from schemas.settings import load

    settings = load()
    if settings.cookieless and not SaltFile(settings.data_dir).path.exists():
        _say("cookieless visitors need a salt: `hitstream salt init`, or `salt import` where another edge has it")


def _json(content: object) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(show_header=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
