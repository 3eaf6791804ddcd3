"""The admin port: a process's, a parent's, and who may reach it."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.waiting import until

from infra.admin import ProcessStatus, SocketDirectory, admin_app, host_allowed, serve_admin, serve_in_thread
from infra.fleet import FleetStatus
from infra.metrics_merge import expose, merge
from infra.supervisor import ChildSpec, Supervisor


def exposition(hits, spool_bytes, **extra):
    registry = CollectorRegistry()
    Counter("hitstream_hits", "Hits\nkept \\ so far.", ["kind"], registry=registry).labels('a"b\\c\nd').inc(hits)
    Gauge("hitstream_spool_bytes", "Spool.", registry=registry).set(spool_bytes)
    Histogram("hitstream_answer_seconds", "Answers.", registry=registry, buckets=(0.1, 1)).observe(0.5)
    for name, value in extra.items():
        Gauge(name, "Extra.", registry=registry).set(value)
    return generate_latest(registry).decode()


def test_families_stand_once_and_every_sample_names_its_process():
    text = expose(merge({"collector-0": exposition(1, 5), "collector-1": exposition(2, 7)})).decode()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("# TYPE")] == [
        "# TYPE hitstream_answer_seconds histogram",
        "# TYPE hitstream_hits_total counter",
        "# TYPE hitstream_spool_bytes gauge",
    ]
    assert sum(line.startswith("# HELP") for line in lines) == 3
    assert 'hitstream_hits_total{kind="a\\"b\\\\c\\nd",process="collector-1"} 2.0' in lines
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["process"] for sample in samples} == {"collector-0", "collector-1"}
    assert len({(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples}) == len(samples)


def test_a_family_of_two_types_is_shown_under_one_and_the_conflict_counted():
    other = "# TYPE odd counter\nodd_total 3\n"
    families = {family.name: family for family in merge({"a": "# TYPE odd gauge\nodd 1\n", "b": other})}
    assert [(sample.labels, sample.value) for sample in families["odd"].samples] == [({"process": "a"}, 1.0)]
    assert families["hitstream_metrics_conflicts"].samples[0].value == 1


@pytest.mark.parametrize(
    ("header", "host", "path", "allowed"),
    [
        ("127.0.0.1:9470", "127.0.0.1", "/", True),
        ("localhost:9470", "127.0.0.1", "/metrics", True),
        ("LOCALHOST", "127.0.0.1", "/metrics", True),
        ("[::1]:9470", "127.0.0.1", "/", True),
        ("evil.example:9470", "127.0.0.1", "/metrics", False),
        ("evil.example", "127.0.0.1", "/", False),
        ("127.0.0.1.evil.example", "127.0.0.1", "/metrics", False),
        ("192.168.1.5:9470", "127.0.0.1", "/metrics", False),
        ("", "127.0.0.1", "/metrics", False),
        ("admin.internal:9470", "admin.internal", "/", True),
        ("10.0.0.5:9470", "0.0.0.0", "/", True),
        ("hitstream:9470", "0.0.0.0", "/metrics", True),
        ("hitstream:9470", "0.0.0.0", "/", False),
    ],
)
def test_only_names_of_ours_are_served(header, host, path, allowed):
    assert host_allowed(header, host, path) is allowed


@asynccontextmanager
async def site(status, host="127.0.0.1"):
    runner, port = await serve_admin(admin_app(status, host), host, 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


async def answer(session, path, **headers):
    async with session.get(path, headers=headers) as response:
        return response.status, await response.text()


def test_a_process_says_alive_ready_and_its_metrics():
    registry = CollectorRegistry()
    Gauge("hitstream_depth", "Depth.", registry=registry).set(3)
    reasons, notes = ["the spool is full"], [""]

    async def scene():
        async with site(ProcessStatus("one", registry, lambda: reasons[0], lambda: notes[0])) as session:
            assert await answer(session, "/healthz") == (200, "ok\n")
            full = await answer(session, "/readyz")
            assert full == (503, '{"ready":false,"processes":{"one":"the spool is full"}}\n')
            reasons[0] = ""
            assert await answer(session, "/readyz") == (200, '{"ready":true,"processes":{"one":"ready"}}\n')
            notes[0] = "line 3 is wrong"
            noted = '{"ready":true,"processes":{"one":"ready"},"notes":{"one":"line 3 is wrong"}}\n'
            assert await answer(session, "/readyz") == (200, noted)
            assert "hitstream_depth 3.0" in (await answer(session, "/metrics"))[1]
            assert (await answer(session, "/metrics", Host="evil.example"))[0] == 403
            assert (await answer(session, "/"))[0] == 404

    asyncio.run(scene())


CHILD = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
from infra.admin import ProcessStatus, serve_in_thread
from infra.child import Life
life = Life(int(sys.argv[1]))
registry = CollectorRegistry()
Counter("hitstream_hits", "Hits.", registry=registry).inc(int(sys.argv[4]))
note = f"a note of {sys.argv[2]}"
serve_in_thread(sys.argv[2], ProcessStatus(sys.argv[2], registry, lambda: "", lambda: note), Path(sys.argv[3]))
life.stop.wait(60)
"""


