"""The command line: errors in one line, the settings page, the doctor, sockets and the run file."""

import asyncio
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.waiting import until

from consumers.rules import Enrichment
from infra import reports
from infra.command import doctor, run_file
from infra.command.database import show_report
from infra.command.errors import UserError
from infra.command.event_log import log_ends
from infra.command.main import app
from infra.command.settings_page import markdown_page, rows, settings_table, variable_of
from infra.command.sockets import listening, port_of, public_sockets
from infra.command.worker_rules import worker_rules
from infra.journal.frame import encode
from infra.journal.local_log import log_root, partition_directory, partitions_file
from infra.journal.writer import JournalWriter
from schemas.settings import Settings, load
from schemas.settings_error import SettingsError

ROOT = Path(__file__).parents[2]


def hitstream(tmp_path, *arguments, **variables):
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("HITSTREAM_", "CLICKHOUSE_"))}
    environment = kept | {"HITSTREAM_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200"} | variables
    command = [sys.executable, "-m", "infra.command.main", *arguments]
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_needs_no_heavy_module(tmp_path):
    code = (
        "import sys, infra.command.main\n"
        "heavy = {'aiohttp', 'clickhouse_connect', 'chdb', 'ua_parser', 'uvloop', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["up"], {"HITSTREAM_PORT": "99999"}, "port: Input should be less than or equal to 65535"),
        (["up"], {"HITSTREAM_TRUSTED_PROXIES": "nonsense"}, "trusted_proxies"),
        (["up"], {"KAFKA_BOOTSTRAP_SERVERS": "kafka://one:9092"}, "is no host:port of a broker"),
        (["up"], {"HITSTREAM_DATA_DIR": "/proc/none"}, "set HITSTREAM_DATA_DIR to a writable one"),
        (["ledger", "--format", "xml"], {}, "use 'table', 'json'"),
        (["report", "funnel", "Page View"], {}, "is no event name"),
        (["report", "sessions", "--since", "yesterday"], {}, "is no time"),
        (["report", "traffic", "--format", "xml"], {}, "use table, json, csv"),
        (["sql", " "], {}, "the query is empty"),
    ],
)
def test_a_users_error_is_said_without_a_traceback(tmp_path, arguments, variables, words):
    done = hitstream(tmp_path, *arguments, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith("hitstream: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_no_clickhouse_says_what_to_do(tmp_path):
    with listening("127.0.0.1", 0, "x") as sock:
        port = port_of(sock)
    done = hitstream(tmp_path, "sql", "SELECT 1", HITSTREAM_CLICKHOUSE_PORT=str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "hitstream up" in done.stderr
    assert "Traceback" not in done.stderr


def test_docs_settings_is_current():
    assert (ROOT / "docs" / "settings.md").read_text() == markdown_page(), (
        "run: hitstream settings --markdown > docs/settings.md"
    )


def test_every_setting_has_a_meaning_and_its_variable_sets_it(monkeypatch):
    assert all(row.meaning for row in rows())
    assert {row.name for row in rows()} == set(Settings.model_fields)
    monkeypatch.setenv(variable_of("clickhouse_url", Settings.model_fields["clickhouse_url"]), "http://c:1")
    monkeypatch.setenv("HITSTREAM_BATCH_ROWS_MAX", "7")
    settings = load()
    assert (settings.clickhouse_url, settings.batch_rows_max) == ("http://c:1", 7)
    table = settings_table(settings)
    sources = dict(zip(table.columns[0].cells, table.columns[2].cells, strict=True))
    assert sources["batch_rows_max"] == "HITSTREAM_BATCH_ROWS_MAX"
    assert sources["collectors"] == "default"


def test_a_password_is_not_shown():
    cells = [
        str(cell) for column in settings_table(load(clickhouse_password="s3cret")).columns for cell in column.cells
    ]
    assert not any("s3cret" in cell for cell in cells)
    assert "(set)" in cells


def test_commands_page_names_every_command():
    page = (ROOT / "docs" / "commands.md").read_text()
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(names) >= 10
    assert [name for name in [*names, "report"] if f"hitstream {name}" not in page] == []


def write(path, text):
    path.write_text(text)
    return path


def test_the_doctor_finds_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with listening("127.0.0.1", 0, "x") as taken:
        for name, text in {
            "DATA_DIR": tmp_path,
            "HOST": "127.0.0.1",
            "PORT": port_of(taken),
            "ADMIN_PORT": 0,
            "CLICKHOUSE_PORT": 0,
            "SPOOL_BYTES_MAX": 1 << 60,
            "CONNECTIONS_MAX": 1 << 40,
            "PLACE_DATABASE": tmp_path / "none.mmdb",
            "DATACENTRE_RANGES": write(tmp_path / "ranges", "192.0.2.0/24\n"),
        }.items():
            monkeypatch.setenv(f"HITSTREAM_{name}", str(text))
        monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 50))
        findings = {finding.what: finding for finding in doctor.examine()}
        doctor.findings_table(list(findings.values()))
    assert {what for what, finding in findings.items() if not finding.good} == {
        "public port",
        "open files",
        "place database",
    }
    assert findings["place database"].found.endswith("none.mmdb: No such file or directory")
    assert findings["datacentre ranges"].found.endswith("ranges: 1 ranges")
    assert "set HITSTREAM_PORT" in findings["public port"].remedy
    assert all(finding.remedy for finding in findings.values() if not finding.good)
    monkeypatch.setenv("HITSTREAM_PORT", "x")
    assert [finding.good for finding in doctor.examine()] == [True, True, False]


def test_the_doctor_prints_and_its_exit_code_says_so(tmp_path):
    free = {f"HITSTREAM_{name}PORT": "0" for name in ("", "ADMIN_", "CLICKHOUSE_")}
    small = {"HITSTREAM_SPOOL_BYTES_MAX": "1000000", "HITSTREAM_LOG_BYTES_MAX": "1000000"}
    done = hitstream(tmp_path, "doctor", HITSTREAM_CONNECTIONS_MAX="10", **free, **small)
    assert (done.returncode, "python" in done.stdout) == (0, True), done.stdout
    done = hitstream(tmp_path, "doctor", HITSTREAM_DATA_DIR="/proc/none", **free, **small)
    assert done.returncode == 1


def test_several_sockets_share_a_port_and_a_stranger_is_noticed():
    sockets = public_sockets("127.0.0.1", 0, 3, shared=False)
    try:
        (port,) = {port_of(sock) for sock in sockets}
        with pytest.raises(UserError, match=f"{port} is in use by another program"):
            public_sockets("127.0.0.1", port, 1, shared=False)
        more = public_sockets("127.0.0.1", port, 1, shared=True)
        assert port_of(more[0]) == port
        more[0].close()
    finally:
        for sock in sockets:
            sock.close()


def test_an_address_that_is_not_here_is_a_clear_error():
    with pytest.raises(UserError, match="cannot be opened"):
        public_sockets("192.0.2.1", 0, 1, shared=False)


def test_a_role_has_one_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(run_file, "LOCK_WAIT_S", 0.0)
    locks = run_file.take_roles(tmp_path, ("collectors", "forwarder"))
    run_file.take_roles(tmp_path, ("workers",))[0].release()
    path = run_file.run_file(tmp_path, "up")
    run_file.write_run_file(path, "up", {"parent": os.getpid()}, {})
    with pytest.raises(UserError, match=rf"the forwarder of .* run already \(`hitstream up`, pid {os.getpid()}\)"):
        run_file.take_roles(tmp_path, ("forwarder",))
    for lock in locks:
        lock.release()
    run_file.take_roles(tmp_path, ("forwarder",))[0].release()


def test_leftovers_are_children_of_ours_only(tmp_path):
    (tmp_path / "run-x.json").write_text("{")
    child = subprocess.Popen([sys.executable, "-c", "input()", run_file.CHILD_MODULE], stdin=subprocess.PIPE)
    try:
        asyncio.run(until(Path(f"/proc/{child.pid}/cmdline").read_bytes))  # empty for a moment while it starts
        path = run_file.run_file(tmp_path, "collect")
        pids = {"collector-0": child.pid, "worker-0": 2**22 - 1}
        run_file.write_run_file(path, "collect", {"parent": os.getpid(), **pids}, {"public": 1})
        assert run_file.leftovers(tmp_path) == {}
        run_file.write_run_file(path, "collect", {"parent": 2**22 - 1, **pids}, {"public": 1})
        assert run_file.leftovers(tmp_path) == {"collector-0": child.pid}
    finally:
        child.kill()
        child.communicate()
    assert run_file.leftovers(tmp_path) == {}


def test_a_family_lives_as_long_as_its_last_child(tmp_path):
    roles = ("collectors", "forwarder")
    assert not run_file.families_alive(tmp_path, roles)
    handle = run_file.found_family(tmp_path, roles)
    command = [sys.executable, "-c", "input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(handle,))
    try:
        os.close(handle)  # the parent is gone
        assert run_file.families_alive(tmp_path, ("forwarder",))
        assert not run_file.families_alive(tmp_path, ("workers",))
    finally:
        child.kill()
        child.communicate()
    assert not run_file.families_alive(tmp_path, roles)
    assert list(run_file.run_directory(tmp_path).glob("*.family")) == []


def test_log_ends_are_read_from_the_journals(tmp_path):
    settings = load(data_dir=tmp_path)
    assert log_ends(settings) == {}
    root = log_root(tmp_path)
    root.mkdir(parents=True)
    partitions_file(root).write_text('{"partitions": 2}')
    directory = partition_directory(root, 1)
    directory.mkdir()
    writer = JournalWriter(directory, number=40, segment_bytes=65536)
    writer.append([encode(b"x"), encode(b"y")])
    writer.close()
    assert log_ends(settings) == {0: 0, 1: 42}


def test_worker_rules_are_the_settings():
    rules = worker_rules(load(session_gap_s=60, event_age_s_max=5, sites={"shop": {"domains": ["shop.example"]}}))
    assert rules.session.gap_ms == 60_000
    assert rules.rules.limits.event_age_ms_max == 5_000
    assert rules.rules.limits.sites == {"shop"}
    assert rules.rules.domains == rules.rules.limits.domains == {"shop": ("shop.example",)}
    assert worker_rules(load()).rules.limits.sites is None


def test_a_site_may_have_its_own_session_rule_and_so_may_those_without_a_table():
    sites = {"slow": {"session_gap_s": 7200}, "long": {"session_length_s_max": 172_800}, "plain": {}}
    given = load(session_gap_s=60, bot_events_per_minute_max=9, sites=sites, default_site={"session_gap_s": 600})
    session = worker_rules(given).session
    assert {site: (session.of(site).gap_ms, session.of(site).length_ms_max) for site in (*sites, "other")} == {
        "slow": (7_200_000, 86_400_000),
        "long": (60_000, 172_800_000),
        "plain": (60_000, 86_400_000),
        "other": (600_000, 86_400_000),
    }
    assert {rule.events_per_minute_max for rule in session.every()} == {9}, "of a site with its own rule as well"


@pytest.mark.parametrize(
    ("asked", "zone"),
    [
        ({"site": "shop"}, "Europe/Berlin"),
        ({"site": "shop", "tz": "America/Lima"}, "America/Lima"),
        ({"site": "elsewhere"}, "Asia/Tokyo"),
        ({}, "UTC"),
    ],
)
def test_a_reports_days_are_its_sites(monkeypatch, capsys, asked, zone):
    options = []
    monkeypatch.setattr(reports, "run", lambda _name, _client, given: options.append(given) or [])
    sites = {"shop": {"timezone": "Europe/Berlin"}}
    show_report(load(sites=sites, default_site={"timezone": "Asia/Tokyo"}), "traffic", "json", asked)
    assert [given.tz for given in options] == [zone]
    assert capsys.readouterr().out.strip() == "[]"


def test_worker_rules_scrub_and_hash_as_settings_and_sites_say():
    shop = {"user_id": "hashed"}
    settings = load(scrub_parameters="kundennr, plz", scrub_patterns=["geheim"], sites={"shop": shop})
    rules = worker_rules(settings).rules.enrichment
    assert rules == Enrichment(True, ("kundennr", "plz"), ("geheim",), {"shop": True}, False)
    assert not worker_rules(load(scrub=False)).rules.enrichment.scrub
    with pytest.raises(SettingsError, match=r"scrub_patterns: .*'\(a' is no RE2 expression"):
        load(scrub_patterns=["(a"])


def test_make_and_ci_name_no_registry():
    for name in ("Makefile", ".ci/run", "constraints.txt"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://|index-url|pypi", text), name


def test_constraints_pin_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9_.-]+", line)[0]).lower() for line in wanted}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert names - set(pins) == set()
