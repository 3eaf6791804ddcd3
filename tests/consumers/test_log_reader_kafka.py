"""A worker in a consumer group: rebalances, zombies, foreign records, retention, and what is wrong in clear words."""

import asyncio
import threading
import time
from contextlib import suppress
from random import Random

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewTopic
from support.kafka import kafka_settings, unique

from consumers.log_reader.kafka import KafkaLogReader, log_ends
from consumers.log_reader.port import FencedError, Registered
from schemas.errors import FatalError, RetryError
from schemas.settings import KIB, MIB

WAIT_S_MAX = 30.0
PARTITIONS = 2


@pytest.fixture
def settings(kafka_servers, tmp_path):
    return kafka_settings(
        kafka_servers,
        tmp_path,
        partitions=PARTITIONS,
        kafka_session_timeout_s=6.0,
        kafka_rebalance_timeout_s=6.0,
    )


@pytest.fixture
def readers():
    """Starts readers; they are closed after the test."""
    started = []

    def start(settings, **options):
        started.append(KafkaLogReader(settings, heartbeat_s=0.2, **options))
        return started[-1]

    yield start
    for reader in started:
        reader.close()


def make_topic(settings, partitions=PARTITIONS, **config):
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    topic = NewTopic(
        settings.kafka_topic, partitions, 1, config={name.replace("_", "."): v for name, v in config.items()}
    )
    admin.create_topics([topic])[settings.kafka_topic].result(WAIT_S_MAX)
    return admin


def produce(settings, values, partition=0, key=None, **config):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0, **config})
    for value in values:
        producer.produce(settings.kafka_topic, value, key, partition=partition)
    assert producer.flush(WAIT_S_MAX) == 0


def until(condition, what=""):
    deadline = time.monotonic() + WAIT_S_MAX
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return result


def owned(reader, count=PARTITIONS):
    """Return the reader's logs by partition once it has so many."""
    until(lambda: len(reader.assigned()) == count, f"{len(reader.assigned())} partitions: {reader.trouble}")
    return {log.partition: log for log in reader.assigned()}


def fetch(log, count):
    """Return `count` records, however many calls they take."""
    records = []
    until(lambda: (records.extend(log.fetch(count - len(records), 64 * MIB)), len(records) >= count)[1])
    return records


def commit_as_others_do(settings, offset, metadata=None):
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": settings.kafka_group})
    place = Place(settings.kafka_topic, 0, offset, metadata) if metadata else Place(settings.kafka_topic, 0, offset)
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


def test_a_rebalance_ends_every_assignment_and_hands_on_what_is_registered(settings, readers):
    make_topic(settings)
    produce(settings, [b"%d" % serial for serial in range(10)])
    first = readers(settings)
    before = owned(first)
    assert [record.value for record in fetch(before[0], 10)] == [b"%d" % serial for serial in range(10)]
    before[0].register(Registered(2, 6, 77))
    second = readers(settings)
    after = owned(first, 1) | owned(second, 1)
    assert sorted(after) == [0, 1]
    for log in before.values():
        assert log not in after.values()
        for call in (lambda log=log: log.fetch(1, 1), lambda log=log: log.register(Registered(7, 8, 9)), log.end):
            with pytest.raises(FencedError):
                call()
    assert after[0].registered == Registered(2, 6, 77)
    assert [record.offset for record in fetch(after[0], 8)] == list(range(2, 10))
    after[0].register(Registered(7, 9, 78))
    second.close()
    again = owned(first)
    assert again[0].registered == Registered(7, 9, 78)
    assert again[1].registered is None


def test_a_commit_is_fenced_by_the_assignment_it_came_with_not_by_what_the_member_is_today(settings, readers):
    make_topic(settings)
    produce(settings, [b"x"] * 5)
    first = readers(settings)
    zombie = owned(first)[0]
    fetch(zombie, 5)
    zombie.register(Registered(0, 1, 1))
    second = readers(settings)
    owned(first, 1)
    owned(second, 1)
    zombie.over = False  # as if it had been asked before the member learnt of the rebalance
    with pytest.raises(FencedError, match="was refused: IllegalGenerationError"):
        zombie.register(Registered(2, 4, 2))
    second.close()
    assert owned(first)[0].registered == Registered(0, 1, 1)


