"""A hit without consent leaves no address, agent, cookie or id behind: all bytes of spool, log and ClickHouse searched.

The requests (`support/denied_requests.py`) hold a word of its own in every field, well-formed or not, by every way in.
"""

import asyncio
import logging
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.denied_requests import SETTINGS, VISITOR, denied_requests, traces_in, word
from support.edge import HOST, edge, post, run, statuses

from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.log_reader.local import LocalLogReader
from consumers.worker import Worker
from infra.command.worker_rules import worker_rules
from infra.journal.local_log import log_root
from ingest.forwarder import Forwarder
from ingest.log_writer.local import LocalLogWriter
from schemas.consent import DENIED
from schemas.settings import load

LOADED_S_MAX = 30
SMALL = {"collectors": 1, "partitions": 1, "log_bytes_max": 64 << 20, "spool_bytes_max": 64 << 20}


def files_in(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_files(directory):
    """No trace in any file; returns how many hits were searched, by their JSON's beginning."""
    found = files_in(directory)
    for path, data in found.items():
        assert traces_in(data) == [], path
    return sum(data.count(b'{"key":"') for data in found.values())


async def sent(directory, requests):
    """Send requests to a collector, one connection; return its counters, and check that all was denied."""
    async with edge(directory, **SETTINGS, **SMALL) as box:
        answers, _ = await box.probed(b"".join(request.data for request in requests))
        assert len(answers) == len(requests)
        for request, status in zip(requests, statuses(answers), strict=True):
            assert status in request.statuses, request.data
        kept = len(box.hits())
    verdicts = {name: count for name, count in box.counters.verdicts.items() if count}
    assert verdicts.keys() <= DENIED, verdicts
    return kept


def forwarded(directory):
    """Move what is in the spools to the local log."""

    async def main():
        own = load(data_dir=directory, **SMALL)
        forwarder = Forwarder.from_settings(own, LocalLogWriter.open(own))
        await forwarder.open()
        while await forwarder.step():
            pass
        await forwarder.close()

    asyncio.run(main())


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(denied_requests(), min_size=1, max_size=12))
def test_in_spool_and_log(caplog, requests):
    caplog.set_level(logging.DEBUG)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        kept = run(lambda: sent(directory, requests))
        assert check_files(directory) == kept
        forwarded(directory)
        assert check_files(directory) >= kept
    assert traces_in(caplog.text.encode()) == []


@settings(
    deadline=None, max_examples=2, phases=[Phase.generate], derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.lists(denied_requests(), min_size=18, max_size=18))
def test_in_clickhouse(clickhouse_url, module_database, tmp_path, requests):
    kept = run(lambda: sent(tmp_path, requests))
    forwarded(tmp_path)
    client = ClickHouse(clickhouse_url, database=module_database)
    load_all(tmp_path, client, rows_of(client) + kept)
    check_tables(client)
    client.close()


def load_all(directory, client, rows):
    """Have a worker load the local log, until there are so many rows."""
    own = load(data_dir=directory, **SETTINGS, **SMALL, batch_age_s_max=0.01)
    reader = LocalLogReader(log_root(directory))
    worker = Worker(reader, ClickHouseStore(client), worker_rules(own), time.time)
    deadline_s = time.monotonic() + LOADED_S_MAX
    while rows_of(client) < rows:
        assert time.monotonic() < deadline_s
        worker.step()
    reader.close()
    assert rows_of(client) == rows


def rows_of(client):
    return sum(client.query(f"SELECT count() FROM {table}")[0][0] for table in ("events", "rejected"))


def check_tables(client):
    """No trace in any column of any row: the bytes of the binary form, and the text."""
    tables = [name for (name,) in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()")]
    assert {"events", "sessions", "batches", "rejected", "batch_rules"} <= set(tables)
    for table in tables:
        for form in ("RowBinary", "JSONEachRow"):
            assert traces_in(client.query_text(f"SELECT * FROM {table}", form)) == [], table


def test_the_search_finds_what_is_kept_with_consent(tmp_path):
    """Without this, a search that finds nothing would prove nothing."""
    head = (
        b"Cookie: _hs=%016x.%d" % (VISITOR, time.time() - 60),
        b"X-Forwarded-For: 198.51.100.77",
        b"User-Agent: " + word("agent").encode(),
    )

    async def main():
        async with edge(tmp_path, **SETTINGS, **SMALL) as box:
            body = f'{{"s":"open","uid":"{word("uid")}","u":"https://shop.example/?{word("query")}"}}'.encode()
            answers, _ = await box.probed(
                post(body, *head), b"GET /p.gif?s=open&uid=%7A%71 HTTP/1.1\r\n" + HOST + b"\r\n"
            )
            assert statuses(answers) == [204, 200]

    run(main)
    wanted = {b"zquidqz", b"zqqueryqz", b"zqagentqz", b"%7A%71", b"198.51.100.77", b"deadbeefcafef00d"}
    assert wanted <= {trace for data in files_in(tmp_path).values() for trace in traces_in(data)}
    for packed in (VISITOR.to_bytes(8, "little"), bytes([198, 51, 100, 77]).rjust(6, b"\xff"), str(VISITOR).encode()):
        assert traces_in(b"x" + packed + b"y") == [packed]


@pytest.mark.parametrize("table", ["events", "rejected"])
def test_the_search_finds_it_in_clickhouse(clickhouse_url, fresh_database, table):
    client = ClickHouse(clickhouse_url, database=fresh_database)
    if table == "events":
        client.command(f"INSERT INTO events (visitor_id, ip) VALUES ({VISITOR}, toIPv6('198.51.100.77'))")
    else:
        client.command(f"INSERT INTO rejected (raw) VALUES ('{word('uid')}')")
    with pytest.raises(AssertionError, match=table):
        check_tables(client)
    client.close()
