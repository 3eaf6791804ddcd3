"""`hitstream site link`: the address of a click redirect, signed so that the collectors follow it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.command.errors import UserError


def link(
    site: Annotated[str, typer.Argument(help="The site's id.")],
    url: Annotated[str, typer.Argument(help="Where the click leads, as it stands in a browser's address bar.")],
    *,
    at: Annotated[
        str, typer.Option(help="The collectors' address, such as https://hits.example; none: the path only.")
    ] = "",
) -> None:
    """Print the address of a click redirect to URL, signed under the site's link key."""
    from secrets import token_urlsafe
    from urllib.parse import quote

    from infra.command import sites
    from infra.command.snippet import address
    from ingest.redirect_target import signature, target_of
    from schemas.server_key import SECRET_BYTES
    from schemas.settings import config_file, load

    settings = load()
    if settings.sites:
        sites.defined(settings, site)
    link_key = settings.site(site).link_key
    if not link_key:
        table = f"sites.{site}" if settings.sites else "default_site"
        line = f'link_key = "{token_urlsafe(SECRET_BYTES)}"'
        raise UserError(f"site {site!r} has no link key: put this line under [{table}] in {config_file()}:\n  {line}")
    if target_of(url) is None:
        raise UserError(f"{url!r} is no target: write an http(s) URL without user, backslash and control characters")
    base = address("--at", at) if at else ""
    signed = f"s={quote(site)}&u={quote(url, safe='')}&sig={signature(link_key, site, url)}"
    sys.stdout.write(f"{base}{settings.click_path}?{signed}\n")
