"""A real box: hits of a site that is not defined are rejected; it is defined, they are replayed, and counted once."""

import csv
import io
import json
import urllib.request
from base64 import b64decode

import pytest
from support.box import Box
from support.promise import check_ledger, check_sessions
from typer.testing import CliRunner

from infra.command import rejected as command
from infra.command.errors import UserError
from infra.command.rejected_command import app
from infra.command.rejected_records import wanted
from ingest.forwarder_cursor import spool_root
from ingest.replay import Replay, ReplaySpool
from schemas.settings import load

SHOP = "[sites.shop]\n"
BLOG = "[sites.blog]\n"
HITS = ("s=shop&id=1", "s=blog&id=2", "s=blog&id=3&c=1", "s=blog&id=4&v=wrong", "s=shop&id=5", "s=blog&id=6")


def send(box, query):
    with urllib.request.urlopen(f"http://127.0.0.1:{box.port}/p.gif?{query}", timeout=30) as answer:
        assert answer.status == 200


def rejected(box, *arguments):
    """The command's outcome, in this process: what it printed, its exit code, its exception."""
    return CliRunner().invoke(app, list(arguments), env=box.environment)


def replay(box, *arguments):
    done = rejected(box, "replay", "--format", "json", *arguments)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def ids(box):
    return sorted(int(row["event_id"]) for row in box.query("SELECT event_id FROM events"))


def rows_of(box, table):
    return box.query(f"SELECT * FROM {table} ORDER BY log_partition, log_offset")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """The box before the site is defined, as (its answers to some commands), and after, running."""
    root = tmp_path_factory.mktemp("rejected")
    config = root / "hitstream.toml"
    config.write_text(SHOP)
    box = Box(root / "data", collectors=1, workers=1, partitions=2, batch_age_s_max=0.1)
    box.environment["HITSTREAM_CONFIG"] = str(config)
    with box:
        for query in HITS:
            send(box, query)
        before = {
            "ledger": check_ledger(box),
            "list": rejected(box, "list").stdout,
            "dry": replay(box, "--dry-run"),
            "replay": replay(box),
            "events": rows_of(box, "events"),
            "rejected": rows_of(box, "rejected"),
        }
    config.write_text(SHOP + BLOG)
    with box:
        yield before, box
        assert box.stop() == 0, box.log_tail()
        assert "Traceback" not in box.log_path.read_text()


def test_before_and_after(boxes):
    before, box = boxes
    assert (before["ledger"]["inserted"], before["ledger"]["rejected"]) == (2, 4)
    assert "unknown_site" in before["list"]
    (counted, *_) = [line.split() for line in before["list"].splitlines() if line.strip().startswith("unknown_site")]
    assert counted[1] == "3"
    assert before["dry"]["counts"] == before["replay"]["counts"] == {"rejected": 4}
    assert before["replay"]["spool_id"] == "", "what would be rejected again is not sent again"

    check_ledger(box)
    assert rows_of(box, "events") == before["events"], "a start under new rules loads nothing again"
    assert rows_of(box, "rejected") == before["rejected"]

    dry = replay(box, "--dry-run")
    assert dry["counts"] == {"passes": 3, "rejected": 1}
    assert [one["why"].split(":")[0] for one in dry["records"] if one["now"] == "rejected"] == ["bad_value"]
    assert check_ledger(box)["appended"] == len(HITS), "a dry run writes nothing"

    done = replay(box, "--site", "blog")
    assert done["counts"] == {"replayed": 3, "rejected": 1}
    ledger = check_ledger(box)
    assert (ledger["appended"], ledger["inserted"], ledger["rejected"]) == (len(HITS) + 3, 5, 4)
    assert ids(box) == [1, 2, 3, 5, 6]
    old = {f"{row['spool_id']:016x}:{row['spool_seq']}": row for row in before["rejected"]}
    for row in box.query("SELECT * FROM events WHERE replay_of != ''"):
        was = old[row["replay_of"]]
        assert f"{row['spool_id']:016x}" == done["spool_id"]
        assert (row["received_at"], row["log_partition"]) == (was["received_at"], was["log_partition"])

    again = replay(box)
    assert again["counts"] == {"present": 3, "rejected": 1}
    # Two replays more, at once, as of a command that looked before the first ones had arrived.
    listed = [
        Replay(b64decode(row["raw"]), row["name"])
        for row in box.query(
            "SELECT base64Encode(raw) AS raw, concat(leftPad(lower(hex(spool_id)), 16, '0'), ':', toString(spool_seq))"
            " AS name FROM rejected"
        )
    ]
    spools = [ReplaySpool(spool_root(box.data_dir), bytes_max=1 << 30, collectors=1) for _ in range(2)]
    for spool in spools:
        assert spool.append(listed) == 4
        spool.close()
    ledger = check_ledger(box)
    assert (ledger["appended"], ledger["inserted"], ledger["filtered"]) == (len(HITS) + 11, 5, 6)
    assert ids(box) == [1, 2, 3, 5, 6]
    check_sessions(box)
    forced = replay(box, "--dry-run", "--force")
    assert forced["counts"] == {"present": 5, "rejected": 1}, "of a hit and its rejected replays one is sent"


