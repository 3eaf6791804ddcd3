"""A file system in memory for the journal's tests: short writes, full disk, killed process, power loss, damage.

It keeps what a real one promises and no more: written data survive the process; synced data and names survive the
power. What was not synced may survive, wholly, in part, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EBADF, EEXIST, EIO, ENOENT, ENOSPC
from pathlib import Path
from random import Random


class _File:
    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.synced = b""
        self.unsynced: list[tuple[int, bytes]] = []  # writes since the last sync, in order


class MemoryFiles:
    """Implements infra.journal.files.Files. `space` is what may still be allocated, None without limit.

    `short_writes` holds how many bytes each of the next writes takes, None for all. `before_names` is called before
    each directory listing: the place to let a writer act between two looks of a reader.
    """

    def __init__(self) -> None:
        self.files: dict[Path, _File] = {}
        self.space: int | None = None
        self.short_writes: list[int | None] = []
        self.sync_fails = False
        self.before_names: Callable[[], None] = lambda: None
        self.names_ever: list[str] = []
        self._handles: dict[int, list] = {}
        self._next = 100
        self._synced_names: dict[Path, _File] = {}
        self._unsynced_names: list[Callable[[dict[Path, _File]], object]] = []

    # the port

    def names(self, directory: Path) -> list[str]:
        self.before_names()
        return [path.name for path in self.files if path.parent == directory]

    def create(self, path: Path, size: int) -> int:
        if path in self.files:
            raise _error(EEXIST)
        if self.space is not None:
            if size > self.space:
                raise _error(ENOSPC)
            self.space -= size
        file = _File(size)
        self._change(lambda names: names.__setitem__(path, file))
        return self._handle(file)

    def write(self, handle: int, data: bytes) -> int:
        file, at = self._get(handle)
        taken = self.short_writes.pop(0) if self.short_writes else None
        if taken == 0:
            raise _error(ENOSPC)
        data = data[:taken]
        _put(file.data, at, data)
        file.unsynced.append((at, data))
        self._handles[handle][1] = at + len(data)
        return len(data)

    def truncate(self, handle: int) -> None:
        file, at = self._get(handle)
        self._free(len(file.data) - at)
        del file.data[at:]

    def datasync(self, handle: int) -> None:
        file, _ = self._get(handle)
        if self.sync_fails:
            file.unsynced.clear()  # as Linux does: told once, then the pages count as clean, and are not on disk
            raise _error(EIO)
        if file.unsynced or len(file.synced) != len(file.data):
            _apply(file)

    def sync_directory(self, directory: Path) -> None:
        self._synced_names = dict(self.files)
        self._unsynced_names.clear()

    def open(self, path: Path) -> int:
        if path not in self.files:
            raise _error(ENOENT)
        return self._handle(self.files[path])

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._get(handle)[0].data[offset : offset + size])

    def close(self, handle: int) -> None:
        self._get(handle)
        del self._handles[handle]

    def rename(self, old: Path, new: Path) -> None:
        self.names_ever.append(new.name)

        def move(names: dict[Path, _File]) -> None:
            names[new] = names.pop(old)

        self._change(move)

    def unlink(self, path: Path) -> None:
        if path in self.files:
            self._free(len(self.files[path].data))
        self._change(lambda names: names.pop(path, None))

    # what befalls it

    def kill(self) -> None:
        """The process ends: handles are gone, everything written stays."""
        self._handles.clear()

    def lose_power(self, random: Random) -> None:
        """Of what was not synced, a random part survives: names as a prefix of their changes, data write by write."""
        self._handles.clear()
        names = dict(self._synced_names)
        for change in self._unsynced_names[: random.randint(0, len(self._unsynced_names))]:
            change(names)
        self.files = names
        self._synced_names, self._unsynced_names = dict(names), []
        for file in names.values():
            data = bytearray(len(file.data))
            _put(data, 0, file.synced)
            for at, written in file.unsynced:
                survives = random.choice((0, random.randint(0, len(written)), len(written)))
                _put(data, at, written[:survives])
            file.data = data
            file.synced, file.unsynced = bytes(data), []

    def flip(self, path: Path, bit: int) -> None:
        """Turn one bit over."""
        self.files[path].data[bit // 8] ^= 1 << bit % 8

    def cut(self, path: Path, size: int) -> None:
        """Cut a file off behind `size` bytes."""
        self._free(len(self.files[path].data) - size)
        del self.files[path].data[size:]

    @property
    def open_handles(self) -> int:
        return len(self._handles)

    def _change(self, change: Callable[[dict[Path, _File]], object]) -> None:
        change(self.files)
        self._unsynced_names.append(change)

    def _handle(self, file: _File) -> int:
        self._next += 1
        self._handles[self._next] = [file, 0]
        return self._next

    def _get(self, handle: int) -> tuple[_File, int]:
        if handle not in self._handles:
            raise _error(EBADF)
        file, at = self._handles[handle]
        return file, at

    def _free(self, size: int) -> None:
        if self.space is not None:
            self.space += size


def _put(data: bytearray, at: int, piece: bytes) -> None:
    if len(data) < at + len(piece) and piece:
        data.extend(bytes(at + len(piece) - len(data)))
    data[at : at + len(piece)] = piece


def _apply(file: _File) -> None:
    data = bytearray(file.synced)
    for at, written in file.unsynced:
        _put(data, at, written)
    file.synced = bytes(data).ljust(len(file.data), b"\0")[: len(file.data)]
    file.unsynced.clear()


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
