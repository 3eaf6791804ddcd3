"""The embedded server as a process: concurrency, deduplication, kills, restarts, stops, and the stock client."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import clickhouse_connect
import pytest
from support.clickhouse import Server, embedded
from support.waiting import wait_until

from infra.clickhouse_server import engine, errors
from infra.clickhouse_server.counters import Counters
from infra.clickhouse_server.sessions import Sessions

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
TABLE = (
    "CREATE TABLE IF NOT EXISTS t (a UInt64, s String) ENGINE = MergeTree ORDER BY a "
    "SETTINGS non_replicated_deduplication_window = 1000"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with embedded(tmp_path_factory.mktemp("process")) as running:
        yield running


def in_threads(count, work):
    """Run `work(number)` in threads; raise the first failure."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:  # noqa: BLE001  raised below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_inserts_and_queries_run_together(server):
    server.text("CREATE TABLE both (worker UInt8, a UInt64) ENGINE = MergeTree ORDER BY a")

    def work(number):
        for step in range(8):
            rows = "".join(f"{number},{step * 1000 + row}\n" for row in range(1000)).encode()
            server.text("INSERT INTO both FORMAT CSV", rows)
            assert int(server.text(f"SELECT count() FROM both WHERE worker = {number}")) == (step + 1) * 1000

    in_threads(6, work)
    assert server.text("SELECT count(), uniqExact(worker, a) FROM both") == "48000\t48000\n"


def test_merges_take_what_nobody_else_wants_of_the_cpus(server):
    server.text("CREATE TABLE merged (a UInt64) ENGINE = MergeTree ORDER BY a")
    for number in range(30):
        server.text(f"INSERT INTO merged VALUES ({number})")
    idle = (True, os.SCHED_IDLE | os.SCHED_RESET_ON_FORK)
    wait_until(lambda: {*policies(server.process.pid)} == {(False, os.SCHED_OTHER), idle})


