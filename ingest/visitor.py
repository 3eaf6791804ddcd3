"""The visitor id and its cookie `_hs=<16 hex digits>.<birth second>`. Pure but for the random source passed in.

- An id is 64 random bits, never 0, drawn in batches. Id and birth never change, also when the cookie is sent again.
- A cookie is read as absent when it is malformed, stands there twice (in one Cookie field or in two), or was born more
  than a day ahead.
- The cookie holds no more than id and birth, so "due for renewal" is decided from these alone: every answer to a
  visitor born more than `cookie_renew_s` ago carries it again. An active visitor's cookie therefore never runs out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

COOKIE_NAME = b"_hs"
COOKIE_MAX_AGE_S = 34_128_000
BORN_AHEAD_S_MAX = 86_400
MINT_BATCH = 512
NO_VISITOR = b"0" * 16

_COOKIE = re.compile(rb"_hs=([0-9a-f]{16})\.([1-9][0-9]{0,10})[ \t]*(?=;|\Z)").match


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
        self._random = random
        self._ids: list[bytes] = []
        age = b"; Max-Age=%d" % COOKIE_MAX_AGE_S
        lax = b"; Path=/; HttpOnly; SameSite=Lax" + age
        if third_party:
            self._attributes = self._attributes_https = b"; Path=/; HttpOnly; SameSite=None; Secure; Partitioned" + age
        else:
            self._attributes_https = lax + b"; Secure"
            self._attributes = self._attributes_https if secure else lax

    def read(self, cookie: bytes | None, now_s: int) -> tuple[bytes, int] | None:
        """Return id and birth second of a Cookie field's value, or None where it holds no valid `_hs` cookie."""
        if cookie is None:
            return None
        at = cookie.find(b"_hs=")
        if at < 0:
            return None
        if cookie.find(b"_hs", at + 3) >= 0 or (at and cookie[at - 2 : at] != b"; "):
            return self._read_slowly(cookie, now_s)
        match = _COOKIE(cookie, at)
        if match is None:
            return None
        visitor, birth = match.groups()
        birth_s = int(birth)
        if birth_s > now_s + BORN_AHEAD_S_MAX or visitor == NO_VISITOR:
            return None
        return visitor, birth_s

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

    def _read_slowly(self, cookie: bytes, now_s: int) -> tuple[bytes, int] | None:
        """Read a Cookie field in which `_hs` stands more than once, or inside another name or value."""
        pairs = [pair.strip(b" \t") for pair in cookie.split(b";")]
        own = [pair for pair in pairs if pair.partition(b"=")[0].rstrip(b" \t") == COOKIE_NAME]
        return self.read(own[0], now_s) if len(own) == 1 and own[0].count(b"_hs") == 1 else None
