"""Edits the settings file as a careful person would: comments and order stay, and nothing wrong is ever in its place.

- The new text is written beside the file, read back by the settings themselves, flushed to disk, and only then put in
  its place with one rename. What the settings refuse is refused here, with their reason, and the file stays as it was.
- The text must mean exactly what the edit meant: tomlkit, which keeps comments, is held against tomllib.
- A comment above a table stays there: tomlkit takes it for the end of the table before, see `put` and `take_out`.
- Two edits at once take turns: the directory is locked. A new file is readable by its owner alone, as it holds secrets.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item, Table, Whitespace

from infra.command.errors import UserError
from infra.journal.files import OsFiles
from schemas.settings import config_file, in_environment, load
from schemas.settings_error import SettingsError

MODE_OF_NEW = 0o600


def edit(change: Callable[[tomlkit.TOMLDocument], None]) -> Path:
    """Let `change` edit the settings file's document and keep the result; return the file. Raises UserError."""
    if in_environment("HITSTREAM_SITES"):
        raise UserError("HITSTREAM_SITES is set and would win over the settings file: unset it first")
    path = config_file().resolve()  # the file itself, where its name is a link
    try:
        with _locked(path.parent):
            text = path.read_text() if path.exists() else ""
            _replace(path, _edited(path, text, change))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be edited: {getattr(error, 'strerror', '') or error}") from None
    return path


def put(table: MutableMapping[str, Any], key: str, value: Any) -> None:  # noqa: ANN401  whatever TOML holds
    """Set a key of a table; a new one comes behind the last, and before the comment of the table that follows."""
    rest = _rest(table) if key not in table else []
    table[key] = value
    if rest:
        _body(table).extend(rest)


def put_table(parent: MutableMapping[str, Any], key: str, table: Table) -> None:
    """Add a table behind the last one of `parent`."""
    last = next(reversed([item for _, item in _body(parent) if isinstance(item, Table)]), None)
    rest = _rest(last) if last is not None else []
    if last is not None:
        last.add(tomlkit.nl())
    _body(table).extend(rest or [(None, tomlkit.nl())])
    parent[key] = table


def take_out(parent: MutableMapping[str, Any], key: str) -> None:
    """Remove a table, and leave what stands between it and the next one."""
    rest = "".join(item.as_string() for _, item in _rest(parent[key])).lstrip("\n")
    body = _body(parent)
    place = next((at for at, (name, _) in enumerate(body) if name is not None and name.key == key), None)
    del parent[key]
    if place is not None:
        body[place] = (None, Whitespace(rest))


def _body(table: object) -> list[tuple[Any, Item]]:
    """Return what a table is written as, to be changed; [] for one that is not written in one piece."""
    container = table.value if isinstance(table, Table) else table
    return container.body if isinstance(container, Container) else []


def _rest(table: object) -> list[tuple[Any, Item]]:
    """Take the comments and empty lines off a table's end and return them."""
    body = _body(table)
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    rest = body[end:]
    del body[end:]
    return rest


def _edited(path: Path, text: str, change: Callable[[tomlkit.TOMLDocument], None]) -> str:
    try:
        tomllib.loads(text)
        document = tomlkit.parse(text)
    except (tomllib.TOMLDecodeError, TOMLKitError) as error:
        raise UserError(f"{path}: {error}: correct that first") from None
    try:
        change(document)
        edited = tomlkit.dumps(document)
        same = _filled(tomllib.loads(edited)) == _filled(document.unwrap())
    except (tomllib.TOMLDecodeError, TOMLKitError, TypeError, ValueError):
        same = False
    if not same:
        raise UserError(
            f"{path} is written in a form that cannot be edited here: write each site as a [sites.ID] table"
        )
    return edited


def _filled(content: dict[str, Any]) -> dict[str, Any]:
    """Return a document without the table of sites when it is empty: no text stands for that."""
    return {name: value for name, value in content.items() if name != "sites" or value}


def _replace(path: Path, text: str) -> None:
    """Put the text in the file's place, with its owner and rights, if it is good. Raises UserError, OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    old = path.stat() if path.exists() else None
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE_OF_NEW)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if old:
                with suppress(PermissionError):  # another user's file that we may write: it becomes ours
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
        load(fresh)
        fresh.rename(path)
        OsFiles().sync_directory(path.parent)
    except SettingsError as error:
        raise UserError("\n  ".join([f"{path} stays as it is:", *error.problems])) from None
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
