"""One partition as the worker's thread sees it, over a member that the test plays."""

from consumers.log_reader.kafka_partition import Assignment, KafkaPartitionLog, Taken
from consumers.log_reader.kafka_place import Place
from consumers.log_reader.port import Record


class Member:
    """Gives what it is told to, and counts how often it is asked."""

    def __init__(self):
        self.asked = 0
        self.next = Taken([], 0)

    def take(self, log, records_max):
        self.asked += 1
        taken, self.next = self.next, Taken([], self.next.position)
        return taken


def partition():
    member = Member()
    place = Place(start=0, registered=None, expired=0)
    return member, KafkaPartitionLog(member, "hits", 0, Assignment(1, "one"), place, 0)


def taken(*offsets):
    return Taken([Record(offset, b"", b"x") for offset in offsets], offsets[-1] + 1)


def test_after_a_wait_that_brought_nothing_the_member_is_not_asked_the_same_at_once():
    member, log = partition()
    log.note_empty()
    assert log.fetch(10, 100) == []
    assert member.asked == 0
    member.next = taken(0, 1)
    assert [record.offset for record in log.fetch(10, 100)] == [0, 1], "but once only"


def test_what_a_wait_brought_is_fetched_and_more_is_asked_for():
    member, log = partition()
    log.note_empty()
    log.put(taken(0))
    member.next = taken(1)
    assert [record.offset for record in log.fetch(10, 100)] == [0, 1]
    assert log.position() == 2
