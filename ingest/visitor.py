"""The visitor id and its cookie `_hs=<16 hex digits>.<birth second>`. Pure but for the random source passed in.

- An id is 64 random bits, never 0, drawn in batches. Id and birth never change, also when the cookie is sent again.
- A cookie is read as absent when it is malformed, stands there twice (in one Cookie field or in two), or was born more
  than a day ahead.
- The opt-out cookie is `_hs_out=1`, and one that says so is enough. Who has it, is read as OPTED_OUT and no id.
- The cookie holds no more than id and birth, so "due for renewal" is decided from these alone: every answer to a
  visitor born more than `cookie_renew_s` ago carries it again. An active visitor's cookie therefore never runs out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from ingest.hit_builder import NO_VISITOR

COOKIE_NAME: Final = b"_hs"
OPT_OUT: Final = b"_hs_out=1"
COOKIE_MAX_AGE_S: Final = 34_128_000
AGE: Final = b"; Max-Age=%d" % COOKIE_MAX_AGE_S
BORN_AHEAD_S_MAX: Final = 86_400
MINT_BATCH: Final = 512
BLANKS: Final = b" \t"

ENDS: Final = (b"", b";")  # of a cookie
# Of an id in hexadecimal, `translate` gives back the same.
HEX: Final = bytes(byte if byte in b"0123456789abcdef" else ord("?") for byte in range(256))

Known = tuple[bytes, int]  # id and birth second
OPTED_OUT: Known = (NO_VISITOR, 0)  # nobody else has this id

_VALUE = re.compile(rb"([0-9a-f]{16})\.([1-9][0-9]{0,10})[ \t]*(?=;|\Z)").match


class Visitors:
    """Reads, makes and writes visitor cookies. An id is 16 hex digits, a birth seconds since 1970.

    A cookie born more than `renew_s` ago is due for renewal. `random(n)` returns n random bytes.
    """

    def __init__(
        self,
        *,
        renew_s: int,
        secure: bool,
        third_party: bool,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.renew_s = renew_s
        self._now_s = -1
        self.at(0)
        self._random = random
        self._ids: list[bytes] = []
        lax = b"; Path=/; HttpOnly; SameSite=Lax" + AGE
        if third_party:
            self._attributes = self._attributes_https = b"; Path=/; HttpOnly; SameSite=None; Secure; Partitioned" + AGE
        else:
            self._attributes_https = lax + b"; Secure"
            self._attributes = self._attributes_https if secure else lax

    def read(self, cookie: bytes | None, now_s: int) -> Known | None:
        """Return id and birth second of a Cookie field's value, None where it holds no valid `_hs` cookie.

        OPTED_OUT where it holds the opt-out cookie.
        """
        if cookie is None or cookie.find(b"_hs") < 0:
            return None
        _, behind_another, value = cookie.partition(b"; _hs=")
        match = _VALUE(value) if behind_another else _VALUE(cookie, 4) if cookie[:4] == b"_hs=" else None
        if match is None or cookie.count(b"_hs") != 1:  # there may be no such cookie, several, or the opt-out cookie
            pairs = _pairs(cookie)
            if OPT_OUT in pairs:
                return OPTED_OUT
            own = [pair for pair in pairs if pair.partition(b"=")[0].rstrip(BLANKS) == COOKIE_NAME]
            match = _VALUE(own[0], 4) if len(own) == 1 and own[0][:4] == b"_hs=" else None
            if match is None:
                return None
        visitor, birth = match.groups()
        birth_s = int(birth)
        if birth_s > now_s + BORN_AHEAD_S_MAX or visitor == NO_VISITOR:
            return None
        return visitor, birth_s

    def at(self, now_s: int) -> None:
        """Set the time that `returning` goes by."""
        if now_s != self._now_s:
            self._now_s = now_s
            self._due, self._ahead = b".%d" % (now_s - self.renew_s), b".%d" % (now_s + BORN_AHEAD_S_MAX)

    def returning(self, cookie: bytes | None) -> bytes | None:
        """Return the id of a Cookie field that holds a valid `_hs`, and one only, not due for renewal.

        The cheap way to what `read` finds for most visitors; None: ask `read`. Births of ten digits compare as text.
        """
        if cookie is None:
            return None
        front, _, value = cookie.partition(b"_hs=")
        visitor, birth = value[:16], value[16:27]
        if (
            self._due <= birth <= self._ahead
            and birth[1:].isdigit()
            and visitor.translate(HEX) == visitor != NO_VISITOR
            and value[27:28] in ENDS
            and (not front or front[-2:] == b"; ")
            and cookie.count(b"_hs") == 1
        ):
            return visitor
        return None

    def mint(self) -> bytes:
        """Return a fresh id."""
        while True:
            if not self._ids:
                digits = self._random(8 * MINT_BATCH).hex().encode()
                self._ids = [digits[at : at + 16] for at in range(0, len(digits), 16)]
            fresh = self._ids.pop()
            if fresh != NO_VISITOR:
                return fresh

    def set_cookie(self, visitor: bytes, birth_s: int, *, https: bool) -> bytes:
        """Return the Set-Cookie line, CR LF included."""
        attributes = self._attributes_https if https else self._attributes
        return b"Set-Cookie: _hs=%b.%d%b\r\n" % (visitor, birth_s, attributes)

    def set_optout(self, *, out: bool, https: bool) -> bytes:
        """Return the Set-Cookie lines that opt out and take the visitor back, or the one that takes the opt-out back.

        The opt-out cookie is never `Partitioned`: it is set on our own page, and is to be sent from every site's.
        """
        attributes = self._attributes_https if https else self._attributes
        whole, gone = attributes.replace(b"; Partitioned", b""), attributes.replace(AGE, b"; Max-Age=0")
        if out:
            return b"Set-Cookie: %b%b\r\nSet-Cookie: _hs=%b\r\n" % (OPT_OUT, whole, gone)
        return b"Set-Cookie: _hs_out=%b\r\n" % whole.replace(AGE, b"; Max-Age=0")


def opted_out(cookie: bytes | None) -> bool:
    """Return whether a Cookie field's value holds the opt-out cookie."""
    return cookie is not None and OPT_OUT in _pairs(cookie)


def _pairs(cookie: bytes) -> list[bytes]:
    return [pair.strip(BLANKS) for pair in cookie.split(b";")]
