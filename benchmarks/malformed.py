"""Bad and odd requests of many kinds, each tagged with what becomes of it. Pure.

Promise: every kind is something the contract decides: refused with a status and nothing kept (`events` 0), kept and
rejected by the worker with a reason (`rejected`), or odd but good. `KINDS` are makers; one makes another request each
time it is called, deterministic by its random source.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

from benchmarks.shop_world import HOST
from benchmarks.traffic import EVENTS_PATH, PIXEL_PATH, Header, Parameter, Request, beacon, pixel, pixel_target
from schemas.rejection import Reason

HEADERS: tuple[Header, ...] = ((b"User-Agent", b"Mozilla/5.0 (compatible; broken client)"), (b"Accept", b"*/*"))
HOST_LINE = b"Host: " + HOST.encode() + b"\r\n"
ITEMS_MANY = 10_000
DEPTH_TOO_DEEP = 64
DAY_MS = 86_400_000


class Context(NamedTuple):
    """What a maker needs: randomness, the client's time and the site."""

    rng: Random
    now_ms: int
    site: str

    def hit(self, **changes: Parameter) -> dict[str, Parameter]:
        """Return a good hit's parameters with some replaced; None takes one away. `p__x` stands for `p.x`."""
        event: dict[str, Parameter] = {
            "s": self.site,
            "u": f"https://{HOST}/odd/{self.rng.randrange(100)}",
            "id": f"{self.rng.getrandbits(64):016x}",
            "t": self.now_ms - self.rng.randrange(3_600_000),
        }
        event.update({name.replace("__", "."): value for name, value in changes.items()})
        return {name: value for name, value in event.items() if value is not None}


Maker = Callable[[Context], Request]


def _rejected_pixel(reason: Reason, changes: dict[str, Parameter], context: Context) -> Request:
    request = pixel(context.hit(**changes), HEADERS)
    return request._replace(rejected=(reason,), note=f"pixel, {reason}")


def _rejected_suffix(reason: Reason, suffix: bytes, context: Context) -> Request:
    """Return a pixel whose query ends in raw bytes that no encoder writes."""
    request = pixel(context.hit(), HEADERS)
    return request._replace(
        target=request.target + suffix, rejected=(reason,), note=f"pixel ending {suffix!r}, {reason}"
    )


def _rejected_beacon(reason: Reason, changes: dict[str, Parameter], context: Context) -> Request:
    request = beacon(context.hit(**changes), HEADERS)
    return request._replace(rejected=(reason,), note=f"beacon, {reason}")


def _too_many_items(context: Context) -> Request:
    cart: list[dict[str, str]] = [{"sku": "a"}] * ITEMS_MANY  # 120 kB: the largest body that passes
    return _rejected_beacon(Reason.TOO_MANY_ITEMS, {"e": "AddToCart", "items": cart}, context)


def _too_many_properties(context: Context) -> Request:
    return _rejected_beacon(Reason.TOO_MANY_PROPERTIES, {f"p__k{n}": "1" for n in range(100)}, context)


def _one_bad_of_three(context: Context) -> Request:
    events = [context.hit(), context.hit(e="Purchase", v=-5, cur="EUR"), context.hit(e="Lead")]
    return beacon(events, HEADERS)._replace(rejected=(Reason.BAD_VALUE,), note="one bad event among three")


def _odd_pixel(note: str, changes: dict[str, Parameter], context: Context) -> Request:
    return pixel(context.hit(**changes), HEADERS)._replace(note=note)


def _clock_off(days: int, context: Context) -> Request:
    return _odd_pixel(f"clock {days} days off", {"t": context.now_ms + days * DAY_MS}, context)


def _repeated_parameter(context: Context) -> Request:
    request = pixel(context.hit(e="Click"), HEADERS)
    return request._replace(
        target=request.target + b"&e=%FF&s=&t=tomorrow&e=2&v=&", note="repeated and empty parameters"
    )


def _http_1_0(context: Context) -> Request:
    target = pixel_target(context.hit())
    return Request("GET", target, [], raw=b"GET " + target + b" HTTP/1.0\r\n\r\n", note="HTTP/1.0 without Host")


def _chunked(context: Context) -> Request:
    body = beacon(context.hit(e="Click"), ()).body
    raw = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % (
        EVENTS_PATH,
        HOST_LINE,
    )
    raw += b"10\r\n" + body[:16] + b"\r\n%x;ext=1\r\n" % (len(body) - 16) + body[16:] + b"\r\n0\r\n\r\n"
    return Request("POST", EVENTS_PATH, [], expect=204, raw=raw, note="chunked body")


def _refused(status: int | tuple[int, ...], method: str, target: bytes, context: Context) -> Request:
    del context
    return Request(method, target, list(HEADERS), expect=status, events=0, note=f"{method} {target[:24].decode()}")


def _refused_body(status: int, body: bytes, note: str, context: Context) -> Request:
    del context
    headers = [*HEADERS, (b"Content-Type", b"application/json")]
    return Request("POST", EVENTS_PATH, headers, body=body, expect=status, events=0, note=note)


def _refused_header(status: int, headers: list[Header], note: str, context: Context) -> Request:
    return Request("GET", pixel_target(context.hit()), [*HEADERS, *headers], expect=status, events=0, note=note)


def _refused_raw(status: int | tuple[int, ...], template: bytes, note: str, context: Context) -> Request:
    """Return raw bytes; TARGET and HOST in the template become a good pixel target and a Host line."""
    raw = template.replace(b"TARGET", pixel_target(context.hit())).replace(b"HOST", HOST_LINE)
    return Request("GET", b"", [], expect=status, events=0, raw=raw, note=note)


