"""Image, compose file and Prometheus' files: as far as they can be checked without a Docker engine.

What is read here is what the programs read: the settings and commands of containers go through hitstream itself.
"""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from support.programs import needed
from typer.main import get_command

from infra.admin import host_allowed
from infra.command.box import ADMIN_PORT_OFFSET
from infra.command.health import trouble
from infra.command.main import app
from infra.command.settings_page import rows
from schemas.settings import load

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
OURS = ("collector", "forwarder", "migrate", "worker")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose():
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def instructions():
    """The Dockerfile as (instruction, arguments)."""
    text = re.sub(r"\\\n\s*", "", (INFRA / "Dockerfile").read_text())
    lines = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, arguments.strip()) for name, arguments in lines]


def environment(service):
    """A service's variables with the defaults filled in."""
    given = compose()["services"][service]["environment"]
    return {name: VARIABLE.sub(lambda match: match[2], str(value)) for name, value in given.items()}


def test_the_image_runs_any_command_as_nobody_special():
    lines = instructions()
    stages = [arguments.split() for name, arguments in lines if name == "FROM"]
    assert [stage[0] for stage in stages] == ["python:3.13-slim", "python:3.13-slim"]
    last = dict(lines[max(number for number, line in enumerate(lines) if line[0] == "FROM") :])
    assert json.loads(last["ENTRYPOINT"]) == ["hitstream"]
    assert last["USER"] == "hitstream"
    assert "--uid 10001" in last["RUN"]
    assert (last["STOPSIGNAL"], last["VOLUME"]) == ("SIGTERM", "/data")
    assert "HITSTREAM_DATA_DIR=/data" in last["ENV"]
    assert 'CMD ["python", "-m", "infra.command.health", "healthz"]' in last["HEALTHCHECK"]
    defaults = load()
    ports = [defaults.port, *(defaults.admin_port + offset for offset in sorted(set(ADMIN_PORT_OFFSET.values())))]
    assert last["EXPOSE"].split() == [str(port) for port in ports]


