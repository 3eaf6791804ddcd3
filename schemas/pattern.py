"""Regular expressions that users write: RE2's, so that no expression and no text can make one crawl."""

from __future__ import annotations

from typing import Protocol

import re2

_QUIET = re2.Options()
_QUIET.log_errors = False  # a wrong expression is the caller's to report


class Pattern(Protocol):
    """A compiled expression."""

    def sub(self, replacement: str, text: str) -> str:
        """Return the text with each match replaced."""
        ...


def compiled(expression: str) -> Pattern:
    """Return the compiled expression. Raises ValueError where it is none."""
    try:
        pattern: Pattern = re2.compile(expression, _QUIET)
    except re2.error as error:
        [why] = error.args
        raise ValueError(f"{expression!r} is no RE2 expression: {why.decode(errors='replace')}") from None
    return pattern
