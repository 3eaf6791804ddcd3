"""kill -9 of a real collector process under load: every hit that was answered is in the spool, once."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from support.edge import hits_in, run
from support.waiting import until

from ingest.http_response import GIF

CONNECTIONS = 8
ANSWERED_MIN = 2000
CHILD = """
import asyncio, signal, sys
from pathlib import Path
from ingest.collector import run
from schemas.settings import load
fd, root = int(sys.argv[1]), Path(sys.argv[2])
begin = lambda stop, counters: asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
sys.exit(run(load(data_dir=root), fd, root / "spool", begin=begin))
"""


def start(sock, root):
    command = [sys.executable, "-c", CHILD, str(sock.fileno()), str(root)]
    return subprocess.Popen(command, pass_fds=[sock.fileno()], cwd=Path(__file__).parents[2])


async def load(port, name, answered, done):
    """Send numbered pixels, pipelined by four; note a number when its answer is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    try:
        while not done.is_set():
            batch = range(number, number + 4)
            writer.write(b"".join(b"GET /p.gif?n=%d.%d HTTP/1.1\r\nHost: a\r\n\r\n" % (name, n) for n in batch))
            for n in batch:
                assert (await reader.readuntil(GIF)).startswith(b"HTTP/1.1 200 ")
                answered.append(f"n={name}.{n}")
            number += 4
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def under_load(sock, process, signal_number):
    answered, done = [], asyncio.Event()
    port = sock.getsockname()[1]
    tasks = [asyncio.create_task(load(port, name, answered, done)) for name in range(CONNECTIONS)]
    await until(lambda: len(answered) >= ANSWERED_MIN)
    os.kill(process.pid, signal_number)
    code = await asyncio.to_thread(process.wait, 15)
    done.set()
    await asyncio.gather(*tasks)
    return answered, code


def test_every_answered_hit_survives_kill_9_and_a_successor_takes_the_socket(tmp_path):
    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
            for signal_number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
                process = start(sock, tmp_path / str(expected))
                try:
                    now, code = await under_load(sock, process, signal_number)
                finally:
                    process.kill()
                    process.wait()
                assert code == expected
                kept = [hit["query"] for hit in hits_in(tmp_path / str(expected) / "spool")]
                assert len(set(kept)) == len(kept)
                assert set(now) <= set(kept)

    run(main)
