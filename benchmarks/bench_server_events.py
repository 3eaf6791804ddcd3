"""Server events: CPU per event of `POST /v1/events` in batches of 100, over a returning visitor's pixel hit.

One collector process as in production takes both in turn, from wrk over loopback; what counts is its CPU time, user and
system, divided by the events or hits that it answered (`bench_edge.py`). The events are what a shop's server reports:
name, id, visitor, page, time, value and currency, some properties; every batch is read, every item judged and kept, and
an answer that rejects any would end the run. *Known pages* are of 2,000, as the pixel's are; of *new pages* each event
has one of its own, more than the cache of pages holds, which is the dearest that a well-formed event can be.
Run it as `python -m benchmarks.bench_server_events [--rounds 9] [--seconds 2]`; it writes `results/server_events.json`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import orjson

from benchmarks.bench_edge import Contestant, figures, rounds, show
from benchmarks.edge_requests import RETURNING, VISITORS, Case
from benchmarks.edge_servers import collector
from benchmarks.results_file import write_result
from benchmarks.wrk import check_programs
from schemas.server_key import SECRET_BYTES, key_hash, make_key

BOUND = 1.0
BATCH = 100
BATCHES = 256
PIXEL = f"pixel, {RETURNING.name}"
KNOWN_PAGES = Case("known pages", method="POST", events=BATCH)
NEW_PAGES = Case("new pages", method="POST", events=BATCH)

# A batch's answer must accept all of it, or wrk ends at once.
LUA = """
local requests, at = {}, 0
for line in io.lines("%(bodies)s") do
  requests[#requests + 1] = "POST /v1/events HTTP/1.1\\r\\nHost: t.shop.example\\r\\n"
    .. "Authorization: Bearer %(key)s\\r\\nUser-Agent: shop/1.0\\r\\nContent-Type: application/json\\r\\n"
    .. "Content-Length: " .. #line .. "\\r\\n\\r\\n" .. line
end
at = math.random(#requests)
function request() at = at %% #requests + 1; return requests[at] end
function response(status, headers, body)
  if body ~= '{"accepted":%(batch)d,"rejected":[]}' then print("Non-2xx: " .. body); os.exit(1) end
end
"""


def events(rng: Random, first: int, *, new_pages: bool) -> list[dict[str, Any]]:
    """Return a batch of events, numbered from `first`."""
    now_ms = int(time.time()) * 1000
    found: list[dict[str, Any]] = []
    for number in range(first, first + BATCH):
        name = rng.choice(("Purchase", "AddToCart", "Lead", "Refunded"))
        page = f"https://shop.example/products/{rng.randrange(VISITORS):05d}"
        found.append(
            {
                "e": name,
                "id": f"{name.lower()}-{number:08d}",
                "vid": f"{rng.getrandbits(64):016x}",
                "u": f"{page}?order={number}" if new_pages else page,
                "t": now_ms - rng.randrange(60_000),
                "v": rng.randrange(100, 50_000) / 100,
                "cur": rng.choice(("EUR", "USD", "PLN")),
                "oid": str(number),
                "uid": f"customer-{rng.randrange(1_000_000)}",
                "p.payment": rng.choice(("card", "invoice", "wallet")),
                "p.store": rng.choice(("web", "phone", "berlin")),
                "p.items": rng.randrange(1, 9),
            }
        )
    return found


def script(case: Case, directory: Path, key: str) -> Path:
    """Write a wrk script that posts BATCHES batches in turn, and return its path."""
    rng = Random(5)
    bodies = directory / f"{case.name}.jsonl"
    batches = (events(rng, number * BATCH, new_pages=case is NEW_PAGES) for number in range(BATCHES))
    bodies.write_bytes(b"".join(orjson.dumps(batch) + b"\n" for batch in batches))
    path = directory / f"{case.name}.lua"
    path.write_text(LUA % {"bodies": bodies, "key": key, "batch": BATCH})
    return path


def measure(root: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure a collector of one site with a key; return what `figures` does."""
    key = make_key("bench", b"k" * SECRET_BYTES)
    settings = root / "hitstream.toml"
    settings.write_text(
        f'[sites.shop]\ndomains = ["shop.example"]\nkeys = [{{ id = "bench", sha256 = "{key_hash(key)}" }}]\n'
    )
    with collector(root / "collector", HITSTREAM_CONFIG=str(settings)) as server:
        contestants = [Contestant(PIXEL, server, RETURNING, RETURNING.script(root))]
        for case in (KNOWN_PAGES, NEW_PAGES):
            name = f"server events, {BATCH} a batch, {case.name}"
            contestants.append(Contestant(name, server, case, script(case, root, key)))
        rounds(contestants, given.rounds, given.seconds, given.connections)
    return figures(contestants, PIXEL)


def main() -> int:
    """Measure, print the table, write the result."""
    parser = argparse.ArgumentParser(description="CPU per server event, over a pixel hit")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--dry", action="store_true", help="write no result")
    given = parser.parse_args()
    check_programs("wrk", "taskset")
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(Path(temporary), given)
    show(f"CPU per event at the collector; at most {BOUND} of a pixel hit's", rows, "pixel")
    if not given.dry:
        print(write_result("server_events", {"batch": BATCH, "bound": BOUND, "cases": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
