"""Where a Kafka partition goes on, decided from what is committed and what the log still holds; and when it stalls."""

import pytest

from consumers.log_reader.kafka_partition import Assignment, KafkaPartitionLog, Stalls, Taken
from consumers.log_reader.kafka_place import Committed, Place, check_count, metadata_of, place_of
from consumers.log_reader.port import FencedError, Record, Registered
from schemas.errors import FatalError, RetryError


def place(committed, start=0, end=100, *, skip=False):
    return place_of("partition 3", committed, start, end, skip_expired=skip)


def committed(first=10, last=19):
    return Committed(first, metadata_of(Registered(first, last, 5, "abc")))


def test_a_fresh_partition_starts_where_the_log_does():
    assert place(None) == Place(None, 0)
    assert place(None, start=7) == Place(None, 7)


@pytest.mark.parametrize(("start", "end"), [(0, 100), (10, 20), (10, 10), (10, 100)])
def test_a_registered_batch_is_read_again(start, end):
    assert place(committed(), start, end) == Place(Registered(10, 19, 5, "abc"), 10)


@pytest.mark.parametrize(
    "metadata",
    [
        *(None, "", "{}", "7", "null", "\ud800", '{"last":9,"at_ms":1}', '{"last":"19","at_ms":1}'),
        '{"last":19,"at_ms":1,"rules":2}',
    ],
)
def test_an_offset_that_somebody_else_committed_is_refused(metadata):
    with pytest.raises(FatalError, match="offset 10 was not committed by hitstream"):
        place(Committed(10, metadata))


def test_a_topic_made_anew_is_refused():
    with pytest.raises(FatalError, match="offset 10 is committed, but the log ends at 9"):
        place(committed(), end=9)


def test_a_registration_of_a_release_that_named_no_rules_is_read():
    assert place(Committed(10, '{"last":19,"at_ms":5}')) == Place(Registered(10, 19, 5), 10)


@pytest.mark.parametrize("start", [11, 15, 20, 60])
def test_what_retention_took_is_an_error_or_a_count(start):
    with pytest.raises(
        FatalError, match=rf"offsets 10\.\.{start - 1} were deleted .*HITSTREAM_KAFKA_SKIP_EXPIRED=true"
    ):
        place(committed(), start=start)
    assert place(committed(), start=start, skip=True) == Place(Registered(10, 19, 5, "abc"), start, start - 10)


def test_the_count_of_a_topic():
    check_count("hits", 12, 12)
    with pytest.raises(RetryError, match="is not there yet; the forwarder makes it"):
        check_count("hits", 0, 12)
    with pytest.raises(RetryError, match="has 13 partitions, the setting `partitions` says 12; nothing is read"):
        check_count("hits", 13, 12)


class ScriptedMember:
    """Hands out scripted records; None stands for none now."""

    def __init__(self, *script):
        self.script = list(script)
        self.committed = []

    def take(self, log, records_max):
        offsets = self.script.pop(0) if self.script else None
        if not offsets:
            return Taken([], log.position())
        return Taken([Record(offset, b"", b"x" * 10) for offset in offsets], offsets[-1] + 1)

    def commit(self, log, offset, metadata):
        self.committed.append((offset, metadata))

    def end_of(self, log):
        return 40


def log_of(*script, start=0):
    member = ScriptedMember(*script)
    return member, KafkaPartitionLog(member, "hits", 3, Assignment(1, "me"), Place(None, start), 0)


def offsets(records):
    return [record.offset for record in records]


def test_offset_holes_are_passed_and_the_position_knows_them():
    _, log = log_of([0, 1], [5, 9], None)
    assert offsets(log.fetch(3, 1000)) == [0, 1, 5]
    assert log.position() == 9
    assert log.fetch(10, 1000, last=7) == []
    assert log.position() == 9
    assert offsets(log.fetch(10, 1000)) == [9]
    assert log.position() == 10
    assert log.end() == 40


def test_after_its_assignment_every_call_is_refused():
    member, log = log_of([0, 1])
    log.fetch(1, 10)
    log.end_assignment()
    for call in (lambda: log.fetch(1, 10), lambda: log.register(Registered(0, 1, 2)), log.end):
        with pytest.raises(FencedError):
            call()
    assert member.committed == []


def test_a_log_that_gives_nothing_although_there_is_something_is_stalled():
    _, log = log_of()
    stalls = Stalls()
    assert not stalls.is_stalled(log, 5, now_s=0, limit_s=10)
    assert not stalls.is_stalled(log, 6, now_s=9, limit_s=10)
    assert stalls.is_stalled(log, 6, now_s=10, limit_s=10)


def test_a_log_that_moves_or_is_read_to_its_end_is_not_stalled():
    _, log = log_of([0, 1])
    stalls = Stalls()
    assert not stalls.is_stalled(log, 5, now_s=0, limit_s=10)
    log.fetch(2, 100)
    assert not stalls.is_stalled(log, 5, now_s=11, limit_s=10)
    assert not stalls.is_stalled(log, 2, now_s=12, limit_s=10)
    assert not stalls.is_stalled(log, 3, now_s=30, limit_s=10)
    stalls.forget_others([])
    assert not stalls.is_stalled(log, 3, now_s=60, limit_s=10)


def test_only_a_worker_that_keeps_asking_is_hungry():
    _, log = log_of([0], None)
    assert log.hungry_s(1e9, 1e9) == 0
    log.fetch(1, 100)
    log.fetch(1, 100)
    asked_at_s = log.asked_at_s
    assert log.hungry_s(asked_at_s + 3, asked_within_s=5) == pytest.approx(3)
    assert log.hungry_s(asked_at_s + 6, asked_within_s=5) == 0