def test_heartbeats_go_out_while_the_worker_works(settings, readers):
    settings = settings.model_copy(update={"kafka_session_timeout_s": 1.0})
    make_topic(settings)
    produce(settings, [b"x"])
    log = owned(readers(settings))[0]
    fetch(log, 1)
    busy_until = time.monotonic() + 2.5  # beyond the session's time-out, in plain Python, holding the thread
    while time.monotonic() < busy_until:
        sum(range(1000))
    log.register(Registered(0, 0, 1))
    assert log.registered == Registered(0, 0, 1)


def test_records_of_foreign_producers_come_as_they_are(settings, readers):
    make_topic(settings, max_message_bytes=str(12 * MIB))
    large = b"y" * (10 * MIB)
    produce(settings, [b"no json", None, b""], **{"message.max.bytes": 12 * MIB})
    produce(settings, [large, b"after"], key=b"\xff\x00", **{"message.max.bytes": 12 * MIB})
    log = owned(readers(settings.model_copy(update={"kafka_fetch_bytes_max": 64 * 1024})))[0]
    records = fetch(log, 5)
    assert [(record.key, record.value) for record in records] == [
        (b"", b"no json"),
        (b"", b""),
        (b"", b""),
        (b"\xff\x00", large),
        (b"\xff\x00", b"after"),
    ]


def test_offset_holes_of_transactions_are_passed(settings, readers):
    make_topic(settings)
    config = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "transactional.id": unique("producer"),
        "log_level": 0,
    }
    producer = Producer(config)
    producer.init_transactions(WAIT_S_MAX)
    for value in (b"1", b"2"):
        producer.begin_transaction()
        producer.produce(settings.kafka_topic, value, partition=0)
        producer.commit_transaction(WAIT_S_MAX)
    log = owned(readers(settings))[0]
    assert [(record.offset, record.value) for record in fetch(log, 2)] == [(0, b"1"), (2, b"2")]
    until(lambda: not log.fetch(1, 1) and log.position() == 4)
    assert log.end() == 4


def test_what_retention_deleted_ends_the_worker_or_is_counted(settings, readers):
    admin = make_topic(settings)
    produce(settings, [b"x"] * 20)
    first = readers(settings)
    log = owned(first)[0]
    fetch(log, 20)
    log.register(Registered(3, 5, 1))
    first.close()
    gone = Place(settings.kafka_topic, 0, 10)
    admin.delete_records([gone])[gone].result(WAIT_S_MAX)
    strict = readers(settings)
    with pytest.raises(FatalError, match=r"offsets 3\.\.9 were deleted by the topic's retention"):
        until(lambda: strict.assigned() and False)
    strict.close()
    expired = []
    lenient = readers(settings.model_copy(update={"kafka_skip_expired": True}), on_expired=expired.append)
    log = owned(lenient)[0]
    assert log.registered == Registered(3, 5, 1)
    assert [record.offset for record in fetch(log, 10)] == list(range(10, 20))
    assert expired == [7]


def test_what_retention_deletes_under_a_reader_is_found_too(settings, readers):
    admin = make_topic(settings)
    noise = Random(7).randbytes(10_000)
    for _ in range(20):
        produce(settings, [noise])  # a batch each: no more than two of them are fetched ahead
    reader = readers(settings.model_copy(update={"kafka_fetch_bytes_max": 16 * KIB}))
    log = owned(reader)[0]
    fetch(log, 1)
    log.register(Registered(0, 0, 1))
    gone = Place(settings.kafka_topic, 0, 20)
    admin.delete_records([gone])[gone].result(WAIT_S_MAX)

    def read_on():
        for current in reader.assigned():
            with suppress(FencedError):
                current.fetch(10, MIB)

    with pytest.raises(FatalError, match=r"offsets 0\.\.19 were deleted by the topic's retention"):
        until(read_on)


