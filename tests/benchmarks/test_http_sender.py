"""The sender against a scripted server: what it counts is what was answered, whatever the server does."""

import asyncio

import pytest
from support.scripted_server import ScriptedServer, scripted_server

from benchmarks.http_sender import Pace, Target, send, send_until
from benchmarks.steady import steady_hits
from benchmarks.traffic import Request, beacon, numbered, pixel, visitor_cookie
from schemas.rejection import Reason

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ONE = Pace(connections=1, answer_timeout_s=2, patience_s=2)


def answering(*answers):
    """Answer the n-th request with the n-th of `answers`, the last one for ever; bytes, or 'reset' or 'close'."""
    given = iter(answers)
    last = [b""]

    async def handle(request, writer):
        answer = last[0] = next(given, last[0])
        if answer == "reset":
            writer.transport.abort()
        elif answer == "close":
            writer.close()
        else:
            writer.write(answer)
            if b"onnection: close" in answer:
                writer.close()

    return handle


def hits(count, **changes):
    return list(numbered(pixel({"s": "t", "id": n}, ())._replace(**changes) for n in range(count)))


def run(handler, requests, pace=ONE):
    async def main():
        async with scripted_server(handler) as server:
            return await send(requests, Target("127.0.0.1", server.port), pace), server

    return asyncio.run(main())


def test_keep_alive_uses_one_connection_and_acknowledges_each_hit():
    report, server = run(answering(OK), hits(50))
    assert report.statuses == {200: 50}
    assert list(report.acknowledged) == list(range(50))
    assert (server.connections, report.connections, report.unexpected) == (1, 1, 0)
    assert len(report.latencies_us) == 50
    assert 0 < report.latency_us(0.5) <= report.latency_us(0.99) <= report.latency_us(1.0)
    assert not report.connection_errors


def test_an_answer_that_closes_is_counted_and_the_next_request_opens_anew():
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    report, server = run(answering(OK, closing), hits(5))
    assert report.statuses == {200: 5}
    assert server.connections == 4
    assert (report.unanswered, report.connection_errors) == (0, {})


def test_204_head_and_304_have_no_body_and_leave_the_connection_in_step():
    head = Request("HEAD", b"/p.gif", [], events=0)
    requests = list(numbered([beacon({"s": "t"}, ()), head, pixel({"s": "t"}, ()), head._replace(expect=304), head]))
    length = b"HTTP/1.1 %b\r\nContent-Length: 43\r\n\r\n"
    answers = (
        b"HTTP/1.1 204 No Content\r\n\r\n",
        length % b"200 OK",
        OK,
        length % b"304 Not Modified",
        length % b"200 OK",
    )
    report, server = run(answering(*answers), requests)
    assert report.statuses == {204: 1, 200: 3, 304: 1}
    assert (server.connections, report.unexpected) == (1, 0)
    assert list(report.acknowledged) == [0, 1], "HEAD carries no hit"


def test_a_reset_leaves_exactly_its_request_unknown():
    report, _ = run(answering(OK, "reset", OK, "close", OK), hits(6))
    assert list(report.acknowledged) == [0, 2, 4, 5]
    assert list(report.unknown) == [1, 3]
    assert report.unanswered == 2
    assert sum(report.connection_errors.values()) == 2


def test_an_answer_cut_off_in_its_body_is_no_answer():
    cut = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nok"
    report, _ = run(answering(cut, OK), hits(2))
    assert (list(report.unknown), list(report.acknowledged)) == ([0], [1])
    assert report.connection_errors == {"bad answer": 1}


def test_an_unanswered_request_is_sent_again_only_when_asked():
    report, server = run(answering("reset", OK), hits(2), ONE._replace(retries=1))
    assert list(report.acknowledged) == [0, 1]
    assert (report.unanswered, report.resent) == (0, 1)
    assert [request.line.split(b"id=")[1][:1] for request in server.received] == [b"0", b"0", b"1"]


def test_a_server_that_does_not_answer_in_time_is_given_up():
    async def silent(request, writer):
        pass

    report, _ = run(silent, hits(1), ONE._replace(answer_timeout_s=0.05))
    assert list(report.unknown) == [0]
    assert report.connection_errors == {"timeout": 1}


def test_a_second_answer_to_one_request_is_a_desynchronized_connection():
    report, server = run(answering(OK + OK, OK), hits(2))
    assert report.connection_errors == {"desynchronized": 1}
    assert list(report.acknowledged) == [0, 1]
    assert server.connections == 2


def test_a_refusal_acknowledges_nothing_and_an_unexpected_status_is_named():
    refusal = b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\nRetry-After: 5\r\n\r\n"
    report, _ = run(answering(refusal, refusal, OK), hits(3, note="a hit", expect=(200, 429)))
    assert report.statuses == {503: 2, 200: 1}
    assert list(report.acknowledged) == [2]
    assert (report.unexpected, report.unexpected_examples[0]) == (2, "a hit: 503 instead of (200, 429)")
    assert not report.unknown, "a refused hit is known not to be kept"


def test_expected_rejections_and_duplicates_count_when_acknowledged():
    refusal = b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"
    requests = hits(3, rejected=(Reason.BAD_TIME,), duplicates=1)
    report, _ = run(answering(refusal, OK), requests)
    assert report.rejected == {Reason.BAD_TIME: 2}
    assert report.duplicates == 2


