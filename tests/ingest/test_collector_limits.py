"""The collector at its limits: slow clients, too many, a full spool, a broken disk, and the end."""

import asyncio
import errno
import os
import socket
import struct
import time

import pytest
from support.edge import PIXEL, PIXEL_SEEN, PROBE, answers_of, closing, edge, post, run, statuses
from support.waiting import until

from ingest.http_response import GIF

ORIGIN = b"Origin: https://shop.example"


def test_slow_and_idle_clients(tmp_path):
    async def main():
        async with edge(tmp_path, idle_timeout_s=0.4, request_timeout_s=0.2) as box:

            async def trickle():
                reader, writer = await box.connect()
                begun = time.monotonic()
                for byte in PIXEL:
                    writer.write(bytes([byte]))
                    if reader.at_eof() or time.monotonic() - begun > 3:
                        break
                    await asyncio.sleep(0.02)
                writer.close()
                return answers_of(await reader.read(-1))

            idle, head, body, slow = await asyncio.gather(
                box.exchange(PIXEL_SEEN),
                box.exchange(PIXEL[:40]),
                box.exchange(PIXEL_SEEN + post(b"{}")[:-1]),
                trickle(),
            )
            assert statuses(idle) == [200]
            assert statuses(head) == [408]
            assert statuses(body) == [200, 408]
            assert statuses(slow) == [408]
            assert await box.exchange() == []
            assert box.counters.refused["slow_request"] == 3

    run(main)


def test_a_client_that_does_not_read_is_cut_off_and_bounded(tmp_path):
    async def main():
        async with edge(tmp_path, write_timeout_s=0.3) as box:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, ("127.0.0.1", box.port))
                with pytest.raises(OSError):  # noqa: PT011  reset or broken pipe, as the kernel likes
                    await loop.sock_sendall(sock, PIXEL * 400_000)
            assert box.counters.refused["slow_reader"] == 1
            assert box.counters.hits_kept < 300_000
            assert statuses((await box.probed(PIXEL_SEEN))[0]) == [200]

    run(main)


