"""The collector from outside: raw bytes over real sockets in, answers out, and frames in the spool that match them."""

import asyncio
import time

import orjson
import pytest
from support.edge import COOKIE, HOST, PIXEL, PIXEL_SEEN, PROBE, answers_of, closing, edge, plain, post, run, statuses
from test_http_strict import BAD

from ingest.http_response import GIF

JSON = b"Content-Type: application/json"
ORIGIN = b"Origin: https://shop.example"


def test_a_new_visitors_pixel(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            (answer,) = await box.exchange(closing(PIXEL))
            (hit,) = box.hits()
        assert answer.status == 200
        assert answer.body == GIF
        assert answer.headers[b"content-type"] == b"image/gif"
        assert answer.headers[b"cache-control"] == b"no-store"
        assert answer.headers[b"cross-origin-resource-policy"] == b"cross-origin"
        visitor, _, birth = answer.headers[b"set-cookie"].removeprefix(b"_hs=").split(b";")[0].partition(b".")
        assert abs(int(birth) - time.time()) < 20
        assert hit["key"] == hit["visitor_id"] == visitor.decode()
        assert plain(hit) == {
            "key": visitor.decode(), "v": 1, "source": "pixel", "visitor_id": visitor.decode(), "new_visitor": True,
            "consent": "not_objected", "ip": "127.0.0.0", "query": "s=shop&e=PageView",
        }  # fmt: skip
        assert abs(hit["received_at"] / 1000 - time.time()) < 20

    run(main)


def test_a_returning_visitor_gets_no_cookie_but_an_old_one_gets_it_again(tmp_path):
    async def main():
        now = int(time.time())
        async with edge(tmp_path, cookie_renew_s=3600) as box:
            for birth, again in ((now - 3500, False), (now - 3700, True), (now + 100_000, True)):
                cookie = b"Cookie: _hs=00000000000000ab.%d\r\n" % birth
                ((answer,), _) = await box.probed(b"GET /p.gif?a HTTP/1.1\r\n" + HOST + cookie + b"\r\n")
                assert (b"set-cookie" in answer.headers) is again
                if birth < now:
                    assert box.hits()[-1]["visitor_id"] == "00000000000000ab"
                    assert "new_visitor" not in box.hits()[-1]
                    assert not again or answer.headers[b"set-cookie"].startswith(b"_hs=00000000000000ab.%d;" % birth)
                else:
                    assert box.hits()[-1]["new_visitor"] is True

    run(main)


def test_head_is_as_get_without_cookie_and_keeps_nothing(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            get, head = (await box.probed(PIXEL_SEEN, PIXEL.replace(b"GET", b"HEAD"), heads=(1,)))[0]
            assert head.headers == get.headers
            assert len(box.hits()) == 1

    run(main)


POSTS = [
    (post(b'{"e":"A"}', JSON), 204, [{"e": "A"}]),
    (post(b'[{"e":"A"},{"e":"B"}]', b"Content-Type: text/plain;charset=UTF-8"), 204, [{"e": "A"}, {"e": "B"}]),
    (post(b'{"events":[{"e":"A"}]}'), 204, [{"e": "A"}]),
    (post(b"[]", JSON), 204, []),
    (post(b"[{},1]", JSON), 400, []),
    (post(b"nonsense", JSON), 400, []),
    (post(b"", JSON), 400, []),
    (post(b"{}", b"Content-Type: image/gif"), 400, []),
    (post(b"[" + b",".join([b"{}"] * 501) + b"]", JSON), 413, []),
    (post(b'{"a":"' + b"x" * 5000 + b'"}', JSON), 413, []),
    (
        b"POST /e HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\r\n[{},\r\n3\r\n{}]\r\n0\r\n\r\n",
        204, [{}, {}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status", "events"), POSTS, ids=range(len(POSTS)))
def test_posts(tmp_path, request_bytes, status, events):
    async def main():
        async with edge(tmp_path, hit_bytes_max=4096) as box:
            answers, kept_open = await box.probed(request_bytes)
            assert statuses(answers) == [status]
            assert kept_open
            hits = box.hits()
            assert [hit["event"] for hit in hits] == events
            assert {hit["source"] for hit in hits} <= {"beacon"}
            assert len({hit["visitor_id"] for hit in hits}) <= 1
            assert all(hit["new_visitor"] for hit in hits)
            assert (b"set-cookie" in answers[0].headers) == bool(events)

    run(main)


def test_cors(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            preflight = b"OPTIONS /e HTTP/1.1\r\n" + HOST + ORIGIN + b"\r\nAccess-Control-Request-Method: POST\r\n\r\n"
            allowed, kept, bad, bare, odd = (
                await box.probed(
                    preflight, post(b"{}", ORIGIN), post(b"x", ORIGIN), post(b"{}"), post(b"{}", b"Origin: x y")
                )
            )[0]
            for answer in (allowed, kept, bad):
                assert answer.headers[b"access-control-allow-origin"] == b"https://shop.example"
                assert answer.headers[b"access-control-allow-credentials"] == b"true"
            for answer in (allowed, kept, bad, bare, odd):
                assert answer.headers[b"vary"] == b"Origin"
            assert b"access-control-allow-origin" not in bare.headers
            assert b"access-control-allow-origin" not in odd.headers
            assert statuses((allowed, kept, bad, bare, odd)) == [204, 204, 400, 204, 204]
            assert allowed.headers[b"access-control-max-age"] == b"7200"
            assert b"POST" in allowed.headers[b"access-control-allow-methods"]
            assert b"Content-Type" in allowed.headers[b"access-control-allow-headers"]
            assert b"set-cookie" not in allowed.headers

    run(main)


def test_paths_and_methods(tmp_path):
    async def main():
        async with edge(tmp_path, pixel_path="/a/x.gif", events_path="/in") as box:
            requests = [
                b"GET /p.gif?a HTTP/1.1", b"GET /a/x.gif?a HTTP/1.1", b"POST /a/x.gif HTTP/1.1",
                b"GET /in HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://t.example/a/x.gif HTTP/1.1",
            ]  # fmt: skip
            answers, _ = await box.probed(*(line + b"\r\n" + HOST + b"\r\n" for line in requests))
            assert statuses(answers) == [404, 200, 405, 405, 404, 200]
            assert answers[2].headers[b"allow"] == b"GET, HEAD"
            assert answers[3].headers[b"allow"] == b"POST, OPTIONS"
            assert [hit.get("query") for hit in box.hits()] == ["a", None]

    run(main)


REFUSED = {name: (data, 400) for name, data in BAD.items()} | {
    "over-long target": (b"GET /p.gif?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "endless target": (b"GET /p.gif?" + b"a" * 70_000, 414),
    "over-long head": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100 + b"\r\n", 431),
    "over-long body": (b"POST /e HTTP/1.1\r\n" + HOST + b"Content-Length: 131073\r\n\r\n", 413),
    "over-long body that waits": (
        b"POST /e HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 131073\r\n\r\n", 413,
    ),
    "over-long chunked body": (
        b"POST /e HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n20001\r\n" + b"a" * 131_073 + b"\r\n", 413,
    ),
}  # fmt: skip


def test_bad_input(tmp_path):
    """Every row: the good requests in front are answered and kept, then the status, then nothing, and the end."""

    async def main():
        async with edge(tmp_path) as box:
            for number, (name, (data, status)) in enumerate(REFUSED.items(), 1):
                answers = await box.exchange(PIXEL_SEEN + post(b"{}") + data + PIXEL_SEEN)
                assert statuses(answers) == [200, 204, status], name
                assert answers[-1].headers[b"connection"] == b"close", name
                assert len(box.hits()) == 2 * number, name
            assert box.counters.hits_kept == 2 * len(REFUSED)
            assert sum(box.counters.refused.values()) == len(REFUSED)
            assert statuses((await box.probed(PIXEL_SEEN))[0]) == [200]

    run(main)


def test_odd_but_legal_requests(tmp_path):
    """Non-UTF-8, broken percent-encoding, odd fields: kept as they are, the worker judges."""

    async def main():
        async with edge(tmp_path) as box:
            odd = [b"a=%", b"a=%zz", b"a=%ff%00", b'a="', b"a\\b", b"<>{}|^`"]
            requests = [b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + COOKIE + b"\r\n" for query in odd]
            agent = b'User-Agent: \xff\xfe "x"\r\nReferer: \xc3\xa9\r\n'
            requests.append(b"GET /p.gif HTTP/1.1\r\n" + HOST + COOKIE + agent + b"\r\n")
            answers, kept_open = await box.probed(*requests)
            assert kept_open
            assert statuses(answers) == [200] * len(requests)
            hits = box.hits()
            assert [hit.get("query", "").encode() for hit in hits] == [*odd, b""]
            assert (hits[-1]["user_agent"], hits[-1]["referer"]) == ('ÿþ "x"', "é")

    run(main)


@pytest.mark.parametrize(
    ("request_bytes", "connection"),
    [
        (b"GET /p.gif?a HTTP/1.0\r\n\r\n", b"close"),
        (b"GET /p.gif?a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"keep-alive"),
        (b"GET /p.gif?a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"close"),
        (b"GET /p.gif?a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", None),
        (b"GET /p.gif?a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", None),
    ],
)
def test_keep_alive(tmp_path, request_bytes, connection):
    async def main():
        async with edge(tmp_path) as box:
            answers, kept_open = await box.probed(request_bytes)
            assert statuses(answers) == [200]
            assert kept_open is (connection != b"close")
            assert answers[0].headers.get(b"connection") == connection

    run(main)


def test_every_split_of_pipelined_requests_gives_the_same_hits_and_answers(tmp_path):
    stream = PIXEL_SEEN + post(b'[{"a":1},{}]', COOKIE.strip()) + PIXEL_SEEN + closing(PROBE)

    async def main():
        async with edge(tmp_path, idle_timeout_s=30) as box:
            whole = await box.exchange(stream)
            assert statuses(whole) == [200, 204, 200, 404]
            wanted = [plain(hit) for hit in box.hits()]
            splits = range(1, len(stream), 3)
            tries = await asyncio.gather(*(box.exchange(stream[:at], stream[at:]) for at in splits))
            assert all(answers == whole for answers in tries)
            hits = [plain(hit) for hit in box.hits()]
            assert sorted(map(repr, hits)) == sorted(map(repr, wanted * (len(splits) + 1)))

    run(main)


def test_many_pipelined_requests_are_all_kept_in_order(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            requests = [PIXEL_SEEN.replace(b"e=PageView", b"e=%d" % number) for number in range(3000)]
            answers = await box.exchange(b"".join(requests) + closing(PROBE))
            assert statuses(answers) == [200] * 3000 + [404]
            assert [hit["query"] for hit in box.hits()] == [f"s=shop&e={number}" for number in range(3000)]
            assert box.counters.groups < 100

    run(main)


def test_100_continue(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            reader, writer = await box.connect()
            writer.write(PIXEL_SEEN + post(b"{}", b"Expect: 100-continue")[:-2])
            await reader.readuntil(GIF)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
            writer.close()

    run(main)


def test_a_half_closed_client_is_still_answered(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            reader, writer = await box.connect()
            writer.write(PIXEL_SEEN)
            writer.write_eof()
            assert statuses(answers_of(await reader.read(-1))) == [200]
            writer.close()

    run(main)


def test_behind_a_trusted_proxy(tmp_path):
    async def main():
        lines = b"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"
        request = PIXEL[:-2] + lines + b"\r\n"
        for trusted, ip in (("", "127.0.0.1"), ("127.0.0.0/8", "198.51.100.7")):
            async with edge(tmp_path / ip, trusted_proxies=trusted, ip_keep="full") as box:
                for body in (request, post(b"{}", *lines.split(b"\r\n")[:2])):
                    ((answer,), _) = await box.probed(body)
                    assert box.hits()[-1]["ip"] == ip
                    assert answer.headers[b"set-cookie"].endswith(b"; Secure") is bool(trusted)

    run(main)


def test_small_packets_leave_at_once(tmp_path):
    """TCP_NODELAY: the second of two answers does not wait for the first one's acknowledgement."""

    async def main():
        async with edge(tmp_path) as box:
            reader, writer = await box.connect()
            begun = time.monotonic()
            for _ in range(20):
                writer.write(PIXEL_SEEN)
                await reader.readuntil(GIF)
                writer.write(PIXEL_SEEN + PIXEL_SEEN)
                await reader.readuntil(GIF)
                await reader.readuntil(GIF)
            assert time.monotonic() - begun < 0.7
            writer.close()

    run(main)


def test_events_are_kept_as_json_says(tmp_path):
    event = {"e": "Purchase", "v": 12.5, "items": [{"sku": "é", "qty": 2}], "big": 18446744073709551615, "n": None}

    async def main():
        async with edge(tmp_path) as box:
            await box.probed(
                post(orjson.dumps(event), b"User-Agent: x", b"Accept-Language: de", b"Referer: https://a/")
            )
            (hit,) = box.hits()
            assert hit["event"] == event
            assert (hit["user_agent"], hit["accept_language"], hit["referer"]) == ("x", "de", "https://a/")

    run(main)


@pytest.mark.parametrize("sync", ["os", "disk"])
def test_how_long_each_answered_request_took_is_counted(tmp_path, sync):
    async def main():
        async with edge(tmp_path, sync=sync) as box:
            before = time.perf_counter()
            for pieces in (
                (PIXEL,),
                (PIXEL[:40], PIXEL[40:]),
                (PIXEL * 3,),
                (post(b'{"s":"shop"}'),),
                (b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n",),
            ):
                await box.probed(*pieces)
            counters = box.counters
            assert sum(counters.handling) == sum(counters.answers.values()) == 12
            assert 0 < counters.handling_ns < 12 * (time.perf_counter() - before) * 1e9

    run(main)
