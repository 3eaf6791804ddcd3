"""The client where a connection is cut, or never made: to be tried again, by whoever knows what that means."""

import socket
import threading
from unittest.mock import Mock

import pytest
import urllib3

from consumers.clickhouse_client import ClickHouse
from schemas.errors import RetryError


@pytest.mark.parametrize("rest", [b'[3,"c', b""])
def test_a_stream_that_is_cut_is_to_be_tried_again(rest):
    lines = b'[1,"a"]\n[2,"b"]\n' + rest
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as one:
                one.recv(65_536)
                one.sendall(head + f"{len(lines):x}\r\n".encode() + lines + b"\r\n")

        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        cut = ClickHouse(url, timeout_s=5)
        cut._client = Mock()  # the real one would ask for the server's version first
        cut._client.raw_stream = lambda *_, **__: urllib3.request("POST", url, preload_content=False)
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(RetryError):
            list(cut.stream("SELECT 1", {}, list))
        thread.join()


def test_an_insert_whose_connection_breaks_is_not_sent_again_unnoticed(clickhouse_url, monkeypatch):
    """Whoever loads has to know of it: the rows may be there, or not, whatever a second answer says."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def break_off():
            while not asked or asked[-1] != b"end":
                with server.accept()[0] as one:
                    asked.append(one.recv(65_536))

        broken = ClickHouse(clickhouse_url, timeout_s=30)
        monkeypatch.setattr(broken._connected()._backend, "_base_url", f"http://127.0.0.1:{address[1]}/")
        monkeypatch.setattr(broken, "wait_query_end", lambda *_: True)
        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(RetryError):
            broken.insert("events", {"site": ["a"]}, token="x", types={"site": "LowCardinality(String)"})
        with socket.create_connection(address) as last:
            last.sendall(b"end")
        thread.join()
        broken.close()
    assert len(asked) == 2
    assert asked[0].startswith(b"POST /?")


def test_no_server_is_to_be_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = ClickHouse(f"http://127.0.0.1:{port}", timeout_s=2)
    with pytest.raises(RetryError):
        client.query("SELECT 1")
    with pytest.raises(RetryError):
        client.insert("events", {"site": ["a"]}, token="x", types={"site": "String"})
    assert not client.ping()


def test_a_server_that_never_answers_is_to_be_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ClickHouse(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5)
        with pytest.raises(RetryError):
            client.query("SELECT 1")
