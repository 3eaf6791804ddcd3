"""What a client, or a web page, must not reach through the embedded server: files, commands, networks, other users."""

import http.client
import re
import socket
import threading
from urllib.parse import quote

import pytest
from support.clickhouse import embedded

from infra.clickhouse_server import access, guard, lexer
from infra.clickhouse_server.errors import ServerError

SECRET = "the contents of a file"
DENIED = guard.Denied.of(["file", "url", "numbers", "Remote"], ["File", "MergeTree", "URL"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("attacked")
    (directory / "secret").write_text(SECRET + "\n")
    return directory


@pytest.fixture(scope="module")
def server(place):
    with embedded(place / "data") as running:
        running.text("CREATE TABLE t (a String) ENGINE = Memory")
        running.text("CREATE DATABASE other")
        yield running


@pytest.fixture
def trap():
    """A listening socket that must never see a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listening.accept()


# {f} a readable file, {o} a file that must not appear, {p} a port that must not be connected to
READS = """
SELECT * FROM file('{f}', 'LineAsString')
SELECT file('{f}')
SELECT `file`('{f}')
SELECT "file"('{f}')
SELECT `\\x66ile`('{f}')
SELECT file /* x */ ('{f}')
SELECT file\u00a0('{f}')
file('{f}')
SELECT arrayMap(file, ['{f}'])
SELECT * APPLY file FROM (SELECT '{f}')
SELECT * APPLY(file) FROM (SELECT '{f}')
SELECT 1 AS file, arrayMap(file, ['{f}'])
WITH '{f}' AS x SELECT arrayMap(y -> file(y), [x])
SELECT * FROM FILE('{f}', 'LineAsString')
SELECT * FROM `{f}`
SELECT * FROM '{f}'
SELECT * FROM default.`{f}`
DESCRIBE TABLE file('{f}', 'LineAsString')
SELECT * FROM loop(file('{f}', 'LineAsString'))
SELECT * FROM view(SELECT file('{f}'))
SELECT * FROM format(Values, 'a String', '(file(''{f}''))')
SELECT * FROM format('Values', 'a String', '(file(''{f}''))')
SELECT * FROM format(concat('Val', 'ues'), 'a String', '(file(''{f}''))')
SELECT * FROM values('a String', file('{f}'))
SELECT * FROM eval('SELECT file(''{f}'')')
SELECT * FROM python('x')
SELECT 1 SETTINGS additional_result_filter = 'file(''{f}'') != '''''
SELECT * FROM t SETTINGS additional_table_filters = {{'t': 'file(''{f}'') != '''''}}
SELECT * FROM t FORMAT Template SETTINGS format_template_row = '{f}'
SELECT * FROM t FORMAT Protobuf SETTINGS format_schema = '{f}:X'
file('{f}') SETTINGS dialect = 'kusto'
INSERT INTO t FROM INFILE '{f}' FORMAT LineAsString
INSERT INTO t FROM/**/INFILE '{f}' COMPRESSION 'none' FORMAT LineAsString
INSERT INTO t FROM INFILE '{f}'
INSERT INTO t VALUES (file('{f}'))
INSERT INTO t VALUES (arrayMap(file, ['{f}'])[1])
INSERT INTO t VALUES (`\\x66ile`('{f}'))
INSERT INTO t SELECT file('{f}')
INSERT INTO t SELECT a FROM input('a String DEFAULT file(''{f}''), b UInt8') FORMAT CSV
CREATE TABLE other.x (a String) ENGINE = File(LineAsString, '{f}')
CREATE TABLE other.x (a String DEFAULT file('{f}')) ENGINE = Memory
CREATE TABLE other.x AS file('{f}', 'LineAsString')
CREATE TABLE other.x ENGINE = Memory AS SELECT file('{f}')
CREATE TEMPORARY TABLE x (a String) ENGINE = File(LineAsString, '{f}')
CREATE VIEW other.x AS SELECT file('{f}')
CREATE VIEW other.x AS SELECT arrayMap({{g:Identifier}}, ['{f}'])
CREATE VIEW other.x SQL SECURITY NONE AS SELECT * FROM file('{f}', 'LineAsString')
CREATE FUNCTION other_x AS (a) -> file(a)
CREATE DATABASE x ENGINE = Filesystem('/')
CREATE DATABASE x ENGINE = Overlay
CREATE DICTIONARY other.x (a String) PRIMARY KEY a SOURCE(FILE(PATH '{f}' FORMAT 'TSV')) LAYOUT(FLAT()) LIFETIME(0)
ATTACH TABLE other.x FROM '/etc' (a UInt8) ENGINE = MergeTree ORDER BY a
ATTACH TABLE other.x (a String) ENGINE = File(LineAsString, '{f}')
RESTORE DATABASE y FROM File('{f}')
SELECT * FROM filesystem('/')
SELECT * FROM sqlite('{f}', 't')
SELECT * FROM icebergLocal('{f}')
""".strip().splitlines()

WRITES = """
SELECT 1 INTO OUTFILE '{o}'
SELECT 1 INTO/* */OUTFILE '{o}' FORMAT CSV
SHOW TABLES INTO OUTFILE '{o}'
EXPLAIN SELECT 1 INTO OUTFILE '{o}'
DESCRIBE t INTO OUTFILE '{o}'
KILL QUERY WHERE 0 INTO OUTFILE '{o}'
INSERT INTO FUNCTION file('{o}', 'CSV', 'a String') VALUES ('x')
INSERT INTO TABLE FUNCTION file('{o}', 'CSV', 'a String') SELECT 'x'
BACKUP DATABASE other TO File('{o}')
BACKUP TABLE t TO Disk('default', 'b')
CREATE DICTIONARY other.d (a String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'touch {o}' FORMAT 'TSV')) LAYOUT(DIRECT())
SELECT * FROM executable('touch {o}', 'TSV', 'a String')
CREATE TABLE other.x (a String) ENGINE = Executable('touch {o}', 'TSV')
CREATE TABLE other.x (a String) ENGINE = ExecutablePool('touch {o}', 'TSV')
CREATE TABLE other.x (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{o}/')
CREATE TABLE other.x (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk='disk(type=local,path=\\'{o}/\\')'
SELECT 1 SETTINGS output_format_schema = '{o}'
SELECT 1 FORMAT Protobuf SETTINGS output_format_schema = '{o}', format_schema_source = 'string'
ALTER TABLE other.x FREEZE
CREATE FUNCTION x LANGUAGE wasm AS '{o}'
""".strip().splitlines()

CONNECTS = """
SELECT * FROM url('http://127.0.0.1:{p}/', 'CSV', 'a String')
SELECT * FROM s3('http://127.0.0.1:{p}/bucket/x', 'CSV', 'a String')
SELECT * FROM gcs('http://127.0.0.1:{p}/bucket/x', 'CSV', 'a String')
SELECT * FROM remote('127.0.0.1:{p}', system.one)
SELECT * FROM remoteSecure('127.0.0.1:{p}', system.one)
SELECT * FROM cluster('default', system.one)
SELECT * FROM mysql('127.0.0.1:{p}', 'a', 'b', 'c', 'd')
SELECT * FROM postgresql('127.0.0.1:{p}', 'a', 'b', 'c', 'd')
SELECT * FROM mongodb('127.0.0.1:{p}', 'a', 'b', 'c', 'd', 'x String')
SELECT * FROM redis('127.0.0.1:{p}', 'k', 'k String, v String')
SELECT * FROM hdfs('hdfs://127.0.0.1:{p}/x', 'CSV', 'a String')
SELECT * FROM iceberg('http://127.0.0.1:{p}/bucket/x')
SELECT * FROM odbc('DSN=x', 'a', 'b')
SELECT hasColumnInTable('127.0.0.1:{p}', 'system', 'one', 'dummy')
SELECT arrayMap(hasColumnInTable, ['127.0.0.1:{p}'], ['system'], ['one'], ['dummy'])
SELECT aiGenerate('x')
INSERT INTO FUNCTION url('http://127.0.0.1:{p}/', 'CSV', 'a String') VALUES ('x')
CREATE TABLE other.x (a String) ENGINE = URL('http://127.0.0.1:{p}/', 'CSV')
CREATE TABLE other.x (a String) ENGINE URL('http://127.0.0.1:{p}/', 'CSV')
CREATE TABLE other.x (a String) ENGINE = S3('http://127.0.0.1:{p}/bucket/x', 'CSV')
CREATE TABLE other.x (a String) ENGINE = Kafka('127.0.0.1:{p}', 'a', 'b', 'CSV')
CREATE TABLE other.x (a String) ENGINE = MySQL('127.0.0.1:{p}', 'a', 'b', 'c', 'd')
CREATE TABLE other.x (a String) ENGINE = Distributed('default', 'other', 't')
CREATE TABLE other.x (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:{p}/')
CREATE DATABASE x ENGINE = MySQL('127.0.0.1:{p}', 'a', 'b', 'c')
CREATE DATABASE x ENGINE = DataLakeCatalog('http://127.0.0.1:{p}/') SETTINGS warehouse = 'x'
CREATE DICTIONARY other.x (a String) PRIMARY KEY a SOURCE(HTTP(URL 'http://127.0.0.1:{p}/')) LAYOUT(DIRECT())
SELECT * FROM t FORMAT AvroConfluent SETTINGS format_avro_schema_registry_url = 'http://127.0.0.1:{p}/'
BACKUP DATABASE other TO S3('http://127.0.0.1:{p}/bucket/x', 'a', 'b')
""".strip().splitlines()

TAKEOVERS = """
GRANT ALL ON *.* TO default
GRANT READ ON FILE TO default
CREATE USER eve
ALTER USER default IDENTIFIED BY 'x'
CREATE ROLE r
CREATE NAMED COLLECTION c AS a = 1
CREATE FUNCTION f AS (x) -> x + 1
SYSTEM SHUTDOWN
SYSTEM KILL
SYSTEM STOP MERGES
SYSTEM RELOAD CONFIG
SYSTEM DROP MARK CACHE
EXECUTE AS default SELECT 1
SELECT 1; SELECT 2
SELECT 1 ; GRANT ALL ON *.* TO default
SELECT 1 SETTINGS allow_python_table_function = 1
SET allow_introspection_functions = 1
SELECT * FROM system.users
SELECT $$a$$
""".strip().splitlines()


def attack(server, sql):
    """Try a statement in the body, and reading ones in the URL; return the answers, none of which is a success."""
    answers = [server.request(sql)]
    if "INSERT" not in sql:
        answers.append(server.request(sql, method="GET"))
    for status, headers, body in answers:
        assert status >= 400, (sql, body)
        assert headers["X-ClickHouse-Exception-Code"], body
        assert SECRET.encode() not in body
    assert server.text("SELECT count() FROM t") == "0\n"
    return answers


@pytest.mark.parametrize("sql", READS)
def test_no_file_is_read(server, place, sql):
    attack(server, sql.format(f=place / "secret"))


@pytest.mark.parametrize("sql", WRITES)
def test_no_file_is_written_and_no_command_run(server, place, sql):
    attack(server, sql.format(o=place / "written"))
    assert sorted(path.name for path in place.iterdir()) == ["data", "secret"]


@pytest.mark.parametrize("sql", CONNECTS)
def test_nothing_is_connected_to(server, trap, sql):
    attack(server, sql.format(p=trap))


@pytest.mark.parametrize("sql", TAKEOVERS)
def test_the_server_and_its_accounts_are_not_the_clients(server, sql):
    attack(server, sql)


@pytest.mark.parametrize(
    ("sql", "data", "options"),
    [
        ("SELECT arrayMap({g:Identifier}, ['{f}'])", None, {"param_g": "file"}),
        ("SELECT arrayMap({g:Identifier}, ['{f}'])", None, {"param_g": "`\\x66ile`"}),
        ("SELECT a FROM t", None, {"additional_result_filter": "file('{f}') != ''"}),
        ("SELECT a FROM t", None, {"dialect": "kusto"}),
        ("SELECT a FROM t", None, {"format_schema": "{f}:X", "default_format": "Protobuf"}),
        ("INSERT INTO t FORMAT Values", b"(file('{f}'))", {}),
        ("INSERT INTO t FORMAT values", b"(1),\n(`file`('{f}'))", {}),
        ("INSERT INTO t SELECT a FROM input('a String') FORMAT Values", b"(file('{f}'))", {}),
        ("INSERT INTO t SELECT a FROM input('a String) ENGINE = File(CSV, ''{f}''') FORMAT CSV", b"", {}),
        ("INSERT INTO t", b"FROM INFILE '{f}' FORMAT LineAsString", {}),
        ("SELECT file(", b"'{f}')", {}),
        ("SELECT a FROM t", None, {"session_id": "x", "dialect": "kusto"}),
        ("SELECT a FROM t", None, {"profile": "admin"}),
    ],
)
def test_no_file_is_read_through_parameters_or_data(server, place, sql, data, options):
    def fill(text):
        return text.replace("{f}", str(place / "secret"))

    options = {name: fill(value) for name, value in options.items()}
    data = None if data is None else fill(data.decode()).encode()
    status, _, body = server.request(fill(sql), data, **options)
    assert status >= 400, body
    assert SECRET.encode() not in body
    assert server.text("SELECT count() FROM t") == "0\n"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'file(1)', t.a AS file FROM t -- file(1)",
        "SELECT count() AS outfile FROM system.tables WHERE engine = 'File' OR name = 'url'",
        "SELECT engine, name FROM system.tables LIMIT 1",
        "SELECT format('{} {}', 'a', 'b'), domain('http://x/url'), concat('INTO', ' OUTFILE')",
        "SELECT * FROM format(JSONEachRow, 'a UInt8', '{\"a\":1}')",
        "SELECT * FROM numbers(2) AS x, values('a UInt8', 1) AS y, view(SELECT 1) AS z",
        "CREATE TABLE IF NOT EXISTS other.files (path String, `file name` String) ENGINE = MergeTree ORDER BY path",
        "WITH x AS (SELECT 1 AS y) SELECT y FROM x",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "CHECK TABLE other.files",
        "OPTIMIZE TABLE other.files FINAL",
        "ALTER TABLE other.files ADD COLUMN IF NOT EXISTS z UInt8 DEFAULT 1 + 1",
        "KILL QUERY WHERE query_id = 'none'",
        "INSERT INTO other.files VALUES ('file(1)', 'url(\"x\")', now() > 0)",
        "DELETE FROM other.files WHERE path = 'x'",
        "DROP TABLE IF EXISTS other.nothing SYNC",
    ],
)
def test_what_only_looks_like_an_attack_works(server, sql):
    status, _, body = server.request(sql)
    assert status == 200, body


@pytest.mark.parametrize("path", ["/", "/ping", "/?query=SELECT+1", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_web_pages_are_refused(server, path, headers):
    named = {name: value.format(port=server.port) for name, value in headers.items()}
    for method in ("GET", "POST", "OPTIONS"):
        status, answered, body = server.request(path=path, method=method, headers=named)
        assert (status, b"refused" in body or b"Host" in body) == (403, True)
        assert "Access-Control-Allow-Origin" not in answered


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_accepted(server, host):
    assert server.request("SELECT 1", headers={"Host": f"{host}:{server.port}"})[0] == 200


def test_no_host_at_all_is_refused(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("GET", f"/?query={quote('SELECT 1')}", skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status in (400, 403)
    connection.close()


def test_many_bad_requests_leave_a_server_that_works(server):
    def send(raw):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    bad = [
        b"\0\1\2\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 10\r\n\r\nSELECT",
        b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /?query=%FF%FE HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n\xff\xfe",
        b"GET /?query=SELECT%001 HTTP/1.1\r\n" + host + b"\r\n",
        b"POST /?param_%0a=1&query_id=%0d%0aX:1 HTTP/1.1\r\n" + host + b"Content-Length: 8\r\n\r\nSELECT 1",
    ]
    threads = [threading.Thread(target=send, args=(raw,)) for raw in bad * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.text("SELECT 1") == "1\n"


def test_the_grants_name_no_source_and_every_allowed_engine():
    text = " ".join(access.GRANTS)
    assert not re.search(r"\b(FILE|URL|S3|REMOTE|SOURCES|ALL|SYSTEM|CREATE FUNCTION|DICTIONARY)\b", text)
    assert all(f"TABLE ENGINE ON {engine}" in text for engine in guard.TABLE_ENGINES)


def test_data_of_values_is_looked_at_only_where_it_can_matter():
    guard.check_values(b"(1, 'a'), (2, 'b''c')", DENIED)
    guard.check_values(b"(1, 'it is a file (really)')", DENIED)
    with pytest.raises(ServerError, match="function file is off"):
        guard.check_values(b"(1, 'a'), (2, file('x'))", DENIED)


def test_the_lexer_takes_nested_comments_and_quotes_as_the_engine_does(server):
    # the engine agrees on where each of these texts has its tokens: both see one literal
    for text in ("/* /* */ 2 */ 1", "-- 2\n1", "# 2\n1", "#! 2\n1", "1 -- '", "1 /* ' */"):
        assert [token.text for token in lexer.tokens(text)] == ["1"]
        assert server.text(f"SELECT {text}") == "1\n"
    for literal in ("'a''b'", "'a\\'b'", "'\\\\'", "'-- x'", "'/* x'", "'`'", "'\"'"):
        (token,) = lexer.tokens(literal)
        expected = lexer.unquote(token.text).encode().hex().upper()
        assert server.text(f"SELECT hex({literal})") == expected + "\n"
