"""The edge in a simulation: collectors that write real spools, and the real forwarder, in a directory of their own.

What they do to files are steps of `chaos`: a write to a spool that tears, the state files, deletions. `installed` puts
these steps in; outside of it the product's code is as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from support.simulated_chaos import Chaos, Killed

from infra.journal import cursor, reader
from infra.journal.files import OsFiles
from ingest import forwarder, spool
from ingest.forwarder import Forwarder
from ingest.forwarder_cursor import spool_root
from ingest.log_writer.port import LogWriter
from ingest.spool import Spool
from schemas.errors import RetryError

SEGMENT_BYTES = 1024

Make = Callable[[str, int], bytes]  # (spool id, seq) -> a hit's bytes


class TornFiles(OsFiles):
    """Spool files whose writes a death cuts in half."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos

    def write(self, handle: int, data: bytes) -> int:
        try:
            self._chaos.point("spool write")
        except Killed:
            super().write(handle, data[: len(data) // 2])
            raise
        return super().write(handle, data)


class SimulatedCollector:
    """One collector: keeps the groups of `script`, one group a turn, under a new spool at every start."""

    reuses_spools = False

    def __init__(self, data_dir: Path, chaos: Chaos, script: Sequence[Sequence[Make]]) -> None:
        self.acknowledged: set[tuple[int, int]] = set()
        self.tried: set[tuple[int, int]] = set()
        self._data_dir = data_dir
        self._chaos = chaos
        self._script = list(script)
        self._spool: Spool | None = None

    @property
    def done(self) -> bool:
        return not self._script

    def turn(self) -> None:
        """Append the next group and answer; a group that was not answered is not sent again."""
        if self._spool is None:
            self._spool = Spool(
                spool_root(self._data_dir),
                bytes_max=1 << 30,
                segment_bytes_max=SEGMENT_BYTES,
                collectors=1,
                disk=False,
                files=TornFiles(self._chaos),
            )
        if not self._script:
            return
        kept = self._spool
        group = self._script.pop(0)
        names = [(int(kept.id, 16), kept.next_seq + place) for place in range(len(group))]
        self.tried.update(names)
        count = kept.append([make(kept.id, seq) for make, (_, seq) in zip(group, names, strict=True)])
        self._chaos.point("appended, not answered")
        self.acknowledged.update(names[:count])

    def die(self) -> None:
        """Leave everything as it is, as the kernel does for a killed process."""
        if self._spool is not None:
            writer = self._spool._writer
            for handle in (writer._handle, writer._spare, *writer._dirty):
                if handle >= 0:
                    os.close(handle)
            self._spool._lock.release()
            self._spool = None

    def end(self) -> None:
        """End in order."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None


class SimulatedForwarder:
    """The real forwarder, one round a turn."""

    def __init__(self, data_dir: Path, writer: LogWriter, clock_s: Callable[[], float]) -> None:
        self.writer = writer
        self._data_dir = data_dir
        self._clock_s = clock_s
        self._forwarder: Forwarder | None = None

    def turn(self) -> None:
        if self._forwarder is None:
            self._forwarder = Forwarder(
                self._data_dir, self.writer, batch_bytes_max=1 << 20, dead_check_s=0.0, clock_s=self._clock_s
            )
            finished(self._forwarder.open())
        try:
            finished(self._forwarder.step())
        except RetryError:
            return

    def die(self) -> None:
        if self._forwarder is not None:
            for held in self._forwarder._spools.values():
                held.close()
            self._forwarder._lock.release()
            self._forwarder = None


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing real, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the forwarder waits for something that the simulation does not have")


@contextmanager
def installed(chaos: Chaos) -> Iterator[None]:
    """Make what collectors and forwarder do to files steps of `chaos`, and spool ids the same in every run."""
    ids = iter(range(1, 1000))
    write, look, delete = cursor.StateFile.write, reader.JournalReader._successor, reader.JournalReader.delete_before

    def state_write(self: Any, state: Any) -> None:
        chaos.point(f"write {self.path.name}")
        write(self, state)
        chaos.point(f"{self.path.name} written")

    def successor(self: Any) -> Any:
        chaos.point("look for the successor")
        return look(self)

    def delete_before(self: Any, position: Any) -> Any:
        chaos.point("delete segments")
        count = delete(self, position)
        chaos.point("segments deleted")
        return count

    def rmtree(path: Path, *, ignore_errors: bool = False) -> None:
        chaos.point("remove spool")
        for entry in sorted(path.iterdir()):
            entry.unlink()
            chaos.point("remove spool, half done")
        shutil.rmtree(path, ignore_errors=ignore_errors)

    with (
        patch.object(cursor.StateFile, "write", state_write),
        patch.object(reader.JournalReader, "_successor", successor),
        patch.object(reader.JournalReader, "delete_before", delete_before),
        patch.object(forwarder, "shutil", SimpleNamespace(rmtree=rmtree)),
        patch.object(spool, "secrets", SimpleNamespace(randbits=lambda _: next(ids))),
        patch.object(spool, "SEGMENT_BYTES_MIN", SEGMENT_BYTES),
    ):
        yield
