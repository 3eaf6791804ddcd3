"""Hit -> queryable: when a SELECT first shows a row, against the time at which the edge took its hit.

Of a sample of the visitors, all rows are looked for in `events`, over HTTP as any client would, again and again. A
row's latency is the time at which the answer that first held it was there, less the row's own `received_at` (the
collector's clock, in ms; of the rival, Kafka's record timestamp, made by its producer). So it holds everything: spool,
forwarder, log, batch, insert, the SELECT, and up to `PAUSE_S` in which nobody looked. Both clocks are this machine's.
All rows of the sample whose hits were taken while it ran count, however late they came: looking goes on until the
pipeline is drained.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from consumers.clickhouse_client import ClickHouse

SHARE = 0.0025  # of the visitors; their ids are random 64-bit numbers, so the lowest ones are a sample
PAUSE_S = 0.4  # each look costs ClickHouse time, which the pipeline's figures bear
SQL = """
SELECT log_partition, log_offset, toUnixTimestamp64Milli(received_at) FROM events
WHERE site = {site:String} AND visitor_id BETWEEN 1 AND {last:UInt64} AND log_offset >= {from:UInt64}
  AND received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
SETTINGS optimize_move_to_prewhere = 0"""  # so few rows: reading them in two passes costs more


class Latency(NamedTuple):
    """Of `rows` rows: quantiles in ms."""

    rows: int
    p50_ms: int
    p99_ms: int
    max_ms: int


class FirstSeen:
    """Looks, in a thread of its own, from `start` to `stop`."""

    def __init__(self, url: str, database: str, site: str, partitions: int) -> None:
        self._client = ClickHouse(url, database=database)
        self._site = site
        self._partitions = partitions  # of the log
        self._latest: dict[int, int] = {}  # of each partition, the highest offset seen
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}  # (partition, offset): received, seen in ms
        self._stop = threading.Event()
        self._since_ms = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="first seen", daemon=True)

    def start(self) -> None:
        """Look at rows of hits taken from now on."""
        self._since_ms = int(time.time() * 1000)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking. Raises what a look raised."""
        self._stop.set()
        self._thread.join()
        self._client.close()
        if self._error:
            raise self._error

    def latency(self, until_ms: float) -> Latency:
        """Return the latency of the rows whose hits were taken before `until_ms`. Raises SystemExit without any."""
        return latency([(received, seen) for received, seen in self._seen.values() if received < until_ms])

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look()
                self._stop.wait(PAUSE_S)
            self._look()
        except BaseException as error:  # noqa: BLE001  `stop` raises it
            self._error = error

    def _look(self) -> None:
        # A partition's rows come in the order of their offsets, and its parts below the last one seen hold nothing new.
        known = min(self._latest.values()) if len(self._latest) == self._partitions else 0
        asked = {"site": self._site, "last": int(SHARE * (1 << 64)), "since": self._since_ms, "from": known}
        rows = self._client.query(SQL, asked)
        seen_ms = time.time() * 1000
        for partition, offset, received_ms in rows:
            self._seen.setdefault((partition, offset), (received_ms, seen_ms))
            self._latest[partition] = max(offset, self._latest.get(partition, 0))


def latency(times: list[tuple[int, float]]) -> Latency:
    """Return the quantiles of (received, seen) pairs, in ms."""
    if not times:
        raise SystemExit("no row of the sample was ever seen")
    waited = sorted(seen - received for received, seen in times)
    last = len(waited) - 1
    p50, p99, most = (round(waited[min(int(share * len(waited)), last)]) for share in (0.5, 0.99, 1.0))
    return Latency(len(waited), p50, p99, most)
