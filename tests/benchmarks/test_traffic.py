"""Requests on the wire, and the load that the demo starts."""

import asyncio
from random import Random
from urllib.parse import parse_qs

import pytest
from rich.console import Console
from rich.progress import Progress
from support.scripted_server import scripted_server

from benchmarks.http_sender import Target
from benchmarks.load import send_access_log, send_all, send_shop
from benchmarks.malformed import KINDS, Context
from benchmarks.shop import shop_requests
from benchmarks.traffic import Request, beacon, numbered, pixel, pixel_target, render, visitor_cookie

NOW_MS = 1_763_820_000_000


def test_a_pixel_target_decodes_to_what_was_put_in():
    given = {"u": "https://example.com/ä?b=c&d=100%", "items": [{"sku": "a"}], "v": 9.5, "none": None, "ti": "~()*!'"}
    target = pixel_target(given)
    assert target.startswith(b"/p.gif?u=https%3A%2F%2Fexample.com%2F%C3%A4%3Fb%3Dc%26d%3D100%25&items=")
    assert parse_qs(target.split(b"?", 1)[1].decode("ascii")) == {
        "u": [given["u"]],
        "items": ['[{"sku":"a"}]'],
        "v": ["9.5"],
        "ti": ["~()*!'"],
    }
    assert target.endswith(b"ti=~()*!'")


def test_the_bytes_of_a_request():
    request = pixel({"s": "t"}, [(b"A", b"1"), visitor_cookie(255, 7)], client_ip="2001:db8::1")
    assert render(request, b"h:1") == (
        b"GET /p.gif?s=t HTTP/1.1\r\nHost: h:1\r\nA: 1\r\nCookie: _hs=00000000000000ff.7\r\n"
        b"X-Forwarded-For: 2001:db8::1\r\n\r\n"
    )
    assert b"Cookie: _hs=new\r\n" in render(request, b"h", b"_hs=new")
    assert b"_hs=0" not in render(request, b"h", b"_hs=new")
    posted = render(Request("POST", b"/e", [], body=b""), b"h")
    assert posted == b"POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"


def test_a_beacon_counts_its_events():
    assert beacon({"s": "t"}, ()).events == 1
    assert beacon([{"s": "t"}] * 3, ()).events == 3
    assert beacon({"events": [{"s": "t"}] * 2}, ()).events == 2
    assert [r.number for r in numbered([beacon([{}] * 3, ()), pixel({}, ()), pixel({}, ())], 5)] == [5, 8, 9]


@pytest.mark.parametrize("visitor", [0, 1 << 64, -1])
def test_a_cookie_needs_a_visitor_id(visitor):
    with pytest.raises(ValueError, match="no visitor id"):
        visitor_cookie(visitor, 1)


async def obey(request, writer):
    """Answer as a collector does to good requests."""
    if request.line.startswith(b"POST /e"):
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    else:
        length = b"43\r\n\r\n" + (b"" if request.line.startswith(b"HEAD") else b"x" * 43)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + length)


def good_requests():
    return [
        request
        for request in shop_requests(3, NOW_MS, 60)
        if not request.raw and (request.expects(200) or request.expects(204))
    ]


def test_the_load_report_says_what_a_correct_box_has_afterwards():
    requests = good_requests()

    async def main():
        async with scripted_server(obey) as server:
            with Progress(console=Console(quiet=True)) as progress:
                report = await send_all(requests, Target("127.0.0.1", server.port), bar=progress)
                return report, progress.tasks[0]

    report, task = asyncio.run(main())
    assert report.is_expected, report.unexpected_examples
    assert report.requests == len(requests) == sum(report.by_status.values()) == task.total == task.completed
    assert report.hits_acknowledged == sum(request.events for request in requests)
    assert report.duplicates == sum(request.duplicates for request in requests) > 0
    assert report.rejected_total == sum(len(request.rejected) for request in requests) > 0
    assert report.rows == report.hits_acknowledged - report.rejected_total - report.duplicates
    assert 0 < report.latency_us_p50 <= report.latency_us_p99 <= report.latency_us_max


def test_a_server_that_keeps_what_it_should_refuse_is_noticed():
    refused = [kind(Context(Random(1), NOW_MS, "shop")) for kind in KINDS]
    refused = [request for request in refused if request.events == 0 and not request.raw]

    async def main():
        async with scripted_server(obey) as server:
            return await send_all(refused, Target("127.0.0.1", server.port))

    report = asyncio.run(main())
    assert not report.is_expected
    assert report.unexpected == len(refused) == len(report.unexpected_examples) > 5
    assert report.hits_acknowledged == 0


def test_the_shop_is_sent_whole():
    async def main():
        async with scripted_server(obey) as server:
            return await send_shop(Target("127.0.0.1", server.port), 2, NOW_MS, visitors=3)

    report = asyncio.run(main())
    assert report.requests == sum(1 for _ in shop_requests(2, NOW_MS, 3))
    assert report.unsent == report.unanswered == 0


def test_an_access_log_is_replayed_with_its_addresses(tmp_path):
    path = tmp_path / "access.log"
    line = b'192.0.2.%d - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 1 "-" "x"\n'
    path.write_bytes(b"".join(line % (n % 5) for n in range(100)))

    async def main():
        async with scripted_server(obey) as server:
            return await send_access_log(path, Target("127.0.0.1", server.port)), server

    report, server = asyncio.run(main())
    assert (report.hits_acknowledged, report.rows, report.by_status) == (100, 100, {200: 100})
    assert len({request.headers[b"x-forwarded-for"] for request in server.received}) == 5
