"""Which event log: local partitions, or Kafka if and only if KAFKA_BOOTSTRAP_SERVERS is set."""

from __future__ import annotations

from importlib.util import find_spec

from infra.command.errors import UserError
from schemas.settings import Settings


def uses_kafka(settings: Settings) -> bool:
    """Return whether the log is Kafka."""
    return bool(settings.kafka_bootstrap_servers)


def check_log_choice(settings: Settings) -> None:
    """Raise UserError when the chosen log is not part of this version."""
    if uses_kafka(settings) and find_spec("consumers.log_reader.kafka") is None:
        raise UserError(
            "KAFKA_BOOTSTRAP_SERVERS is set, but Kafka support (issue 4) is not part of this version: "
            "unset it to use the local log"
        )
