"""The few file operations a journal needs, as a port: the real file system here, a fake one in the tests."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """File operations by path and handle. All raise OSError as the `os` module does."""

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory; [] when it does not exist."""
        ...

    def create(self, path: Path, size: int) -> int:
        """Create a file that must not exist, with `size` zero bytes that are sure to be there; return a handle at 0."""
        ...

    def write(self, handle: int, data: bytes) -> int:
        """Write at the handle's place; return how many bytes got in."""
        ...

    def truncate(self, handle: int) -> None:
        """Cut the file at the handle's place."""
        ...

    def datasync(self, handle: int) -> None:
        """Return when the file's data are on disk."""
        ...

    def sync_directory(self, directory: Path) -> None:
        """Return when the directory's names are on disk."""
        ...

    def open(self, path: Path) -> int:
        """Open a file for reading; return a handle."""
        ...

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        ...

    def close(self, handle: int) -> None:
        """Close a handle."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Delete a file; a missing one is fine."""
        ...


class OsFiles:
    """The real file system."""

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory; [] when it does not exist."""
        try:
            return os.listdir(directory)  # noqa: PTH208  names, not paths: this is asked on every idle read
        except FileNotFoundError:
            return []

    def create(self, path: Path, size: int) -> int:
        """Create a file of `size` allocated zero bytes, so that a full disk shows here and not at a hit."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return handle

    def write(self, handle: int, data: bytes) -> int:
        """Write at the handle's place; return how many bytes got in."""
        return os.write(handle, data)

    def truncate(self, handle: int) -> None:
        """Cut the file at the handle's place."""
        os.ftruncate(handle, os.lseek(handle, 0, os.SEEK_CUR))

    def datasync(self, handle: int) -> None:
        """Return when the file's data are on disk."""
        os.fdatasync(handle)

    def sync_directory(self, directory: Path) -> None:
        """Return when the directory's names are on disk."""
        handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def open(self, path: Path) -> int:
        """Open a file for reading; return a handle."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        return os.pread(handle, size, offset)

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, atomically."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Delete a file; a missing one is fine."""
        path.unlink(missing_ok=True)


class Lock:
    """An exclusive lock of this process on a file; the kernel frees it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    @property
    def held(self) -> bool:
        """Whether the lock is ours."""
        return self._handle >= 0

    def acquire(self) -> bool:
        """Take the lock if it is free; return whether it is ours."""
        if self._handle >= 0:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def write_atomic(path: Path, data: bytes, *, disk: bool, mode: int = 0o640) -> None:
    """Replace a file's content so that a reader, or a restart, finds the old or the new one, whole.

    With `disk` it is also on disk before this returns.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:  # a disk that fills up midway takes a part first and refuses the next
            view = view[os.write(handle, view) :]
        if disk:
            os.fsync(handle)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
    finally:
        os.close(handle)
    fresh.replace(path)
    if disk:
        OsFiles().sync_directory(path.parent)
