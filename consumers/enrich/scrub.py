"""Persons' data and secrets taken out of page addresses, titles and properties, before there is a row.

Promise: what matches is replaced by `MARKER`; nothing raises, and the time is linear in the text: each pattern begins
at a character that it must hold, and those of the `scrub_patterns` setting run in RE2. Queries are cached
(`QUERIES_CACHED_MAX`); a path costs less than a look into a cache would.

What matches: e-mail addresses, plain or percent-encoded; JSON Web Tokens; the values of parameters and properties with
a private name (`data/private_parameters.tsv` and the setting `scrub_parameters`), in an address within a parameter as
well; the setting's patterns. Click ids stay as they are: they belong to the campaign. Of `utm_*` no name is private.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from consumers.enrich.tables import CLICK_IDS, PRIVATE_ALWAYS, PRIVATE_LONG, plain_name
from schemas.page import without_parameters
from schemas.pattern import compiled

MARKER: Final = "(redacted)"
LONG_CHARS_MIN: Final = 16
NESTED_MAX: Final = 2  # an address within a parameter of an address within a parameter
SCRUBS_CACHED_MAX = 16  # today's rules, and those of batches that a kill cut in half
QUERIES_CACHED_MAX = 8_192
NAMES_CACHED_MAX = 4_096
NAME_CACHED_CHARS_MAX: Final = 128
QUERY_CACHED_CHARS_MAX: Final = 1_024

_AT = r"(?:@|%(?:25)*40)"
_LABEL = r"(?:[\w-]|%(?:25)*[89A-Fa-f][0-9A-Fa-f])+"
_AT_DOMAIN: Final = re.compile(rf"{_AT}({_LABEL}(?:\.{_LABEL})+)")
_LOCAL_REVERSED: Final = re.compile(r"[\w.%+\-'~!$^*{}|]*")
# What ends a local part on its left when it is percent-encoded: = & ? / : # ; , [ ] < > " blank and control characters
_DELIMITER: Final = re.compile(r"%(?:25)*(?:[01][0-9A-Fa-f]|2[0236CcFf]|3[ABCDEFabcdef]|5[BbDd])")
_IMAGE_SCALE: Final = re.compile(r"[0-9](?:\.[0-9])?x\.[a-z]{3,5}")  # logo@2x.png
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,4}\.?")
_BLANK: Final = re.compile(r"\s|%20|\+")


class Scrub:
    """What is private besides the built-in kinds: plain names of parameters, and RE2 patterns. Compared by identity."""

    def __init__(self, parameters: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._always = PRIVATE_ALWAYS | {plain_name(name) for name in parameters}
        self._patterns = [compiled(pattern) for pattern in patterns]

    def page(self, path: str, query: str) -> tuple[str, str]:
        """Return a page's path and raw query, scrubbed."""
        if query:
            query = query_cached(self, query) if len(query) <= QUERY_CACHED_CHARS_MAX else self.query(query)
        return self.path(path), query

    def value(self, name: str, value: str) -> str:
        """Return the value of a property or a campaign's tag, scrubbed."""
        return MARKER if self._is_private(name, value) else self.text(value)

    def text(self, text: str) -> str:
        """Return a text, scrubbed of what is private wherever it stands."""
        if "@" in text or ("%" in text and "40" in text):
            text = _without_addresses(text)
        if "eyJ" in text:
            text = _TOKEN.sub(MARKER, text)
        for pattern in self._patterns:
            text = pattern.sub(MARKER, text)
        return text

    def path(self, path: str) -> str:
        """Return a path, scrubbed; its `;name=value` parameters as a query's."""
        if ";" not in path:
            return self.text(path)
        segments = path.split("/")
        return "/".join(";".join(self._parameter(part, 0) for part in segment.split(";")) for segment in segments)

    def query(self, query: str, depth: int = 0) -> str:
        """Return a raw query string, scrubbed."""
        if not query:
            return ""
        return "&".join([self._parameter(part, depth) for part in query.split("&")])

    def _parameter(self, part: str, depth: int) -> str:
        name, _, value = part.partition("=")
        if not value:
            return self.text(part)
        key = unquote(name).lower() if "%" in name else name.lower()
        if key in CLICK_IDS:
            return part
        if self._is_private(key, value):
            return f"{self.text(name)}={MARKER}"
        if depth < NESTED_MAX and ("%3D" in value or "%3d" in value):
            value = self._nested(value, depth)
        return self.text(f"{name}={value}")

    def _nested(self, value: str, depth: int) -> str:
        """Return a value that holds an address or a query of its own, scrubbed; as it was where nothing is private."""
        inner = unquote(value)
        before, mark, query = inner.partition("?")
        scrubbed = f"{before}?{self.query(query, depth + 1)}" if mark else self.query(inner, depth + 1)
        return value if scrubbed == inner else quote(scrubbed, safe="()")

    def _is_private(self, name: str, value: str) -> bool:
        plain = plain_cached(name) if len(name) <= NAME_CACHED_CHARS_MAX else ""
        if plain in self._always:
            return True
        return plain in PRIVATE_LONG and len(value) >= LONG_CHARS_MIN and not _BLANK.search(value)


@lru_cache(SCRUBS_CACHED_MAX)
def scrub_of(parameters: tuple[str, ...], patterns: tuple[str, ...]) -> Scrub:
    """Return the scrub of these rules, the same one for equal rules, so that its pages stay cached."""
    return Scrub(parameters, patterns)


@lru_cache(QUERIES_CACHED_MAX)
def query_cached(scrub: Scrub, query: str) -> str:
    """Return a page's query, scrubbed (the cache behind `Scrub.page`)."""
    return scrub.query(query)


@lru_cache(NAMES_CACHED_MAX)
def plain_cached(name: str) -> str:
    """Return a name as it is compared."""
    return plain_name(name)


def without_click_ids(query: str) -> str:
    """Return a raw query without the click ids' parameters: what is kept where ads were not consented to."""
    if not query:
        return ""
    if "%" in query:
        return without_parameters(query, CLICK_IDS)  # an escaped name is the same name
    return "&".join([part for part in query.split("&") if part.partition("=")[0].lower() not in CLICK_IDS])


def _without_addresses(text: str) -> str:
    kept, done, before = [], 0, 0
    for match in _AT_DOMAIN.finditer(text):
        at = match.start()
        reversed_local = _LOCAL_REVERSED.match(text[max(done, before) : at][::-1])  # behind the last @: stays linear
        start = at - reversed_local.end() if reversed_local else at
        for delimiter in _DELIMITER.finditer(text, start, at):
            start = delimiter.end()
        if start < at and _is_domain(match[1]):
            kept += [text[done:start], MARKER]
            done = match.end()
        before = at + 1
    return "".join([*kept, text[done:]]) if kept else text


def _is_domain(text: str) -> bool:
    top = text.rpartition(".")[2]
    is_name = top.isalpha() or top.lower().startswith("xn--") or "%" in top
    return is_name and len(top) > 1 and _IMAGE_SCALE.fullmatch(text) is None
