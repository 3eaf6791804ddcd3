"""Which event log: local partitions, or Kafka if and only if KAFKA_BOOTSTRAP_SERVERS is set.

A Kafka adapter is one more branch in each function below; whatever opens a log comes here.
"""

from __future__ import annotations

from importlib.util import find_spec
from threading import Event as ThreadEvent
from typing import TYPE_CHECKING

from infra.command.errors import UserError
from infra.journal.local_log import log_root, partition_count, partition_directory
from infra.journal.writer import recover
from schemas.settings import Settings

if TYPE_CHECKING:
    from consumers.log_reader.port import LogReader
    from ingest.log_writer.port import LogWriter

KAFKA_ADAPTER = "consumers.log_reader.kafka"


def uses_kafka(settings: Settings) -> bool:
    """Return whether the log is Kafka."""
    return bool(settings.kafka_bootstrap_servers)


def check_log_choice(settings: Settings) -> None:
    """Raise UserError when the chosen log is not part of this version."""
    if uses_kafka(settings) and find_spec(KAFKA_ADAPTER) is None:
        raise UserError(
            "KAFKA_BOOTSTRAP_SERVERS is set, but Kafka support (issue 4) is not part of this version: "
            "unset it to use the local log"
        )


def open_log_writer(settings: Settings) -> LogWriter:
    """Open the log for the forwarder. Raises RetryError, FatalError, UserError."""
    from ingest.log_writer.local import LocalLogWriter

    check_log_choice(settings)
    return LocalLogWriter.open(settings)


def open_log_reader(settings: Settings, worker: int, workers: int, wake: ThreadEvent) -> LogReader:
    """Open the log for worker number `worker` of `workers`; `wake` ends its waits. Raises FatalError, UserError."""
    from consumers.log_reader.local import LocalLogReader

    check_log_choice(settings)
    disk = settings.sync == "disk"
    return LocalLogReader(log_root(settings.data_dir), worker=worker, workers=workers, disk=disk, wake=wake)


def log_ends(settings: Settings) -> dict[int, int]:
    """Return each partition's end: the offset that its next record gets. Changes nothing. Raises FatalError."""
    check_log_choice(settings)
    root = log_root(settings.data_dir)
    ends = {}
    for partition in range(partition_count(root) or 0):
        ends[partition], _ = recover(partition_directory(root, partition))
    return ends
