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

from typing import Final

from ingest.consent import signals_of
from ingest.hit_builder import COMMON_MEMBERS, common_members, json_text
from ingest.http_strict import CRLF, HOST, HttpLimits, Request

# Places in a block's fields.
HOST_FIELD, COOKIE, ADDRESS, PROTO, SEC_GPC, DNT, ORIGIN, CONTENT_TYPE, REFERER, COMMON = range(
    10
)  # the fields of COMMON_MEMBERS stand last
NO_FIELDS = (None,) * (COMMON + len(COMMON_MEMBERS))
NAMES = {b"referer": REFERER, **{name: COMMON + place for place, name in enumerate(COMMON_MEMBERS)}}

# What a request says, but for its connection: cookie, address and X-Forwarded-Proto as raw values or None; the hit's
# members that come from common fields; referrer and query as the inside of a JSON string, b"" for none; the signals of
# `consent.signals_of`; Origin and Content-Type, together since only a POST has them.
Fields = tuple[bytes | None, bytes | None, bytes | None, bytes, bytes, bytes, int, "Sent"]
Sent = tuple[bytes | None, bytes | None]
Field = tuple[int, bytes] | None
# Header lines: before the referrer, from there up to the cookie, and the rest. None: there is no referrer, no cookie.
Block = tuple[bytes | None, bytes | None, bytes]
# The same of a block of lines, without the query; a referrer that is not there is None.
BlockFields = tuple[bytes | None, bytes | None, bytes | None, bytes, bytes | None, int, Sent]

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
# Tables for `translate`: what it gives back differs from what it got where that holds an odd byte.
PLAIN_TEXT: Final = bytes(byte if 0x20 < byte < 0x7F and byte not in b'"\\#' else ord("?") for byte in range(256))
PLAIN_COOKIE: Final = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in range(256))
VERSION_END: Final = b" HTTP/1.1\r\n"
REFERER_START: Final = b"\r\nReferer: "
COOKIE_START: Final = b"\r\nCookie: "
QUERY_START: Final = b"?"

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
        b"origin",
        b"content-type",
    }
)


BLANK: Final = b" "
BLANKS: Final = b" \t"
CUT_LINES: Final = 4  # Referer, Cookie, the address; Content-Length of a POST


class NotPlainError(Exception):
    """The line is not one that the fast path decides about."""


def cut_line(head: bytes, start: bytes) -> tuple[bytes, bytes | None]:
    """Return a head without its first line that begins with `start`, and that line's value; None when there is none.

    `start` is CR LF, the name as it is usually spelled, colon and blank. The value is as it came.
    """
    front, found, back = head.partition(start)
    if not found:
        return head, None
    end = back.find(b"\r")
    return front + back[end:], back[:end]


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
            b"sec-gpc": SEC_GPC,
            b"dnt": DNT,
            b"origin": ORIGIN,
            b"content-type": CONTENT_TYPE,
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
        elif place >= REFERER:
            field = (place, json_text(value))
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
    `method`: of other requests than pixels, which may have no query.
    """

    def __init__(
        self,
        path: str,
        address_header: str,
        limits: HttpLimits,
        *,
        proxied: bool = False,
        method: bytes = b"GET",
    ) -> None:
        self._address_name = address_header.encode()
        self._start = method + BLANK + path.encode()
        self._line_bytes_max = limits.target_bytes_max + len(method + BLANK)
        self._head_bytes_max = limits.head_bytes_max
        self._headers_max = limits.headers_max - CUT_LINES
        self._lines = HeaderLines(self._address_name)
        self._blocks: dict[Block, BlockFields] = {}
        self._address_start = b"\r\n" + self._address_name.title() + b": " if proxied else b""

    def recognize(self, head: bytes) -> Fields | None:  # noqa: C901, PLR0911, PLR0912  one pass, no calls: the hot path
        """Return the fields of bytes that are exactly one common request without a body, else None."""
        line, _, rest = head.partition(VERSION_END)
        start, _, query = line.partition(QUERY_START)
        if start != self._start or len(line) > self._line_bytes_max or len(head) > self._head_bytes_max:
            return None
        address = None
        if self._address_start:
            rest, address = cut_line(rest, self._address_start)
        front: bytes | None
        before: bytes | None
        front, has_referer, back = rest.partition(REFERER_START)
        if has_referer:
            end = back.find(CRLF)
            referer, back = back[:end], back[end:]
        else:
            front, back, referer = None, rest, b""
        before, has_cookie, after = back.rpartition(COOKIE_START)
        if has_cookie:
            cookie, _, after = after.partition(CRLF)
        else:
            before, cookie = None, b""
        text = query + referer
        if text.translate(PLAIN_TEXT) != text or cookie.translate(PLAIN_COOKIE) != cookie:
            return None
        block = (front, before, after)
        known = self._blocks.get(block) or self._read_block(block)
        if known is None:
            return None
        known_cookie, known_address, proto, common, known_referer, signals, sent = known
        if known_referer is not None:
            if has_referer:
                return None
            referer = known_referer
        if has_cookie:
            if known_cookie is not None:
                return None
            known_cookie = cookie.strip(BLANK)
        if address is not None:
            if known_address is not None or address.translate(None, VALUE):
                return None
            known_address = address.strip(BLANKS)
        return known_cookie, known_address, proto, common, referer, query, signals, sent

    def _read_block(self, block: Block) -> BlockFields | None:
        """Return the fields of a block's lines; None when the fast path does not decide about them."""
        front, before, after = block
        parts = [] if front is None else [front]
        rest = after if before is None else before
        if front is not None:
            rest = rest.removeprefix(CRLF)  # the referrer line's own end
        parts += [rest] if before is None else [rest, after] if before else [after]
        lines = CRLF.join(parts).split(CRLF)
        if lines[-2:] != [b"", b""]:  # it ends in an empty line
            return None
        del lines[-2:]
        fields: list[bytes | None] = [*NO_FIELDS]
        try:
            for place, value in filter(None, map(self._lines.__getitem__, lines)):
                if fields[place] is not None:
                    return None
                fields[place] = value
        except NotPlainError:
            return None
        if fields[HOST_FIELD] is None or len(lines) > self._headers_max:
            return None
        common = common_members(fields[COMMON:])
        signals = signals_of(fields[SEC_GPC], fields[DNT])
        sent = (fields[ORIGIN], fields[CONTENT_TYPE])
        known = (fields[COOKIE], fields[ADDRESS], fields[PROTO], common, fields[REFERER], signals, sent)
        if len(b"".join(filter(None, block))) <= BLOCK_CACHED_BYTES_MAX and all(line in self._lines for line in lines):
            if len(self._blocks) >= BLOCKS_CACHED_MAX:
                self._blocks.clear()
            self._blocks[block] = known
        return known

    def fields_of(self, request: Request) -> Fields:
        """Return the fields of a request that the strict reader read; of repeated text fields the first counts."""
        return (
            request.joined(b"cookie", b"; "),
            request.joined(self._address_name, b", "),
            request.joined(b"x-forwarded-proto", b", "),
            common_members(json_text(request.header(name) or b"") for name in COMMON_MEMBERS),
            json_text(request.header(b"referer") or b""),
            json_text(request.query),
            signals_of(request.joined(b"sec-gpc", b", "), request.joined(b"dnt", b", ")),
            (request.header(b"origin"), request.header(b"content-type")),
        )
