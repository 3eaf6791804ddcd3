"""`hitstream site snippet`: the HTML to paste, and what each piece is for. Pure: settings in, text out."""

from __future__ import annotations

import re
from html import escape
from textwrap import indent
from typing import NamedTuple
from urllib.parse import quote

from infra.command.errors import UserError
from schemas.settings import Settings

STUB = "window.hitstream = window.hitstream || function () { (hitstream.q = hitstream.q || []).push(arguments) }"
UNASKED = {
    "opt-in": "Until then nothing is kept that names the visitor.",
    "opt-out": "Without it hits are kept whole, unless a signal says no.",
    "none": "Without it hits are kept whole.",
}
SMALL = 'width="1" height="1" alt=""'
_BASE = re.compile(r"https?://[^\s\"'<>?#]+")


class Piece(NamedTuple):
    """One piece of HTML, and what it is for."""

    what: str
    html: str
    in_every_page: bool = False


def page(settings: Settings, site: str, base_url: str, *, explained: bool) -> str:
    """Return the snippet of a site; without `explained` the HTML that goes into every page alone. Raises UserError.

    `base_url` is where browsers reach the public port; "": on this machine.
    """
    base = address("--base-url", base_url or f"http://localhost:{settings.port}")
    pieces = _pieces(settings, site, base)
    if not explained:
        return "".join(f"{piece.html}\n" for piece in pieces if piece.in_every_page)
    text = "".join(f"{piece.what}\n\n{indent(piece.html, '  ')}\n\n" for piece in pieces)
    if base.startswith("http://"):
        text += (
            "Pages over https load nothing over http: give --base-url https://… once TLS ends before hitstream\n"
            "(docs/tls.md).\n"
        )
    return text


def address(option: str, url: str) -> str:
    """Return where browsers reach the collectors, without a slash at its end. Raises UserError."""
    base = url.rstrip("/")
    if not _BASE.fullmatch(base):
        raise UserError(f"{option} {url!r} is no http(s) URL: write it like https://hits.example")
    return base


def _pieces(settings: Settings, site: str, base: str) -> list[Piece]:
    rules = settings.site(site)
    pixel = f"{base}{settings.pixel_path}?s={quote(site)}"
    opened = f"{pixel}&e=EmailOpen&id=MESSAGE&p.mailing=MAILING"
    return [
        Piece(
            "Into every page, at the end of its head. It counts the page, and pages that a script navigates to:",
            f'<script async src="{escape(base + settings.script_path)}" data-site="{escape(site)}"></script>',
            in_every_page=True,
        ),
        Piece(
            "Behind it, for browsers without scripts:",
            f'<noscript><img src="{escape(pixel)}" {SMALL} referrerpolicy="no-referrer-when-downgrade"></noscript>',
            in_every_page=True,
        ),
        Piece(
            "Where something happens: the event's name, and what is known of it. The first line lets calls wait for\n"
            "the script:",
            f'<script>\n{STUB}\nhitstream("Purchase", {{ v: 49.90, cur: "EUR", oid: "ORDER" }})\n</script>',
        ),
        Piece(
            "Once the visitor has chosen, on every page; CHOICE is 'analytics,ads', 'analytics' (no click ids kept)\n"
            f"or '0' (no). {UNASKED[rules.consent]}",
            f'<script>\n{STUB}\nhitstream("consent", CHOICE)\n</script>',
        ),
        Piece(
            "Into an email, at the end of its body; put its mailing's name and its id for MAILING and MESSAGE"
            + (",\nand add &amp;c=1 where the reader agreed:" if rules.consent == "opt-in" else ":"),
            f'<img src="{escape(opened)}" {SMALL}>',
        ),
    ]
