"""What a user sees of an error: one line."""

from __future__ import annotations

import re

CHARS_MAX = 400
_SYSTEM = re.compile(r"\[Errno \d+\] ([A-Z][a-z ]+)")
_SERVER = re.compile(r"DB::Exception: (.*?)(?: \(version .*)?$", re.DOTALL)


class UserError(Exception):
    """Something the user can set right: the message says what is wrong and what to do next. Exit code 2."""


def cause(error: Exception) -> str:
    """Return the cause out of a client library's message: the system's words, the server's, else all; one line."""
    text = str(error)
    if system := _SYSTEM.search(text):
        return system.group(1).strip().lower()
    if server := _SERVER.search(text):
        text = server.group(1).partition(". Expected one of:")[0]
    line = " ".join(text.split())
    return line if len(line) <= CHARS_MAX else line[:CHARS_MAX] + " …"
