"""A real box and, where it is installed, a real Prometheus: every name that alerts and dashboard use is there."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.box import Box, free_ports
from support.programs import needed

from consumers.enrich.caches import CACHES

INFRA = Path(__file__).parents[2] / "infra"
NAME = re.compile(r"\b(?:hitstream|process)_[a-z0-9_]+\b")
HITS = 200
LABELS = {
    *("process", "status", "reason", "verdict", "call", "cache", "name", "le"),  # closed sets
    *("implementation", "major", "minor", "patchlevel", "version", "generation"),  # prometheus_client's own
}


def eventually(answer, timeout_s=20.0):
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (found := answer()):
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.1)
    return found


def expressions():
    rules = yaml.safe_load((INFRA / "prometheus/alerts.yml").read_text())
    dashboard = json.loads((INFRA / "grafana/dashboards/hitstream.json").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return alerts, [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    with Box(tmp_path_factory.mktemp("metrics") / "data", collectors=1, workers=1) as running:
        for number in range(HITS):
            query = urlencode({"s": "shop", "u": f"https://shop.example/{number % 7}"})
            with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/p.gif?{query}", timeout=10) as answer:
                assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/p.gif?s=bad%20site", timeout=10):
            pass
        running.wait_drained()
        yield running


def scrape(box):
    with urllib.request.urlopen(f"http://127.0.0.1:{box.admin_port}/metrics", timeout=10) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def value(families, name, **labels):
    samples = [sample for family in families.values() for sample in family.samples if sample.name == name]
    assert samples, name
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_a_box_says_what_its_worker_and_its_clickhouse_do(box):
    assert value(scrape(box), "hitstream_worker_inserted_total") == HITS
    eventually(lambda: value(scrape(box), "hitstream_worker_lag_records") == 0)
    families = scrape(box)
    assert value(families, "hitstream_worker_partitions") == 12
    assert value(families, "hitstream_worker_batch_age_seconds") == 0
    assert value(families, "hitstream_worker_rejected_total") == 1
    inserts = value(families, "hitstream_worker_clickhouse_seconds_count", call="insert")
    assert inserts >= 2  # events and batches
    assert value(families, "hitstream_worker_clickhouse_seconds_bucket", call="insert", le="+Inf") == inserts
    assert 0 < value(families, "hitstream_worker_clickhouse_seconds_sum", call="insert") < 60
    assert value(families, "hitstream_clickhouse_inserts_total") >= inserts
    assert value(families, "hitstream_clickhouse_queries_total") > 0
    assert value(families, "hitstream_worker_cache_hits_total", cache="agent") > HITS / 2
    assert value(families, "hitstream_worker_cache_entries", cache="page") >= 7
    for figure in ("hits_total", "misses_total", "entries", "entries_max"):
        samples = [one for family in families.values() for one in family.samples]
        labels = {one.labels["cache"] for one in samples if one.name == f"hitstream_worker_cache_{figure}"}
        assert labels == set(CACHES), figure


def test_every_name_in_alerts_and_dashboard_is_exposed_and_labels_are_closed_sets(box):
    families = scrape(box)
    exposed = {sample.name for family in families.values() for sample in family.samples}
    exposed |= {name + "_total" for name, family in families.items() if family.type == "counter"}
    alerts, panels = expressions()
    page = (INFRA.parent / "docs/deployment.md").read_text()
    used = {name for text in (*alerts, *panels, page) for name in NAME.findall(text)}
    used.discard("hitstream_worker_clickhouse_seconds")  # a histogram: its samples are _bucket, _sum, _count
    assert used - exposed == set()
    assert len(used) > 25
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels <= LABELS


@pytest.mark.outside
def test_prometheus_scrapes_a_box_and_takes_every_expression(box, tmp_path):
    program = needed("prometheus", "prometheus")
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(INFRA / "prometheus/alerts.yml")],
        "scrape_configs": [
            {"job_name": "hitstream-up", "static_configs": [{"targets": [f"127.0.0.1:{box.admin_port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    command = [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)

    def ask(path, **parameters):
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:  # it is starting
                    return {"result": [], "groups": []}
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        except OSError:
            assert process.poll() is None, (tmp_path / "log").read_text()
            return {"result": [], "groups": []}

    try:
        hits = "sum(hitstream_collector_hits_total) > 0"
        eventually(lambda: ask("query", query=hits)["result"])
        assert float(ask("query", query=hits)["result"][0]["value"][1]) == HITS + 1
        alerts, panels = expressions()
        for expression in (*alerts, *panels):
            ask("query", query=expression.replace("$__rate_interval", "5m"))

        def evaluated():
            rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
            return len(rules) == len(alerts) and all(rule["health"] == "ok" for rule in rules) and rules

        assert {rule["state"] for rule in eventually(evaluated)} == {"inactive"}
    finally:
        process.terminate()
        process.wait(20)
