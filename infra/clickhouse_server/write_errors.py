"""Whether a streamed INSERT was written: chDB 26.9 says "done" also where writing failed, and keeps the error.

Too many parts, a violated constraint, a view that throws, a full disk: `insert_done` returns as if nothing had
happened. But the engine notes the last error of each code in `system.errors`, with the id of the query that met it,
and just after an INSERT its connection's `queryID()` is that INSERT's.

- An INSERT that met an error is never taken for written.
- Where others met the same error of WRITING at the same time the note may be theirs and hide ours: then the INSERT
  fails with ABORTED, to be repeated under the same token.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from infra.clickhouse_server import errors

LOOK = (
    "SELECT code, name, sum(value), argMax(last_error_message, last_error_time), max(query_id = queryID()), "
    "max(toUnixTimestamp(last_error_time)) FROM system.errors WHERE NOT remote GROUP BY code, name FORMAT TSV"
)
ABORTED = 236
# Codes that writing a block meets, and queries of others hardly ever: files, space, memory, parts, constraints, views.
WRITING = frozenset(
    map(str, (27, 33, 74, 75, 76, 241, 242, 243, 252, 319, 395, 469, 499, 1000, 1001, 1002)),
)


class Before(NamedTuple):
    """What was known when an INSERT began: errors met by code, and the second."""

    counts: dict[str, int]
    began_s: int


class WriteErrors:
    """What an engine's INSERTs met. Any thread."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._guard = threading.Lock()

    def before(self) -> Before:
        """Return what to give to `met` when the INSERT that begins now is done."""
        with self._guard:
            return Before(dict(self._counts), int(time.time()))

    def met(self, before: Before, answer: bytes) -> errors.ServerError | None:
        """Return the error that an INSERT met, from the answer to LOOK on its connection; None: it is written."""
        rows = [line.split("\t") for line in answer.decode("utf-8", "replace").splitlines()]
        own: errors.ServerError | None = None
        hidden: errors.ServerError | None = None
        for code, name, count, message, ours, at_s in rows:
            if ours == "1":
                own = errors.ServerError(int(code), name, message)
            others = int(count) - before.counts.get(code, 0)
            if code in WRITING and others > 1 and int(at_s) >= before.began_s:
                hidden = errors.ServerError(
                    ABORTED, "ABORTED", f"This INSERT may not have been written: others met {code} {name}, {message}"
                )
        with self._guard:
            self._counts.update({code: int(count) for code, _, count, *_ in rows})
        return own or hidden