def test_a_visitor_keeps_the_cookie_it_was_given_in_its_own_jar():
    async def handle(request, writer):
        setting = (
            b""
            if b"cookie" in request.headers
            else b"Set-Cookie: _hs=%016x.5; Path=/; HttpOnly\r\n" % len(server.received)
        )
        writer.write(b"HTTP/1.1 200 OK\r\n" + setting + b"Content-Length: 0\r\n\r\n")

    known = pixel({}, [visitor_cookie(9, 1)], visitor=9)
    requests = [pixel({}, (), visitor=7), pixel({}, (), visitor=8), known, pixel({}, ()), pixel({}, (), visitor=7)]

    async def main():
        nonlocal server
        async with scripted_server(handle) as server:
            await send(requests, Target("127.0.0.1", server.port), ONE)

    server = None
    asyncio.run(main())
    cookies = [request.headers.get(b"cookie") for request in server.received]
    assert cookies == [None, None, b"_hs=0000000000000009.1", None, b"_hs=0000000000000001.5"]


def test_a_visitors_requests_stay_in_order_on_one_connection_even_with_a_heavy_visitor():
    requests = [pixel({"id": n}, (), visitor=3 if n % 4 else n // 4 + 1) for n in range(600)]
    report, server = run(answering(OK), list(numbered(requests)), ONE._replace(connections=4))
    assert report.hits_acknowledged == 600
    seen = [(int(r.line.split(b"id=")[1].split()[0]), r.connection) for r in server.received]
    heavy = [n for n, _ in seen if n % 4 or n == 8]
    assert heavy == sorted(heavy)
    assert len({connection for n, connection in seen if n % 4 or n == 8}) == 1
    assert server.connections == 4


def test_the_head_carries_host_length_and_client_address():
    request = beacon([{"s": "t"}, {"s": "t"}], [(b"X-One", b"1")], client_ip="192.0.2.7")
    _, server = run(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), [request])
    received = server.received[0]
    assert received.line == b"POST /e HTTP/1.1"
    assert received.body == b'[{"s":"t"},{"s":"t"}]'
    assert received.headers[b"host"] == b"127.0.0.1:%d" % server.port
    assert received.headers[b"x-forwarded-for"] == b"192.0.2.7"
    assert received.headers[b"x-one"] == b"1"


def test_raw_bytes_go_out_as_they_are_on_a_connection_that_is_then_given_up():
    raw = Request("GET", b"", [], expect=400, events=0, raw=b"GARBAGE \xff\r\nHost: x\r\n\r\n")
    bad = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    report, server = run(answering(bad, OK), [raw, *hits(1)])
    assert server.received[0].line == b"GARBAGE \xff"
    assert (server.connections, report.unexpected) == (2, 0)


def test_an_early_refusal_of_a_large_body_is_read_although_the_server_closes():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        writer.close()  # unread data makes the kernel reset the connection

    async def main():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
        request = Request("POST", b"/e", [], body=b"x" * 200_000, expect=413, events=0)
        async with server:
            return await send([request], Target("127.0.0.1", server.sockets[0].getsockname()[1]), ONE)

    report = asyncio.run(main())
    assert report.statuses == {413: 1}


def test_nothing_listening_ends_the_run_after_its_patience():
    async def main():
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await send(hits(3), Target("127.0.0.1", port), ONE._replace(patience_s=0.1))

    report = asyncio.run(main())
    assert report.gave_up.startswith("no connection for 0.1 s")
    assert (report.answered, report.unanswered, report.hits_acknowledged) == (0, 0, 0)
    assert report.unsent == 1, "the other two were not taken from the source"


def test_a_rate_spreads_the_requests_over_time():
    report, _ = run(answering(OK), hits(40), ONE._replace(rate_per_s=200, connections=4))
    assert report.statuses == {200: 40}
    assert report.seconds >= 39 / 200


@pytest.mark.parametrize("limit", [{"requests_max": 30}, {"seconds_max": 0.3}])
def test_an_endless_source_is_bounded_by_count_or_time(limit):
    report, server = run(answering(OK), steady_hits(1, 1_763_820_000_000), ONE._replace(connections=3, **limit))
    assert 0 < report.answered == len(server.received)
    if "requests_max" in limit:
        assert report.answered == 30


def test_progress_ends_at_the_number_of_requests():
    async def main():
        told = []
        async with scripted_server(answering(OK)) as server:
            await send(hits(20), Target("127.0.0.1", server.port), ONE._replace(rate_per_s=80), told.append)
        return told

    told = asyncio.run(main())
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 20


def test_send_until_survives_kills_and_every_hit_is_acknowledged_or_unknown_or_unsent():
    """The server kills all connections and its listening socket twice; what it answered is what is acknowledged."""
    answered = set()

    async def handle(request, writer):
        writer.write(OK if request.line.startswith(b"GET") else b"HTTP/1.1 204 No Content\r\n\r\n")
        body = request.body or request.line
        answered.update(
            int(part.split(b'"')[0].split(b"&")[0]) for part in body.replace(b'"id":"', b"&id=").split(b"&id=")[1:]
        )

    async def main():
        stop = asyncio.Event()
        port = 0
        for round_number in range(3):
            writers = []

            async def serve(reader, writer, writers=writers):
                writers.append(writer)
                await ScriptedServer(handle).serve(reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", port)
            port = server.sockets[0].getsockname()[1]
            if round_number == 0:
                pace = Pace(connections=4, rate_per_s=500, patience_s=5)
                sending = asyncio.create_task(
                    send_until(stop, steady_hits(5, 1_763_820_000_000), Target("127.0.0.1", port), pace)
                )
            await asyncio.sleep(0.3)
            if round_number < 2:
                for writer in writers:
                    writer.transport.abort()
            else:
                stop.set()
                report = await sending
            server.close()
            await server.wait_closed()
        return report

    report = asyncio.run(main())
    acknowledged, unknown = set(report.acknowledged), set(report.unknown)
    assert len(acknowledged) == report.hits_acknowledged > 50
    assert not acknowledged & unknown
    assert acknowledged <= answered
    assert answered <= acknowledged | unknown
    assert report.gave_up == ""
    assert report.connections > 4