def _rejecting() -> list[Maker]:
    pixels: list[tuple[Reason, dict[str, Parameter]]] = [
        (Reason.BAD_SITE, {"s": None}),
        (Reason.BAD_SITE, {"s": "../../etc/passwd"}),
        (Reason.BAD_EVENT_NAME, {"e": "2 fast"}),
        (Reason.BAD_EVENT_NAME, {"e": "Kauf✓"}),
        (Reason.BAD_URL, {"u": "javascript:alert(1)"}),
        (Reason.BAD_TIME, {"t": "yesterday"}),
        (Reason.BAD_VALUE, {"e": "Purchase", "v": "-5", "cur": "EUR"}),
        (Reason.BAD_VALUE, {"e": "Purchase", "v": "1e30", "cur": "EUR"}),
        (Reason.BAD_CURRENCY, {"e": "Purchase", "v": "5", "cur": "XQX"}),
        (Reason.BAD_ITEMS, {"e": "AddToCart", "items": '[{"sku":'}),
        (Reason.BAD_ITEMS, {"e": "AddToCart", "items": '{"sku":"a"}'}),
    ]
    beacons: list[tuple[Reason, dict[str, Parameter]]] = [
        (Reason.BAD_TYPE, {"ti": ["a", "list"]}),
        (Reason.BAD_TYPE, {"u": {"href": "https://www.example.com/"}}),
        (Reason.TOO_LONG, {"ti": "long " * 2_000}),
        (Reason.BAD_SITE, {"s": "two words"}),
    ]
    suffixes = [
        (Reason.BAD_ENCODING, b"&ti=%ff%fe"),
        (Reason.BAD_ENCODING, b"&ti=100%zz"),
        (Reason.BAD_ENCODING, b"&ti=%00"),
    ]
    return [
        *(partial(_rejected_pixel, reason, changes) for reason, changes in pixels),
        *(partial(_rejected_beacon, reason, changes) for reason, changes in beacons),
        *(partial(_rejected_suffix, reason, suffix) for reason, suffix in suffixes),
        _too_many_items,
        _too_many_properties,
        _one_bad_of_three,
    ]


def _odd() -> list[Maker]:
    return [
        partial(_clock_off, -365),
        partial(_clock_off, 365),
        partial(_odd_pixel, "custom event", {"e": "Wishlist.Add", "p__list": "Geburtstag 🎂"}),
        partial(_odd_pixel, "host not in ASCII", {"u": "https://müller.example.com/straße?q=ä"}),
        _repeated_parameter,
        _http_1_0,
        _chunked,
    ]


def _refusing() -> list[Maker]:
    bodies = [
        (400, b'{"s":"shop","e":', "JSON cut off"),
        (400, b"", "empty body"),
        (400, b'{"s":"\xff\xfe"}', "JSON not in UTF-8"),
        (400, b"[" * DEPTH_TOO_DEEP + b"]" * DEPTH_TOO_DEEP, "JSON too deep"),
        (413, b'{"s":"shop","ti":"' + b"x" * (128 * 1024) + b'"}', "body over 128 KiB"),
        (413, b"[" + b",".join([b'{"s":"shop"}'] * 1_000) + b"]", "1,000 events in one POST"),
    ]
    raws: list[tuple[int | tuple[int, ...], bytes, str]] = [
        (400, b"GET TARGET HTTP/1.1\r\n\r\n", "no Host"),
        (400, b"GET TARGET HTTP/1.1\r\nHOSTHost: other.example\r\n\r\n", "two Hosts"),
        (400, b"GET TARGET HTTP/1.1\nHOST\n", "bare LF"),
        (400, b"GET TARGET HTTP/1.1\r\nHOSTX-Odd: a\0b\r\n\r\n", "NUL in a header"),
        (400, b"GET TARGET HTTP/1.1\r\nHOSTX Odd: 1\r\n\r\n", "space in a header's name"),
        (400, b"GET TARGET extra HTTP/1.1\r\nHOST\r\n", "space in the target"),
        (400, b"GET TARGET\r\n\r\n", "HTTP/0.9"),
        ((400, 505), b"GET TARGET HTTP/2.0\r\nHOST\r\n", "HTTP/2.0"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "TLS on a plain port"),
        (400, b"POST /e HTTP/1.1\r\nHOSTContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", "two Content-Lengths"),
        (400, b"POST /e HTTP/1.1\r\nHOSTContent-Length: -2\r\n\r\n{}", "negative Content-Length"),
        (
            400,
            b"POST /e HTTP/1.1\r\nHOSTContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "both lengths",
        ),
        (400, b"POST /e HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "bad chunk size"),
        (
            (400, 413),
            b"POST /e HTTP/1.1\r\nHOSTContent-Length: 99999999999999999999999\r\n\r\n",
            "endless Content-Length",
        ),
    ]
    headers: list[tuple[list[Header], str]] = [
        ([(b"X-Large", b"x" * 40_000)], "head over 32 KiB"),
        ([(b"X-N%d" % n, b"1") for n in range(200)], "over 100 headers"),
    ]
    return [
        partial(_refused, 404, "GET", b"/wp-login.php"),
        partial(_refused, 404, "GET", b"/favicon.ico"),
        partial(_refused, 405, "DELETE", PIXEL_PATH),
        partial(_refused, 405, "PUT", EVENTS_PATH),
        partial(_refused, 414, "GET", PIXEL_PATH + b"?ti=" + b"x" * 10_000),
        *(partial(_refused_body, *body) for body in bodies),
        *(partial(_refused_header, 431, *header) for header in headers),
        *(partial(_refused_raw, *raw) for raw in raws),
    ]


KINDS: tuple[Maker, ...] = (*_rejecting(), *_odd(), *_refusing())
