"""Requests of cookieless sites: no cookie is set or read, and the hit names its visitor by the daily salt."""

import re
import socket

import msgspec
import pytest
from support.edge import HOST, PIXEL, closing, edge, post, run

from ingest.cookieless import DAY_S, Salt
from ingest.salt_file import SaltError, SaltFile
from schemas.hit import Hit
from schemas.settings import load

DAY = 20_000
MIDNIGHT_S = (DAY + 1) * DAY_S
AGENT = b'User-Agent: Mozilla/5.0 ("odd") Firefox/130\r\n'
COOKIE = b"Cookie: _hs=00000000000000ab.%d\r\n" % (MIDNIGHT_S - 3600)
SITES = {
    "shop": {"identity": "cookieless", "redirect_hosts": ["shop.example", "shop.test"], "link_key": "k" * 40}
    | {"domains": ["shop.example", "shop.test"]},
    "blog": {},
}


class Clock:
    """The time that collectors see."""

    def __init__(self, monkeypatch):
        self.now_s = MIDNIGHT_S - 1.0
        monkeypatch.setattr("time.time", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def pixel(*lines, query=b"s=shop"):
    return b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n"


def answered(tmp_path, *requests, sites=SITES, **overrides):
    """Send requests to a collector, one connection each; return the answers and the hits."""
    file = SaltFile(tmp_path)
    if not file.path.exists():
        file.put(Salt(DAY - 1, bytes(range(32))), force=False)

    async def main():
        async with edge(tmp_path, sites=sites, **overrides) as running:
            answers = []
            for request in requests:
                if callable(request):
                    request()
                else:
                    answers += await running.exchange(closing(request))
            return answers, running.hits()

    answers, hits = run(main)
    return answers, [msgspec.convert(hit, Hit) for hit in hits]


QUERIES = [b"s=shop", b"s=shop&v=1", b"e=Search&s=shop", b"s=&s=shop", b"s=sh%6Fp", b"%73=shop", b"s=shop&v=no+number"]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("query", QUERIES)
def test_a_pixel_sets_no_cookie_and_reads_none(tmp_path, clock, query, fast):
    odd = b"" if fast else b"Keep-Alive: 5\r\n"  # the strict reader's business
    answers, hits = answered(tmp_path, *(pixel(AGENT, odd, cookie, query=query) for cookie in (b"", COOKIE)))
    assert [b"set-cookie" in answer.headers for answer in answers] == [False, False]
    assert len({(hit.key, hit.visitor_id, hit.visitor_before, hit.visitor_after) for hit in hits}) == 1
    assert len({hits[0].visitor_id, hits[0].visitor_before, hits[0].visitor_after, hits[0].key}) == 4
    assert int(hits[0].key, 16) < 1024
    assert not any(hit.new_visitor for hit in hits)


@pytest.mark.parametrize("query", [b"s=blog", b"s=blog&s=shop", b"", b"x=s=shop"])
def test_other_sites_have_their_cookie(tmp_path, clock, query):
    answers, (hit,) = answered(tmp_path, pixel(AGENT, query=query))
    assert b"set-cookie" in answers[0].headers
    assert (hit.key, hit.visitor_before, hit.visitor_after) == (hit.visitor_id, "", "")


def test_every_way_to_the_collector_gives_one_visitor_one_name(tmp_path, clock):
    requests = [
        pixel(AGENT),
        pixel(b"Keep-Alive: 5\r\n", AGENT),
        pixel(b"Accept-Language: de\r\n", AGENT, query=b"u=https%3A%2F%2Fshop.example%2F%3Fhsl%3D1&s=shop"),
        post(b'{"s":"shop"}', AGENT.strip(), b"Origin: https://shop.example"),
        b"GET /c?s=shop&u=https://shop.test/ HTTP/1.1\r\n" + HOST + AGENT + b"\r\n",
    ]
    answers, hits = answered(tmp_path, *requests)
    assert [answer.status for answer in answers] == [200, 200, 200, 204, 302]
    assert not any(b"set-cookie" in answer.headers for answer in answers)
    assert b"hsl=" not in answers[-1].headers[b"location"]
    assert b"hsclid=" in answers[-1].headers[b"location"]
    assert len(hits) == 5
    assert len({(hit.key, hit.visitor_id, hit.visitor_before, hit.visitor_after) for hit in hits}) == 1


def test_a_post_for_sites_of_both_kinds_sets_the_cookie_for_the_one(tmp_path, clock):
    mixed = post(b'[{"s":"shop"},{"s":"blog"},{"s":"shop"},{"s":7}]', AGENT.strip())
    answers, hits = answered(tmp_path, mixed, post(b'[{"s":"shop"},{"s":"shop"}]', AGENT.strip()))
    assert [b"set-cookie" in answer.headers for answer in answers] == [True, False]
    with_cookie = [not hit.visitor_before for hit in hits]
    assert with_cookie == [False, True, False, True, False, False]
    assert re.search(rb"_hs=([0-9a-f]{16})", answers[0].headers[b"set-cookie"])[1].decode() == hits[1].visitor_id
    assert [hit.spool_seq for hit in hits] == list(range(6))


def test_behind_a_proxy_the_clients_address_counts_whole_and_the_key_is_of_what_is_kept(tmp_path, clock):
    forwarded = [b"X-Forwarded-For: 192.0.2.%d\r\n" % number for number in (7, 8, 7)]
    _, hits = answered(tmp_path, *(pixel(AGENT, line) for line in forwarded), trusted_proxies="127.0.0.0/8")
    assert {hit.ip for hit in hits} == {"192.0.2.0"}
    assert len({hit.key for hit in hits}) == 1
    assert hits[0].visitor_id == hits[2].visitor_id != hits[1].visitor_id


@pytest.mark.parametrize("line", [b"Cookie: _hs_out=1\r\n", b"Sec-GPC: 1\r\n"])
def test_a_no_is_a_no_without_a_cookie_too(tmp_path, clock, line):
    ways = [
        pixel(AGENT, line),
        post(b'[{"s":"shop"},{"s":"blog"}]', AGENT.strip(), line.strip()),
        b"GET /c?s=shop&u=https://shop.test/ HTTP/1.1\r\n" + HOST + AGENT + line + b"\r\n",
    ]
    answers, hits = answered(tmp_path, *ways)
    assert not any(b"set-cookie" in answer.headers for answer in answers)
    assert len(hits) == len({hit.key for hit in hits}) == 4
    for hit in hits:
        assert hit.consent.startswith("denied_")
        assert (hit.visitor_id, hit.visitor_before, hit.visitor_after) == ("0" * 16, "", "")


def test_a_yes_is_kept_with_the_hit(tmp_path, clock):
    ways = [pixel(AGENT, query=b"s=shop&c=1"), post(b'{"s":"shop","c":"analytics"}', AGENT.strip())]
    _, hits = answered(tmp_path, *ways)
    assert [hit.consent for hit in hits] == ["granted", "granted_analytics"]
    assert hits[0].visitor_id == hits[1].visitor_id != "0" * 16


def test_nobody_can_pick_an_address_without_a_trusted_proxy(tmp_path, clock):
    _, hits = answered(tmp_path, pixel(AGENT), pixel(AGENT, b"X-Forwarded-For: 192.0.2.7\r\n"))
    assert hits[0].visitor_id == hits[1].visitor_id


def test_all_sites_are_cookieless_by_default_site(tmp_path, clock):
    sites = {"sites": {}, "default_site": {"identity": "cookieless"}}
    answers, hits = answered(tmp_path, PIXEL, pixel(query=b""), pixel(query=b"s=any"), **sites)
    assert not any(b"set-cookie" in answer.headers for answer in answers)
    assert len({hit.visitor_id for hit in hits}) == 3


def test_midnight_and_a_restart_make_yesterdays_id_the_one_before(tmp_path, clock):
    def midnight():
        clock.now_s = float(MIDNIGHT_S)

    _, (last, first) = answered(tmp_path, pixel(AGENT), midnight, pixel(AGENT))
    assert (last.received_at // 1000, first.received_at // 1000) == (MIDNIGHT_S - 1, MIDNIGHT_S)
    assert (first.visitor_before, first.visitor_id) == (last.visitor_id, last.visitor_after)
    assert first.key == last.key
    hits = answered(tmp_path, pixel(AGENT))[1]
    assert {hit.visitor_id for hit in hits} == {first.visitor_id, last.visitor_id}, "a restart makes no third"
    clock.now_s += 40 * DAY_S
    hits = answered(tmp_path, pixel(AGENT))[1]
    assert SaltFile(tmp_path).read() == Salt(DAY - 1, bytes(range(32))).of(DAY + 40)


def test_a_site_becomes_cookieless_while_a_collector_runs_if_there_is_a_salt(tmp_path, clock):
    async def main():
        async with edge(tmp_path, sites={"shop": {}}) as running:
            routes = running.collector.edge.routes
            with pytest.raises(SaltError, match="is missing"):
                routes.take_sites(load(sites=SITES))
            answers = await running.exchange(closing(pixel(AGENT)))
            SaltFile(tmp_path).put(Salt(DAY - 1, bytes(range(32))), force=False)
            routes.take_sites(load(sites=SITES))
            return answers + await running.exchange(closing(pixel(AGENT)))

    assert [b"set-cookie" in answer.headers for answer in run(main)] == [True, False]


def test_a_collector_does_not_begin_without_a_salt(tmp_path, clock):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            async with edge(tmp_path, sock, sites=SITES):
                pass

    with pytest.raises(SaltError, match="is missing"):
        run(main)
