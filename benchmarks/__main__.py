"""`make bench`: runs every benchmark and writes its figures to `benchmarks/results`."""

from __future__ import annotations

import sys

from benchmarks import bench_edge, bench_enrich, bench_forward, bench_reports

sys.exit(bench_edge.main() or bench_enrich.main() or bench_forward.main() or bench_reports.main())
