"""A small JSON state file: how far a reader came. Old or new, never half; with `disk` also after a power loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from infra.journal.files import write_atomic


class StateDamageError(Exception):
    """The state file is there but holds no JSON object; the message names it."""


class StateFile:
    """The JSON object in the file `path`. One writer at a time; readers may look at any time.

    With `disk`, a state is on disk before `write` returns; without, it survives the end of the process only.
    """

    def __init__(self, path: Path, *, disk: bool) -> None:
        self.path = path
        self._disk = disk

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None when none was ever written. Raises StateDamageError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            state = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise StateDamageError(f"{self.path}: {error}") from None
        if not isinstance(state, dict):
            raise StateDamageError(f"{self.path}: not a JSON object")
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state. Raises OSError, and then the old one stands."""
        write_atomic(self.path, orjson.dumps(state), disk=self._disk)
