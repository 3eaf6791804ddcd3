"""The rules that a batch's rows follow from, and the short name by which its registration says which they are. Pure.

Whoever forms a registered batch again does it by these, whatever the settings are by then: what its token has inserted,
or may still insert from a worker that is slow to die, are rows by these rules.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, Self

import msgspec

from consumers.rules import Rules
from schemas.session import SessionRule

NAME_BYTES = 8


class _Content(msgspec.Struct, frozen=True):
    """What is written down. A field that a later release adds has a default: what held before there was a choice."""

    rules: Rules
    session: SessionRule


class BatchRules(NamedTuple):
    """The steps' rules and the session rule; `text` is all of them in JSON, `name` its hash, 16 hex digits."""

    rules: Rules
    session: SessionRule
    text: str
    name: str

    @classmethod
    def of(cls, rules: Rules, session: SessionRule) -> Self:
        """Return rules with their text and name; equal rules have the same ones in every process."""
        text = msgspec.json.encode(_Content(rules, session), order="deterministic")
        return cls(rules, session, text.decode(), blake2b(text, digest_size=NAME_BYTES).hexdigest())

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Return the rules of a text, None where this release cannot read it."""
        try:
            content = msgspec.json.decode(text, type=_Content)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return None
        return cls.of(content.rules, content.session)
