"""The local log's directory, as its writer (the forwarder) and its readers (the workers) both see it.

```
DATA/log/hits/partitions.json            {"partitions": n}, written once
              writer.lock                held by the one writer
              <partition, 4 digits>/     a journal: frame number = offset, payload = the hit's JSON
                   owner.lock            held by the worker that owns the partition
                   committed.json        {"first", "last", "at_ms", "rules"}: the batch that was last registered
```
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from infra.journal.cursor import StateDamageError, StateFile
from schemas.errors import FatalError
from schemas.topics import HITS


class Committed(NamedTuple):
    """The batch that was last registered: first and last offset, when, in ms since 1970 UTC, and by which rules."""

    first: int
    last: int
    at_ms: int
    rules: str = ""


def log_root(data_dir: Path) -> Path:
    """Return the directory of the local log."""
    return data_dir / "log" / HITS


def partitions_file(root: Path) -> Path:
    """Return the file that fixes the partition count."""
    return root / "partitions.json"


def partition_directory(root: Path, partition: int) -> Path:
    """Return a partition's journal directory."""
    return root / f"{partition:04d}"


def partition_count(root: Path) -> int | None:
    """Return how many partitions the log has, None before it is made. Raises FatalError."""
    path = partitions_file(root)
    try:
        state = StateFile(path, disk=False).read()
        return None if state is None else int(state["partitions"])
    except (StateDamageError, KeyError, TypeError, ValueError) as error:
        raise FatalError(
            f"{path} is damaged ({error!r}); write the count the log was made with into it: "
            f'{{"partitions": <number of partitions>}}'
        ) from None


def read_committed(directory: Path) -> Committed | None:
    """Return what was last registered for the partition in `directory`, None for a fresh one. Raises FatalError."""
    path = directory / "committed.json"
    try:
        state = StateFile(path, disk=False).read()
        if state is None:
            return None
        return Committed(int(state["first"]), int(state["last"]), int(state["at_ms"]), str(state.get("rules", "")))
    except (StateDamageError, KeyError, TypeError, ValueError) as error:
        raise FatalError(
            f"{path} is damaged ({error!r}): where the next batch starts is unknown. Write into it the newest row of "
            "`hitstream.batches` for this partition, as "
            '{"first": batch_first, "last": batch_last, "at_ms": <now, ms>}'
        ) from None


def write_committed(directory: Path, committed: Committed, *, disk: bool) -> None:
    """Replace what is registered for a partition; with `disk` durably. Raises OSError."""
    StateFile(directory / "committed.json", disk=disk).write(committed._asdict())
