"""The shop's traffic from a crowd: thousands of agents, pages and referrers where the shop itself has a few. Pure.

Promise: the same requests come out the same. Of each request, its User-Agent header and client hints, the product that
its page is about and a partner's host are replaced, by the visitor that sends it (without a cookie, by its address):
what a cache sees then repeats as unevenly as at a real site. A visitor keeps its agent; robots keep theirs.

Agents are drawn as they are seen: most browsers have a frozen header, of which a few versions are current, and one
visitor in seven comes in an app's browser, whose header names app version, device and system, and hardly repeats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple
from zlib import crc32

from benchmarks.shop_world import BOTS
from benchmarks.traffic import Header, Request

PRODUCTS = 5_000
PARTNERS = 500
HINTS = (b"Sec-CH-UA", b"Sec-CH-UA-Mobile", b"Sec-CH-UA-Platform")

_ROBOTS = frozenset(bot.user_agent.encode() for bot in BOTS)
_PRODUCT = re.compile(rb"(?:/|%2F)p(?:/|%2F)[a-z]{3}-[0-9]{3}")
_PARTNER = re.compile(rb"trails\.example\.org")
_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_DESKTOPS = (
    ("Windows NT 10.0; Win64; x64", "Windows"),
    ("Macintosh; Intel Mac OS X 10_15_7", "macOS"),
    ("X11; Linux x86_64", "Linux"),
    ("X11; CrOS x86_64 14541.0.0", "Chrome OS"),
)
_LANGUAGES = ("de_DE", "en_US", "fr_FR", "nl_NL", "de_AT", "en_GB")


class CrowdAgent(NamedTuple):
    """What one visitor's browser says of itself; no `brands`: it sends no hints."""

    user_agent: str
    brands: str = ""
    platform: str = ""
    mobile: bool = False

    def headers(self) -> list[Header]:
        """Return its headers."""
        found = [(b"User-Agent", self.user_agent.encode())]
        if self.brands:
            values = (self.brands, "?1" if self.mobile else "?0", f'"{self.platform}"')
            found += [(name, value.encode()) for name, value in zip(HINTS, values, strict=True)]
        return found


def crowd(requests: Iterable[Request]) -> Iterator[Request]:
    """Yield `requests` as a crowd sends them; malformed ones as they are."""
    for request in requests:
        yield request if request.raw else _of_crowd(request)


def _of_crowd(request: Request) -> Request:
    who = f"{request.visitor} {request.client_ip if not request.visitor else ''}"
    headers = request.headers
    if not any(value in _ROBOTS for _, value in headers):
        own = [header for header in headers if header[0] != b"User-Agent" and header[0] not in HINTS]
        headers = [*agent_of(who).headers(), *own]

    def wide(text: bytes) -> bytes:
        if b"trails" in text:
            text = _PARTNER.sub(b"trails%d.example.org" % _drawn(who, PARTNERS), text)
        return _PRODUCT.sub(lambda match: match[0] + b"-%d" % _drawn(f"{who} {match[0]!r}", PRODUCTS), text)

    headers = [(name, wide(value) if name == b"Referer" else value) for name, value in headers]
    return request._replace(target=wide(request.target), body=wide(request.body), headers=headers)


def _drawn(who: str, count: int) -> int:
    """Return a number below `count`, low ones often: a third of the draws fall on 4 % of the numbers."""
    return int(count * (crc32(who.encode()) / 2**32) ** 3)


def agent_of(who: str) -> CrowdAgent:
    """Return the agent of a visitor."""
    rng = Random(f"agent {who}")
    return rng.choices([make for _, make in _AGENTS], [weight for weight, _ in _AGENTS])[0](rng)


def _version(rng: Random) -> int:
    """Return a Chrome or Firefox version: mostly the newest ones."""
    return 142 - min(int(rng.expovariate(0.7)), 25)


def _chromium(version: int, product: str = "Google Chrome") -> str:
    return f'"Chromium";v="{version}", "{product}";v="{version}", "Not?A_Brand";v="8"'


def _chrome(rng: Random) -> CrowdAgent:
    version, (desktop, platform) = _version(rng), rng.choices(_DESKTOPS, (70, 22, 5, 3))[0]
    agent = f"Mozilla/5.0 ({desktop}) {_WEBKIT} Chrome/{version}.0.0.0 Safari/537.36"
    return CrowdAgent(agent, _chromium(version), platform)


