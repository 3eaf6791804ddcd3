"""Segment names: `<ordinal, 10 digits>-<number of the first frame, 20 digits>.seg`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from infra.journal.files import Files

SUFFIX = ".seg"


class Segment(NamedTuple):
    """A segment file by its name: its place in the journal, and its first frame's number."""

    ordinal: int
    base: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.ordinal:010d}-{self.base:020d}{SUFFIX}"


def segments(files: Files, directory: Path) -> list[Segment]:
    """Return a journal's segments, oldest first."""
    found = []
    for name in files.names(directory):
        if name.endswith(SUFFIX) and not name.startswith("."):
            index, _, base = name.removesuffix(SUFFIX).partition("-")
            found.append(Segment(int(index), int(base)))
    return sorted(found)
