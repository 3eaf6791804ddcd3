"""`make bench`: runs every benchmark and writes its figures to `benchmarks/results`."""

from __future__ import annotations

import sys

from benchmarks import (
    bench_edge,
    bench_edge_limits,
    bench_end_to_end,
    bench_enrich,
    bench_forward,
    bench_rebuild,
    bench_reports,
    bench_server_events,
    bench_worker,
    flames,
)

PARTS = (
    bench_edge,
    bench_edge_limits,
    bench_forward,
    bench_enrich,
    bench_server_events,
    bench_worker,
    bench_rebuild,
    bench_reports,
    bench_end_to_end,
    flames,
)

sys.exit(next((code for code in (part.main() for part in PARTS) if code), 0))
