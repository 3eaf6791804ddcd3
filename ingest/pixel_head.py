"""The fast path: recognizes the head of the common pixel request, byte for byte; everything else is not its business.

Promise: what it accepts, `http_strict.py` reads exactly the same way. It accepts only `GET <pixel path>?<query>
HTTP/1.1` with printable ASCII in the query, header lines of token, colon and legal bytes, one Host, no field that bears
on framing or on the connection (but `Connection: keep-alive`), none of the fields we read twice, and all within the
limits. Anything else, right or wrong, is left to the strict reader (None).

Most lines of a browser's head are the same in every request of everybody who uses that browser. So a line is looked at
once and then looked up: `HeaderLines` maps it to None (legal, and none of ours) or to (field, what a hit keeps of it).
Lines that differ from visitor to visitor (cookie, referrer, addresses, unknown names) are read every time.
"""

from __future__ import annotations

from ingest.hit_builder import text_member
from ingest.http_strict import CRLF, HOST, HttpLimits, Request

# Places in the list of fields. Text fields hold the hit's JSON member, the others the raw value.
HOST_FIELD, COOKIE, ADDRESS, PROTO, USER_AGENT, REFERER, ACCEPT_LANGUAGE, QUERY = range(8)
FIELDS = 8
MEMBERS = {USER_AGENT: b"user_agent", REFERER: b"referer", ACCEPT_LANGUAGE: b"accept_language"}
NAMES = {b"user-agent": USER_AGENT, b"referer": REFERER, b"accept-language": ACCEPT_LANGUAGE}

Fields = list[bytes | None]
Field = tuple[int, bytes] | None

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
PLAIN_QUERY = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"\\#')
VERSION = b" HTTP/1.1"

LINES_CACHED_MAX = 16_384
LINE_CACHED_BYTES_MAX = 512
NAMES_CACHED_MAX = 1024

# Fields that bear on framing or on the connection: the strict reader's business.
_STRICT = frozenset(
    {
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"keep-alive",
    }
)
# Fields whose lines are few and the same for many visitors.
_COMMON = frozenset(
    {
        b"host",
        b"connection",
        b"user-agent",
        b"accept",
        b"accept-language",
        b"accept-encoding",
        b"cache-control",
        b"pragma",
        b"priority",
        b"dnt",
        b"x-forwarded-proto",
        b"via",
        b"save-data",
    }
)


class NotPlainError(Exception):
    """The line is not one that the fast path decides about."""


class HeaderLines(dict[bytes, Field]):
    """Header lines, without CR LF, to what they mean; fills itself. Raises NotPlainError.

    `address_name` is the one lower-case field name that may hold the client's address.
    """

    def __init__(self, address_name: bytes) -> None:
        super().__init__()
        self._names: dict[bytes, tuple[int | None, bool]] = {}
        self._places = {
            **NAMES,
            b"host": HOST_FIELD,
            b"cookie": COOKIE,
            address_name: ADDRESS,
            b"x-forwarded-proto": PROTO,
        }

    def __missing__(self, line: bytes) -> Field:
        name, colon, value = line.partition(b":")
        known = self._names.get(name)
        place, common = known or self._name(name)
        if not colon or value.translate(None, VALUE):
            raise NotPlainError
        value = value.strip(b" \t")
        if place is None:
            field: Field = None
        elif place >= USER_AGENT:
            field = (place, text_member(MEMBERS[place], value))
        else:
            field = (place, value)
        if common:
            self._check(name, value)
            if len(line) <= LINE_CACHED_BYTES_MAX:
                if len(self) >= LINES_CACHED_MAX:
                    self.clear()
                self[line] = field
        return field

    def _name(self, name: bytes) -> tuple[int | None, bool]:
        """Return (place, whether its lines are common) of a field name as it was spelled."""
        lower = name.lower()
        if not name or name.translate(None, TOKEN) or lower in _STRICT:
            raise NotPlainError
        if len(self._names) >= NAMES_CACHED_MAX:
            self._names.clear()
        common = lower in _COMMON or lower.startswith(b"sec-")
        self._names[name] = known = (self._places.get(lower), common)
        return known

    @staticmethod
    def _check(name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"host" and not HOST(value):
            raise NotPlainError
        if lower == b"connection" and value.lower() != b"keep-alive":
            raise NotPlainError


class PixelHeads:
    """Recognizes pixel requests; makes the same fields of those that the strict reader read."""

    def __init__(self, pixel_path: str, address_header: str, limits: HttpLimits) -> None:
        self._address_name = address_header.encode()
        self._start = b"GET " + pixel_path.encode() + b"?"
        self._start_bytes = len(self._start)
        self._line_bytes_max = limits.target_bytes_max + len(b"GET " + VERSION)
        self._head_bytes_max = limits.head_bytes_max
        self._headers_max = limits.headers_max
        self._lines = HeaderLines(self._address_name)
        self._lookup = self._lines.__getitem__

    def recognize(self, head: bytes) -> Fields | None:
        """Return the fields of bytes that are exactly one common pixel request, else None."""
        if not head.startswith(self._start) or len(head) > self._head_bytes_max:
            return None
        lines = head.split(CRLF)
        line = lines.pop(0)
        query = line[self._start_bytes : -9]
        if (
            line[-9:] != VERSION
            or query.translate(None, PLAIN_QUERY)
            or len(lines) < 2
            or lines.pop()
            or lines.pop()
            or len(line) > self._line_bytes_max
            or len(lines) > self._headers_max
        ):
            return None
        fields: Fields = [None, None, None, None, None, None, None, b',"query":"%b"' % query if query else b""]
        try:
            for place, value in filter(None, map(self._lookup, lines)):
                if fields[place] is not None:
                    return None
                fields[place] = value
        except NotPlainError:
            return None
        return fields if fields[HOST_FIELD] is not None else None

    def fields_of(self, request: Request) -> Fields:
        """Return the fields of a request that the strict reader read; of repeated text fields the first counts."""
        fields: Fields = [None] * FIELDS
        fields[COOKIE] = request.joined(b"cookie", b"; ")
        fields[ADDRESS] = request.joined(self._address_name, b", ")
        fields[PROTO] = request.joined(b"x-forwarded-proto", b", ")
        for name, place in NAMES.items():
            value = request.header(name)
            if value is not None:
                fields[place] = text_member(MEMBERS[place], value)
        fields[QUERY] = text_member(b"query", request.query)
        return fields
