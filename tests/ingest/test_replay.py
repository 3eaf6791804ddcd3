"""A replay is the hit as it was, under a new name; what is counted as kept is in a spool that the forwarder drains."""

import json
from pathlib import Path

import jsonschema
import pytest
from support.simulated_hits import hit

from infra.journal.reader import JournalReader
from ingest import spool
from ingest.replay import Replay, ReplaySpool, renamed
from schemas.hit import KEY_END, KEY_START, PREFIX, name_text

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "hit.schema.json").read_text())
OLD = name_text(9, 4)
MIB = 1024 * 1024


def test_all_but_the_name_stays():
    old = hit(4, spool=9, visitor=7, params={"v": "1"}, user_agent='a "b" é', ip="1.2.3.0", new_visitor=True)
    made = renamed(Replay(old, OLD), "00000000000000aa", 3)
    before, after = json.loads(old), json.loads(made)
    jsonschema.validate(after, SCHEMA)
    new = {"spool_id": "00000000000000aa", "spool_seq": 3, "replay_of": OLD}
    assert after == before | new


def test_the_log_key_stands_where_the_forwarder_looks_and_is_kept():
    old = hit(4, spool=9, visitor=0, key="00000000deadbeef")
    moved = b'{ "v":1,' + old.replace(b'"v":1,', b"")[1:]
    for given in (old, moved):
        made = renamed(Replay(given, OLD), "00000000000000aa", 3)
        assert made.startswith(PREFIX)
        assert made[KEY_START:KEY_END] == b"00000000deadbeef"


def test_what_this_release_does_not_know_stays_as_it_was_written():
    old = hit(4, spool=9, event={"v": 1})[:-1] + b',"later":{"n":1.10,"big":123456789012345678901234567890}}'
    made = renamed(Replay(old, OLD), "00000000000000aa", 3)
    assert b'"later":{"n":1.10,"big":123456789012345678901234567890}' in made


def test_the_replay_of_a_replay_has_one_origin():
    old = hit(4, spool=8, replay_of=name_text(7, 7))
    made = renamed(Replay(old, OLD), "00000000000000aa", 3)
    assert json.loads(made)["replay_of"] == OLD
    assert made.count(b"replay_of") == 1


def payloads(directory):
    reader = JournalReader(directory)
    found = []
    while chunk := reader.read(MIB):
        found += chunk.payloads
    reader.close()
    return found


def names(directory):
    read = [json.loads(payload) for payload in payloads(directory)]
    return [(one["spool_id"], one["spool_seq"], one["replay_of"]) for one in read]


def many(count, size=10):
    return [Replay(hit(seq, spool=9, user_agent="x" * size), name_text(9, seq)) for seq in range(count)]


@pytest.mark.parametrize(("count", "size"), [(5, 10), (40, 90_000), (3, 1_500_000)])
def test_replays_are_appended_in_order_over_segments(tmp_path, count, size):
    replays = ReplaySpool(tmp_path, bytes_max=64 * MIB, collectors=1)
    assert replays.append(many(count, size)) == count
    assert replays.append(many(1)) == 1
    replays.close()
    expected = [(replays.id, seq, name_text(9, seq)) for seq in range(count)] + [(replays.id, count, name_text(9, 0))]
    assert names(tmp_path / replays.id) == expected


def test_a_full_spool_keeps_the_first_and_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SEGMENT_BYTES_MIN", 4096)
    replays = ReplaySpool(tmp_path, bytes_max=16 * 1024, collectors=1)
    kept = replays.append(many(100, 500))
    assert 0 < kept < 100
    assert replays.append(many(100, 5000)) == 0
    replays.close()
    assert names(tmp_path / replays.id) == [(replays.id, seq, name_text(9, seq)) for seq in range(kept)]
