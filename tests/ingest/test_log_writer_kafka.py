"""Hits on their way into Kafka: sizes, keys and JSON as others see them, and every wrong setting in clear words."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from jsonschema import Draft202012Validator
from support.kafka import PASSWORD, USER, unique

from ingest.hit_builder import KNOWN, NEW, HitBuilder
from ingest.log_writer.kafka import KafkaLogWriter
from schemas.errors import FatalError, RetryError
from schemas.hit import KEY_END, KEY_START, PREFIX, partition_of
from schemas.settings import KIB, MIB, Settings

PARTITIONS = 3
WAIT_S_MAX = 20.0
SCHEMA = Path(__file__).parents[2] / "schemas" / "hit.schema.json"


@pytest.fixture
def settings(kafka_servers, tmp_path):
    return Settings(
        data_dir=tmp_path, kafka_bootstrap_servers=kafka_servers, kafka_topic=unique("hits"), partitions=PARTITIONS
    )


def changed(settings, **fields):
    return settings.model_copy(update=fields)


def append(settings, *rounds):
    """Append in one writer's life."""

    async def life():
        writer = KafkaLogWriter.open(settings)
        try:
            for runs in rounds:
                await writer.append(runs)
        finally:
            await writer.close()

    asyncio.run(life())


def read(settings, count):
    """Return `count` records as librdkafka gives them: (partition, offset, key, value)."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": unique("judge"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([settings.kafka_topic])
    records = []
    try:
        while len(records) < count:
            message = consumer.poll(WAIT_S_MAX)
            assert message is not None, f"{len(records)} of {count} records"
            assert not message.error(), message.error()
            records.append((message.partition(), message.offset(), message.key(), message.value()))
    finally:
        consumer.close()
    return records


def hit(serial, size=0):
    return PREFIX + b'%016x","serial":%d,"pad":"' % (serial, serial) + b"x" * size + b'"}'


def real_hits(rng, count):
    builder = HitBuilder(f"{rng.getrandbits(64):016x}")
    builder.at(1_750_000_000_000)
    for seq in range(count):
        visitor = b"%016x" % rng.getrandbits(64)
        mark = NEW if rng.random() < 0.5 else KNOWN
        yield builder.pixel(
            seq, visitor, visitor, mark, b"", b"", b"https://shop.example/\xc3\xa9", b"s=shop&u=https%3A%2F%2Fa.example"
        )


def test_other_clients_read_hits_as_json_by_the_schema_with_their_key(settings):
    schema = Draft202012Validator(json.loads(SCHEMA.read_bytes()))
    sent = list(real_hits(Random(5), 200))
    runs = {}
    for value in sent:
        runs.setdefault(partition_of(value[KEY_START:KEY_END], PARTITIONS), []).append(value)
    append(settings, runs)
    records = read(settings, len(sent))
    for partition, _, key, value in records:
        content = json.loads(value)
        schema.validate(content)
        assert key.decode() == content["key"]
        assert partition_of(key, PARTITIONS) == partition
    assert sorted(value for *_, value in records) == sorted(sent)


def test_partitions_are_librdkafkas_consistent_ones(settings):
    append(settings, {})  # makes the topic
    seed = 11
    rng = Random(seed)
    chosen = {}
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "partitioner": "consistent",
            "linger.ms": 50,
            "log_level": 0,
        }
    )

    def delivered(error, message):
        assert not error, error
        chosen[message.key()] = message.partition()

    keys = {b"%016x" % rng.getrandbits(64) for _ in range(10_000)}
    for key in keys:
        producer.produce(settings.kafka_topic, b"", key, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(WAIT_S_MAX) == 0
    assert chosen == {key: partition_of(key, PARTITIONS) for key in keys}
    assert len(set(chosen.values())) == PARTITIONS


def test_a_run_of_many_batches_keeps_its_order_and_takes_any_size(settings):
    settings = changed(settings, kafka_batch_bytes_max=16 * KIB)
    sizes = [0, 100, 20 * KIB, 256 * KIB, 10, *[700] * 200, 60 * KIB]
    run = [hit(serial, size) for serial, size in enumerate(sizes)]
    append(settings, {1: run[:5], 2: [hit(7)]}, {1: run[5:]})
    records = [value for partition, _, _, value in read(settings, len(run) + 1) if partition == 1]
    assert records == run


def test_a_payload_that_is_no_hit_has_no_key(settings):
    append(settings, {0: [b"{}", PREFIX, b"\xff\x00"]})
    assert [(key, value) for _, _, key, value in read(settings, 3)] == [
        (None, b"{}"),
        (None, PREFIX),
        (None, b"\xff\x00"),
    ]


def test_the_largest_hit_of_a_larger_setting_goes_through_a_topic_made_for_it(settings):
    settings = changed(settings, hit_bytes_max=3 * MIB)
    noise = Random(3).randbytes(3 * MIB // 2).hex().encode()  # does not compress below half
    append(settings, {0: [noise]})
    assert read(settings, 1)[0][3] == noise


def test_a_topic_that_takes_too_small_hits_is_told_before_one_is_stuck(settings):
    append(settings, {})
    with pytest.raises(
        RetryError, match=rf"--entity-name {settings.kafka_topic} --add-config max.message.bytes=2101248"
    ):
        append(changed(settings, hit_bytes_max=2 * MIB), {})


def test_a_topic_with_another_count_gets_nothing_and_the_error_says_what_to_do(settings, tmp_path):
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_topics([NewTopic(settings.kafka_topic, 5, 1)])[settings.kafka_topic].result(WAIT_S_MAX)
    with pytest.raises(RetryError, match=r"has 5 partitions, the setting `partitions` says 3; nothing is sent.*=5 if"):
        append(settings, {0: [hit(0)]})
    append(changed(settings, partitions=5), {0: [hit(0)]})


def test_a_count_that_changed_since_is_refused_whichever_side_changed(settings):
    append(settings, {0: [hit(0)]})
    with pytest.raises(FatalError, match=r"was filled with 3 partitions.*set HITSTREAM_PARTITIONS=3"):
        append(changed(settings, partitions=4), {})
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_partitions([NewPartitions(settings.kafka_topic, 4)])[settings.kafka_topic].result(WAIT_S_MAX)
    with pytest.raises(RetryError, match=r"has 4 partitions.*'The partition count' in docs/kafka.md"):
        append(settings, {0: [hit(1)]})


def test_a_damaged_memory_is_set_right_from_the_topic(settings):
    append(settings, {})
    memory = settings.data_dir / "forwarder" / "kafka.json"
    memory.write_bytes(b"\x00\x00")
    append(settings, {0: [hit(0)]})
    assert json.loads(memory.read_bytes()) == {settings.kafka_topic: PARTITIONS}


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ("no-such-broker.invalid:9092", "its name does not resolve: check KAFKA_BOOTSTRAP_SERVERS"),
        ("127.0.0.1:1", "nothing listens there"),
        ("no-such-broker.invalid:9092,127.0.0.1:1", "no-such-broker.invalid:9092: its name does not resolve"),
    ],
)
def test_a_broker_that_cannot_be_reached(settings, servers, words):
    with pytest.raises(RetryError, match=words):
        append(changed(settings, kafka_bootstrap_servers=servers), {})


def test_one_broker_of_the_list_is_enough(settings):
    servers = f"127.0.0.1:1,{settings.kafka_bootstrap_servers}"
    append(changed(settings, kafka_bootstrap_servers=servers), {0: [hit(0)]})


def test_a_login(settings, kafka_server):
    login = {
        "kafka_bootstrap_servers": kafka_server.sasl_servers,
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_username": USER,
    }
    append(changed(settings, **login, kafka_sasl_password=PASSWORD), {0: [hit(0)]})
    with pytest.raises(RetryError, match=r"it refuses the login.*check HITSTREAM_KAFKA_SASL_USERNAME"):
        append(changed(settings, **login, kafka_sasl_password="wrong"), {0: [hit(0)]})
    with pytest.raises(RetryError, match="it refuses the login"):
        append(changed(settings, **login, kafka_sasl_password=PASSWORD, kafka_sasl_mechanism="SCRAM-SHA-512"), {})


def test_another_protocol_than_the_ports(settings, kafka_server, tmp_path):
    with pytest.raises(RetryError, match="is HITSTREAM_KAFKA_SECURITY_PROTOCOL what the port speaks"):
        append(changed(settings, kafka_bootstrap_servers=kafka_server.sasl_servers), {})
    with pytest.raises(RetryError, match="HITSTREAM_KAFKA_SECURITY_PROTOCOL"):
        append(changed(settings, kafka_security_protocol="SSL"), {})
    with pytest.raises(FatalError, match="HITSTREAM_KAFKA_SSL_"):
        append(changed(settings, kafka_security_protocol="SSL", kafka_ssl_cafile=str(tmp_path / "none.pem")), {})
