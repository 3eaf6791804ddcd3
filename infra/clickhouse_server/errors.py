"""Failures as ClickHouse reports them: number, name, message, HTTP status.

Promise: what the engine raised reaches the client with its own number and name; a failure of the endpoint itself
uses the number ClickHouse uses for it.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"Code: (\d+)\. DB::\w*Exception: ", re.DOTALL)
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)")
_TAIL = re.compile(r"\.?\s*\((?:[A-Z][A-Z0-9_]+|version [^)]*)\)\.?\s*$")

# exceptionCodeToHTTPStatus.cpp of ClickHouse; every other number is a 500
_STATUS = {
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168), 400),
    **dict.fromkeys((223, 321, 376, 427, 441, 675, 676), 400),
    194: 401,
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    159: 408,
    381: 411,
    229: 413,
    779: 415,
    48: 501,
    **dict.fromkeys((76, 209, 439), 503),
}


class ServerError(Exception):
    """A failed request: ClickHouse's error `code` and `name`, and what happened, for a person.

    `status` overrides the HTTP status that ClickHouse gives the code.
    """

    def __init__(self, code: int, name: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.message = message
        self.status = status or _STATUS.get(code, 500)

    def text(self, version: str = "") -> str:
        """Return the body ClickHouse would send: `Code: N. DB::Exception: message. (NAME) (version …)`."""
        end = "" if self.message.endswith(".") else "."
        suffix = f" (version {version})" if version else ""
        return f"Code: {self.code}. DB::Exception: {self.message}{end} ({self.name}){suffix}\n"


def from_engine(error: BaseException) -> ServerError:
    """Return the engine's error; its text may carry the number several times, the first one counts."""
    text = str(error)
    match = _CODE.search(text)
    if match is None:
        return ServerError(1002, "UNKNOWN_EXCEPTION", text or type(error).__name__)
    names = _NAME.findall(text)
    message = text[match.end() :]
    while (again := _CODE.match(message)) is not None:
        message = message[again.end() :]
    shorter = _TAIL.sub("", message)
    while shorter != message:
        message, shorter = shorter, _TAIL.sub("", shorter)
    return ServerError(int(match.group(1)), names[-1] if names else "UNKNOWN_EXCEPTION", message.rstrip(" ."))


def syntax(message: str) -> ServerError:
    """Return a SYNTAX_ERROR (62)."""
    return ServerError(62, "SYNTAX_ERROR", message)


def denied(message: str) -> ServerError:
    """Return an ACCESS_DENIED (497)."""
    return ServerError(497, "ACCESS_DENIED", message)


def bad(message: str) -> ServerError:
    """Return a BAD_ARGUMENTS (36)."""
    return ServerError(36, "BAD_ARGUMENTS", message)


def not_implemented(message: str) -> ServerError:
    """Return a NOT_IMPLEMENTED (48)."""
    return ServerError(48, "NOT_IMPLEMENTED", message)
