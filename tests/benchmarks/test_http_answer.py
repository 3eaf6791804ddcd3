"""Answers are complete exactly when their last byte is there, wherever the bytes are cut."""

import pytest

from benchmarks.http_answer import HEAD_BYTES_MAX, AnswerReader, BadAnswerError

ANSWERS = [
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
    ("GET", b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, b"", True),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n", 304, b"", True),
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", 200, b"", True),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b"", True),
    ("GET", b"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n!", 503, b"!", False),
    ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n!", 200, b"!", False),
    ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", 202, b"{}", True),
    (
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        200,
        b"abc0123456789",
        True,
    ),
]


@pytest.mark.parametrize(("method", "raw", "status", "body", "keep_alive"), ANSWERS)
def test_an_answer_is_complete_at_its_last_byte_however_it_is_cut(method, raw, status, body, keep_alive):
    for step in (1, 3, len(raw)):
        reader = AnswerReader()
        reader.expect(method)
        pieces = [raw[i : i + step] for i in range(0, len(raw), step)]
        for piece in pieces[:-1]:
            assert reader.feed(piece) is None
        answer = reader.feed(pieces[-1])
        assert answer is not None
        assert (answer.status, answer.body, answer.keep_alive) == (status, body, keep_alive)
        assert not reader.pending


def test_what_follows_an_answer_stays_pending():
    reader = AnswerReader()
    reader.expect("HEAD")
    answer = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nGI")
    assert answer is not None
    assert reader.pending == b"GI", "a body to a HEAD is one too many"


def test_without_a_length_the_end_of_the_connection_completes_the_answer():
    reader = AnswerReader()
    reader.expect("GET")
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert reader.feed(b"lo") is None
    answer = reader.end()
    assert answer is not None
    assert (answer.body, answer.keep_alive) == (b"hello", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"GIF89a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n!",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"x" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(raw):
    reader = AnswerReader()
    reader.expect("GET")
    with pytest.raises(BadAnswerError):
        reader.feed(raw)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
def test_an_end_in_the_middle_of_an_answer_is_an_error(raw):
    reader = AnswerReader()
    reader.expect("GET")
    assert reader.feed(raw) is None
    with pytest.raises(BadAnswerError):
        reader.end()