def _chrome_android(rng: Random) -> CrowdAgent:
    version = _version(rng)
    agent = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/{version}.0.0.0 Mobile Safari/537.36"
    return CrowdAgent(agent, _chromium(version), "Android", mobile=True)


def _edge(rng: Random) -> CrowdAgent:
    version, (desktop, platform) = _version(rng), rng.choices(_DESKTOPS[:2], (90, 10))[0]
    agent = f"Mozilla/5.0 ({desktop}) {_WEBKIT} Chrome/{version}.0.0.0 Safari/537.36 Edg/{version}.0.0.0"
    return CrowdAgent(agent, _chromium(version, "Microsoft Edge"), platform)


def _samsung(rng: Random) -> CrowdAgent:
    version = _version(rng)
    agent = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} SamsungBrowser/{28 - version % 6}.0 Chrome/{version}.0.0.0"
    return CrowdAgent(f"{agent} Mobile Safari/537.36", _chromium(version, "Samsung Internet"), "Android", mobile=True)


def _firefox(rng: Random) -> CrowdAgent:
    version, (desktop, _) = _version(rng), rng.choices(_DESKTOPS[:3], (70, 15, 15))[0]
    return CrowdAgent(f"Mozilla/5.0 ({desktop}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0")


def _apple(rng: Random) -> tuple[int, int]:
    return rng.choices((26, 18, 17, 16, 15), (20, 50, 18, 8, 4))[0], rng.randrange(7)


def _safari(rng: Random) -> CrowdAgent:
    major, minor = _apple(rng)
    safari = f"AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{major}.{minor} Safari/605.1.15"
    return CrowdAgent(f"Mozilla/5.0 ({_DESKTOPS[1][0]}) {safari}")


def _iphone(rng: Random) -> CrowdAgent:
    major, minor = _apple(rng)
    system = f"iPhone; CPU iPhone OS {major}_{minor} like Mac OS X"
    safari = f"AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{major}.{minor} Mobile/15E148 Safari/604.1"
    return CrowdAgent(f"Mozilla/5.0 ({system}) {safari}")


def _facebook_ios(rng: Random) -> CrowdAgent:
    major, minor = rng.randint(15, 18), rng.randrange(8)
    return CrowdAgent(
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {major}_{minor} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        f"Mobile/15E148 [FBAN/FBIOS;FBAV/{rng.randint(480, 540)}.0.0.{rng.randrange(60)}.{rng.randrange(99)};"
        f"FBBV/{rng.randrange(10**8, 9 * 10**8)};FBDV/iPhone{rng.randint(11, 17)},{rng.randint(1, 5)};FBMD/iPhone;"
        f"FBSN/iOS;FBSV/{major}.{minor};FBSS/3;FBID/phone;FBLC/{rng.choice(_LANGUAGES)};FBOP/5]"
    )


def _webview(rng: Random, model: str = "") -> CrowdAgent:
    model = model or rng.choice(("Pixel 7", "Pixel 8a", "Redmi Note 11", "CPH2269", "M2101K6G", "moto g(60)"))
    chrome = f"Chrome/{rng.randint(100, 142)}.0.{rng.randrange(6000, 7500)}.{rng.randrange(200)}"
    system = f"Linux; Android {rng.randint(9, 16)}; {model} Build/UQ1A.{rng.randrange(230000, 250000)}.002; wv"
    return CrowdAgent(f"Mozilla/5.0 ({system}) {_WEBKIT} Version/4.0 {chrome} Mobile Safari/537.36")


def _instagram_android(rng: Random) -> CrowdAgent:
    model = f"SM-{rng.choice('AGSMN')}{rng.randrange(100, 999)}{rng.choice('BFUN')}"
    app = f"Instagram {rng.randint(280, 400)}.0.0.{rng.randrange(50)}.{rng.randrange(120)}"
    device = f"Android ({rng.randint(29, 35)}/13; 420dpi; 1080x2340; samsung; {model}; a52; qcom; "
    language = f"{rng.choice(_LANGUAGES)}; {rng.randrange(10**8, 7 * 10**8)})"
    return CrowdAgent(f"{_webview(rng, model).user_agent} {app} {device}{language}")


_AGENTS: tuple[tuple[float, Callable[[Random], CrowdAgent]], ...] = (
    *((28, _chrome), (19, _chrome_android), (5, _edge), (5, _safari), (20, _iphone), (6, _firefox), (3, _samsung)),
    *((5, _facebook_ios), (5, _instagram_android), (5, _webview)),
)
