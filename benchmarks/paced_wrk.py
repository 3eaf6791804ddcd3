r"""Pixel hits from wrk, as many as are answered or at a fixed rate: cheap enough to share the cores with their server.

Promise: hit k of a paced run is due `k / rate` seconds after the first one and is sent then, up to a ms earlier, or as
soon as a connection is free; so the rate is met unless all connections wait for answers, and a stall is caught up with.
The pace is kept by sleeping: wrk's own `delay()` takes a timer and two epoll_ctl a hit, half as much CPU again. Answers
that come meanwhile are read after it, so wrk's answer times are longer than they are: by up to a ms, and at low rates
by as much as hits are apart.

wrk runs as SCHED_BATCH, so that it does not take the core from its server at every answer: clients are other machines.
Visitors, agents, pages and referrers are a crowd's (`crowd.py`), prepared before the first hit; every hit has an id of
64 random bits and the time of its sending, as a browser makes them, so none repeats another one.
"""

from __future__ import annotations

import math
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from benchmarks.crowd import agent_of
from benchmarks.traffic import pixel, render, visitor_cookie
from benchmarks.wrk import quantile_ms

SITE = "shop"
VISITORS = 30_000
PAGES = 5_000
CONNECTIONS = 64
DAY_S = 86_400
ID_MARK, TIME_MARK = "ID-OF-16-DIGITS-", "TIME-OF-13-MS"
REFERRERS = ("", "", "https://www.google.com/", "https://shop.example/", "https://trails.example.org/review")
CAMPAIGNS = ("", "", "", "utm_source=newsletter&utm_medium=email&utm_campaign=november", "gclid=Cj0KCQiA-shop")

LUA = r"""
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);"
  .. "int nanosleep(const moment *, moment *);")
local moment, heads, middles, tails = ffi.new("moment"), {}, {}, {}
local function now_ms()
  ffi.C.clock_gettime(0, moment)
  return tonumber(moment.s) * 1000 + tonumber(moment.ns) / 1e6
end
local text, from = io.open("%(requests)s", "rb"):read("*a"), 1
while from < #text do
  for _, parts in ipairs({heads, middles, tails}) do
    local mark = text:find("\0", from, true)
    parts[#parts + 1], from = text:sub(from, mark - 1), mark + 1
  end
end
text = nil
now_ms()
math.randomseed(tonumber(moment.ns) + tonumber(moment.s) %% 1000 * 1e9)
local at, rate, began, sent = math.random(#heads), %(rate)f, nil, 0
local function wait_until_due()
  local now = now_ms()
  began = began or now
  local early = began + sent * 1000 / rate - now
  sent = sent + 1
  if early >= 1 then
    moment.s, moment.ns = math.floor(early / 1000), early %% 1000 * 1e6
    ffi.C.nanosleep(moment, nil)
  end
end
function request()
  if rate > 0 then wait_until_due() end
  at = at %% #heads + 1
  return heads[at] .. string.format("%%08x%%08x", math.random(0, 4294967295), math.random(0, 4294967295))
    .. middles[at] .. string.format("%%d", now_ms()) .. tails[at]
end
"""


class Answers(NamedTuple):
    """What wrk saw: hits answered with 200, a second, answer times in ms, and its own CPU in us a hit."""

    hits: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def requests(seed: int = 7) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each visitor's request, in three parts around the hit's id and its time."""
    rng = Random(seed)
    birth_s = int(time.time()) - DAY_S
    for number in range(VISITORS):
        page = f"https://shop.example/products/{int(PAGES * rng.random() ** 3):05d}"
        if campaign := rng.choice(CAMPAIGNS):
            page += "?" + campaign
        parameters = {
            "s": SITE,
            "e": rng.choice(("PageView", "PageView", "ViewContent", "AddToCart")),
            "id": ID_MARK,
            "t": TIME_MARK,
            "u": page,
            "r": rng.choice(REFERRERS) or None,
            "ti": f"Product {page[-5:]} - the shop",
            "l": rng.choice(("en-GB", "de-DE", "fr-FR")),
            "sr": rng.choice(("1920x1080", "390x844", "1440x900")),
        }
        headers = [
            *agent_of(f"{seed} {number}").headers(),
            (b"Accept", b"image/avif,image/webp,image/apng,image/svg+xml,*/*;q=0.8"),
            (b"Sec-Fetch-Site", b"same-site"),
            (b"Sec-Fetch-Mode", b"no-cors"),
            (b"Sec-Fetch-Dest", b"image"),
            (b"Referer", page.encode()),
            (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
            (b"Accept-Language", b"en-US,en;q=0.9"),
            visitor_cookie(rng.getrandbits(64) or 1, birth_s),
        ]
        before, rest = render(pixel(parameters, headers), b"t.shop.example").split(ID_MARK.encode())
        between, behind = rest.split(TIME_MARK.encode())
        yield before, between, behind


def prepare(directory: Path) -> tuple[Path, float]:
    """Write the requests for every script of a session; return their file and a request's mean size in bytes."""
    path = directory / "requests.bin"
    made = [b"%b\0%b\0%b\0" % parts for parts in requests()]
    path.write_bytes(b"".join(made))
    return path, sum(map(len, made)) / len(made) - 3 + len(ID_MARK) + len(TIME_MARK)


class Load:
    """One run of wrk against a port of loopback, in the background; `rate` hits a second, 0: as many as it can."""

    def __init__(self, port: int, prepared: Path, seconds: float, *, rate: float = 0, threads: int = 1) -> None:
        script = prepared.with_name(f"load-{port}-{rate:.0f}.lua")
        script.write_text(LUA % {"requests": prepared, "rate": rate})
        self._before_s = _children_s()
        command = [
            *("chrt", "--batch", "0", "wrk"),
            f"-t{threads}",
            f"-c{CONNECTIONS}",
            f"-d{math.ceil(seconds)}s",
            "--latency",
            "-s",
            str(script),
        ]
        self._process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Return wrk's process."""
        return self._process.pid

    def answers(self) -> Answers:
        """Wait for the end and return what came of it. Raises SystemExit when any answer was not 2xx."""
        said, _ = self._process.communicate()
        return parsed(said, _children_s() - self._before_s)


def parsed(said: str, used_s: float) -> Answers:
    """Return what wrk's words mean. Raises SystemExit when they are not those of a run that went well."""
    match = re.search(r"(\d+) requests in ([\d.]+)(s|m)", said)
    if match is None or "Non-2xx" in said or not int(match[1]):
        raise SystemExit(f"wrk says\n{said}")
    hits, wall_s = int(match[1]), float(match[2]) * (60 if match[3] == "m" else 1)
    return Answers(hits, hits / wall_s, quantile_ms(said, "50"), quantile_ms(said, "99"), used_s / hits * 1e6)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of those that ended and were waited for
    return used.ru_utime + used.ru_stime
