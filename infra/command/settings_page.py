"""Settings as a reader sees them: a table of the values in force, and the page docs/settings.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from rich.table import Table

from schemas.settings import Settings, in_environment
from schemas.site import Site

HEAD = """# Settings

A setting comes from its variable, else from `hitstream.toml` in the working directory (`HITSTREAM_CONFIG` names another
file), else from its default. Units stand last in a name: `_s` seconds, `_bytes` bytes. `hitstream settings` prints
the values in force. This page is written by `hitstream settings --markdown`.

"""
FOOT = """
## Sites

A table per site in `hitstream.toml`; with none, every well-formed site id and any Origin is accepted, by the rules of
`[default_site]`. `hitstream site` writes these tables, see [sites](sites.md). What runs takes them up within seconds;
every other setting holds from the next start on.

```toml
[sites.shop]
domains = ["shop.example", "shop.example.net"]
timezone = "Europe/Berlin"
```

| of a site | default | meaning |
| --- | --- | --- |
"""
SECRET = "password"  # noqa: S105  a part of names
SECRETS_OF_SITE = ("link_key", "keys")


class Row(NamedTuple):
    """One setting: name, variable, default in words, what values it takes, meaning."""

    name: str
    variable: str
    default: str
    values: str
    meaning: str


def rows() -> list[Row]:
    """Return every setting, in the order of schemas/settings.py."""
    return [
        Row(name, variable_of(name, field), _default(name, field), _values(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def variable_of(name: str, field: FieldInfo) -> str:
    """Return the environment variable of a setting."""
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return f"HITSTREAM_{name.upper()}"


def markdown_page() -> str:
    """Return docs/settings.md."""
    lines = ["| name | variable | default | meaning |", "| --- | --- | --- | --- |"]
    for row in rows():
        meaning = row.meaning + (f" Values: {row.values}." if row.values else "")
        cells = (f"`{row.name}`", f"`{row.variable}`", row.default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(lines) + "\n" + FOOT + _site_lines()


def _site_lines() -> str:
    lines = []
    for name, field in Site.model_fields.items():
        default = f"`{_plain(field.default)}`" if field.default else "empty" if field.default == "" else "none"
        values = _values(field)
        meaning = (field.description or "") + (f" Values: {values}." if values else "")
        lines.append(f"| `{name}` | {default} | {meaning} |\n")
    return "".join(lines)


def settings_table(settings: Settings) -> Table:
    """Return the values in force; what differs from the default stands out."""
    table = Table(title="settings in force", title_justify="left")
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for row in rows():
        value = getattr(settings, row.name)
        source = _source(row, settings)
        shown = "(set)" if SECRET in row.name and value else _plain(value)
        table.add_row(row.name, shown, source, row.meaning, style="" if source == "default" else "bold")
    return table


def _source(row: Row, settings: Settings) -> str:
    if in_environment(row.variable):
        return row.variable
    return "file" if row.name in settings.model_fields_set else "default"


def _default(name: str, field: FieldInfo) -> str:
    if name == "collectors":
        return "one per CPU"
    return f"`{_plain(field.get_default(call_default_factory=True, validated_data={})) or ' '}`".replace("` `", "empty")


def _values(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    limits: Iterable[Any] = field.metadata
    low = next((f"at least {item.ge}" for item in limits if hasattr(item, "ge")), "")
    high = next((f"at most {item.le}" for item in limits if hasattr(item, "le")), "")
    return ", ".join(part for part in (low, high) if part)


def _plain(value: Any) -> str:  # noqa: ANN401  the value of any setting
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(str(part) for part in value)
    if isinstance(value, BaseModel):
        shown = [(name, "(set)" if name in SECRETS_OF_SITE else _plain(set_to)) for name, set_to in value]
        return " ".join(f"{name}={text}" for name, text in shown if name in value.model_fields_set)
    if isinstance(value, dict):
        return " ".join(value)
    return "" if value is None else str(value)