def test_the_image_holds_what_the_package_needs_and_the_context_lets_it_in():
    copied = {part for name, arguments in instructions() if name == "COPY" for part in arguments.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    assert packages | needed | set(project["project"]["license-files"]) <= copied
    assert all((ROOT / name).exists() for name in copied - {"--from=build", "/opt/hitstream"})
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert let_in == copied - {"--from=build", "/opt/hitstream"}


def test_no_registry_is_named_and_every_image_has_a_version():
    images = [service["image"] for service in compose()["services"].values()]
    assert all(re.fullmatch(r"[a-z-]+(/[a-z-]+)?:[A-Za-z0-9.${}:_-]+", image) for image in images)
    assert not any("latest" in image for image in images)


@pytest.mark.parametrize("service", OURS)
def test_a_containers_command_and_variables_are_known_to_hitstream(service, monkeypatch):
    spec = compose()["services"][service]
    assert spec["command"] in get_command(app).commands
    variables = environment(service)
    assert variables.keys() <= {row.variable for row in rows()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    assert settings.clickhouse_url == "http://hitstream:hitstream@clickhouse:8123"
    assert (spec["read_only"], spec["cap_drop"]) == (True, ["ALL"])


def test_services_start_in_order_and_come_back():
    services = compose()["services"]
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert waits["collector"] == {}  # a hit is kept before anything else is there
    assert waits["forwarder"]["kafka"] == {"condition": "service_healthy"}
    assert waits["migrate"]["clickhouse"] == {"condition": "service_healthy"}
    assert waits["worker"]["migrate"] == {"condition": "service_completed_successfully"}
    for name, wanted in waits.items():
        for other, how in wanted.items():
            assert other in services
            healthy = how["condition"] == "service_healthy"
            assert not healthy or services[other]["healthcheck"].get("test"), f"{name} waits for {other}"
    restarts = {name: service["restart"] for name, service in services.items()}
    assert restarts.pop("migrate") == "on-failure"
    assert set(restarts.values()) == {"unless-stopped"}


def test_collector_and_forwarder_share_the_spools_and_volumes_are_declared():
    content = compose()
    services = content["services"]
    assert services["collector"]["volumes"] == services["forwarder"]["volumes"] == ["spool:/data"]
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    files = {name for name in used if name.startswith("./")}
    assert used - files == content["volumes"].keys()
    assert all((INFRA / name).is_dir() for name in files)


def test_only_the_public_port_leaves_this_machine():
    services = compose()["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.pop("collector") == ["${HITSTREAM_PORT:-8080}:8080"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert compose()["networks"]["inside"] == {"internal": True}
    for name in ("kafka", "clickhouse", "forwarder", "worker", "migrate"):
        assert services[name]["networks"] == ["inside"], name


def test_prometheus_asks_every_service_where_its_admin_port_is_and_is_let_in():
    config = yaml.safe_load((INFRA / "prometheus/prometheus.yml").read_text())
    found = {}
    for job in config["scrape_configs"]:
        [target] = job["dns_sd_configs"]
        found[target["names"][0]] = target["port"]
        assert host_allowed(f"10.0.0.7:{target['port']}", "0.0.0.0", "/metrics")
        assert host_allowed(f"{target['names'][0]}:{target['port']}", "0.0.0.0", "/metrics")
    services = compose()["services"]
    port = load().admin_port
    expected = {name: port + ADMIN_PORT_OFFSET[services[name]["command"]] for name in OURS if name != "migrate"}
    assert found == expected


def test_grafana_finds_prometheus_and_the_dashboard():
    [source] = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((INFRA / "grafana/provisioning/dashboards/hitstream.yaml").read_text())["providers"]
    dashboard = json.loads((INFRA / "grafana/dashboards/hitstream.json").read_text())
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    grafana = compose()["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_every_alert_has_a_case_in_which_it_fires():
    content = yaml.safe_load((INFRA / "prometheus/alerts.yml").read_text())
    alerts = {rule["alert"] for group in content["groups"] for rule in group["rules"]}
    cases = yaml.safe_load((INFRA / "prometheus/alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == alerts


@pytest.mark.outside
@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")])
def test_promtool_accepts_the_config_and_the_alerts(arguments):
    command = [needed("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, cwd=INFRA / "prometheus", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.outside
def test_compose_accepts_its_file():
    program = needed("docker-compose", "docker-compose")  # it needs no engine for this
    command = [program, "--file", str(INFRA / "compose.yaml"), "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(compose()["services"])


def test_compose_has_every_service():
    services = compose()["services"]
    assert {"collector", "forwarder", "worker", "migrate", "kafka", "clickhouse", "prometheus", "grafana"} == set(
        services
    )


@pytest.fixture
def admin():
    """An admin port that answers `status[0]`."""
    status = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status[0])
            self.end_headers()
            self.wfile.write(f"{self.path} says no".encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, status
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", ["collect", "forward", "work"])
def test_health_is_asked_at_whichever_admin_port_answers(admin, command):
    port, status = admin
    settings = load(admin_port=port - ADMIN_PORT_OFFSET[command], admin_host="0.0.0.0")
    assert trouble(settings, "healthz") == ""
    status[0] = 503
    assert "503 /readyz says no" in trouble(settings, "readyz")


def test_the_health_check_exits_as_docker_expects(admin):
    port, status = admin

    def run(*arguments):
        command = [sys.executable, "-m", "infra.command.health", *arguments]
        variables = {**os.environ, "HITSTREAM_ADMIN_PORT": str(port), "HITSTREAM_CONFIG": os.devnull}
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)

    assert run().returncode == 0
    status[0] = 503
    failed = run("readyz")
    assert failed.returncode == 1
    assert "503" in failed.stderr
    assert "usage" in run("nonsense").stderr


@pytest.mark.parametrize("name", ["docs/deployment.md", "docs/embedded-clickhouse.md", "infra/prometheus/alerts.yml"])
def test_pages_name_settings_that_are_there(name):
    named = set(re.findall(r"\bHITSTREAM_[A-Z_]*[A-Z]\b", (ROOT / name).read_text()))
    assert named
    assert named - {"HITSTREAM_CONFIG"} <= {row.variable for row in rows()}