def test_a_parent_shows_its_children_merged_and_restarts_counted(tmp_path):
    directory = tmp_path / ("long" * 40) / "run"  # a unix socket's path must be shorter than this one

    async def ready_again(session, ready):
        async def as_wanted():
            return (await answer(session, "/readyz"))[0] == (200 if ready else 503)

        await until(as_wanted)
        return (await answer(session, "/readyz"))[1]

    async def scene():
        supervisor = Supervisor(os.environ)
        for name, hits in (("collector-0", 5), ("worker-0", 7)):
            arguments = (str(supervisor.alive_fd), name, str(directory), str(hits))
            supervisor.start(ChildSpec(name, (sys.executable, "-c", CHILD, *arguments)))
        fleet = FleetStatus("hitstream <up>", supervisor, directory, lambda name: name.startswith("collector"))
        try:
            async with site(fleet) as session:
                said = await ready_again(session, ready=True)
                assert '"collector-0":"ready"' in said
                assert '"collector-0":"a note of collector-0"' in said
                supervisor.children["collector-0"].process.kill()
                await until(lambda: supervisor.children["collector-0"].restarts)
                await ready_again(session, ready=True)

                async def worker_up():
                    return 'up{process="worker-0"} 1.0' in (await answer(session, "/metrics"))[1]

                await until(worker_up)
                _, metrics = await answer(session, "/metrics")
                assert 'hitstream_hits_total{process="collector-0"} 5.0' in metrics
                assert 'hitstream_hits_total{process="worker-0"} 7.0' in metrics
                assert 'hitstream_process_restarts_total{process="collector-0"} 1.0' in metrics
                assert 'process_resident_memory_bytes{process="parent"}' in metrics
                status, page = await answer(session, "/")
                assert status == 200
                assert "hitstream &lt;up&gt;" in page
                assert "was killed by SIGKILL" in page
                assert "a note of worker-0" in page
                assert '<td class="n">12</tr>' in page  # hits of both processes
                await supervisor.stop(["collector-0"])
                assert '"worker-0":"ready"' in await ready_again(session, ready=False)
        finally:
            supervisor.hurry()
            await supervisor.stop(list(supervisor.children))
            supervisor.close()
            fleet.close()

    asyncio.run(scene())


def test_a_process_without_its_socket_works_on(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.sock").mkdir()
    serve_in_thread("x", ProcessStatus("x", CollectorRegistry(), lambda: ""), tmp_path / "run")
    asyncio.run(until(lambda: "no metrics from x" in caplog.text))


def test_the_run_directory_is_made_and_left_without_stale_sockets(tmp_path):
    sockets = SocketDirectory(tmp_path / "a" / "run")
    (tmp_path / "a" / "run" / "x.sock").write_text("")
    sockets.remove("x")
    sockets.remove("x")
    sockets.close()
    assert list((tmp_path / "a" / "run").iterdir()) == []