def test_list_as_json_and_csv(boxes):
    _, box = boxes
    found = json.loads(rejected(box, "list", "--format", "json", "--limit", "3").stdout)
    assert len(found) == 3
    assert set(found[0]) >= {"received_at", "reason", "detail", "site", "name", "topic", "partition", "offset"}
    table = list(csv.DictReader(io.StringIO(rejected(box, "list", "--format", "csv").stdout)))
    assert {row["site"] for row in table} == {"blog"}
    none = rejected(box, "list", "--reason", "bad_json", "--format", "csv").stdout
    assert none.splitlines() == ["received_at,reason,detail,site,name,topic,partition,offset,replay_of,replayed"]
    assert "No rejected records here" in rejected(box, "list", "--since", "2100-01-01").stdout


def test_show_has_everything_and_raw_just_the_bytes(boxes):
    before, box = boxes
    row = next(row for row in before["rejected"] if "id=2" in row["raw"])
    name = f"{row['spool_id']:016x}:{row['spool_seq']}"
    page = rejected(box, "show", name).stdout
    for word in (name, "unknown_site", "site 'blog' is not defined", '"query": "s=blog&id=2"', "partition"):
        assert word in page
    place = f"hits:{row['log_partition']}:{row['log_offset']}"
    assert rejected(box, "show", place, "--raw").stdout == row["raw"]
    missing = rejected(box, "show", "hits:0:999").exception
    assert isinstance(missing, UserError)
    assert "no rejected record is named hits:0:999" in str(missing)


def test_replays_are_chosen_by_name(boxes):
    _, box = boxes
    names = [one["name"] for one in json.loads(rejected(box, "list", "--format", "json").stdout)]
    chosen = replay(box, "--dry-run", "--name", names[0], "--name", names[1])
    assert sorted(one["name"] for one in chosen["records"]) == sorted(names[:2])
    assert "a dry run: nothing was written" in rejected(box, "replay", "--dry-run").stdout


def test_where_no_collector_ran_nothing_is_appended(boxes, tmp_path):
    _, box = boxes
    elsewhere = tmp_path / "elsewhere"
    done = CliRunner().invoke(app, ["replay", "--force"], env=box.environment | {"HITSTREAM_DATA_DIR": str(elsewhere)})
    assert "replay where collectors run" in str(done.exception)
    assert not elsewhere.exists()


def test_wrong_options_are_said(boxes):
    _, box = boxes
    for arguments, words in (
        (("list", "--format", "xml"), "use table, json, csv"),
        (("replay", "--format", "csv"), "use table, json"),
        (("replay", "--reason", "x", "--dry-run"), "use bad_json"),
    ):
        assert words in str(rejected(box, *arguments).exception)


def test_a_replay_stops_at_its_limit_and_when_the_spool_is_full(boxes, monkeypatch):
    """The box is as it was, so what is chosen is taken from a list; spools are in memory."""
    _, box = boxes
    settings = load(data_dir=box.data_dir)
    verdicts = [({"name": str(n), "was": "x", "now": "passes", "why": ""}, Replay(b"", str(n))) for n in range(1200)]
    room = [700]

    class Small:
        id = "0" * 16

        def __init__(self, *_, **__):
            self.closed = False

        def append(self, replays):
            kept = min(len(replays), room[0])
            room[0] -= kept
            return kept

        def close(self):
            self.closed = True

    outcomes = []
    monkeypatch.setattr(command, "ReplaySpool", Small)
    monkeypatch.setattr(command, "_verdicts", lambda *_, **__: iter([(dict(one), hit) for one, hit in verdicts]))
    monkeypatch.setattr(command, "_print_replay", lambda outcome, *_, **__: outcomes.append(outcome))
    options = {"dry_run": False, "force": False, "output_format": "table"}
    assert command.replay(settings, wanted(), limit=600, **options) == 0
    assert (outcomes[0].counts["replayed"], outcomes[0].limit, room) == (600, 600, [100])
    assert command.replay(settings, wanted(), limit=5000, **options) == 1
    assert outcomes[1].counts["replayed"] == 100
    assert outcomes[1].counts["spool full"] == 400
