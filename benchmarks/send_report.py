"""What became of the requests that were sent. Pure.

Promise: every request taken from the source is in exactly one of: answered (`statuses`), `unanswered` (sent, and no
answer came: the server may or may not have kept its hits) or `unsent` (no byte of it left). Its hits are, by number, in
`acknowledged` (answered 2xx), `unknown` (unanswered) or neither. Numbers take 8 bytes each, answer times 4.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.traffic import Request
from schemas.rejection import Reason

UNEXPECTED_MAX = 100  # kept with their notes; all are counted
LATENCY_US_MAX = (1 << 32) - 1


@dataclass
class SendReport:
    """Counts of one run; times in us from the first byte written to the last byte of the answer read."""

    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: array[int] = field(default_factory=lambda: array("Q"))
    unknown: array[int] = field(default_factory=lambda: array("Q"))
    unanswered: int = 0
    unsent: int = 0
    resent: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)  # expected, of acknowledged hits
    duplicates: int = 0  # expected, of acknowledged hits
    connections: int = 0
    connection_errors: Counter[str] = field(default_factory=Counter)
    unexpected: int = 0
    unexpected_examples: list[str] = field(default_factory=list)
    latencies_us: array[int] = field(default_factory=lambda: array("I"))
    lag_us_max: int = 0  # with a rate: how late a request left at worst
    seconds: float = 0.0
    gave_up: str = ""

    @property
    def answered(self) -> int:
        """Requests that got an answer, whatever it was."""
        return sum(self.statuses.values())

    @property
    def hits_acknowledged(self) -> int:
        """Hits answered 2xx."""
        return len(self.acknowledged)

    def latency_us(self, quantile: float) -> int:
        """Return the answer time that a share `quantile` in [0, 1] of the answers did not exceed; 0 without any."""
        if not self.latencies_us:
            return 0
        ordered = sorted(self.latencies_us)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]

    def count_answer(self, request: Request, status: int, latency_ns: int) -> None:
        """Count an answer and acknowledge the request's hits if it is 2xx."""
        self.statuses[status] += 1
        self.latencies_us.append(min(latency_ns // 1000, LATENCY_US_MAX))
        if 200 <= status < 300 and request.events:
            self.acknowledged.extend(request.numbers())
            self.duplicates += request.duplicates
            self.rejected.update(request.rejected)
        if not request.expects(status):
            self._note(f"{request.note or 'request'}: {status} instead of {request.expect}")

    def count_unanswered(self, request: Request, why: str) -> None:
        """Count a request that was sent and never answered: whether its hits are kept is unknown."""
        self.unanswered += 1
        self.unknown.extend(request.numbers())
        self._note(f"{request.note or 'request'}: no answer ({why})")

    def _note(self, example: str) -> None:
        self.unexpected += 1
        if len(self.unexpected_examples) < UNEXPECTED_MAX:
            self.unexpected_examples.append(example)
