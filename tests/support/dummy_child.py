"""A child that does nothing but answer: stands in for every kind of process when the parent is tested.

It appends `<name> start` and `<name> stop` to the file that DUMMY_TRACE names. A collector answers each connection with
its pid; the kind in DUMMY_DEAF ignores SIGTERM; migrate fails until the file in DUMMY_GATE exists.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

from infra.child import Life


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    for name in ("--slot", "--of", "--fd", "--alive-fd"):
        parser.add_argument(name, type=int, default=-1)
    given = parser.parse_args()
    kind = given.kind
    name = f"{kind}-{given.slot}" if given.slot >= 0 else kind
    trace = Path(os.environ["DUMMY_TRACE"])
    if os.environ.get("DUMMY_DEAF") == kind:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(trace, f"{name} start")
        time.sleep(120)
    life = Life(given.alive_fd)
    note(trace, f"{name} start")
    if kind == "migrate":
        sys.exit(0 if Path(os.environ["DUMMY_GATE"]).exists() else 1)
    if given.slot <= 0 and kind != "clickhouse":
        serve(name)
    if kind == "collector":
        answer(socket.socket(fileno=given.fd), life)
    life.stop.wait()
    note(trace, f"{name} stop")


def serve(name):
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  slow, and most children do without

    from infra.admin import ProcessStatus, serve_in_thread  # noqa: PLC0415  as above

    run_directory = Path(os.environ["HITSTREAM_DATA_DIR"]) / "run"
    serve_in_thread(name, ProcessStatus(name, CollectorRegistry(), lambda: ""), run_directory)


def answer(sock, life):
    sock.settimeout(0.05)
    while not life.stop.is_set():
        try:
            connection, _ = sock.accept()
        except TimeoutError:
            continue
        with connection:
            connection.sendall(str(os.getpid()).encode())


def note(path, line):
    with path.open("a") as trace:
        trace.write(line + "\n")


if __name__ == "__main__":
    main()
