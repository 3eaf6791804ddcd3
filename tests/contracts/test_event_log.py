"""What every adapter of the event log keeps: the promises of LogWriter, LogReader and PartitionLog, word by word."""

import time

import pytest
from support.log_adapters import ADAPTERS, PARTITIONS

from consumers.log_reader.port import FencedError, Record, Registered
from schemas.hit import PREFIX


@pytest.fixture(params=ADAPTERS)
def log(request, tmp_path):
    adapter_of = ADAPTERS[request.param]
    adapter = adapter_of(tmp_path, *(request.getfixturevalue(name) for name in adapter_of.needs))
    yield adapter
    adapter.close()


def hit(serial, size=0, key=b"00000000000000aa"):
    return PREFIX + key + b'","v":1,"serial":%d,"pad":"' % serial + b"x" * size + b'"}'


def hits(first, behind, size=0):
    return [hit(serial, size) for serial in range(first, behind)]


def partition_log(reader, partition=0):
    return next(log for log in reader.assigned() if log.partition == partition)


def read_all(partition, records_max=1000, bytes_max=1 << 20, last=None):
    records = []
    end = partition.end() if last is None else last + 1
    while partition.position() < end:
        records += partition.fetch(records_max, bytes_max, last)
    return records


def values(records):
    return [record.value for record in records]


def places(records):
    return [(record.offset, record.key, record.value) for record in records]


def test_the_partition_count_is_the_logs(log):
    log.append({0: [hit(0)]})
    assert log.writer is not None
    assert log._open[0].partitions == PARTITIONS


def test_records_come_in_the_order_in_which_they_were_appended(log):
    log.append({1: hits(0, 5), 3: hits(5, 8)})
    log.append({3: hits(8, 10), 1: hits(10, 12)})
    reader = log.reader()
    assert values(read_all(partition_log(reader, 1))) == [*hits(0, 5), *hits(10, 12)]
    assert values(read_all(partition_log(reader, 3))) == hits(5, 10)
    assert read_all(partition_log(reader, 0)) == []


def test_offsets_rise_and_records_carry_their_key(log):
    log.append({2: [hit(0, key=b"%016x" % 77), hit(1), b"no hit at all", b"{}"]})
    partition = partition_log(log.reader(), 2)
    records = read_all(partition)
    assert [record.key for record in records] == [b"000000000000004d", b"00000000000000aa", b"", b""]
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    assert isinstance(records[0], Record)
    assert (partition.topic, partition.partition) == (log.topic, 2)


def test_an_append_of_nothing_changes_nothing(log):
    log.append({})
    log.append({0: [], 1: [hit(0)]})
    reader = log.reader()
    assert read_all(partition_log(reader, 0)) == []
    assert values(read_all(partition_log(reader, 1))) == [hit(0)]


def test_what_is_appended_later_is_seen_by_a_reader_that_has_read_all(log):
    log.append({0: hits(0, 2)})
    partition = partition_log(log.reader())
    assert len(read_all(partition)) == 2
    assert partition.fetch(10, 1000) == []
    log.append({0: hits(2, 4)})
    assert values(read_all(partition)) == hits(2, 4)


def test_large_and_many_records_go_through(log):
    run = [hit(serial, size) for serial, size in enumerate([0, 200_000, 10, 70_000, *[100] * 500])]
    log.append({0: run[:3]})
    log.append({0: run[3:]})
    assert values(read_all(partition_log(log.reader()), bytes_max=1000)) == run


def test_fetch_keeps_to_its_limits_but_returns_one_record_at_least(log):
    log.append({0: hits(0, 10, size=100)})
    partition = partition_log(log.reader())
    size = len(hit(0, 100))
    assert values(partition.fetch(3, 1 << 20)) == hits(0, 3, 100)
    assert values(partition.fetch(100, 2 * size)) == hits(3, 5, 100)
    assert values(partition.fetch(100, 2 * size - 1)) == hits(5, 6, 100)
    assert values(partition.fetch(100, 1)) == hits(6, 7, 100)
    assert values(partition.fetch(1, 1)) == hits(7, 8, 100)
    assert values(partition.fetch(100, 1 << 20)) == hits(8, 10, 100)


def test_fetch_stops_at_last_and_goes_on_behind_it(log):
    log.append({0: hits(0, 6)})
    reader = log.reader()
    offsets = [record.offset for record in read_all(partition_log(reader))]
    partition = partition_log(log.take_over(reader))
    assert [record.offset for record in read_all(partition, last=offsets[2])] == offsets[:3]
    assert partition.fetch(100, 1 << 20, offsets[2]) == []
    assert partition.position() <= offsets[3]
    assert [record.offset for record in read_all(partition)] == offsets[3:]


def test_position_and_end_meet_when_all_is_read(log):
    log.append({0: hits(0, 7)})
    partition = partition_log(log.reader())
    start = partition.position()
    first = partition.fetch(3, 1 << 20)
    assert start <= first[0].offset
    assert first[-1].offset < partition.position() < partition.end()
    rest = read_all(partition)
    assert partition.position() == partition.end() == rest[-1].offset + 1
    log.append({0: hits(7, 9)})
    assert partition.end() - partition.position() == 2


