"""The adapters of the event log, each as the contract suite meets it. A new adapter joins by an entry in ADAPTERS."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.memory_log import MemoryLog, MemoryLogReader, MemoryLogWriter

from consumers.log_reader.local import LocalLogReader
from infra.journal.local_log import log_root
from ingest.log_writer.local import LocalLogWriter
from schemas.settings import KIB, Settings

PARTITIONS = 4


class LogAdapter:
    """One log with `PARTITIONS` partitions; writers and readers come and go."""

    def __init__(self) -> None:
        self._open: list = []

    def writer(self):
        """Open the writing end."""
        raise NotImplementedError

    def reader(self, worker: int = 0, workers: int = 1):
        """Join as worker `worker` of `workers`."""
        raise NotImplementedError

    def take_over(self, reader):
        """Have another worker assigned `reader`'s partitions, without `reader` being asked; return the new one."""
        raise NotImplementedError

    def append(self, runs) -> None:
        """Append with a writer that stays open until `restart_writer`."""
        if not self._open:
            self._open.append(self.writer())
        asyncio.run(self._open[0].append(runs))

    def restart_writer(self) -> None:
        """Close the writer; the next append opens another."""
        while self._open:
            asyncio.run(self._open.pop().close())

    def close(self) -> None:
        """End everything."""
        self.restart_writer()


class MemoryAdapter(LogAdapter):
    """In memory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.log = MemoryLog(PARTITIONS)

    def writer(self):
        return MemoryLogWriter(self.log)

    def reader(self, worker: int = 0, workers: int = 1):
        return MemoryLogReader(self.log)

    def take_over(self, reader):
        self.log.leave(reader)
        return MemoryLogReader(self.log)


class LocalAdapter(LogAdapter):
    """Local partitions on disk."""

    sync = "os"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.settings = Settings(
            data_dir=directory,
            partitions=PARTITIONS,
            segment_bytes_max=64 * KIB,
            log_bytes_max=2048 * KIB,
            sync=self.sync,
        )
        self.readers: list[LocalLogReader] = []

    def writer(self):
        return LocalLogWriter.open(self.settings)

    def reader(self, worker: int = 0, workers: int = 1):
        root = log_root(self.settings.data_dir)
        self.readers.append(LocalLogReader(root, worker=worker, workers=workers, disk=self.sync == "disk"))
        return self.readers[-1]

    def take_over(self, reader):
        for log in reader.assigned():
            log._lock.release()  # as the kernel does for a dead process
        return self.reader()

    def close(self) -> None:
        super().close()
        for reader in self.readers:
            reader.close()


class LocalDiskAdapter(LocalAdapter):
    """Local partitions, synced."""

    sync = "disk"


ADAPTERS = {"memory": MemoryAdapter, "local": LocalAdapter, "local, synced": LocalDiskAdapter}
