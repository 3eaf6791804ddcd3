"""`hitstream site`: sites and their keys in the settings file. Secrets are shown when they are made, or when asked for.

Random bits and the time come from here; what is written is checked by the settings (`settings_file.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from infra.command.errors import UserError
from infra.command.settings_file import edit, put, put_table, take_out
from schemas.server_key import SECRET_BYTES, key_hash, make_key
from schemas.settings import Settings
from schemas.site import ServerKey, Site

KEY_ID_CHARS = 8
_KEY_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

Change = Callable[[Any], None]


def add(site_id: str, values: Mapping[str, Any]) -> Path:
    """Define a site, with a link key of its own; return the file. Raises UserError."""

    def change(document: tomlkit.TOMLDocument) -> None:
        if site_id in document.get("sites", {}):
            raise UserError(f"site {site_id!r} is there already: `hitstream site set {site_id}` changes it")
        table = tomlkit.table()
        for name, value in {**values, "link_key": secrets.token_urlsafe(SECRET_BYTES)}.items():
            table[name] = value
        if "sites" not in document:
            document["sites"] = tomlkit.table(is_super_table=True)
        sites: Any = document["sites"]
        put_table(sites, site_id, table)

    return edit(change)


def change(site_id: str, values: Mapping[str, Any], unset: Iterable[str]) -> Path:
    """Set some values of a site and take others back to their defaults; return the file. Raises UserError."""
    unset = list(unset)
    for name in unset:
        if name not in Site.model_fields or name == "keys":
            known = ", ".join(field for field in Site.model_fields if field != "keys")
            raise UserError(f"--unset {name!r} is not known: use one of {known}")

    def edited(table: Table) -> None:
        for name in unset:
            if name in table:
                del table[name]
        for name, value in values.items():
            put(table, name, value)

    return _edit_site(site_id, edited)


def remove(site_id: str) -> Path:
    """Remove a site's table; return the file. Raises UserError."""

    def edited(document: tomlkit.TOMLDocument) -> None:
        _table(document, site_id)
        sites: Any = document["sites"]
        take_out(sites, site_id)

    return edit(edited)


def add_key(settings: Settings, site_id: str) -> tuple[str, Path]:
    """Give a site one more key; return its text, which nobody can show again, and the file. Raises UserError."""
    text, entry = _made(settings)
    return text, _edit_site(site_id, lambda table: _append(table, entry))


def rotate_keys(settings: Settings, site_id: str, overlap: timedelta) -> tuple[str, Path]:
    """Give a site a new key and let its others expire after `overlap`; those that have expired go. Raises UserError."""
    now = datetime.now(UTC).replace(microsecond=0)
    text, entry = _made(settings)

    def edited(table: Table) -> None:
        keys: list[Any] = table.get("keys", [])
        for place in reversed(range(len(keys))):
            expires = keys[place].get("expires")
            if expires is not None and expires <= now:
                del keys[place]
            elif expires is None or expires > now + overlap:
                keys[place]["expires"] = now + overlap
        _append(table, entry)

    return text, _edit_site(site_id, edited)


def remove_key(site_id: str, key_id: str) -> Path:
    """Take a key from a site: it is refused once the processes have read the file. Raises UserError."""

    def edited(table: Table) -> None:
        keys: list[Any] = table.get("keys", [])
        places = [place for place, key in enumerate(keys) if key.get("id") == key_id]
        if not places:
            known = ", ".join(str(key.get("id")) for key in keys) or "none"
            raise UserError(f"site {site_id!r} has no key {key_id!r}; its keys: {known}")
        del keys[places[0]]

    return _edit_site(site_id, edited)


def defined(settings: Settings, site_id: str) -> Site:
    """Return a site that has a table. Raises UserError."""
    if site_id not in settings.sites:
        known = ", ".join(sorted(settings.sites)) or "none"
        raise UserError(f"site {site_id!r} is not defined; defined: {known}. `hitstream site add {site_id}` defines it")
    return settings.sites[site_id]


def as_object(site: Site, *, with_secrets: bool = False) -> dict[str, Any]:
    """Return what holds for a site, fit for JSON; keys without their hashes, the link key only with `with_secrets`."""
    content = site.model_dump(mode="json")
    content["keys"] = [{"id": key.id, "expires": key.expires and key.expires.isoformat()} for key in site.keys]
    if site.link_key and not with_secrets:
        content["link_key"] = "(set)"
    return content


def key_state(key: ServerKey, now: datetime) -> str:
    """Return whether a key is valid, in words."""
    if key.expires is None:
        return "valid"
    when = key.expires.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"valid until {when}" if now < key.expires else f"expired {when}"


def _made(settings: Settings) -> tuple[str, dict[str, str]]:
    """Return a new key's text and its entry; its id is no other key's, of whatever site."""
    known = {key.id for site in settings.sites.values() for key in site.keys}
    ident = _key_id()
    while ident in known:
        ident = _key_id()
    text = make_key(ident, secrets.token_bytes(SECRET_BYTES))
    return text, {"id": ident, "sha256": key_hash(text)}


def _key_id() -> str:
    return "".join(secrets.choice(_KEY_ID_LETTERS) for _ in range(KEY_ID_CHARS))


def _append(table: Table, entry: Mapping[str, str]) -> None:
    """Append a key, to inline tables or to [[sites.ID.keys]], whichever is there."""
    if "keys" not in table:
        put(table, "keys", tomlkit.array().multiline(multiline=True))
    keys: Any = table["keys"]
    if isinstance(keys, tomlkit.items.AoT):
        item: Any = tomlkit.table()
    else:
        item = tomlkit.inline_table()
    item.update(entry)
    keys.append(item)


def _edit_site(site_id: str, change_table: Callable[[Table], None]) -> Path:
    return edit(lambda document: change_table(_table(document, site_id)))


def _table(document: tomlkit.TOMLDocument, site_id: str) -> Table:
    sites: Any = document.get("sites", {})
    if site_id not in sites:
        known = ", ".join(sites) or "none"
        raise UserError(f"site {site_id!r} is not defined; defined: {known}. `hitstream site add {site_id}` defines it")
    table: Table = sites[site_id]
    return table
