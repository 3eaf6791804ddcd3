"""`hitstream salt init | export | import`: the seed of cookieless visitors' ids, one for all edges of a deployment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.command.errors import UserError

if TYPE_CHECKING:
    from ingest.salt_file import SaltFile

app = typer.Typer(no_args_is_help=True, help="The salt of cookieless visitors: make it, and give it to all edges.")

LINE_CHARS_MAX = 1024
Force = Annotated[
    bool, typer.Option("--force", help="Replace the salt that is there: all cookieless visitors are new.")
]


@app.command()
def init(*, force: Force = False) -> None:
    """Make a salt from random bits, on the first edge; the others import it."""
    from os import urandom

    from ingest.cookieless import seed

    file = _file()
    file.put(seed(_today() - 1, urandom), force=force)
    _say(f"{file.path} is made", "other edges: `hitstream salt export` here, `hitstream salt import` there")


@app.command()
def export() -> None:
    """Print the salt, as one line, for `hitstream salt import` on another edge. It is a secret."""
    from ingest.cookieless import salt_line

    sys.stdout.write(salt_line(_file().advance(_today())))


@app.command("import")
def import_salt(*, force: Force = False) -> None:
    """Take another edge's salt, the line that `hitstream salt export` prints there, from standard input."""
    from ingest.cookieless import date_of, parsed_salt

    salt = parsed_salt(sys.stdin.read(LINE_CHARS_MAX))
    if salt is None:
        raise UserError("standard input holds no salt: pass the line that `hitstream salt export` prints, whole")
    if salt.day > _today():
        raise UserError(f"the salt is of {date_of(salt.day)}, and it is {date_of(_today())} UTC here: set the clock")
    file = _file()
    file.put(salt, force=force)
    file.advance(_today())
    _say(f"{file.path} is written; running collectors take it up within seconds")


def _file() -> SaltFile:
    from ingest.salt_file import SaltFile
    from schemas.settings import load

    return SaltFile(load().data_dir)


def _today() -> int:
    import time

    from ingest.cookieless import day_of

    return day_of(time.time())


def _say(*lines: str) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")
