"""The salt of yesterday in `DATA/salt`: one line, readable by its owner alone (`cookieless.py` says what it is for).

- The file holds one salt, the oldest one still needed; today's follows from it. When it is replaced, what stood there
  before is overwritten with zeros: how soon the medium forgets it is the file system's business.
- It goes forward only: whoever comes later writes the salt that follows from what the file holds then, under a lock.
  So any number of collectors may do it at any time, and one that was stopped for days starts where it ended.
- A salt from the future is refused, but for one day: a clock that was set back over midnight keeps the later day.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.journal.files import write_atomic
from ingest.cookieless import Salt, date_of, parsed_salt, salt_line
from schemas.errors import FatalError

NAME = "salt"
MODE = 0o600
BYTES_MAX = 1024


class SaltError(FatalError):
    """There is no salt to be had; the message says why and what to do."""


class SaltFile:
    """The salt file of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / NAME

    def read(self) -> Salt:
        """Return the salt that the file holds. Raises SaltError."""
        with self._locked():
            return self._read()

    def advance(self, today: int) -> Salt:
        """Return the salt of the day before `today`, and leave no older one in the file. Raises SaltError."""
        with self._locked():
            salt = self._read()
            if salt.day > today:
                raise SaltError(
                    f"{self.path} holds the salt of {date_of(salt.day)}, and this machine's clock says "
                    f"{date_of(today)} UTC: set the clock, or start anew with `hitstream salt init --force`"
                )
            if salt.day < today - 1:
                salt = salt.of(today - 1)
                self._write(salt)
            return salt

    def put(self, salt: Salt, *, force: bool) -> None:
        """Write a salt that does not follow from what is there; without `force` only where nothing is.

        Raises SaltError.
        """
        with self._locked():
            if self.path.exists() and not force:
                raise SaltError(
                    f"{self.path} is there already: with another salt all visitors of cookieless sites are new ones. "
                    "`--force` replaces it"
                )
            self._write(salt)

    def stamp(self) -> tuple[int, int]:
        """Return what changes whenever the file is replaced; zeros while there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _read(self) -> Salt:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise SaltError(
                f"{self.path} is missing, and a cookieless site needs it: `hitstream salt init` makes one, "
                "`hitstream salt import` takes another edge's"
            ) from None
        except OSError as error:
            raise SaltError(f"{self.path} cannot be read: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            data = file.read(BYTES_MAX)
        if mode & 0o077:
            raise SaltError(
                f"{self.path} can be read by others (mode {mode:o}): they may know its visitors. "
                f"`chmod 600 {self.path}`, or start anew with `hitstream salt init --force`"
            )
        salt = parsed_salt(data.decode("latin-1"))
        if salt is None:
            raise SaltError(
                f"{self.path} is damaged: import another edge's salt (`hitstream salt import --force`), "
                "or start anew with `hitstream salt init --force`"
            )
        return salt

    def _write(self, salt: Salt) -> None:
        try:
            old = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            old = -1
        try:
            for left in self.path.parent.glob(
                f".{NAME}.*"
            ):  # by who was killed while writing: it must not outlast its day
                left.unlink()
            write_atomic(self.path, salt_line(salt).encode(), disk=True, mode=MODE)
            if old >= 0:
                os.pwrite(old, bytes(os.fstat(old).st_size), 0)
                os.fsync(old)
        except OSError as error:
            raise SaltError(f"{self.path} cannot be written: {error.strerror}") from None
        finally:
            if old >= 0:
                os.close(old)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that all who read or write the file take; they hold it for milliseconds."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path.with_name(f"{NAME}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        except OSError as error:
            raise SaltError(f"{self.path.parent} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
