"""How far each spool was forwarded, kept across restarts, and the view of it that the ledger reads.

`DATA/forwarder/cursors.json` holds the spools that are there: `{id: {"ordinal", "byte", "number", "damaged"}}`.
`DATA/forwarder/finished.json` holds what became of the others: `{id: {"appended", "damaged"}}`, one entry of about 70
bytes for each collector start that kept a hit. It is written before a spool's directory is removed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from infra.journal.cursor import StateDamageError, StateFile
from infra.journal.reader import JournalReader, Position

logger = logging.getLogger(__name__)


class SpoolCursor(NamedTuple):
    """What of a spool the log has acknowledged: the place behind it, and how many numbers before it were damaged."""

    position: Position = Position()
    damaged: int = 0


class Totals(NamedTuple):
    """A finished spool: how many hits it was given, and how many of these were damaged."""

    appended: int
    damaged: int


class SpoolState(NamedTuple):
    """A spool for the ledger: hits appended so far, how many of them forwarded or damaged, and how many damaged."""

    appended: int
    forwarded: int
    damaged: int
    finished: bool


def spool_root(data_dir: Path) -> Path:
    """Return the directory of the spools."""
    return data_dir / "spool"


def forwarder_directory(data_dir: Path) -> Path:
    """Return the directory of the forwarder's own files."""
    return data_dir / "forwarder"


class Cursors:
    """The forwarder's two state files. A damaged one is set aside: resending is safe, the worker drops repeats."""

    def __init__(self, data_dir: Path, *, disk: bool) -> None:
        directory = forwarder_directory(data_dir)
        self._cursors_file = StateFile(directory / "cursors.json", disk=disk)
        self._finished_file = StateFile(directory / "finished.json", disk=disk)
        self.spools = _parse_cursors(_read_or_set_aside(self._cursors_file))
        self.finished = _parse_finished(_read_or_set_aside(self._finished_file))
        for spool in self.spools.keys() & self.finished.keys():  # ended just before the process did
            del self.spools[spool]

    def save(self) -> None:
        """Write all cursors. Raises OSError, and then the old ones stand."""
        state = {
            spool: {**cursor.position._asdict(), "damaged": cursor.damaged} for spool, cursor in self.spools.items()
        }
        self._cursors_file.write(state)

    def finish(self, spool: str, totals: Totals) -> None:
        """Keep a spool's totals, durably as set; its directory may go then. Raises OSError."""
        if totals.appended:
            finished = {**self.finished, spool: totals}
            self._finished_file.write({name: entry._asdict() for name, entry in finished.items()})
            self.finished = finished
        self.spools.pop(spool, None)


def ledger_view(data_dir: Path) -> dict[str, SpoolState]:
    """Return every spool that ever kept a hit, by its id. Changes nothing; may be called while the forwarder runs.

    Raises StateDamageError.
    """
    directory = forwarder_directory(data_dir)
    cursors = _parse_cursors(StateFile(directory / "cursors.json", disk=False).read())
    view: dict[str, SpoolState] = {}
    for spool in spool_names(data_dir):
        cursor = cursors.get(spool, SpoolCursor())
        reader = JournalReader(spool_root(data_dir) / spool, cursor.position)
        try:
            with suppress(FileNotFoundError):  # it ended just now; `finished` below knows
                appended = max(reader.to_end(), cursor.position.number)
                view[spool] = SpoolState(appended, cursor.position.number, cursor.damaged, finished=False)
        finally:
            reader.close()
    finished = _parse_finished(StateFile(directory / "finished.json", disk=False).read())  # last: it has the last word
    for spool, totals in finished.items():
        view[spool] = SpoolState(totals.appended, totals.appended, totals.damaged, finished=True)
    return view


def spool_names(data_dir: Path) -> list[str]:
    """Return the spools that are there, in the order of their names; one being made starts with a dot."""
    try:
        with os.scandir(spool_root(data_dir)) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def _read_or_set_aside(file: StateFile) -> Mapping[str, Mapping[str, int]] | None:
    try:
        return file.read()
    except StateDamageError as error:
        logger.error("%s; set aside, every spool is sent again from what is there", error)  # noqa: TRY400  no trace
        file.path.replace(file.path.with_name(file.path.name + ".damaged"))
        return None


def _parse_cursors(state: Mapping[str, Mapping[str, int]] | None) -> dict[str, SpoolCursor]:
    return {
        spool: SpoolCursor(Position(entry["ordinal"], entry["byte"], entry["number"]), entry["damaged"])
        for spool, entry in (state or {}).items()
    }


def _parse_finished(state: Mapping[str, Mapping[str, int]] | None) -> dict[str, Totals]:
    return {spool: Totals(entry["appended"], entry["damaged"]) for spool, entry in (state or {}).items()}
