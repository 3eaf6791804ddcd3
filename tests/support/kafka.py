"""A Kafka for tests: the one KAFKA_BOOTSTRAP_SERVERS names, else a local Apache Kafka, else one in Docker.

One for the whole run; each test takes topics and groups of its own. A test that kills brokers starts its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from testcontainers.community.kafka import KafkaContainer

from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from ingest.forwarder import Forwarder
from ingest.log_writer.kafka import KafkaLogWriter
from schemas.settings import Settings

USER, PASSWORD = "hits", "secret"
HEAP_MIB = 512


def local_jars() -> Path:
    """Return the directory of Kafka's jars. Raises MissingToolError, which names the command that installs it."""
    return ensure_jars(Settings().cache_dir)


def unique(name: str) -> str:
    """Return a topic or group name that no other test has."""
    return f"{name}-{uuid4().hex[:10]}"


def kafka_settings(servers: str, data_dir: Path, **fields: Any) -> Settings:
    """Return settings with a topic and a group of their own."""
    own = {"kafka_topic": unique("hits"), "kafka_group": unique("workers")}
    return Settings(data_dir=data_dir, kafka_bootstrap_servers=servers, **(own | fields))


async def forward(settings: Settings) -> None:
    """Let the real forwarder send what the spools hold."""
    forwarder = Forwarder.from_settings(settings, KafkaLogWriter.open(settings))
    try:
        await forwarder.open()
        while await forwarder.step():
            pass
    finally:
        await forwarder.close()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory) -> Iterator[KafkaServer]:
    """A local Apache Kafka with a listener that wants a login; shared, so nobody kills it."""
    with KafkaServer(
        tmp_path_factory.mktemp("kafka"),
        local_jars(),
        heap_mib=HEAP_MIB,
        users={USER: PASSWORD},
        tied=True,
        short_lived=True,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_servers(request) -> Iterator[str]:
    """Bootstrap servers of the Kafka that the tests share."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
    elif (shutil.which("java") and shutil.which("mvn")) or not _docker_runs():
        yield request.getfixturevalue("kafka_server").bootstrap_servers
    else:
        with KafkaContainer().with_kraft() as container:
            yield container.get_bootstrap_server()


def _docker_runs() -> bool:
    """The client may be there without its engine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0
