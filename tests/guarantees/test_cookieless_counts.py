"""Visits and a day's visitors are those of cookies: two edges of one seed, midnights, restarts, hits out of order."""

import os
import re
import signal
from collections import defaultdict
from contextlib import AsyncExitStack
from random import Random
from types import SimpleNamespace
from urllib.request import Request, urlopen

import msgspec
import orjson
import pytest
from support.edge import HOST, closing, edge, hits_in, run
from support.parent import Parent
from support.pipeline_run import run as load
from support.waiting import wait_until
from typer.testing import CliRunner

from infra.command.main import app
from ingest import collector, group_commit
from ingest.cookieless import DAY_S, Salt
from ingest.salt_file import SaltFile
from schemas.hit import Hit, partition_of

MIDNIGHT_S = 20_000 * DAY_S
MINUTE_S = 60
VISITORS = 24
PARTITIONS = 3
LAG_S = 20 * MINUTE_S  # one edge's hits of so long reach the log before the other's
COOKIE_IN = re.compile(rb"_hs=([0-9a-f.]+)")
PAUSES_S = (5, 5, 60, 25 * MINUTE_S, 30 * MINUTE_S, 30 * MINUTE_S + 1, 7 * 3600, 26 * 3600)
COOKIELESS = "[sites.salted]\nidentity = 'cookieless'\n"
SITES = {"jar": {}, "salted": {"identity": "cookieless"}}


def traffic(random):
    """(time in s, visitor) of hits over about three days, many of them around the midnights."""
    found = []
    for visitor in range(VISITORS):
        now = MIDNIGHT_S - random.choice((1, 40 * MINUTE_S, 3 * 3600))
        for _ in range(12):
            found.append((now, visitor))
            now += random.choice(PAUSES_S)
            if random.random() < 0.2:
                now += max(DAY_S - now % DAY_S - random.choice((10 * MINUTE_S, 5)), 0)
    return sorted(found)