def test_a_slow_reader_gets_everything_in_the_end(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            reader, writer = await box.connect()
            count = 20_000
            sending = asyncio.create_task(_send(writer, PIXEL_SEEN * count + closing(PROBE)))
            await asyncio.sleep(0.3)
            data = await reader.read(-1)
            await sending
            assert statuses(answers_of(data)) == [200] * count + [404]
            assert len(box.hits()) == count
            writer.close()

    async def _send(writer, data):
        writer.write(data)
        await writer.drain()

    run(main)


def test_clients_that_vanish_hurt_nobody(tmp_path):
    """Reset right behind a request, whole, pipelined, refused or begun: no error, and the neighbours are served."""

    async def main():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        async with edge(tmp_path) as box:
            for data in (PIXEL_SEEN, PIXEL_SEEN * 500, post(b"{}"), closing(PIXEL_SEEN), b"x\r\n\r\n", PIXEL[:20]) * 5:
                with socket.create_connection(("127.0.0.1", box.port)) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.sendall(data)
                answers, _ = await box.probed(PIXEL_SEEN)
                assert statuses(answers) == [200]
            await until(lambda: not box.collector.edge.connections)
            assert len(box.hits()) == box.counters.hits_kept >= 30
        assert not errors

    run(main)


def test_too_many_connections_are_closed_at_once(tmp_path):
    async def main():
        async with edge(tmp_path, connections_max=2) as box:
            held = [await box.connect() for _ in range(2)]
            for _, writer in held:
                writer.write(PIXEL_SEEN)
            for reader, _ in held:
                await reader.readuntil(GIF)
            reader, writer = await box.connect()
            writer.write(PIXEL_SEEN)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(1)
            assert box.counters.refused["too_many_connections"] == 1
            for _, other in [*held, (reader, writer)]:
                other.close()

    run(main)


def test_without_a_file_for_its_answers_a_connection_is_closed_at_once(tmp_path, monkeypatch):
    def no_file(handle):
        raise OSError(errno.EMFILE, "too many open files")

    async def main():
        async with edge(tmp_path) as box:
            with monkeypatch.context() as patched:
                patched.setattr("ingest.client.os.dup", no_file)
                reader, writer = await box.connect()
                with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                    await reader.readexactly(1)
                writer.close()
            assert box.counters.refused["too_many_connections"] == 1
            assert statuses(await box.exchange(PIXEL_SEEN, closing(PROBE))) == [200, 404]

    run(main)


@pytest.mark.parametrize("taken", [0, 1, 10])
def test_answers_that_the_kernel_does_not_take_whole_arrive_whole_and_in_order(tmp_path, monkeypatch, taken):
    write = os.write

    def few(handle, data):
        if not data.startswith(b"HTTP/1.1"):
            return write(handle, data)
        if not taken:
            raise BlockingIOError
        return write(handle, data[:taken])

    async def main():
        async with edge(tmp_path) as box:
            monkeypatch.setattr("os.write", few)
            answers = await box.exchange(PIXEL_SEEN, post(b'{"s":"shop"}'), PIXEL_SEEN * 3, closing(PROBE))
            assert statuses(answers) == [200, 204, 200, 200, 200, 404]
            assert all(answer.body == GIF for answer in answers if answer.status == 200)

    run(main)


def test_a_request_that_never_ends_does_not_count_as_handled_for_as_long(tmp_path):
    async def main():
        async with edge(tmp_path, request_timeout_s=0.5) as box:
            reader, writer = await box.connect()
            writer.write(PIXEL_SEEN[:-2])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
            assert sum(box.counters.handling) == 1
            assert box.counters.handling_ns < 0.5e9
            writer.close()

    run(main)


def test_a_full_spool_answers_503_and_takes_hits_again_when_there_is_room(tmp_path):
    async def main():
        async with edge(tmp_path, spool_bytes_max=256 * 1024, retry_after_s=7) as box:
            assert box.collector.is_ready()
            kept = refused = 0
            answers = []
            while refused < 10 or answers[-1].status != 503:  # the last POST may fit where the pixels did not
                answers, kept_open = await box.probed(PIXEL_SEEN * 50, post(b"[{},{}]", ORIGIN))
                assert kept_open
                kept += statuses(answers).count(200) + 2 * statuses(answers).count(204)
                for answer in answers:
                    if answer.status == 503:
                        refused += 1
                        assert answer.headers[b"retry-after"] == b"7"
            assert answers[-1].status == 503
            assert answers[-1].headers[b"access-control-allow-origin"] == b"https://shop.example"
            assert not box.collector.is_ready()
            assert len(box.hits()) == kept == box.counters.hits_kept
            assert box.counters.refused["spool_full"] == refused == box.counters.answers[503]
            oldest = min(segment for segment in box.spool_root.glob("*/0*.seg"))
            oldest.unlink()
            await until(box.collector.is_ready)
            assert statuses((await box.probed(PIXEL_SEEN))[0]) == [200]

    run(main)


def test_sync_disk_answers_after_a_sync_and_shares_it(tmp_path):
    async def main():
        async with edge(tmp_path, sync="disk") as box:
            tries = await asyncio.gather(*(box.exchange(PIXEL_SEEN * 20 + closing(PROBE)) for _ in range(20)))
            assert all(statuses(answers) == [200] * 20 + [404] for answers in tries)
            assert len(box.hits()) == 400
            assert 0 < box.counters.syncs < 200

    run(main)


def test_a_sync_that_fails_promises_nothing_and_ends_the_collector(tmp_path, monkeypatch):
    def broken(self):
        raise OSError(5, "input/output error")

    monkeypatch.setattr("ingest.spool.Spool.sync", broken)

    async def main():
        async with edge(tmp_path, sync="disk") as box:
            assert statuses(await box.exchange(PIXEL_SEEN)) == [503]
            assert not box.collector.is_ready()

    with pytest.raises(OSError, match="input/output"):
        run(main)


def test_stopping_answers_what_is_under_way_and_leaves_the_listening_socket(tmp_path):
    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=16) as sock:
            async with edge(tmp_path, sock) as box:
                idle_reader, idle_writer = await box.connect()
                reader, writer = await box.connect()
                writer.write(PIXEL_SEEN)
                await reader.readuntil(GIF)
                writer.write(PIXEL_SEEN[:30])
                await asyncio.sleep(0.05)
                box.stop.set()
                assert await idle_reader.read(-1) == b""
                writer.write(PIXEL_SEEN[30:])
                (answer,) = answers_of(await reader.read(-1))
                assert answer.headers[b"connection"] == b"close"
                idle_writer.close()
                writer.close()
                await box.task
                waiting = await box.connect()
                waiting[1].write(closing(PIXEL_SEEN))
                assert len(box.hits()) == 2
            async with edge(tmp_path, sock) as box:
                assert statuses(answers_of(await waiting[0].read(-1))) == [200]
                waiting[1].close()
                assert len(box.hits()) == 3

    run(main)


def test_stopping_ends_in_time_with_a_client_that_never_finishes(tmp_path):
    async def main():
        async with edge(tmp_path, stop_timeout_s=0.3) as box:
            reader, writer = await box.connect()
            writer.write(PIXEL[:20])
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            box.stop.set()
            await box.task
            assert 0.2 < time.monotonic() - begun < 2
            assert await reader.read(-1) == b""
            writer.close()

    run(main)


@pytest.mark.parametrize("nested", [b"[" * 524_288 + b"]" * 524_288, b'{"a":' * 174_763 + b"1" + b"}" * 174_763])
def test_a_megabyte_of_nested_json_is_refused_unread_and_where_bodies_may_be_as_long_for_its_depth(tmp_path, nested):
    async def main():
        for settings, status, reason in (({}, 413, "body_too_large"), ({"body_bytes_max": 2 << 20}, 400, "bad_body")):
            async with edge(tmp_path / reason, **settings) as box:
                answers = await box.exchange(closing(post(nested)))
                assert statuses(answers) == [status]
                assert box.counters.refused[reason] == 1
                assert box.counters.hits_kept == 0
                assert statuses(await box.exchange(closing(PIXEL_SEEN))) == [200]

    run(main)
