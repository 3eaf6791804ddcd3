"""A data directory with spools, an event log in memory, and forwarders that come, fail and go."""

import asyncio

from support.memory_log import MemoryLog, MemoryLogWriter
from support.spools import TestSpool, name_of

from ingest.forwarder import Forwarder
from schemas.settings import KIB

PARTITIONS = 3


class Crash(BaseException):
    """The process ends here."""


class Box:
    """A data directory, a log in memory and forwarders that come and go."""

    def __init__(self, data_dir, **options):
        self.data_dir = data_dir
        self.log = MemoryLog(PARTITIONS)
        self.before_record = lambda: None
        self.options = {"batch_bytes_max": 64 * KIB, "dead_check_s": 0.0, **options}
        self.spools = {}
        self.forwarder = None

    def spool(self, name, **options):
        self.spools[name] = TestSpool(self.data_dir, name, **options)
        return self.spools[name]

    def start(self):
        writer = MemoryLogWriter(self.log, self._before)
        self.forwarder = Forwarder(self.data_dir, writer, **self.options)
        asyncio.run(self.forwarder.open(lock_wait_s=0.0))
        return self.forwarder

    def _before(self):
        self.before_record()  # whatever it is by now

    def step(self):
        return asyncio.run(self.forwarder.step())

    def steps(self):
        """Until a whole round has nothing to do."""
        while self.step():
            pass

    def restart(self):
        """As after kill -9: nothing is said or saved."""
        for spool in self.forwarder._spools.values():
            spool.close()
        self.forwarder._lock.release()
        self.start()

    def values(self, partition):
        return [value for _, value in self.log.records[partition]]

    def accepted(self):
        """Every spool's numbers as a worker takes them: per partition what exceeds the highest seen of its spool."""
        names = []
        for partition in range(PARTITIONS):
            highest = {}
            for value in self.values(partition):
                spool, seq = name_of(value)
                if seq > highest.get(spool, -1):
                    highest[spool] = seq
                    names.append((spool, seq))
        return sorted(names)

    async def run_until(self, condition, during=lambda: None):
        stop = asyncio.Event()
        writer = MemoryLogWriter(self.log, self._before)
        self.forwarder = Forwarder(self.data_dir, writer, **self.options)
        task = asyncio.create_task(self.forwarder.run(stop))
        async with asyncio.timeout(20):
            while not condition() and not task.done():
                during()
                await asyncio.sleep(0.002)
        stop.set()
        await asyncio.wait_for(task, 20)

    def close(self):
        if self.forwarder:
            asyncio.run(self.forwarder.close())
        for spool in self.spools.values():
            spool.die()
