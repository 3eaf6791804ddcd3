"""`hitstream doctor`: what could keep a box from running on this machine, and what to do about each."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from infra import compiled
from infra.command import run_file
from infra.command.box import ADMIN_PORT_OFFSET, runs_own_clickhouse
from infra.command.errors import UserError
from infra.command.event_log import log_ends, uses_kafka
from infra.command.sockets import listening
from ingest.cookieless import date_of
from ingest.salt_file import SaltError, SaltFile
from schemas.errors import FatalError
from schemas.settings import GIB, Settings, config_file, in_environment, load
from schemas.settings_error import SettingsError

PYTHON_LEAST = (3, 11)
FREE_BYTES_LEAST = 2 * GIB
FILES_PER_CONNECTION = 2  # the loop's handle and ours
OPEN_FILES_SPARE = 512  # beside connections: segments, sockets, pipes


class Finding(NamedTuple):
    """One check: what was looked at, whether it is good, what was found, and what to do when it is not."""

    what: str
    good: bool
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return every finding; no check changes anything but the data directory, which is made."""
    findings = [_python(), _hot_path()]
    try:
        settings = load()
    except SettingsError as error:
        return [*findings, Finding("settings", good=False, found=str(error), remedy="correct the named settings")]
    findings.append(_settings_file())
    findings.append(_engine(settings))
    findings.append(_log(settings))
    findings += _network_files(settings)
    findings += _data_directory(settings)
    findings += _salt(settings)
    findings += _ports(settings)
    findings.append(_open_files(settings))
    return findings


def findings_table(findings: list[Finding]) -> Table:
    """Return the findings as a table."""
    table = Table(show_header=True, title="hitstream doctor", title_justify="left")
    for column in ("", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.good else "[bold red]no[/]"
        remedy = "" if finding.good else escape(finding.remedy)
        table.add_row(mark, finding.what, escape(finding.found), remedy)
    return table


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    least = ".".join(str(part) for part in PYTHON_LEAST)
    good = sys.version_info[:2] >= PYTHON_LEAST
    return Finding("python", good, f"{version}, {sys.executable}", f"install Python {least} or newer")


def _hot_path() -> Finding:
    state = compiled.state()
    found = state if state == compiled.COMPILED else f"plain Python, slower: {state}; `hitstream compile`"
    return Finding("hot path", good=True, found=found)


def _settings_file() -> Finding:
    path = config_file()
    if path.exists():
        return Finding("settings", good=True, found=f"{path.absolute()} and HITSTREAM_* variables")
    named = in_environment("HITSTREAM_CONFIG")
    found = f"{path.absolute()} is not there" + ("" if named else ": defaults and HITSTREAM_* variables")
    return Finding("settings", not named, found, "write the file that HITSTREAM_CONFIG names, or unset the variable")


def _engine(settings: Settings) -> Finding:
    if not runs_own_clickhouse(settings):
        return Finding("ClickHouse", good=True, found=f"CLICKHOUSE_URL: {settings.clickhouse_url}")
    good = find_spec("chdb") is not None
    found = "embedded engine (chDB)" + ("" if good else " is not installed")
    return Finding("ClickHouse", good, found, "pip install 'hitstream[embedded]', or set CLICKHOUSE_URL to a server")


def _log(settings: Settings) -> Finding:
    if not uses_kafka(settings):
        return Finding("event log", good=True, found="local partitions")
    where = f"Kafka at {settings.kafka_bootstrap_servers}"
    try:
        ends = log_ends(settings)
    except (UserError, FatalError) as error:
        return Finding("event log", good=False, found=where, remedy=str(error))
    topic = f"topic {settings.kafka_topic!r}"
    what = f"{topic} with {len(ends)} partitions" if ends else f"{topic} is not there yet; the forwarder makes it"
    return Finding("event log", good=True, found=f"{where}: {what}")


def _salt(settings: Settings) -> Iterator[Finding]:
    if settings.cookieless:
        try:
            salt = SaltFile(settings.data_dir).read()
        except SaltError as error:
            yield Finding("salt", good=False, found="cookieless visitors have none", remedy=str(error))
        else:
            yield Finding("salt", good=True, found=f"that of {date_of(salt.day)}, for cookieless visitors")


def _network_files(settings: Settings) -> Iterator[Finding]:
    from consumers.network_files import FileUnusableError, PlaceDatabase, read_ranges

    if settings.place_database is not None:
        path, good = settings.place_database, True
        try:
            found = f"{path}: {PlaceDatabase(path).name}"
        except FileUnusableError as error:
            good, found = False, f"{path}: {error}"
        yield Finding("place database", good, found, "correct HITSTREAM_PLACE_DATABASE; till then events have no place")
    for path in settings.datacentre_ranges:
        good = True
        try:
            found = f"{path}: {len(read_ranges(path))} ranges"
        except FileUnusableError as error:
            good, found = False, f"{path}: {error}"
        yield Finding("datacentre ranges", good, found, "correct HITSTREAM_DATACENTRE_RANGES")


def _data_directory(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir.absolute()
    try:
        run_file.run_directory(path)
    except UserError as error:
        yield Finding("data directory", good=False, found=str(path), remedy=str(error))
        return
    yield Finding("data directory", good=True, found=f"{path} is writable")
    free = shutil.disk_usage(path).free
    wanted = max(min(settings.spool_bytes_max + settings.log_bytes_max, 64 * GIB), FREE_BYTES_LEAST)
    yield Finding(
        "disk space",
        good=free >= wanted,
        found=f"{free / GIB:.1f} GiB free; spool and log may take {wanted / GIB:.1f} GiB",
        remedy="free some space, or lower HITSTREAM_SPOOL_BYTES_MAX and HITSTREAM_LOG_BYTES_MAX",
    )


def _ports(settings: Settings) -> Iterator[Finding]:
    running = (run_file.run_file(settings.data_dir.absolute(), "up")).exists()
    wanted = [("public port", settings.host, settings.port, "HITSTREAM_PORT")]
    offsets = sorted(set(ADMIN_PORT_OFFSET.values())) if settings.admin_port else [0]
    admin = ("admin port", settings.admin_host)
    wanted += [(*admin, settings.admin_port + offset, "HITSTREAM_ADMIN_PORT") for offset in offsets]
    if runs_own_clickhouse(settings):
        host, port = settings.clickhouse_host, settings.clickhouse_port
        wanted.append(("ClickHouse port", host, port, "HITSTREAM_CLICKHOUSE_PORT"))
    for what, host, port, variable in wanted:
        try:
            listening(host, port, variable).close()
        except UserError as error:
            if running:
                yield Finding(what, good=True, found=f"{host}:{port} is taken; a box of this data directory runs")
            else:
                yield Finding(what, good=False, found=f"{host}:{port} is taken", remedy=str(error))
        else:
            yield Finding(what, good=True, found=f"{host}:{port} is free" if port else "any free port")


def _open_files(settings: Settings) -> Finding:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # the parent raises its soft limit to this one
    wanted = FILES_PER_CONNECTION * settings.connections_max + OPEN_FILES_SPARE
    good = limit == resource.RLIM_INFINITY or limit >= wanted
    found = f"up to {'any number' if limit == resource.RLIM_INFINITY else limit} per process; {wanted} wanted"
    remedy = f"raise the hard limit (`ulimit -Hn {wanted}` as root), or lower HITSTREAM_CONNECTIONS_MAX"
    return Finding("open files", good, found, remedy)
