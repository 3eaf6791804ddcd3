"""What a collector counts: plain integers, bumped on the hot path and read by `metrics.py` when somebody asks.

Invariant: every request is in `answers` under its status once its answer was handed to the kernel, and every one that
was not kept is also in `refused` under one of the closed reasons below; server events that were not kept although their
request was answered 202 are in `server_rejected`. The consent verdict on every hit is in `verdicts`, whatever becomes
of it; a hit that its site's setting drops for want of consent is also in `dropped`. Nothing is dropped without a count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from schemas.consent import Verdict
from schemas.rejection import Reason


class Refusal(StrEnum):
    """Why a request or a connection was refused, or cut off; the metric's label."""

    MALFORMED = "malformed"  # 400: not HTTP, or HTTP we must not guess about
    TARGET_TOO_LONG = "target_too_long"  # 414
    HEAD_TOO_LARGE = "head_too_large"  # 431
    BODY_TOO_LARGE = "body_too_large"  # 413
    TOO_MANY_EVENTS = "too_many_events"  # 413
    HIT_TOO_LARGE = "hit_too_large"  # 413
    BAD_CONTENT_TYPE = "bad_content_type"  # 400
    BAD_BODY = "bad_body"  # 400: no JSON, too deep, or no objects
    UNAUTHORIZED = "unauthorized"  # 401: no valid key for server events
    CROSS_ORIGIN = "cross_origin"  # 403: an opt-out or opt-in that is not the page's own
    BAD_LINK = "bad_link"  # 400: /c without a target that is signed or allowed
    NOT_FOUND = "not_found"  # 404
    METHOD_NOT_ALLOWED = "method_not_allowed"  # 405
    SLOW_REQUEST = "slow_request"  # 408
    SPOOL_FULL = "spool_full"  # 503; a click goes on without an id, 302
    TOO_MANY_CONNECTIONS = "too_many_connections"  # closed at once
    SLOW_READER = "slow_reader"  # does not read its answers: cut off


GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_R10 = (1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300, 8000)  # ISO 3's ten steps a decade
HANDLING_NS: tuple[int, ...] = tuple(step * 10**decade for decade in range(6) for step in _R10)[7:]  # 5 us to 0.8 s


class Counters:
    """The counters of one collector process."""

    __slots__ = (
        "answers",
        "connections_open",
        "connections_opened",
        "dropped",
        "group_sizes",
        "groups",
        "handling",
        "handling_ns",
        "hit_bytes",
        "hits_kept",
        "refused",
        "segments",
        "server_rejected",
        "syncs",
        "verdicts",
        "visitors_minted",
    )

    def __init__(self) -> None:
        self.hits_kept = 0
        self.hit_bytes = 0
        self.groups = 0
        self.group_sizes = [0] * (len(GROUP_BUCKETS) + 1)
        self.handling = [0] * (len(HANDLING_NS) + 1)
        self.handling_ns = 0
        self.syncs = 0
        self.segments = 0
        self.connections_opened = 0
        self.connections_open = 0
        self.visitors_minted = 0
        self.verdicts = dict.fromkeys(Verdict, 0)
        self.dropped: Counter[tuple[str, Verdict]] = Counter()  # by a defined site's id (else "") and the verdict
        self.answers: Counter[int] = Counter()
        self.refused: Counter[Refusal] = Counter()
        self.server_rejected: Counter[Reason] = Counter()

    def group(self, hits: int, size: int) -> None:
        """Count one group commit of `hits` kept hits, `size` bytes of JSON in all."""
        self.hits_kept += hits
        self.hit_bytes += size
        self.groups += 1
        bucket = 0
        while bucket < len(GROUP_BUCKETS) and hits > GROUP_BUCKETS[bucket]:
            bucket += 1
        self.group_sizes[bucket] += 1

    def handled(self, answers: int, took_ns: int) -> None:
        """Count answers that were handed to the kernel within `took_ns` of their requests' arrival."""
        self.handling[bisect_left(HANDLING_NS, took_ns)] += answers
        self.handling_ns += took_ns * answers

    def as_dict(self) -> dict[str, int]:
        """Return all counts by flat name (`answers.200`, `refused.malformed`, `handling.3`), fit to be summed.

        May be called from another thread.
        """
        flat = {
            "hits_kept": self.hits_kept,
            "hit_bytes": self.hit_bytes,
            "handling_ns": self.handling_ns,
            "groups": self.groups,
            "syncs": self.syncs,
            "segments": self.segments,
            "connections_opened": self.connections_opened,
            "connections_open": self.connections_open,
            "visitors_minted": self.visitors_minted,
        }
        flat.update({f"answers.{status}": count for status, count in dict(self.answers).items()})
        flat.update({f"refused.{reason}": self.refused[reason] for reason in Refusal})
        flat.update({f"server_rejected.{reason}": self.server_rejected[reason] for reason in Reason})
        flat.update({f"verdicts.{verdict}": count for verdict, count in self.verdicts.items()})
        flat.update({f"dropped.{verdict}.{site}": count for (site, verdict), count in dict(self.dropped).items()})
        flat.update({f"group_sizes.{bucket}": count for bucket, count in enumerate(self.group_sizes)})
        flat.update({f"handling.{bucket}": count for bucket, count in enumerate(self.handling)})
        return flat


def add_up(snapshots: list[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of several processes' `as_dict`."""
    total: Counter[str] = Counter()
    for snapshot in snapshots:
        total.update(snapshot)
    return dict(total)
