"""A client library's message becomes one line."""

from infra.command.errors import CHARS_MAX, cause

REFUSED = (
    "Error HTTPConnectionPool(host='127.0.0.1', port=1): Max retries exceeded with url: /?x (Caused by "
    "NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=1): Failed to establish a new connection: "
    '[Errno 111] Connection refused")) executing HTTP request attempt 1'
)
SYNTAX = (
    "Received ClickHouse exception, code: 62, server response: Code: 62. DB::Exception: Syntax error: failed at "
    "position 7 (1) (line 1, col 7): 1\n FORMAT PrettyCompact. Expected one of: token sequence, Dot, end of query. "
    "(SYNTAX_ERROR) (version 26.9.2.1) (for url http://127.0.0.1:18123)"
)
MISSING = "Code: 60. DB::Exception: Unknown table expression identifier 'x'. (UNKNOWN_TABLE) (version 26.9.2.1)"


def test_the_cause_is_said_in_a_line():
    assert cause(OSError(REFUSED)) == "connection refused"
    assert cause(ValueError(SYNTAX)) == (
        "Syntax error: failed at position 7 (1) (line 1, col 7): 1 FORMAT PrettyCompact"
    )
    assert cause(ValueError(MISSING)) == "Unknown table expression identifier 'x'. (UNKNOWN_TABLE)"
    assert cause(ValueError("two\n  lines")) == "two lines"
    assert len(cause(ValueError("x" * 10_000))) == CHARS_MAX + 2
