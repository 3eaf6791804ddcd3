"""Segment names: `<ordinal, 10 digits>-<number of the first frame, 20 digits>.seg`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from infra.journal.files import Files

SUFFIX = ".seg"
_NAME = re.compile(r"(\d{10})-(\d{20})\.seg")


class Segment(NamedTuple):
    """A segment file by its name: its place in the journal, and its first frame's number."""

    ordinal: int
    base: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.ordinal:010d}-{self.base:020d}{SUFFIX}"


def segments(files: Files, directory: Path) -> list[Segment]:
    """Return a journal's segments, oldest first; other files in the directory are none of its business."""
    matches = map(_NAME.fullmatch, files.names(directory))
    return sorted(Segment(int(match[1]), int(match[2])) for match in matches if match)
