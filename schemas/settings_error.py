"""What is wrong with the settings, in words: each with its place and, where the file says it, its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.toml_lines import line_of

KEY_ITSELF = "[key]"  # pydantic's word for a table's key as the place of an error


class SettingsError(Exception):
    """The settings cannot be used; the message names each wrong one and where it came from.

    `problems` are the same without the place.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (message,)


def unusable(path: Path, wrong: Sequence[tuple[Sequence[str | int], str]]) -> SettingsError:
    """Return the error that names what is wrong: (place, why). `path` is the settings file; it need not exist."""
    text = path.read_text() if path.is_file() else ""
    places = [[part for part in loc if part != KEY_ITSELF] for loc, _ in wrong]
    said = [message.removeprefix("Value error, ") for _, message in wrong]
    problems = [f"{'.'.join(map(str, place))}: {why}" for place, why in zip(places, said, strict=True)]
    lines = [_where(text, place) + problem for place, problem in zip(places, problems, strict=True)]
    where = f"settings cannot be used, see HITSTREAM_* variables and {path}"
    return SettingsError("\n  ".join([f"{where}:", *lines]), problems)


def got(loc: Sequence[str | int], value: object) -> str:
    """Return the refused value in words, unless it is a secret or may hold some."""
    secret = any(word in str(part) for part in loc for word in ("password", "key"))
    return f" (got {value!r})" if isinstance(value, (str, int, float)) and not secret else ""


def _where(text: str, loc: Sequence[str | int]) -> str:
    line = line_of(text, loc)
    return f"line {line}: " if line else ""
