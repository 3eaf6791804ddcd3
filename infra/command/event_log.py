"""Which event log: local partitions, or Kafka if and only if KAFKA_BOOTSTRAP_SERVERS is set.

Whatever opens a log comes here.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as ThreadEvent
from typing import TYPE_CHECKING

from infra.command.errors import UserError
from infra.journal.cursor import StateDamageError, StateFile
from infra.journal.local_log import log_root, partition_count, partition_directory
from infra.journal.writer import recover
from schemas.errors import RetryError
from schemas.settings import Settings
from schemas.topics import HITS

if TYPE_CHECKING:
    from consumers.dead_letter import DeadLetter
    from consumers.log_reader.port import LogReader
    from consumers.metrics import WorkerCounters
    from ingest.log_writer.port import LogWriter


def uses_kafka(settings: Settings) -> bool:
    """Return whether the log is Kafka."""
    return bool(settings.kafka_bootstrap_servers)


def topic_of(settings: Settings) -> str:
    """Return the topic's name as it stands in `batches`."""
    return settings.kafka_topic if uses_kafka(settings) else HITS


def open_log_writer(settings: Settings) -> LogWriter:
    """Open the log for the forwarder. Raises RetryError, FatalError."""
    if uses_kafka(settings):
        from ingest.log_writer.kafka import KafkaLogWriter

        return KafkaLogWriter.open(settings)
    from ingest.log_writer.local import LocalLogWriter

    return LocalLogWriter.open(settings)


def open_log_reader(
    settings: Settings, worker: int, workers: int, wake: ThreadEvent, counters: WorkerCounters
) -> tuple[LogReader, Callable[[], str]]:
    """Open the log for worker number `worker` of `workers`; `wake` ends its waits. Raises FatalError.

    Return it with the question for readiness: what keeps the worker from its share of the partitions; "": nothing.
    """
    if uses_kafka(settings):
        from consumers.log_reader.kafka import KafkaLogReader

        def expired(count: int) -> None:
            counters.expired += count

        kafka = KafkaLogReader(settings, worker=worker, wake=wake, on_expired=expired)
        return kafka, lambda: kafka.trouble
    from consumers.log_reader.local import LocalLogReader

    disk = settings.sync == "disk"
    local = LocalLogReader(log_root(settings.data_dir), worker=worker, workers=workers, disk=disk, wake=wake)
    return local, lambda: ""


@contextmanager
def open_dead_letter(settings: Settings) -> Iterator[DeadLetter | None]:
    """Give the dead letter that goes with the log: a topic on Kafka; with the local log there is none."""
    if not uses_kafka(settings):
        yield None
        return
    from consumers.log_reader.kafka_dead_letter import KafkaDeadLetter

    kafka = KafkaDeadLetter(settings)
    try:
        yield kafka
    finally:
        kafka.close()


def log_ends(settings: Settings) -> dict[int, int]:
    """Return each partition's end: the offset that its next record gets. Raises FatalError, UserError."""
    if uses_kafka(settings):
        from consumers.log_reader.kafka import log_ends as kafka_log_ends

        try:
            return kafka_log_ends(settings)
        except RetryError as error:
            raise UserError(str(error)) from None
    root = log_root(settings.data_dir)
    ends = {}
    for partition in range(partition_count(root) or 0):
        ends[partition], _ = recover(partition_directory(root, partition))
    return ends


def stable_instance(settings: Settings, data_dir: Path) -> str:
    """Return the name of this box's workers for static membership: set, or made once and kept with the data.

    So a worker that was killed has its partitions again at once; the group would else wait for its session to run out.
    The host's name is part of it: a copied data directory is another box.
    """
    if settings.kafka_instance_id:
        return settings.kafka_instance_id
    file = StateFile(data_dir / "kafka-instance.json", disk=False)
    with suppress(StateDamageError):
        if known := file.read():
            return f"{socket.gethostname()}-{known['id']}"
    made = secrets.token_hex(4)
    file.write({"id": made})
    return f"{socket.gethostname()}-{made}"
