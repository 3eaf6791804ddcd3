"""One real box, as a user runs it: up, a hit, SQL, reports, ledger, status, the end."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.box import Box

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
HITS = 5


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    with Box(tmp_path_factory.mktemp("whole") / "data", collectors=1, workers=1, batch_age_s_max=0.1) as running:
        for number in range(HITS):
            url = f"http://127.0.0.1:{running.port}/p.gif?s=shop&u=https://shop.example/{number}"
            with urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": AGENT}), timeout=30) as got:
                assert got.status == 200
        running.wait_drained()
        yield running
        assert running.stop() == 0, running.log_tail()
        assert "Traceback" not in running.log_path.read_text()


def admin(box, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{box.admin_port}{path}", timeout=30) as answer:
        return answer.read().decode()


def test_sql_prints_a_format(box):
    rows = box.command("sql", "SELECT url_path FROM events ORDER BY url_path", "--format", "TSV").split()
    assert rows == [f"/{number}" for number in range(HITS)]
    assert box.command("sql", "SELECT 1 AS one FORMAT JSONEachRow") == '{"one":1}\n'
    assert "│ 1 │" in box.command("sql", "SELECT 1").replace("\x1b[0m", "")


def test_the_ledger_balances(box):
    ledger = json.loads(box.command("ledger", "--format", "json", "--by", "spool"))
    assert (ledger["appended"], ledger["inserted"], ledger["in_flight"], ledger["balance"]) == (HITS, HITS, 0, 0)
    (spool,) = [one for one in ledger["spools"] if one["appended"]]
    assert spool["inserted"] == HITS
    assert "balanced: every appended hit is accounted for" in box.command("ledger", "--by", "spool")


def test_reports_print(box):
    (row,) = json.loads(box.command("report", "traffic", "--by", "site", "--format", "json"))
    assert (row["site"], row["events"]) == ("shop", HITS)
    steps = box.command("report", "funnel", "PageView", "Purchase", "--format", "csv").splitlines()
    assert steps[1:] == ["1,PageView,5,1.0,1.0", "2,Purchase,0,0.0,0.0"]


def test_migrations_are_done_once(box):
    assert "up to date" in box.command("migrate")


def test_the_status_is_the_whole_boxs(box):
    ready = json.loads(admin(box, "/readyz"))
    assert ready["ready"]
    assert {"collector-0", "forwarder", "worker-0", "clickhouse", "migrate"} == set(ready["processes"])
    samples = {
        (sample.name, sample.labels.get("process")): sample.value
        for family in text_string_to_metric_families(admin(box, "/metrics"))
        for sample in family.samples
        if set(sample.labels) <= {"process"}
    }
    assert samples["hitstream_collector_hits_total", "collector-0"] == HITS
    assert samples["hitstream_forwarder_hits_total", "forwarder"] == HITS
    assert samples["hitstream_worker_inserted_total", "worker-0"] == HITS
    assert samples["hitstream_process_up", "clickhouse"] == 1
    assert ("process_resident_memory_bytes", "collector-0") in samples
    assert "worker-0" in admin(box, "/")


def test_a_ledger_that_does_not_balance_ends_with_1(box):
    box.command(
        "sql",
        "INSERT INTO batches (topic, log_partition, batch_first, batch_last, spool_id, inserted, received_at) "
        "SELECT 'hits', log_partition, batch_first, batch_last, 7, 1, now64(3) FROM batches LIMIT 1;",
    )
    program = str(Path(sys.executable).with_name("hitstream"))
    done = subprocess.run(
        [program, "ledger"], env=box.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "NOT balanced: 1 hits more than were appended" in done.stdout
    box.command("sql", "DELETE FROM batches WHERE spool_id = 7")
    assert json.loads(box.command("ledger", "--format", "json"))["balance"] == 0
