"""The dead letter on a real Kafka, read by another client."""

import json
import socket
import time

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, ConfigResource
from support.kafka import unique

from consumers.dead_letter import Letter
from consumers.log_reader.kafka_dead_letter import KafkaDeadLetter
from schemas.errors import RetryError
from schemas.settings import load

READ_S_MAX = 30


def read(servers, topic, count):
    consumer = Consumer({"bootstrap.servers": servers, "group.id": unique("reader"), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found, deadline_s = [], time.monotonic() + READ_S_MAX
    try:
        while len(found) < count and time.monotonic() < deadline_s:
            message = consumer.poll(0.2)
            if message and not message.error():
                found.append(Letter(message.key(), message.value()))
    finally:
        consumer.close()
    return found


def test_letters_arrive_and_the_topic_is_made(kafka_servers):
    settings = load(
        kafka_bootstrap_servers=kafka_servers, kafka_topic=unique("hits"), partitions=2, rejected_retention_days=3
    )
    letters = [Letter(f"{n:016x}:1".encode(), json.dumps({"n": n}).encode()) for n in range(1200)]
    letters.append(Letter(b"hits:0:1", b"x" * 1_000_000))
    dead_letter = KafkaDeadLetter(settings)
    try:
        dead_letter.put(letters[:700])
        dead_letter.put(letters[700:])
    finally:
        dead_letter.close()
    assert dead_letter.topic == f"{settings.kafka_topic}.rejected"
    assert sorted(read(kafka_servers, dead_letter.topic, len(letters))) == sorted(letters)
    topic = ConfigResource(ConfigResource.Type.TOPIC, dead_letter.topic)
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    (config,) = admin.describe_configs([topic]).values()
    assert config.result()["retention.ms"].value == str(3 * 86_400_000)


def test_without_a_broker_it_says_so_and_can_be_closed():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        dead_letter = KafkaDeadLetter(load(kafka_bootstrap_servers=nobody, kafka_request_timeout_s=1))
        for _ in range(2):
            with pytest.raises(RetryError, match=f"Kafka at {nobody}"):
                dead_letter.put([Letter(b"a", b"{}")])
        dead_letter.close()


def test_what_a_broker_refuses_is_tried_again_with_a_new_producer(kafka_servers):
    settings = load(kafka_bootstrap_servers=kafka_servers, kafka_topic=unique("hits"), partitions=1)
    dead_letter = KafkaDeadLetter(settings)
    try:
        with pytest.raises(RetryError, match="MessageSizeTooLarge"):
            dead_letter.put([Letter(b"a", b"x" * 2_000_000)])
        dead_letter.put([Letter(b"b", b"{}")])
    finally:
        dead_letter.close()
    assert read(kafka_servers, dead_letter.topic, 1) == [Letter(b"b", b"{}")]
