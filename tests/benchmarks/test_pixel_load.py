"""Pixel load against a scripted server: every hit is sent at its time and counted as what was answered."""

import asyncio
from array import array
from urllib.parse import parse_qs, urlsplit

import pytest
from support.scripted_server import scripted_server
from support.waiting import until

from benchmarks.pixel_load import LoadReport, PixelLoad, read_report, write_report
from ingest.http_response import GIF, response

KEPT = response(200, b"Cache-Control: no-store\r\n", GIF)
RATE = 200


def run(handle, enough, connections=4):
    """Send until `enough(server)`; return the report and the server."""

    async def main():
        async with scripted_server(handle) as server:
            load = PixelLoad(server.port, RATE, connections)
            stop = asyncio.Event()
            running = asyncio.create_task(load.run(stop))
            await until(lambda: running.done() or enough(server))
            stop.set()
            await running
            return load.report(), server

    return asyncio.run(main())


def number_of(request):
    return int(parse_qs(urlsplit(request.line.split(b" ")[1].decode()).query)["id"][0])


async def keep(request, writer):
    writer.write(KEPT)


def test_every_hit_is_sent_once_and_acknowledged():
    report, server = run(keep, lambda server: len(server.received) >= 100)
    assert sorted(map(number_of, server.received)) == list(range(len(report.latencies_us)))
    assert all(report.latencies_us)
    assert (report.refused, report.unanswered) == (0, 0)
    assert server.connections == 4
    assert all(request.headers[b"cookie"].startswith(b"_hs=") for request in server.received)


def test_an_answer_in_pieces_counts_when_it_is_whole():
    async def in_pieces(request, writer):
        for piece in (KEPT[:9], KEPT[9:60], KEPT[60:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)

    report, server = run(in_pieces, lambda server: len(server.received) >= 20)
    assert len(report.latencies_us) == len(server.received)
    assert min(report.latencies_us) > 2_000


def test_a_refused_hit_is_not_acknowledged():
    async def refuse_some(request, writer):
        writer.write(response(503) if number_of(request) % 10 == 3 else KEPT)

    report, _ = run(refuse_some, lambda server: len(server.received) >= 50)
    refused = [number for number, latency_us in enumerate(report.latencies_us) if not latency_us]
    assert refused == list(range(3, len(report.latencies_us), 10))
    assert report.refused == len(refused)


def test_a_connection_that_ends_leaves_its_hit_unanswered_and_is_opened_again():
    async def cut(request, writer):
        if number_of(request) in (5, 17):
            writer.transport.abort()
        else:
            writer.write(KEPT)

    report, server = run(cut, lambda server: len(server.received) >= 60)
    assert [number for number, latency_us in enumerate(report.latencies_us) if not latency_us] == [5, 17]
    assert report.unanswered == 2
    assert server.connections == 6


def test_hits_that_had_to_wait_show_how_long():
    stalled_s = 0.5

    async def stall_once(request, writer):
        if number_of(request) == 10:
            await asyncio.sleep(stalled_s)
        writer.write(KEPT)

    report, _ = run(stall_once, lambda server: len(server.received) >= 150, connections=1)
    waited = sum(latency_us > stalled_s / 5 * 1e6 for latency_us in report.latencies_us)
    assert waited >= 0.5 * stalled_s * RATE, "not the one hit alone that was answered late"
    assert all(report.latencies_us)


def test_a_server_that_does_not_keep_up_ends_the_run(monkeypatch):
    monkeypatch.setattr("benchmarks.pixel_load.WAITING_S_MAX", 0.1)

    async def silent(request, writer):
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="does not keep up"):
        run(silent, lambda server: False)


def test_seconds_of_the_schedule_and_their_quantiles(tmp_path):
    latencies_us = array("I", [*range(1, 101), *([0] * 50 + [7] * 50), 9])
    report = LoadReport(1000.0, 100, latencies_us, 0, 0)
    write_report(tmp_path, report)
    assert read_report(tmp_path) == report
    assert report.seconds() == [(1000.0, 51, 100), (1001.0, 7, 7)]
