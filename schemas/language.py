"""The visitor's language: the first one the browser names, as a normalized BCP 47 tag."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LANGUAGES_CACHED_MAX = 4_096
LANGUAGE_CHARS_MAX = 35  # BCP 47 (RFC 5646, 4.4.1): what a well-formed tag needs at most in practice
LIST_CHARS_MAX: Final = 256  # only the first tag counts; the rest of a long header is not looked at

_TAG = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,8}){0,8}")
_SCRIPT_CHARS = 4


def language(parameter: str, accept_language: str) -> str:
    """Return the first tag of the `l` parameter, else of the Accept-Language header, like 'en-US'; '' when malformed.

    Language in lower case, script in title case, region in upper case (RFC 5646, 2.1.1); '_' counts as '-'.
    """
    return first_tag(parameter[:LIST_CHARS_MAX]) or first_tag(accept_language[:LIST_CHARS_MAX])


@lru_cache(LANGUAGES_CACHED_MAX)
def first_tag(value: str) -> str:
    """Return the first tag of a comma-separated list, normalized (the cache behind `language`)."""
    if not value:
        return ""
    first = value.partition(",")[0].partition(";")[0].strip().replace("_", "-").lower()
    if len(first) > LANGUAGE_CHARS_MAX or not _TAG.fullmatch(first):
        return ""
    language, *subtags = first.split("-")
    parts = [language]
    for place, subtag in enumerate(subtags):
        if any(len(earlier) == 1 for earlier in subtags[:place]):
            parts.append(subtag)  # behind a singleton (-u-, -x-) stand extensions, all lower case
        elif len(subtag) == 2:
            parts.append(subtag.upper())
        elif len(subtag) == _SCRIPT_CHARS and subtag.isalpha():
            parts.append(subtag.title())
        else:
            parts.append(subtag)
    return "-".join(parts)
