"""What commands do with ClickHouse: its address, a client, reports, migrations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from infra.admin import is_loopback
from infra.command.box import runs_own_clickhouse
from infra.command.errors import UserError, cause
from schemas.errors import FatalError
from schemas.settings import Settings

if TYPE_CHECKING:
    from consumers.clickhouse_client import ClickHouse

log = logging.getLogger("hitstream.database")

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  compared, not bound


def clickhouse_url(settings: Settings) -> str:
    """Return the URL of ClickHouse with its login; of the embedded one, where it listens."""
    if settings.clickhouse_url and not (runs_own_clickhouse(settings) and settings.clickhouse_password):
        return settings.clickhouse_url
    host = settings.clickhouse_host
    if host in EVERYWHERE or is_loopback(host):
        host = "127.0.0.1" if host != "::1" else host
    login = f"default:{quote(settings.clickhouse_password, safe='')}@" if settings.clickhouse_password else ""
    return f"http://{login}{f'[{host}]' if ':' in host else host}:{settings.clickhouse_port}"


@contextmanager
def open_client(settings: Settings, *, exact: bool = False) -> Iterator[ClickHouse]:
    """Give a client of the database `hitstream`; it connects when it is first used.

    `exact` is for who inserts, or must see every row that was inserted, whatever replica of a cluster answers.
    """
    from consumers.clickhouse_client import ClickHouse

    url, cluster = clickhouse_url(settings), settings.clickhouse_cluster
    client = ClickHouse(url, timeout_s=settings.insert_timeout_s, cluster=cluster, exact=exact)
    try:
        yield client
    finally:
        client.close()


def show_report(settings: Settings, name: str, output_format: str, asked: dict[str, Any]) -> None:
    """Print a report; `asked` are fields of ReportOptions. Without `tz`, days are the site's. Raises UserError."""
    from rich.console import Console

    from infra import reports

    site = asked.get("site")
    zone = asked.get("tz") or (settings.site(site).timezone if site else "UTC")
    options = reports.ReportOptions(**{**asked, "tz": zone})
    try:
        columns = reports.columns(name, options)
        if output_format not in reports.FORMATS:
            raise UserError(f"--format {output_format!r} is not known: use {', '.join(reports.FORMATS)}")
        with open_client(settings) as client:
            rows = reports.run(name, client, options)
        reports.render(rows, output_format, Console(highlight=False), columns)
    except reports.ReportError as error:
        raise UserError(str(error)) from None
    except FatalError as error:
        raise UserError(f"{cause(error)}; if tables are missing, run `hitstream migrate`") from None


def migrate_now(settings: Settings) -> None:
    """Create or update the tables and say what was done. Raises UserError."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.status(f"migrating {settings.clickhouse_address}"):
        done = apply_migrations(settings)
    for name in done:
        console.print(f"applied {name}")
    if not done:
        console.print("the tables are up to date")


def apply_migrations(settings: Settings) -> list[str]:
    """Create or update the tables; return the migrations applied. Raises RetryError, FatalError.

    How long rows stay is set on the tables, too. So is whether inserts survive power loss; on a foreign server that is
    only ever switched on.
    """
    from infra.migrate import migrate, set_durability

    disk, cluster = settings.sync == "disk", settings.clickhouse_cluster
    if cluster and not settings.clickhouse_url:
        raise FatalError("HITSTREAM_CLICKHOUSE_CLUSTER needs a real ClickHouse: set CLICKHOUSE_URL to one of its hosts")
    with open_client(settings, exact=True) as client:
        done = migrate(client, cluster=cluster)
        if disk or runs_own_clickhouse(settings):
            set_durability(client, power_loss=disk, cluster=cluster)
        _set_retention(settings, client)
    return done


def apply_retention(settings: Settings) -> None:
    """Set on the tables how long rows stay, where that differs. Raises RetryError, FatalError."""
    with open_client(settings, exact=True) as client:
        _set_retention(settings, client)


def _set_retention(settings: Settings, client: ClickHouse) -> None:
    from infra.retention import Retention, set_retention

    sites = {name: site.retention_days for name, site in settings.sites.items()}
    retention = Retention(sites, settings.default_site.retention_days, settings.rejected_retention_days)
    changed = set_retention(client, retention, settings.clickhouse_cluster)
    if changed:
        log.info("rows leave after other times now: %s", ", ".join(changed))
