"""Whether a streamed INSERT was written: chDB 26.9 says "done" also where writing failed, and keeps the error.

Too many parts, a violated constraint, a view that throws, a full disk: `insert_done` returns as if nothing had
happened. But the engine notes the last error of each code in `system.errors`, with the id of the query that met it,
and until the next INSERT its connection's `queryID()` is that INSERT's, whatever is asked meanwhile. Pure.

- An INSERT that met an error is never taken for written.
- Where others met the same error meanwhile, the note may be theirs and hide ours: then the INSERT fails with ABORTED,
  to be repeated under the same token.
"""

from __future__ import annotations

from infra.clickhouse_server import errors

COUNTS = "SELECT code, value FROM system.errors WHERE NOT remote"
# NOT_IMPLEMENTED is what the engine's planner throws and catches itself, where a query has a set.
NOTES = (
    "SELECT code, name, value, last_error_message, query_id = queryID() FROM system.errors "
    "WHERE NOT remote AND code != 48"
)
ABORTED = 236


def error_met(before: bytes, notes: bytes) -> errors.ServerError | None:
    """Return the error that an INSERT met; None: it is written.

    `before` is the answer, in TabSeparated, to COUNTS on its connection before the INSERT begins. When that is the
    answer again after it is done, nobody has met an error; else `notes` is the answer to NOTES.
    """
    counts = dict(line.split(b"\t") for line in before.splitlines())
    hiding = []
    for line in notes.splitlines():
        code, name, count, message, ours = line.split(b"\t")
        if ours == b"1":
            return errors.ServerError(int(code), name.decode(), message.decode("utf-8", "replace"))
        if int(count) - int(counts.get(code, 0)) > 1:
            hiding.append(f"{code.decode()} {name.decode()}")
    if not hiding:
        return None
    text = f"This INSERT may not have been written: others met {', '.join(hiding)} meanwhile"
    return errors.ServerError(ABORTED, "ABORTED", text)