def test_a_commit_without_an_answer_is_refused_and_the_next_member_finds_what_stands(settings, readers):
    settings = settings.model_copy(update={"kafka_request_timeout_s": 0.3})
    make_topic(settings)
    produce(settings, [b"x"] * 5)
    reader = readers(settings)
    log = owned(reader)[0]
    fetch(log, 5)
    log.register(Registered(0, 1, 1))

    async def no_answer(_):
        await asyncio.Event().wait()

    reader._member._consumer._coordinator._send_req = no_answer
    started = time.monotonic()
    with pytest.raises(FencedError, match="a commit got no answer in time"):
        log.register(Registered(2, 4, 2))
    assert time.monotonic() - started < settings.kafka_session_timeout_s
    again = owned(reader)[0]
    assert again is not log
    assert again.registered == Registered(0, 1, 1)
    again.register(Registered(2, 3, 3))


def test_offsets_that_were_reset_are_refused(settings, readers):
    make_topic(settings)
    produce(settings, [b"x"] * 5)
    commit_as_others_do(settings, 3)
    reader = readers(settings)
    with pytest.raises(FatalError, match="offset 3 was not committed by hitstream"):
        until(lambda: reader.assigned() and False)


def test_the_commit_is_plain_to_see_for_other_tools(settings, readers):
    make_topic(settings)
    produce(settings, [b"x"] * 5)
    log = owned(readers(settings))[0]
    fetch(log, 5)
    log.register(Registered(1, 4, 1_700_000_000_000, "c0ffee"))
    found = asyncio.run(_committed(settings))
    assert (found.offset, found.metadata) == (1, '{"last":4,"at_ms":1700000000000,"rules":"c0ffee"}')


async def _committed(settings):
    """What another client sees; not librdkafka's, which shows bytes from behind the metadata's end."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        return (await admin.list_consumer_group_offsets(settings.kafka_group))[TopicPartition(settings.kafka_topic, 0)]
    finally:
        await admin.close()


def test_a_topic_that_is_not_there_is_waited_for_and_never_made(settings, readers):
    reader = readers(settings)
    until(lambda: "is not there yet; the forwarder makes it" in reader.trouble)
    assert reader.assigned() == []
    assert log_ends(settings) == {}
    make_topic(settings)
    owned(reader)
    assert reader.trouble == ""
    assert log_ends(settings) == {0: 0, 1: 0}


def test_a_topic_with_another_count_gives_nothing(settings, readers):
    make_topic(settings, partitions=3)
    reader = readers(settings)
    until(lambda: "has 3 partitions, the setting `partitions` says 2; nothing is read" in reader.trouble)
    assert reader.assigned() == []
    with pytest.raises(RetryError, match="set HITSTREAM_PARTITIONS=3"):
        log_ends(settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kafka_bootstrap_servers": "127.0.0.1:1"}, "nothing listens there"),
        ({"kafka_bootstrap_servers": "no-such-broker.invalid:9092"}, "its name does not resolve"),
    ],
)
def test_a_broker_that_cannot_be_reached_stands_in_readiness(settings, readers, change, words):
    settings = settings.model_copy(update=change)
    reader = readers(settings)
    until(lambda: words in reader.trouble)
    started = time.monotonic()
    reader.wait(0.2)
    assert 0.15 < time.monotonic() - started < 5
    reader.close()
    with pytest.raises(RetryError, match=words):
        log_ends(settings)


def test_wait_ends_when_it_is_woken(settings, readers):
    wake = threading.Event()
    reader = readers(settings, wake=wake)
    threading.Timer(0.1, wake.set).start()
    started = time.monotonic()
    reader.wait(30.0)
    assert time.monotonic() - started < 10


def test_a_client_that_has_silently_stopped_ends_the_process(settings, readers):
    settings = settings.model_copy(update={"kafka_stall_timeout_s": 1.0})
    make_topic(settings)
    reader = readers(settings)
    log = owned(reader)[0]
    assert log.fetch(1, 1) == []

    async def nothing(*_):
        return {}

    reader._member._getmany = nothing  # what aiokafka #1154 looks like from outside
    produce(settings, [b"x"])
    with pytest.raises(FatalError, match="partition 0 is read to 0 of 1 and gives nothing for 1 s"):
        until(lambda: _fetch_of_all(reader) and False)


def _fetch_of_all(reader):
    """Ask every partition; that one is no longer ours is no surprise once the reader ends over another."""
    for one in reader.assigned():
        with suppress(FencedError):
            one.fetch(1, 1)
    return True
