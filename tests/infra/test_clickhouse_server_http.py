"""The embedded server as curl uses it: queries, parameters, formats, settings, compression, errors, logins."""

import base64
import gzip
import http.client
import json
import zlib

import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from support.clickhouse import Server, embedded

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
UNPACK = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": zstd.decompress,
}
PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with embedded(tmp_path_factory.mktemp("http")) as running:
        yield running


@pytest.fixture
def table(server):
    server.text("CREATE OR REPLACE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    return "t"


def test_ping_and_the_root(server):
    assert server.request(path="/ping", method="GET")[0::2] == (200, b"Ok.\n")
    assert server.request(path="/", method="GET")[0::2] == (200, b"Ok.\n")
    assert server.request(path="/play", method="GET")[0] == 404
    assert server.request("SELECT 1", method="DELETE")[0] == 501


def test_the_query_stands_in_the_url_the_body_or_both(server):
    assert server.text("SELECT 1", method="GET") == "1\n"
    assert server.text("SELECT 2") == "2\n"
    assert server.text("SELECT 3,", b"4") == "3\t4\n"
    assert server.text("SELECT 1; ") == "1\n"


def test_headers_say_what_came(server):
    status, headers, _ = server.request("SELECT number FROM numbers(10) FORMAT JSONEachRow", query_id="mine")
    assert status == 200
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert headers["X-ClickHouse-Timezone"]
    assert headers["X-ClickHouse-Server-Display-Name"]
    summary = json.loads(headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"], summary["written_rows"]) == ("10", "10", "0")


@pytest.mark.parametrize(
    ("sql", "options", "answer"),
    [
        ("SELECT 1 AS x FORMAT JSONEachRow", {}, '{"x":1}\n'),
        ("SELECT 1 AS x", {"default_format": "JSONEachRow"}, '{"x":1}\n'),
        ("SELECT 1 AS x", {"headers": {"X-ClickHouse-Format": "CSVWithNames"}}, '"x"\n1\n'),
        ("SELECT 1 AS x FORMAT TSVWithNames", {"default_format": "JSON"}, "x\n1\n"),
        ("SELECT 'FORMAT JSON' AS x", {}, "FORMAT JSON\n"),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", {}, "1\n"),
        ("SELECT {a:UInt8} + 1", {"param_a": "3"}, "4\n"),
        ("SELECT {a:String}, {b:Array(String)}", {"param_a": "x\\ty", "param_b": "['p','q']"}, "x\\ty\t['p','q']\n"),
        ("SELECT number FROM {t:Identifier}", {"param_t": "one", "database": "system"}, None),
        (
            "SELECT count() FROM {t:Identifier} WHERE 'file' = {site:String}",
            {"param_t": "one", "param_site": "file", "database": "system"},
            "1\n",
        ),
        ("SELECT currentDatabase()", {"database": "system"}, "system\n"),
        ("SELECT getSetting('max_threads'), getSetting('async_insert')", {"max_threads": "3"}, "3\tfalse\n"),
        ("SELECT getSetting('max_threads') = 3", {}, "0\n"),
        ("SELECT 'ключ'", {}, "ключ\n"),
        ("SELECT 1", {"wait_end_of_query": "1", "send_progress_in_http_headers": "1", "buffer_size": "4"}, "1\n"),
        ("SELECT 1", {"client_protocol_version": "54405", "compress": "0", "log_comment": "own"}, "1\n"),
    ],
)
def test_formats_parameters_and_settings(server, sql, options, answer):
    status, _, body = server.request(sql, **options)
    if answer is None:
        assert status == 404  # the table one has no such column
    else:
        assert (status, body.decode()) == (200, answer)


@pytest.mark.parametrize(
    "name", ["JSON", "Native", "RowBinaryWithNamesAndTypes", "CSVWithNames", "Pretty", "XML", "Parquet"]
)
def test_large_answers_are_one_document(server, name):
    # 200,000 rows come out of the engine in several parts, which these formats cannot join
    _, _, body = server.request(f"SELECT number, toString(number) AS s FROM numbers(200000) FORMAT {name}")
    if name == "JSON":
        assert json.loads(body)["rows"] == 200_000
    elif name == "CSVWithNames":
        lines = body.decode().splitlines()
        assert (lines[0], len(lines), lines[-1]) == ('"number","s"', 200_001, '199999,"199999"')
    else:
        assert len(body) > 10_000


def test_a_streamed_answer_is_whole(server):
    _, headers, body = server.request("SELECT number FROM numbers(1000000)")
    assert headers["Transfer-Encoding"] == "chunked"
    assert body == b"".join(b"%d\n" % number for number in range(1_000_000))


def test_a_failure_after_the_first_bytes_cuts_the_answer_and_says_why(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request(
        "POST", "/", "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 65409"
    )
    answer = connection.getresponse()
    tag = answer.headers["X-ClickHouse-Exception-Tag"]
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    end = cut.value.partial[-600:].decode()
    assert f"__exception__\r\n{tag}\r\nCode: 395. DB::Exception" in end
    assert end.endswith(f" {tag}\r\n__exception__\r\n")
    connection.close()


@pytest.mark.parametrize("rows", [3, 400_000])
@pytest.mark.parametrize("encoding", list(UNPACK))
def test_answers_are_packed_when_asked_for(server, encoding, rows):
    headers = {"Accept-Encoding": f"br, {encoding};q=0.8"}
    sql = f"SELECT number FROM numbers({rows})"
    plain = server.request(sql, headers=headers)
    assert plain[1]["Content-Encoding"] is None
    _, answered, body = server.request(sql, headers=headers, enable_http_compression="1")
    assert answered["Content-Encoding"] == encoding
    assert UNPACK[encoding](body) == plain[2]


@pytest.mark.parametrize("encoding", list(PACK))
def test_bodies_may_be_packed(server, table, encoding):
    data = b"".join(b"%d,row\n" % number for number in range(100_000))
    packed = PACK[encoding](data[: len(data) // 2]) + PACK[encoding](data[len(data) // 2 :])  # two frames
    server.text(f"INSERT INTO {table} FORMAT CSV", packed, headers={"Content-Encoding": encoding})
    assert server.text(f"SELECT count(), uniqExact(a) FROM {table}") == "100000\t100000\n"
    query = PACK[encoding](f"SELECT max(a) FROM {table}".encode())
    assert server.text(None, query, headers={"Content-Encoding": encoding}) == "99999\n"


@pytest.mark.parametrize("encoding", [*PACK, "snappy"])
def test_damaged_and_unknown_packing_is_refused(server, table, encoding):
    whole = PACK.get(encoding, bytes)(b"1,a\n" * 1000)
    for data in (b"not packed at all", whole[:-3]):
        status, _, body = server.request(
            f"INSERT INTO {table} FORMAT CSV", data, headers={"Content-Encoding": encoding}
        )
        assert status in (400, 501), body
    assert server.text(f"SELECT count() FROM {table}") == "0\n"


@pytest.mark.parametrize(
    ("sql", "data", "rows"),
    [
        ("INSERT INTO t FORMAT CSV", b"1,a\n2,b\n", "1a2b"),
        ("INSERT INTO t (s, a) FORMAT JSONEachRow", b'{"a":1,"s":"a"}\n{"a":2,"s":"b"}', "1a2b"),
        (None, b"INSERT INTO t FORMAT TSV\n1\ta\n2\tb\n", "1a2b"),
        (None, b"INSERT INTO t VALUES (1, 'a'), (1 + 1, concat('', 'b'));", "1a2b"),
        ("INSERT INTO t VALUES", b"(1,'a'),(2,'b')", "1a2b"),
        ("INSERT INTO t SETTINGS max_threads = 1 FORMAT CSV", b"1,a;b\n2,'\n", "1a;b2'"),
        ("INSERT INTO t SELECT a + 1, s FROM input('a UInt64, s String') FORMAT CSV", b"0,a\n1,b\n", "1a2b"),
        (None, b"INSERT INTO t SELECT number + 1, char(97 + number) FROM numbers(2)", "1a2b"),
        ("INSERT INTO t FORMAT RowBinary", b"\x01" + b"\0" * 7 + b"\x02\xff;", None),
        ("/* INSERT */ -- c\nINSERT INTO `t` FORMAT CSV", b'1,"it\'s"\n', "1it's"),
    ],
)
def test_inserts_take_their_data_from_anywhere(server, table, sql, data, rows):
    status, headers, body = server.request(sql, data)
    assert (status, body) == (200, b"")
    assert int(json.loads(headers["X-ClickHouse-Summary"])["written_rows"]) >= 1
    if rows is not None:
        assert server.text(
            "SELECT arrayStringConcat(groupArray(concat(toString(a), s))) FROM (SELECT * FROM t ORDER BY a)"
        ) == (rows.replace("'", "\\'") + "\n")
    else:
        assert server.text("SELECT a, hex(s) FROM t") == "1\tFF3B\n"


def test_a_large_insert_is_streamed(server, table):
    def rows():
        for start in range(0, 1_000_000, 10_000):
            yield "".join(f"{number},abcdefghij\n" for number in range(start, start + 10_000)).encode()

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/?query=INSERT+INTO+t+FORMAT+CSV", rows(), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert server.text("SELECT count(), sum(a) FROM t") == "1000000\t499999500000\n"


def test_an_insert_cut_in_its_body_leaves_nothing(server, table):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/?query=INSERT+INTO+t+FORMAT+CSV")
    connection.putheader("Content-Length", "5000000")
    connection.endheaders()
    connection.send(b"1,a\n" * 500_000)
    connection.close()
    while server.text("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t%'") != "0\n":
        pass
    assert server.text("SELECT count() FROM t") == "0\n"


@pytest.mark.parametrize(
    ("sql", "options", "status", "code"),
    [
        ("SELECT * FROM nope", {}, 404, 60),
        ("SELECT nope", {}, 404, 47),
        ("SELEC 1", {}, 400, 62),
        ("SELECT 'open", {}, 400, 62),
        ("SELECT 1; SELECT 2", {}, 400, 62),
        ("", {}, 400, 62),
        ("SELECT 1", {"no_such_setting": "1"}, 404, 115),
        ("SELECT 1", {"database": "nope"}, 404, 81),
        ("SELECT 1 FORMAT Nope", {}, 404, 73),
        ("SELECT 1", {"max_threads": "many"}, 400, 27),
        ("SELECT {a:UInt8}", {}, None, 456),
        ("SELECT {a:UInt8}", {"param_a": "x"}, None, 457),
        ("SELECT throwIf(1)", {}, 500, 395),
        (
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
            {"max_execution_time": "0.2"},
            408,
            159,
        ),
        ("SELECT groupArray(number) FROM numbers(10000000)", {"max_memory_usage": "10000000"}, 500, 241),
        ("CREATE TABLE z (a UInt8) ENGINE = Memory", {"method": "GET"}, 500, 164),
        ("INSERT INTO t VALUES (1, 'a')", {"method": "GET"}, 500, 164),
        ("DETACH TABLE t", {"method": "GET", "session_id": "get"}, 500, 164),
        ("KILL QUERY WHERE 0", {"method": "GET"}, 500, 164),
        ("SELECT 1", {"default_format": "a\r\nX: y"}, 404, 73),
        ("SELECT 1", {"query_id": "a\r\nX: y"}, 400, 36),
        ("SELECT 1 SETTINGS readonly = 0", {"method": "GET"}, 500, 164),
        ("SELECT 1", {"compress": "1"}, 501, 48),
        ("SELECT 1", {"session_id": "none", "session_check": "1"}, 404, 372),
        ("SELECT 1", {"user": "other"}, 403, 516),
    ],
)
def test_errors_are_clickhouses_own(server, table, sql, options, status, code):  # noqa: PLR0917  one row of the table
    answered, headers, body = server.request(sql, **options)
    assert headers["X-ClickHouse-Exception-Code"] == str(code), body
    assert status is None or answered == status
    assert body.decode().startswith(f"Code: {code}. DB::Exception: ")
    assert body.count(b"DB::Exception") == 1
    assert server.text("SELECT count() FROM t") == "0\n"


def test_settings_do_not_leak_to_other_requests(server):
    before = server.text("SELECT getSetting('max_block_size'), getSetting('readonly')")
    server.request("SELECT 1", max_block_size="77", readonly="1")
    server.request("SET max_block_size = 78")
    assert server.text("SELECT getSetting('max_block_size'), getSetting('readonly')") == before


def test_sessions_keep_tables_and_settings_but_not_a_requests_own(server):
    session = {"session_id": "s1"}
    server.text("CREATE TEMPORARY TABLE mine (a UInt8)", **session)
    server.text("INSERT INTO mine FORMAT CSV", b"7\n", **session)
    server.text("SET max_threads = 5", **session)
    server.text("USE system", **session)
    assert server.text("SELECT a FROM mine", max_threads="2", database="default", **session) == "7\n"
    assert server.text("SELECT getSetting('max_threads'), currentDatabase()", **session) == "5\tsystem\n"
    assert server.text("SELECT a FROM mine", method="GET", **session) == "7\n"
    assert (
        server.request("INSERT INTO mine VALUES (1)", method="GET", **session)[1]["X-ClickHouse-Exception-Code"]
        == "164"
    )
    assert server.text("SELECT count() FROM mine", **session) == "1\n"
    assert server.request("SELECT a FROM mine")[0] == 404
    assert server.request("SELECT a FROM mine", session_id="s2")[0] == 404


def test_multipart_requests_bring_parameters_and_external_tables(server):
    parts = [
        ('name="query"', "SELECT sum(x) + {p:UInt8} FROM ext"),
        ('name="param_p"', "1"),
        ('name="ext"; filename="ext"', "1\n2\n"),
    ]
    body = (
        "".join(f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n" for head, value in parts)
        + "--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert server.text(None, body.encode(), headers=headers, ext_structure="x UInt64") == "4\n"


def test_a_password_is_asked_for_in_every_way(tmp_path):
    with embedded(tmp_path, password="s3cret ü") as server:
        basic = base64.b64encode("default:s3cret ü".encode()).decode()
        wrong = base64.b64encode(b"default:no").decode()
        server.password = ""
        ask = {"X-ClickHouse-Key": "no"}
        assert server.request("SELECT 1", headers=ask)[0] == 403
        assert server.request("SELECT 1", headers={"Authorization": f"Basic {wrong}"})[0] == 403
        assert server.request("SELECT 1", headers={"Authorization": "Bearer x"})[0] == 403
        assert server.request("SELECT 1", headers={"Authorization": f"Basic {basic}"})[0] == 200
        assert server.request("SELECT 1", user="default", password="s3cret ü")[0] == 200
        assert server.request("SELECT 1", user="admin", password="s3cret ü")[0] == 403
        status, headers, body = server.request("SELECT 1")
        assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
        assert b"AUTHENTICATION_FAILED" in body
        assert server.request(path="/ping", method="GET")[0] == 200
        client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port, password="s3cret ü")
        assert client.command("SELECT 1") == 1
        client.close()


def test_off_loopback_it_starts_only_with_a_password(tmp_path):
    server = Server(tmp_path, host="0.0.0.0")
    try:
        server.start(wait=False)
        assert server.process.wait(30) == 1
        assert "without a password" in server.log.read_text()
    finally:
        server.close()
    with embedded(tmp_path, host="0.0.0.0", password="x") as opened:
        assert opened.text("SELECT 1") == "1\n"