def requests(number, visitor, cookie):
    """The same hit for both sites; pairs of address and agent are distinct, neither of both alone is."""
    lines = [b"X-Forwarded-For: 192.0.2.%d" % (visitor % 6), b"User-Agent: Agent/%d" % (visitor // 6)]
    jar = [b"Cookie: _hs=" + cookie] if cookie else []
    return b"".join(
        b"GET /p.gif?s=%b&id=%d HTTP/1.1\r\n%b%b\r\n\r\n" % (site, number, HOST, b"\r\n".join(own))
        for site, own in ((b"jar", lines + jar), (b"salted", lines))
    )


def test_visits_and_a_days_visitors_equal_those_of_cookies(tmp_path, monkeypatch):
    clock = SimpleNamespace(time=lambda: clock.now_s, now_s=MIDNIGHT_S - DAY_S)
    for module in (group_commit, collector):
        monkeypatch.setattr(module, "time", clock)
    random = Random(7)
    hits = traffic(random)
    dirs = (tmp_path / "one", tmp_path / "two")
    seed = Salt(MIDNIGHT_S // DAY_S - 40, random.randbytes(32))
    for data_dir in dirs:
        SaltFile(data_dir).put(seed, force=False)
    restarts = [0, len(hits) // 3, next(place for place, (at, _) in enumerate(hits) if at >= MIDNIGHT_S), len(hits)]

    async def main():
        jars = {}
        for first, last in zip(sorted(restarts), sorted(restarts)[1:], strict=False):
            async with AsyncExitStack() as stack:
                how = {"sites": SITES, "trusted_proxies": "127.0.0.0/8"}
                clock.now_s = hits[first][0]
                edges = [await stack.enter_async_context(edge(data_dir, **how)) for data_dir in dirs]
                for number in range(first, last):
                    clock.now_s, visitor = hits[number]
                    sent = requests(number, visitor, jars.get(visitor))
                    with_jar, without = await random.choice(edges).exchange(closing_last(sent))
                    assert b"set-cookie" not in without.headers
                    if b"set-cookie" in with_jar.headers:
                        jars[visitor] = COOKIE_IN.search(with_jar.headers[b"set-cookie"])[1]

    run(main)
    with_jar, without = (sessions_of(dirs, site) for site in SITES)
    assert len(with_jar) == len(without) == len(hits)
    assert visits(without) == visits(with_jar)
    assert sum(len(visit) > 1 and crosses_midnight(hits, visit) for visit in visits(without)) > 5
    assert visitors_by_day(without) == visitors_by_day(with_jar)
    assert SaltFile(dirs[0]).read() == SaltFile(dirs[1]).read().of(SaltFile(dirs[0]).read().day)


def closing_last(both):
    first, end, last = both.partition(b"\r\n\r\n")
    return first + end + closing(last)


def sessions_of(dirs, site):
    """The rows of a site's hits, as a worker makes them of a log that the edges' hits reached stretch by stretch."""
    log = defaultdict(list)
    for place, data_dir in enumerate(dirs):
        for hit in hits_in(data_dir / "spool"):
            if f"s={site}&" in hit["query"]:
                log[(hit["received_at"] // 1000 + LAG_S // 2) // LAG_S, place].append(hit)
    in_order = [hit for stretch in sorted(log) for hit in sorted(log[stretch], key=lambda hit: hit["received_at"])]
    rows = []
    for partition in range(PARTITIONS):
        values = [orjson.dumps(hit) for hit in in_order if partition_of(hit["key"].encode(), PARTITIONS) == partition]
        rows += load(values, range(0, len(values), 40), restarts=True).clickhouse.rows("events")
    return rows


def visits(rows):
    found = defaultdict(set)
    for row in rows:
        found[row["session_id"]].add(int(row["event_id"]))
    return {frozenset(visit) for visit in found.values()}


def crosses_midnight(hits, visit):
    return len({hits[number][0] // DAY_S for number in visit}) > 1


def visitors_by_day(rows):
    seen = {(row["session_start"] // 1000 // DAY_S, row["visitor_id"]) for row in rows}
    return {day: len([visitor for one, visitor in seen if one == day]) for day, _ in seen}


@pytest.mark.timeout(120)
def test_two_real_edges_of_one_exported_seed_agree_also_after_a_kill(tmp_path):
    """The second becomes cookieless, and gets the salt, while it runs."""
    files = [tmp_path / "one.toml", tmp_path / "two.toml"]
    files[0].write_text(COOKIELESS)
    files[1].write_text("[sites.salted]\n")
    edges = [
        Parent("collect", tmp_path / file.stem, config=file, port=0, admin_port=0, collectors=collectors)
        for file, collectors in zip(files, (2, 1), strict=True)
    ]
    salt(edges[0], "init")
    with edges[0], edges[1]:
        for one in edges:
            wait_until(lambda one=one: "public" in one.ports(), 60, one.log_tail)
        assert sets_cookie(edges[1])
        files[1].write_text(COOKIELESS)
        wait_until(lambda: "cannot be taken up yet" in edges[1].log_tail(), 60, edges[1].log_tail)
        assert sets_cookie(edges[1])
        salt(edges[1], "import", given=salt(edges[0], "export"))
        wait_until(lambda: not sets_cookie(edges[1]), 60, edges[1].log_tail)
        for one in edges:
            assert not any(sets_cookie(one) for _ in range(8)), "the kernel deals connections to all collectors"
            for pid in one.children("collector"):
                os.kill(pid, signal.SIGKILL)
            assert not sets_cookie(one)
    hits = [msgspec.convert(hit, Hit) for one in edges for hit in hits_in(one.data_dir / "spool")]
    hits = [hit for hit in hits if not hit.new_visitor]
    assert len(hits) == 9 + 10
    names = defaultdict(set)
    for hit in hits:
        names[hit.received_at // 1000 // DAY_S].add((hit.key, hit.visitor_id, hit.visitor_before, hit.visitor_after))
    assert [len(of_day) for of_day in names.values()] == [1] * len(names), "two days, should midnight pass"


def salt(edge_host, *arguments, given=""):
    done = CliRunner().invoke(app, ["salt", *arguments], input=given, env=edge_host.environment)
    assert done.exception is None, done.output
    return done.stdout


def sets_cookie(edge_host):
    url = f"http://127.0.0.1:{edge_host.ports()['public']}/p.gif?s=salted"
    with urlopen(Request(url, headers={"User-Agent": "Agent/1"}), timeout=30) as answer:
        return "Set-Cookie" in answer.headers
