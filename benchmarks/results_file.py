"""Committed results: one JSON file per benchmark or soak run in `benchmarks/results`, with what it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("uvloop", "httptools", "orjson", "msgspec", "clickhouse-connect", "chdb")


def write_result(name: str, figures: dict[str, Any], versions: dict[str, str] | None = None) -> Path:
    """Write `results/<name>.json` and return its path; `versions` are those of programs beside our packages."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "versions": {**{name: version(name) for name in PACKAGES}, **(versions or {})},
        "figures": figures,
    }
    path = RESULTS / f"{name}.json"
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
