"""The topic between both wings: real hits as other clients read them, foreign records as rows, a wrong topic."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from jsonschema import Draft202012Validator
from support.edge import HOST, PIXEL, PIXEL_SEEN, edge, post, run
from support.kafka import forward, kafka_settings, unique
from support.parent import Parent
from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, hit
from support.worker_box import RULES

from consumers.clickhouse_store import ClickHouseStore
from consumers.log_reader.kafka import KafkaLogReader
from consumers.worker import Worker
from schemas.hit import HIT_VERSION, partition_of
from schemas.rejection import Reason
from schemas.settings import MIB

WAIT_S_MAX = 30.0
PARTITIONS = 3
SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "schemas" / "hit.schema.json").read_bytes()))
ODD = b"GET /p.gif?s=shop&u=%FF%00&x=%C3%A9%22 HTTP/1.1\r\n" + HOST + b'User-Agent: \xff"\\ \t<x>\r\n\r\n'
EMAIL = b"GET /p.gif?s=shop&e=EmailOpen HTTP/1.1\r\n" + HOST + b"Sec-GPC: 1\r\nReferer: https://mail.example/\r\n\r\n"
EVENTS = b'[{"s":"shop","e":"Purchase","id":"o-1","value":9.5,"p":{"a":"\\u00e9"}},{"s":"shop","e":"PageView"}]'


@pytest.fixture
def settings(kafka_servers, tmp_path):
    return kafka_settings(kafka_servers, tmp_path, partitions=PARTITIONS)


def until(condition, what=lambda: ""):
    deadline = time.monotonic() + WAIT_S_MAX
    while not (result := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)
    return result


def make_topic(settings, partitions, **config):
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_topics([NewTopic(settings.kafka_topic, partitions, 1, config=config)])[settings.kafka_topic].result(
        WAIT_S_MAX
    )


async def kept_hits(settings):
    """Let a real collector keep hits of every source, and the real forwarder send them; return what the spool held."""
    async with edge(settings.data_dir) as server:
        for request in (PIXEL, PIXEL_SEEN, ODD, EMAIL, post(EVENTS), post(EVENTS, b"Origin: https://shop.example")):
            _, takes_more = await server.probed(request)
            assert takes_more
        hits = server.hits()
    await forward(settings)
    return hits


def test_what_collectors_kept_is_read_by_librdkafka_as_json_by_the_schema(settings):
    hits = run(lambda: kept_hits(settings))
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": unique("judge")}
    consumer = Consumer({**config, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([settings.kafka_topic])
    found = []
    try:
        while len(found) < len(hits):
            message = consumer.poll(WAIT_S_MAX)
            assert message is not None, f"{len(found)} of {len(hits)} records"
            assert not message.error(), message.error()
            content = json.loads(message.value())
            SCHEMA.validate(content)
            assert message.key().decode() == content["key"]
            assert message.partition() == partition_of(message.key(), PARTITIONS)
            found.append(content)
    finally:
        consumer.close()
    assert len(hits) == 8
    assert sorted(found, key=lambda one: one["spool_seq"]) == hits


FOREIGN = [  # value, and why there is no row; None: there is one
    (b"no json", Reason.BAD_JSON),
    (None, Reason.BAD_JSON),
    (b"\xff\xfe\x00", Reason.BAD_JSON),
    (b"{}", Reason.BAD_HIT),
    (b"[1]", Reason.BAD_HIT),
    (hit(1, v=HIT_VERSION - 1), Reason.BAD_VERSION),
    (hit(2, v=HIT_VERSION + 1, of="a later release"), Reason.BAD_VERSION),
    (b'{"pad":"' + b"x" * (10 * MIB) + b'"}', Reason.BAD_HIT),
    (b"y" * (10 * MIB), Reason.BAD_JSON),
    (hit(3, added="by a later release of the same version"), None),
]


def test_foreign_records_are_rejected_with_their_bytes_and_none_is_passed_over(settings):
    """None of them has a key."""
    settings = settings.model_copy(update={"partitions": 1})
    make_topic(settings, 1, **{"max.message.bytes": str(12 * MIB)})
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "message.max.bytes": 12 * MIB, "log_level": 0}
    producer = Producer(config)
    for value, _ in FOREIGN:
        producer.produce(settings.kafka_topic, value)
    assert producer.flush(WAIT_S_MAX) == 0
    clickhouse = SimulatedClickHouse()
    reader = KafkaLogReader(settings, heartbeat_s=0.2)
    worker = Worker(reader, ClickHouseStore(clickhouse), RULES, lambda: BASE_MS / 1000 + time.monotonic())
    try:

        def loaded():
            worker.step()
            return len(clickhouse.rows("events")) + len(clickhouse.rows("rejected")) >= len(FOREIGN)

        until(loaded, lambda: (reader.trouble, clickhouse.rows("rejected")))
    finally:
        reader.close()
    rejected = {row["log_offset"]: (row["reason"], row["raw"]) for row in clickhouse.rows("rejected")}
    expected = {offset: (str(why), value or b"") for offset, (value, why) in enumerate(FOREIGN) if why}
    assert rejected == expected
    assert [row["log_offset"] for row in clickhouse.rows("events")] == [len(FOREIGN) - 1]


def readiness(port):
    """Return (status, what each process says); None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("forward", "has 5 partitions, the setting `partitions` says 3; nothing is sent"),
        ("work", "has 5 partitions, the setting `partitions` says 3; nothing is read"),
    ],
)
def test_readiness_of_a_process_says_that_the_count_is_wrong_and_what_to_do(
    settings, tmp_path, clickhouse_url, command, words
):
    make_topic(settings, 5)
    own = {
        "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
        "kafka_topic": settings.kafka_topic,
        "kafka_group": settings.kafka_group,
        "partitions": PARTITIONS,
        "clickhouse_url": clickhouse_url,
        "admin_port": 0,
        "workers": 1,
    }
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with Parent(command, data_dir, **own) as parent:
        port = until(parent.ports)["admin"]
        until(lambda: words in str(readiness(port)), lambda: f"{readiness(port)}\n{parent.log_tail()}")
        status, text = readiness(port)
        assert status == 503
        assert "set HITSTREAM_PARTITIONS=5" in text
        assert parent.stop() == 0
