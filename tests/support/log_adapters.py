"""The adapters of the event log, each as the contract suite meets it. A new adapter joins by an entry in ADAPTERS."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from support.kafka import unique
from support.memory_log import MemoryLog, MemoryLogReader, MemoryLogWriter

from consumers.log_reader.kafka import KafkaLogReader
from consumers.log_reader.local import LocalLogReader
from infra.journal.local_log import log_root
from ingest.log_writer.kafka import KafkaLogWriter
from ingest.log_writer.local import LocalLogWriter
from schemas.settings import KIB, Settings
from schemas.topics import HITS

PARTITIONS = 4


ASSIGNED_S_MAX = 20.0


class LogAdapter:
    """One log with `PARTITIONS` partitions; writers and readers come and go."""

    needs: tuple[str, ...] = ()  # fixtures whose values it is made with
    topic = HITS

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


class KafkaAdapter(LogAdapter):
    """A topic of its own, and a group of its own.

    A taker-over is the same static member started again: the broker knows the former one no longer, which, without a
    heartbeat for as long as a test lasts, does not know that.
    """

    needs = ("kafka_servers",)

    def __init__(self, directory: Path, servers: str) -> None:
        super().__init__()
        self.topic = unique("hits")
        self.settings = Settings(
            data_dir=directory,
            kafka_bootstrap_servers=servers,
            kafka_topic=self.topic,
            kafka_group=unique("workers"),
            partitions=PARTITIONS,
            kafka_session_timeout_s=30.0,
        )
        self.alone = self.settings.model_copy(update={"kafka_instance_id": "alone"})
        self.readers: list[KafkaLogReader] = []
        self._runner = asyncio.Runner()

    def writer(self):
        return KafkaLogWriter.open(self.settings)

    def append(self, runs) -> None:
        if not self._open:
            self._open.append(self.writer())
        self._runner.run(self._open[0].append(runs))

    def restart_writer(self) -> None:
        while self._open:
            self._runner.run(self._open.pop().close())

    def reader(self, worker: int = 0, workers: int = 1):
        if workers == 1:
            self.readers.append(KafkaLogReader(self.alone, heartbeat_s=25.0))
        else:
            self.readers.append(KafkaLogReader(self.settings, heartbeat_s=0.1))
        if worker == workers - 1:
            self._wait_assigned(self.readers[-workers:])
        return self.readers[-1]

    def take_over(self, reader):
        return self.reader()

    def close(self) -> None:
        super().close()
        self._runner.close()
        for reader in self.readers:
            reader.close()

    @staticmethod
    def _wait_assigned(readers) -> None:
        deadline_s = time.monotonic() + ASSIGNED_S_MAX
        while True:
            shares = [[log.partition for log in reader.assigned()] for reader in readers]
            if all(shares) and sorted(number for share in shares for number in share) == list(range(PARTITIONS)):
                return
            assert time.monotonic() < deadline_s, (shares, [reader.trouble for reader in readers])
            time.sleep(0.01)


ADAPTERS = {
    "memory": MemoryAdapter,
    "local": LocalAdapter,
    "local, synced": LocalDiskAdapter,
    "kafka": KafkaAdapter,
}
