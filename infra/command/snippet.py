"""`hitstream site snippet`: the HTML to paste, and what each piece is for. Pure: settings in, text out."""

from __future__ import annotations

import re
from html import escape
from textwrap import indent
from typing import NamedTuple
from urllib.parse import quote

from infra.command.errors import UserError
from schemas.settings import Settings

SMALL = 'width="1" height="1" alt=""'
_BASE = re.compile(r"https?://[^\s\"'<>?#]+")


class Piece(NamedTuple):
    """One piece of HTML, and what it is for."""

    what: str
    html: str


def page(settings: Settings, site: str, base_url: str, *, explained: bool) -> str:
    """Return the snippet of a site; without `explained` the HTML alone. Raises UserError.

    `base_url` is where browsers reach the public port; "": on this machine.
    """
    base = (base_url or f"http://localhost:{settings.port}").rstrip("/")
    if not _BASE.fullmatch(base):
        raise UserError(f"--base-url {base_url!r} is no http(s) URL: write it like https://hits.example")
    pieces = _pieces(settings, site, base)
    if not explained:
        return "".join(f"{piece.html}\n" for piece in pieces)
    text = "".join(f"{piece.what}\n\n{indent(piece.html, '  ')}\n\n" for piece in pieces)
    if base.startswith("http://"):
        text += (
            "Pages over https load nothing over http: give --base-url https://… once TLS ends before hitstream\n"
            "(docs/deployment.md, TLS).\n"
        )
    return text


def _pieces(settings: Settings, site: str, base: str) -> list[Piece]:
    pixel = f"{base}{settings.pixel_path}?s={quote(site)}"
    opened = f"{pixel}&e=EmailOpen&id=MESSAGE&p.mailing=MAILING"
    return [
        Piece(
            "Into every page, at the end of its head. It counts the page, and pages that a script navigates to:",
            f'<script async src="{escape(base + settings.script_path)}" data-site="{escape(site)}"></script>',
        ),
        Piece(
            "Behind it, for browsers without scripts:",
            f'<noscript><img src="{escape(pixel)}" {SMALL} referrerpolicy="no-referrer-when-downgrade"></noscript>',
        ),
        Piece(
            "Where something happens: the event's name, and what is known of it. The first line lets calls wait for\n"
            'the script. Consent is "analytics,ads", one of them, or "0": before the script is there, or at any time:',
            "<script>\n"
            "window.hitstream = window.hitstream || function () { (hitstream.q = hitstream.q || []).push(arguments) }\n"
            'hitstream("consent", "analytics,ads")\n'
            'hitstream("Purchase", { v: 49.90, cur: "EUR", oid: "ORDER" })\n'
            "</script>",
        ),
        Piece(
            "Into an email, at the end of its body; put its mailing's name and its id for MAILING and MESSAGE:",
            f'<img src="{escape(opened)}" {SMALL}>',
        ),
    ]
