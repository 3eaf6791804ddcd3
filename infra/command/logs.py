"""Log lines: one per event, to stderr, with the time in UTC, the process and the message."""

from __future__ import annotations

import logging
import time

QUIET = ("aiohttp", "asyncio", "tldextract", "filelock")

TOLD_BY_EXCEPTIONS = ("aiokafka", "clickhouse_connect", "urllib3")


class _Line(logging.Formatter):
    """`2026-01-31T23:59:59.123Z collector-0 WARNING message`; a traceback follows on lines of its own."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's name
        del datefmt
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def configure(process: str, level: str) -> None:
    """Log as process `process` from `level` (debug, info, warning, error) on."""
    handler = logging.StreamHandler()
    escaped = process.replace("%", "%%")
    handler.setFormatter(_Line(f"%(asctime)s {escaped} %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    silence_libraries()


def silence_libraries() -> None:
    """Keep libraries' chatter out; a failure that they log is also an exception of ours."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in TOLD_BY_EXCEPTIONS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