def test_a_fresh_partition_has_nothing_registered(log):
    log.append({0: [hit(0)]})
    assert partition_log(log.reader()).registered is None


def test_what_is_registered_is_found_by_the_next_owner_who_starts_at_its_first_record(log):
    log.append({0: hits(0, 10)})
    reader = log.reader()
    partition = partition_log(reader)
    offsets = [record.offset for record in read_all(partition)]
    partition.register(Registered(offsets[0], offsets[3], 1_700_000_000_000))
    second = Registered(offsets[4], offsets[6], 1_700_000_000_001, "0f0f")
    partition.register(second)
    assert partition.registered == second
    assert partition.position() == offsets[-1] + 1
    heir = partition_log(log.take_over(reader))
    assert heir.registered == second
    assert heir.position() <= offsets[4]
    assert values(read_all(heir, last=heir.registered.last)) == hits(4, 7)
    assert values(read_all(heir)) == hits(7, 10)


def test_the_registered_batch_is_read_again_as_often_as_it_takes(log):
    log.append({0: hits(0, 600, size=300)})  # several segments, so that a wrong deletion would show
    reader = log.reader()
    partition = partition_log(reader)
    records = read_all(partition)
    partition.register(Registered(records[450].offset, records[550].offset, 5))
    for _ in range(3):
        reader = log.take_over(reader)
        partition = partition_log(reader)
        again = read_all(partition, records_max=37, last=partition.registered.last)
        assert places(again) == places(records[450:551])


def test_a_registration_after_the_assignment_has_ended_is_refused_and_leaves_no_trace(log):
    log.append({0: hits(0, 6)})
    first = log.reader()
    zombie = partition_log(first)
    offsets = [record.offset for record in read_all(zombie)]
    zombie.register(Registered(offsets[0], offsets[1], 1))
    second = log.take_over(first)
    heir = partition_log(second)
    with pytest.raises(FencedError):
        zombie.register(Registered(offsets[2], offsets[5], 2))
    assert heir.registered == Registered(offsets[0], offsets[1], 1)
    heir.register(Registered(offsets[2], offsets[3], 3))
    with pytest.raises(FencedError):
        zombie.register(Registered(offsets[2], offsets[5], 4))
    assert partition_log(log.take_over(second)).registered == Registered(offsets[2], offsets[3], 3)


def test_the_zombies_of_closed_readers_are_refused_too(log):
    log.append({0: hits(0, 2)})
    reader = log.reader()
    partition = partition_log(reader)
    offset = read_all(partition)[0].offset
    assert not partition.over
    reader.close()
    assert partition.over
    with pytest.raises(FencedError):
        partition.register(Registered(offset, offset, 1))
    assert partition_log(log.reader()).registered is None


def test_an_assignment_keeps_its_objects_while_it_lasts(log):
    log.append({0: hits(0, 2)})
    reader = log.reader()
    before = list(reader.assigned())
    log.append({1: hits(2, 4)})
    after = list(reader.assigned())
    assert [id(partition) for partition in before] == [id(partition) for partition in after]


def test_workers_share_the_partitions_without_overlap(log):
    log.append({0: [hit(0)]})
    readers = [log.reader(worker, 3) for worker in range(3)]
    shares = [[partition.partition for partition in reader.assigned()] for reader in readers]
    assert sorted(number for share in shares for number in share) == list(range(PARTITIONS))
    assert all(shares)


def test_another_number_of_workers_finds_what_was_registered(log):
    log.append({number: hits(0, 4) for number in range(PARTITIONS)})
    readers = [log.reader(worker, 2) for worker in range(2)]
    for reader in readers:
        for partition in reader.assigned():
            offsets = [record.offset for record in read_all(partition)]
            partition.register(Registered(offsets[2], offsets[3], partition.partition))
    for reader in readers:
        reader.close()
    alone = log.reader()
    assert sorted(partition.partition for partition in alone.assigned()) == list(range(PARTITIONS))
    for partition in alone.assigned():
        assert partition.registered.at_ms == partition.partition
        assert values(read_all(partition)) == hits(2, 4)


def test_a_new_writer_goes_on_above_all_former_offsets(log):
    log.append({0: hits(0, 3), 1: hits(0, 1)})
    partition = partition_log(log.reader())
    before = read_all(partition)
    log.restart_writer()
    log.append({0: hits(3, 5)})
    after = read_all(partition)
    assert values(after) == hits(3, 5)
    assert after[0].offset > before[-1].offset


def test_wait_comes_back_when_there_is_something_and_at_its_timeout(log):
    log.append({0: [hit(0)]})
    reader = log.reader()
    partition = partition_log(reader)
    started_s = time.monotonic()
    reader.wait(30.0)
    assert time.monotonic() - started_s < 10
    assert read_all(partition)
    started_s = time.monotonic()
    reader.wait(0.05)
    assert time.monotonic() - started_s < 10
