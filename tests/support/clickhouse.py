"""A ClickHouse for tests: the embedded server as a real process, or the one that CLICKHOUSE_URL names."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from consumers.clickhouse_client import ClickHouse
from infra.migrate import migrate

READY_S_MAX = 60
_RUN = (
    "import sys; from infra.clickhouse_server.server import main; from schemas.settings import load; "
    "sys.exit(main(load(), listen_fd=int(sys.argv[1])))"
)


class Server:
    """An embedded server on a directory. Its listening socket stays open over restarts, as a supervisor keeps it."""

    run = _RUN

    def __init__(self, directory, host="127.0.0.1", password="", env=None):
        self.directory = directory
        self.socket = socket.create_server((host, 0))
        self.port = self.socket.getsockname()[1]
        self.password = password
        user = f"default:{password}@" if password else ""
        self.url = f"http://{user}127.0.0.1:{self.port}"
        self.log = directory / "server.log"
        self.process = None
        self._env = {"HITSTREAM_CLICKHOUSE_PASSWORD": password, "HITSTREAM_CONFIG": os.devnull, **(env or {})}

    def start(self, *, wait=True):
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._env, "HITSTREAM_DATA_DIR": str(self.directory)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", self.run, str(self.socket.fileno())],
                pass_fds=[self.socket.fileno()],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}")
            try:
                # The socket is open from the start: the answer waits until the server is there.
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as answer:
                    assert answer.read() == b"Ok.\n"
                    return
            except TimeoutError:
                continue
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
        raise TimeoutError(f"no answer within {READY_S_MAX} s:\n{self.log.read_text()}")

    def request(self, sql=None, data=None, *, method="POST", headers=None, path="/", **parameters):
        """Return (status, headers, body) of one request: `sql` is the body, or stands in the URL when there is data."""
        if data is not None and sql is not None:
            parameters["query"] = sql
        body = data if data is not None else (sql.encode() if sql is not None else None)
        if method in ("GET", "HEAD") and sql is not None:
            parameters["query"], body = sql, None
        url = f"http://127.0.0.1:{self.port}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        if self.password and "X-ClickHouse-Key" not in (headers or {}):
            headers = {"X-ClickHouse-Key": self.password, **(headers or {})}
        call = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(call, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.headers, answer.read()

    def text(self, sql, data=None, **parameters):
        """Return the body of a request that succeeds, as text."""
        status, _, body = self.request(sql, data, **parameters)
        assert status == 200, body
        return body.decode()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s=30):
        """SIGTERM; return the exit code."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode if self.process is not None else None

    def close(self):
        try:
            self.stop()
        finally:
            self.socket.close()


@contextmanager
def embedded(directory, **options):
    """An embedded server for the time of a block."""
    server = Server(directory, **options)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory):
    """The address of a migrated ClickHouse, shared by all tests; make changes in a `fresh_database`."""
    given = os.environ.get("CLICKHOUSE_URL")
    if given:
        _migrate(given, "hitstream")
        yield given
        return
    with embedded(tmp_path_factory.mktemp("clickhouse")) as server:
        _migrate(server.url, "hitstream")
        yield server.url


@pytest.fixture(scope="session")
def template(clickhouse_url):
    """The name of a migrated database that nobody changes."""
    name = f"template_{uuid4().hex[:12]}"
    _migrate(clickhouse_url, name)
    yield name
    client = ClickHouse(clickhouse_url, database="")
    client.command(f"DROP DATABASE {name} SYNC")
    client.close()


@pytest.fixture
def fresh_database(clickhouse_url, template):
    """The name of a new, migrated database at `clickhouse_url`, dropped afterwards."""
    with _database(clickhouse_url, template) as name:
        yield name


@pytest.fixture(scope="module")
def module_database(clickhouse_url, template):
    """The same for all tests of a module."""
    with _database(clickhouse_url, template) as name:
        yield name


@contextmanager
def _database(url, template):
    name = f"test_{uuid4().hex[:12]}"
    client = ClickHouse(url, database="")
    _copy_tables(client, template, name)
    yield name
    client.command(f"DROP DATABASE IF EXISTS {name} SYNC")
    client.close()


def _copy_tables(client, template, name):
    """Make what the template has, in a fifth of the time that migrations take."""
    client.command(f"CREATE DATABASE {name}")
    made = client.query(
        "SELECT create_table_query FROM system.tables WHERE database = {database:String}"
        " ORDER BY indexOf(['View', 'MaterializedView'], engine)",
        {"database": template},
    )
    for (statement,) in made:
        client.command(statement.replace(template, name))
    client.command(f"INSERT INTO {name}.migrations SELECT * FROM {template}.migrations")


def _migrate(url, database):
    client = ClickHouse(url, database=database)
    migrate(client)
    client.close()
