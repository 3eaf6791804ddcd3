"""Keeps a collector's salts in step with the clock and with the salt file, and the file free of salts that are past.

- A new day needs no file: its salt follows from the one in memory. So midnight is the same instant for every process
  whose clock says so, and a disk that is full, or a file that is gone, stops nobody who runs.
- What is written comes from what the file holds (`SaltFile.advance`), never from memory: a salt that was imported
  meanwhile is kept, and taken up by every collector of the edge within a sweep or two.
- Files are read and written in a thread; the event loop looks at the file's stamp alone.
"""

from __future__ import annotations

import asyncio
import logging

from ingest.cookieless import DailySalts, Salt, date_of, day_of
from ingest.salt_file import SaltError, SaltFile

log = logging.getLogger(__name__)

Look = tuple[tuple[int, int], Salt | SaltError]


class SaltKeeper:
    """Owns `salts`, which are right for every later time. Raises SaltError when there is none to begin with."""

    def __init__(self, file: SaltFile, now_s: float) -> None:
        self._file = file
        self._stamp = file.stamp()
        today = day_of(now_s)
        salt = file.advance(today)
        self.salts = DailySalts(salt)
        self._kept = salt.day
        self._looking: asyncio.Future[Look] | None = None
        self._said = ""
        if salt.day >= today:
            log.warning("the clock was set back: %s goes on for cookieless visitors", date_of(salt.day + 1))

    def look(self, now_s: float) -> None:
        """Follow clock and file, without waiting; called about once a second, in the event loop."""
        self.salts.reach(int(now_s))
        if self._looking is not None:
            return
        today = self.salts.yesterday.day + 1
        if self._file.stamp() != self._stamp or self._kept < today - 1:
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._advance, today)
            self._looking.add_done_callback(self._looked)

    def _advance(self, today: int) -> Look:
        """Return the file's stamp from before, and its salt or why there is none; in a thread."""
        stamp = self._file.stamp()
        try:
            return stamp, self._file.advance(today)
        except SaltError as error:
            return stamp, error

    def _looked(self, done: asyncio.Future[Look]) -> None:
        self._looking = None
        if done.cancelled():
            return
        self._stamp, found = done.result()
        if isinstance(found, Salt):
            self._kept, self._said = found.day, ""
            if found.of(max(found.day, self.salts.yesterday.day)) != self.salts.yesterday:
                log.warning("another salt was imported: all cookieless visitors are new ones")
                self.salts.replace(found)
        elif str(found) != self._said:
            self._said = str(found)
            log.error("%s. What is in memory still serves; this process cannot be started again", found)
