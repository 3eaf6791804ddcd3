"""The request, as every traffic source writes it and the sender sends it. Pure: no clock, no network.

Promise: a `Request` says what it carries and what a correct collector does with it, so that a test, the demo and a
benchmark can hold the answer and the rows against it. Hits are numbered: request by request, `number` to
`number + events - 1`, dense from the source's first number; the sender reports acknowledged hits by these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from schemas.rejection import Reason

PIXEL_PATH = b"/p.gif"
EVENTS_PATH = b"/e"
COMPONENT_SAFE = "~()*!'"  # what a browser's encodeURIComponent leaves as it is, besides letters, digits, - _ .

Header = tuple[bytes, bytes]
Parameter = str | int | float | list[Any] | dict[str, Any] | None


class Request(NamedTuple):
    """One HTTP request and what is expected of it.

    `headers` come without Host, Content-Length and the client address: the sender adds them. `client_ip` is sent as
    X-Forwarded-For when not empty. `events` is the number of hits it carries if it is answered as expected,
    `expect` the right status, or those that are right. `visitor` is the cookie jar it uses and keeps it in order with
    the visitor's other requests; 0: none. Of its hits, those in `rejected` become rows in `rejected` and `duplicates`
    repeat an event of the visitor's session; the rest become rows in `events`. `raw`, when not empty, is sent byte
    for byte instead of everything else, and its connection is given up afterwards.
    """

    method: str
    target: bytes
    headers: list[Header]
    body: bytes = b""
    expect: int | tuple[int, ...] = 200
    client_ip: str = ""
    events: int = 1
    note: str = ""
    number: int = 0
    visitor: int = 0
    rejected: tuple[Reason, ...] = ()
    duplicates: int = 0
    raw: bytes = b""

    def expects(self, status: int) -> bool:
        """Whether `status` is a right answer."""
        return status == self.expect if isinstance(self.expect, int) else status in self.expect

    def numbers(self) -> range:
        """Return the numbers of its hits."""
        return range(self.number, self.number + self.events)


def visitor_cookie(visitor: int, birth_s: int) -> Header:
    """Return the Cookie header of a returning visitor: 16 hex digits of the id, '.', the birth second."""
    if not 0 < visitor < 1 << 64:
        raise ValueError(f"{visitor} is no visitor id: 64 bits, and 0 means none")
    return (b"Cookie", b"_hs=%016x.%d" % (visitor, birth_s))


def pixel_target(parameters: Mapping[str, Parameter], path: bytes = PIXEL_PATH) -> bytes:
    """Return path and query as the browser snippet writes them; lists as JSON, None left out."""
    pairs = [(key, text_of(value)) for key, value in parameters.items() if value is not None]
    return path + b"?" + urlencode(pairs, quote_via=quote, safe=COMPONENT_SAFE).encode("ascii")


def text_of(value: Parameter) -> str:
    """Return a parameter's value as it stands in a query string."""
    if isinstance(value, (list, dict)):
        return orjson.dumps(value).decode()
    return str(value)


def pixel(
    parameters: Mapping[str, Parameter], headers: Iterable[Header], client_ip: str = "", visitor: int = 0
) -> Request:
    """Return the GET of one pixel hit."""
    return Request("GET", pixel_target(parameters), list(headers), client_ip=client_ip, visitor=visitor)


def beacon(
    events: Any,  # noqa: ANN401  any JSON: one event, a list, or {"events": [...]}
    headers: Iterable[Header],
    content_type: bytes = b"text/plain;charset=UTF-8",
    client_ip: str = "",
    visitor: int = 0,
) -> Request:
    """Return the POST that carries `events`; the content type is sendBeacon's text unless another is given."""
    carried = events["events"] if isinstance(events, dict) and "events" in events else events
    return Request(
        "POST",
        EVENTS_PATH,
        [*headers, (b"Content-Type", content_type)],
        body=orjson.dumps(events),
        expect=204,
        client_ip=client_ip,
        events=len(carried) if isinstance(carried, list) else 1,
        visitor=visitor,
    )


def render(request: Request, host: bytes, cookie: bytes | None = None) -> bytes:
    """Return the request's bytes on the wire; `cookie` replaces its own Cookie header."""
    if request.raw:
        return request.raw
    lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (request.method.encode("ascii"), request.target, host)]
    for name, value in request.headers:
        if cookie is None or name != b"Cookie":
            lines.append(name + b": " + value)
    if cookie is not None:
        lines.append(b"Cookie: " + cookie)
    if request.client_ip:
        lines.append(b"X-Forwarded-For: " + request.client_ip.encode("ascii"))
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(request.body))
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + request.body


def numbered(requests: Iterable[Request], first: int = 0) -> Iterator[Request]:
    """Yield `requests` with their hits numbered from `first` on."""
    number = first
    for request in requests:
        yield request._replace(number=number)
        number += request.events
