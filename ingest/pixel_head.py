"""The fast path: recognizes the head of the common pixel request, byte for byte; everything else is not its business.

Promise: what it accepts, `http_strict.py` reads exactly the same way. It accepts only `GET <pixel path>?<query>
HTTP/1.1` with printable ASCII in the query, header lines of token, colon and legal bytes, one Host, no field that bears
on framing or on the connection (but `Connection: keep-alive`), none of the fields we read twice, and all within the
limits. Anything else, right or wrong, is left to the strict reader (None).

Most of a browser's head is the same in every request of everybody who uses that browser, so it is looked at once and
then looked up. Cookie, referrer and, behind a proxy, the address are cut out and read every time; the block of lines
that is left is mapped to its fields (`_blocks`). A block that is not known, or differs from request to request, is read
line by line, where `HeaderLines` knows the common lines again. Both caches are bounded and hold no visitor's data.
"""

from __future__ import annotations

from typing import Any

from ingest.hit_builder import text_member
from ingest.http_strict import CRLF, HEAD_END, HOST, HttpLimits, Request

# Places in the list of fields. Text fields hold the hit's JSON member, the others the raw value.
HOST_FIELD, COOKIE, ADDRESS, PROTO, USER_AGENT, REFERER, ACCEPT_LANGUAGE, QUERY = range(8)
MEMBERS = {USER_AGENT: b"user_agent", REFERER: b"referer", ACCEPT_LANGUAGE: b"accept_language"}
NAMES = {b"user-agent": USER_AGENT, b"referer": REFERER, b"accept-language": ACCEPT_LANGUAGE}

# A request's fields by place: None for one that is absent, but b"" for an absent member.
Fields = list[Any]
Field = tuple[int, bytes] | None
Block = tuple[bytes, bytes, bytes]  # header lines, in the three pieces that cutting lines out leaves

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
PLAIN_QUERY = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"\\#')
VERSION = b" HTTP/1.1"
VERSION_END = VERSION + b"\r"

BLOCKS_CACHED_MAX = 8192
BLOCK_CACHED_BYTES_MAX = 2048
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


BLANKS = b" \t"
COOKIE_START = b"\r\nCookie: "
CUT_LINES = 3

NO_FIELDS: Fields = [None, None, None, None, b"", b"", b"", b""]


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
    """Recognizes pixel requests; makes the same fields of those that the strict reader read.

    `proxied`: connections may come from a trusted proxy, so that the address field is expected in every request.
    """

    def __init__(self, pixel_path: str, address_header: str, limits: HttpLimits, *, proxied: bool = False) -> None:
        self._address_name = address_header.encode()
        self._start = b"GET " + pixel_path.encode() + b"?"
        self._start_bytes = len(self._start)
        self._line_bytes_max = limits.target_bytes_max + len(b"GET " + VERSION)
        self._head_bytes_max = limits.head_bytes_max
        self._headers_max = limits.headers_max
        self._lines = HeaderLines(self._address_name)
        self._blocks: dict[Block, Fields] = {}
        self._address_start = b"\r\n" + self._address_name.title() + b": " if proxied else b""

    def recognize(self, head: bytes) -> Fields | None:  # noqa: C901, PLR0911, PLR0912  one pass, no calls: the hot path
        """Return the fields of bytes that are exactly one common pixel request, else None."""
        line_end = head.find(b"\n")
        query = head[self._start_bytes : line_end - 10]
        if (
            head[: self._start_bytes] != self._start
            or head[line_end - 10 : line_end] != VERSION_END
            or head[-4:] != HEAD_END
            or line_end > self._line_bytes_max
            or len(head) > self._head_bytes_max
        ):
            return None
        address = None
        if self._address_start:
            head, address = self._cut_address(head)
        front, has_referer, back = head.partition(b"\r\nReferer: ")
        front = front[line_end + 1 :]
        referer = b""
        if has_referer:
            end = back.find(b"\r")
            referer = back[:end]
            back = back[end:]
        cookie, block = _cut_cookie(front, back)
        if (query + referer).translate(None, PLAIN_QUERY):
            return None
        known = self._blocks.get(block) or self._read_block(block)
        if known is None:
            return None
        fields = known.copy()
        if query:
            fields[QUERY] = b',"query":"' + query + b'"'
        if has_referer:
            if fields[REFERER] is not None:
                return None
            fields[REFERER] = b',"referer":"' + referer + b'"' if referer else b""
        elif fields[REFERER] is None:
            fields[REFERER] = b""
        if cookie is not None:
            if fields[COOKIE] is not None or cookie.translate(None, VALUE):
                return None
            fields[COOKIE] = cookie.strip(BLANKS)
        if address is not None:
            if fields[ADDRESS] is not None or address.translate(None, VALUE):
                return None
            fields[ADDRESS] = address.strip(BLANKS)
        return fields

    def _cut_address(self, head: bytes) -> tuple[bytes, bytes | None]:
        """Return the head without the address field, and that one's value; None when it is not there."""
        front, found, back = head.partition(self._address_start)
        if not found:
            return head, None
        end = back.find(b"\r")
        return front + back[end:], back[:end]

    def _read_block(self, block: Block) -> Fields | None:
        """Return the fields of a block's lines; None when the fast path does not decide about them."""
        fields: Fields = [None] * len(NO_FIELDS)
        lines = b"".join(block).split(CRLF)
        if lines.pop() or lines.pop():  # it ends in an empty line
            return None
        try:
            for place, value in filter(None, map(self._lines.__getitem__, lines)):
                if fields[place] is not None:
                    return None
                fields[place] = value
        except NotPlainError:
            return None
        if fields[HOST_FIELD] is None or len(lines) > self._headers_max - CUT_LINES:
            return None
        for place in (USER_AGENT, ACCEPT_LANGUAGE):
            fields[place] = fields[place] or b""
        fields[QUERY] = b""
        if sum(map(len, block)) <= BLOCK_CACHED_BYTES_MAX and all(line in self._lines for line in lines):
            if len(self._blocks) >= BLOCKS_CACHED_MAX:
                self._blocks.clear()
            self._blocks[block] = fields
        return fields

    def fields_of(self, request: Request) -> Fields:
        """Return the fields of a request that the strict reader read; of repeated text fields the first counts."""
        fields = NO_FIELDS.copy()
        fields[COOKIE] = request.joined(b"cookie", b"; ")
        fields[ADDRESS] = request.joined(self._address_name, b", ")
        fields[PROTO] = request.joined(b"x-forwarded-proto", b", ")
        for name, place in NAMES.items():
            value = request.header(name)
            if value is not None:
                fields[place] = text_member(MEMBERS[place], value)
        fields[QUERY] = text_member(b"query", request.query)
        return fields


def _cut_cookie(front: bytes, back: bytes) -> tuple[bytes | None, Block]:
    """Return the value of the last `Cookie: ` line in the lines before and behind the referrer, and what is left.

    A value is cut before its CR; when no LF follows that, the CR stays in what is left, which is then refused.
    """
    before, found, after = back.rpartition(COOKIE_START)
    if found:
        end = after.find(b"\r")
        return after[:end], (front, before, after[end:])
    front, found, before = front.rpartition(COOKIE_START)
    if not found:
        return None, (front, before, after)
    end = before.find(b"\r")
    if end < 0:
        return before, (front, b"", after)
    return before[:end], (front, before[end:], after)