def policies(pid):
    """Yield of each thread of a process whether it merges parts, and its scheduling policy."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            is_merging = (task / "comm").read_text().startswith(engine.MERGE_THREADS)
            yield is_merging, os.sched_getscheduler(int(task.name))


@pytest.mark.parametrize("through", ["", " SELECT a, s FROM input('a UInt64, s String')"])
def test_a_token_sent_again_adds_nothing_here_nor_in_views(server, through):
    name = "plain" if not through else "selected"
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    server.text(f"CREATE TABLE {name} (a UInt64, s String) ENGINE = MergeTree ORDER BY a {window}")
    server.text(f"CREATE TABLE {name}_sum (k UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY k {window}")
    server.text(
        f"CREATE MATERIALIZED VIEW {name}_mv TO {name}_sum AS SELECT a % 10 AS k, count() AS n FROM {name} GROUP BY k"
    )
    rows = "".join(f"{row},x\n" for row in range(5000)).encode()
    token = {"insert_deduplication_token": "hits:0:0-4999", "deduplicate_blocks_in_dependent_materialized_views": "1"}
    for _ in range(3):
        server.text(f"INSERT INTO {name}{through} FORMAT CSV", rows, **token)
    assert server.text(f"SELECT count() FROM {name}") == "5000\n"
    assert server.text(f"SELECT sum(n) FROM {name}_sum") == "5000\n"
    other = {**token, "insert_deduplication_token": "hits:0:5000-9999"}
    server.text(f"INSERT INTO {name}{through} FORMAT CSV", rows, **other)
    assert server.text(f"SELECT count() FROM {name}") == "10000\n"
    assert server.text(f"SELECT sum(n) FROM {name}_sum") == "10000\n"


def wait_running(server, query_id, *, running):
    """Wait until a statement of this id runs, or no longer does."""
    sql = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {id:String}"
    deadline = time.monotonic() + 30
    while (server.text(sql, param_id=query_id) != "0\n") != running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_statement_is_found_and_killed_by_its_query_id(server):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.request(ENDLESS, query_id="endless")))
    thread.start()
    wait_running(server, "endless", running=True)
    status, headers, _ = server.request("SELECT 1", query_id="endless")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "216")
    server.text("KILL QUERY WHERE Settings['log_comment'] = 'endless'")
    thread.join(20)
    assert answers[0][1]["X-ClickHouse-Exception-Code"] == "394"
    wait_running(server, "endless", running=False)
    assert server.text("SELECT 1", query_id="endless") == "1\n"


def test_a_full_server_refuses_after_a_while_yet_can_be_looked_after(tmp_path):
    script = "import infra.clickhouse_server.slots as s; s.Slots.__init__.__defaults__ = (2, 0.3); "
    server = Server(tmp_path)
    server.run = script + server.run
    try:
        server.start()
        threads = [
            threading.Thread(target=server.request, args=(ENDLESS,), kwargs={"query_id": f"e{n}"}) for n in range(2)
        ]
        for number, thread in enumerate(threads):
            thread.start()
            wait_running(server, f"e{number}", running=True)
        status, headers, body = server.request("SELECT 1")
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "202")
        assert b"TOO_MANY_SIMULTANEOUS_QUERIES" in body
        server.text("KILL QUERY WHERE Settings['log_comment'] LIKE 'e%'")
        for thread in threads:
            thread.join(20)
        assert server.text("SELECT 1") == "1\n"
    finally:
        server.close()


def test_answered_inserts_survive_kills(tmp_path):
    with embedded(tmp_path) as server:
        server.text(TABLE)
        answered = 0
        for round_number in range(2):
            for _ in range(5):
                rows = "".join(f"{answered + row},x\n" for row in range(1000)).encode()
                server.text("INSERT INTO t FORMAT CSV", rows, insert_deduplication_token=f"rows-{answered}")
                answered += 1000
            server.kill()
            server.start()
            assert server.text("SELECT count(), uniqExact(a) FROM t") == f"{answered}\t{answered}\n"
            # a token that was answered before the kill is still known after it
            rows = "".join(f"{answered - 1000 + row},x\n" for row in range(1000)).encode()
            server.text("INSERT INTO t FORMAT CSV", rows, insert_deduplication_token=f"rows-{answered - 1000}")
            assert server.text("SELECT count() FROM t") == f"{answered}\n", round_number


def test_a_kill_in_the_middle_of_an_insert_and_its_retry_leave_it_once(tmp_path):
    with embedded(tmp_path) as server:
        server.text(TABLE)
        rows = "".join(f"{row},{'x' * 50}\n" for row in range(300_000)).encode()

        def send():
            with suppress(OSError):
                server.request("INSERT INTO t FORMAT CSV", rows, insert_deduplication_token="once", query_id="cut")

        for delay_s in (0.1, 0.3):
            thread = threading.Thread(target=send)
            thread.start()
            time.sleep(delay_s)  # kills at different depths; which does not matter to what must hold
            server.kill()
            thread.join()
            server.start()
            assert server.text("SELECT count() FROM t") in ("0\n", "300000\n")
        server.text("INSERT INTO t FORMAT CSV", rows, insert_deduplication_token="once")
        assert server.text("SELECT count(), uniqExact(a) FROM t") == "300000\t300000\n"


def test_sigterm_finishes_what_runs_and_exits_0(tmp_path):
    server = Server(tmp_path)
    try:
        server.start().text(TABLE)
        answers = []
        slow = "INSERT INTO t SELECT number, toString(sleepEachRow(0.2)) FROM numbers(5)"
        thread = threading.Thread(target=lambda: answers.append(server.request(slow, query_id="slow")))
        thread.start()
        wait_running(server, "slow", running=True)
        assert server.stop() == 0
        thread.join()
        assert answers[0][0] == 200
        assert server.start().text("SELECT count() FROM t") == "5\n"
    finally:
        server.close()


def test_sigterm_cancels_what_runs_too_long(tmp_path):
    server = Server(tmp_path, env={"HITSTREAM_STOP_TIMEOUT_S": "0.3"})

    def send():
        with suppress(OSError):
            server.request(ENDLESS, query_id="endless")

    try:
        server.start()
        thread = threading.Thread(target=send)
        thread.start()
        wait_running(server, "endless", running=True)
        assert server.stop(timeout_s=15) == 0
        thread.join()
    finally:
        server.close()


def test_a_successor_waits_for_the_directory_and_then_says_whose_it_is(tmp_path):
    with embedded(tmp_path) as first:
        first.text(TABLE)
        second = Server(tmp_path)
        second.log = tmp_path / "second.log"
        second.run = "import infra.clickhouse_server.engine as e; e.LOCK_WAIT_S = 0.3; " + second.run
        second.start(wait=False)
        assert second.process.wait(30) == 1
        assert f"process {first.process.pid}" in second.log.read_text()
        second.run = Server.run
        second.start(wait=False)
        time.sleep(0.5)
        assert second.process.poll() is None
        first.kill()
        second.wait_ready()
        assert second.text("SELECT count() FROM t") == "0\n"
        second.close()


def test_a_waiting_successor_ends_at_once_when_told(tmp_path):
    with embedded(tmp_path):
        second = Server(tmp_path)
        second.log = tmp_path / "second.log"
        try:
            second.start(wait=False)
            time.sleep(0.5)
            assert second.stop(timeout_s=10) in (0, -signal.SIGTERM)
        finally:
            second.close()


def test_without_chdb_the_error_names_the_extra(tmp_path):
    script = (
        "import sys; sys.modules['chdb'] = None; sys.modules['chdb._chdb'] = None; "
        "from infra.clickhouse_server.server import main; from schemas.settings import load; sys.exit(main(load()))"
    )
    environment = {**os.environ, "HITSTREAM_DATA_DIR": str(tmp_path), "HITSTREAM_CLICKHOUSE_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "pip install 'hitstream[embedded]'" in ended.stderr


def test_a_directory_the_engine_cannot_name_is_refused(tmp_path):
    with pytest.raises(engine.EngineError, match="in its name"):
        engine.Engine(tmp_path / "what?")


def test_stock_clickhouse_connect(server):
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port)  # with a session of its own
    client.command(
        "CREATE TABLE stock (a UInt64, b LowCardinality(String), c Array(Nullable(Float64)), d DateTime) ENGINE = Log"
    )
    rows = [[n, f"s{n % 3}", [1.5, None], 1_700_000_000 + n] for n in range(10_000)]
    assert client.insert("stock", rows, column_names=["a", "b", "c", "d"]).written_rows == 10_000
    assert client.query("SELECT count(), uniqExact(b), sum(a) FROM stock").result_rows == [(10_000, 3, 49_995_000)]
    assert client.query("SELECT * FROM stock WHERE a = {a:UInt64}", parameters={"a": 7}).first_row[:3] == (
        7,
        "s1",
        [1.5, None],
    )
    with client.query_row_block_stream("SELECT a FROM stock ORDER BY a") as stream:
        assert sum(len(block) for block in stream) == 10_000
    assert client.query_df("SELECT a, b FROM stock LIMIT 5").shape == (5, 2)
    assert client.query_arrow("SELECT a FROM stock LIMIT 5").num_rows == 5
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    client.insert("mine", [[1]], column_names=["a"])
    assert client.query("SELECT a FROM mine", settings={"max_threads": 1}).result_rows == [(1,)]
    assert client.raw_query("SELECT 1", fmt="JSONEachRow") == b'{"1":1}\n'
    client.raw_insert("stock", ["a"], gzip.compress(b"1\n2\n"), fmt="CSV", compression="gzip")
    assert client.command("SELECT count() FROM stock") == 10_002
    with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError, match="60"):
        client.query("SELECT * FROM nope")
    with pytest.raises(clickhouse_connect.driver.exceptions.Error, match="395"):
        client.query("SELECT throwIf(number = 900000) FROM numbers(1000000)")
    assert client.ping()
    client.close()


@pytest.mark.parametrize("compress", [True, False, "lz4", "zstd", "gzip"])
def test_stock_client_in_every_compression(server, compress):
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port, compress=compress)
    client.command("CREATE OR REPLACE TABLE packed (a UInt64, s String) ENGINE = Memory")
    client.insert("packed", [[n, "x" * 100] for n in range(50_000)], column_names=["a", "s"])
    assert client.query("SELECT count(), sum(a) FROM packed").result_rows == [(50_000, 1_249_975_000)]
    assert len(client.query("SELECT * FROM packed").result_rows) == 50_000
    client.close()


def test_sessions_are_bounded_locked_and_end():
    sessions = Sessions()
    first = sessions.take("a", 10, now=0.0, check=False)
    with pytest.raises(errors.ServerError, match="locked"):
        sessions.take("a", 10, now=0.0, check=False)
    sessions.give_back(first, now=1.0)
    assert sessions.take("a", 10, now=11.0, check=True) is first
    sessions.give_back(first, now=11.0)
    with pytest.raises(errors.ServerError, match="not found"):
        sessions.take("a", 10, now=21.5, check=True)
    for number in range(2000):
        sessions.give_back(sessions.take(str(number), 10, now=30.0, check=False), now=30.0)
    assert len(sessions) == 512
    sessions.close()
    assert len(sessions) == 0


def test_counters_have_a_collectable_shape():
    counters = Counters(queries=3)
    counters.errors["UNKNOWN_TABLE"] += 2
    rows = {
        name: values for name, kind, text, labels, values in counters.collect() if kind and text and labels is not None
    }
    assert rows["hitstream_clickhouse_queries"] == {(): 3}
    assert rows["hitstream_clickhouse_errors"] == {("UNKNOWN_TABLE",): 2}
    json.dumps([list(values.values()) for values in rows.values()])


@pytest.mark.parametrize(
    ("text", "code", "name", "message"),
    [
        ("Code: 60. DB::Exception: No table x. (UNKNOWN_TABLE)", 60, "UNKNOWN_TABLE", "No table x"),
        (
            "Code: 73. DB::Exception: Code: 73. DB::Exception: No X. (UNKNOWN_FORMAT) (version 26.9). (UNKNOWN_FORMAT)",
            *(73, "UNKNOWN_FORMAT", "No X"),
        ),
        (
            "Code: 521. DB::ErrnoException: Cannot rename: (x) . (ATOMIC_RENAME_FAIL)",
            521,
            "ATOMIC_RENAME_FAIL",
            "Cannot rename: (x)",
        ),
        ("something else", 1002, "UNKNOWN_EXCEPTION", "something else"),
    ],
)
def test_the_engines_errors_are_read(text, code, name, message):
    error = errors.from_engine(RuntimeError(text))
    assert (error.code, error.name, error.message) == (code, name, message)
    assert error.text("1.2") == f"Code: {code}. DB::Exception: {message}. ({name}) (version 1.2)\n"


def test_an_insert_that_could_not_be_written_says_so(server):
    """The engine itself says nothing: see write_errors."""
    server.text("CREATE TABLE checked (a Int32, CONSTRAINT positive CHECK a > 0) ENGINE = MergeTree ORDER BY a")
    server.text("CREATE MATERIALIZED VIEW seen ENGINE = MergeTree ORDER BY a AS SELECT a, throwIf(a = 77) FROM checked")
    for value, code in (("-1", "469"), ("77", "395")):
        status, headers, body = server.request("INSERT INTO checked FORMAT TSV", value.encode())
        assert status == 500
        assert headers["X-ClickHouse-Exception-Code"] == code, body
    server.text("INSERT INTO checked FORMAT TSV", b"5")
    server.request("SELECT no_such_column")
    server.text("INSERT INTO checked VALUES (6)")
    assert server.text("SELECT a FROM seen ORDER BY a") == "5\n6\n"
    server.text("ALTER TABLE checked MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
    for statement, data in (("INSERT INTO checked FORMAT TSV", b"7"), ("INSERT INTO checked VALUES (7)", None)):
        status, headers, _ = server.request(statement, data)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "252")


def test_of_inserts_that_fail_alike_at_the_same_time_none_is_taken_for_written(server):
    server.text("CREATE TABLE refusing (a Int32, CONSTRAINT positive CHECK a > 0) ENGINE = MergeTree ORDER BY a")

    def work(_):
        for _ in range(10):
            status, _, body = server.request("INSERT INTO refusing FORMAT TSV", b"-1")
            assert status == 500, body
            assert b"VIOLATED_CONSTRAINT" in body

    in_threads(6, work)
