"""Where `/c` may send a browser: the target in `u`, and the signature that allows it. Pure.

Promise: a `Target` is one http(s) URL, and what is checked is what is sent. Its host is the normal one (lower case,
punycode), so a look-alike is another host; it has no user, no backslash and no control character; its text is
printable ASCII, so nothing in it ends a header line. What a browser would read in another way is no target.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hmac import compare_digest, digest
from typing import NamedTuple
from urllib.parse import quote

from schemas.page import LINK_PARAMETER, split_page, without_parameters

CLICK_PARAMETER = "hsclid"
OURS = frozenset((CLICK_PARAMETER, LINK_PARAMETER))  # on the way to a target these are ours to set

_FORM = re.compile(r"(https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?(#.*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_PORT = re.compile(r":[0-9]{1,5}$")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # what `quote` leaves alone, % included


class Target(NamedTuple):
    """A target in pieces that together are its text: `front` up to the query, `query` without our parameters."""

    host: str
    front: str
    query: str
    fragment: str

    def url(self, *parameters: tuple[str, str]) -> str:
        """Return the target with these parameters, in front of its fragment. They need no escapes."""
        query = "&".join([*([self.query] if self.query else []), *(f"{name}={value}" for name, value in parameters)])
        return f"{self.front}{'?' if query else ''}{query}{self.fragment}"


def target_of(url: str) -> Target | None:
    """Return the target that `u` names, or None where it is none."""
    form = _FORM.fullmatch(url)
    if form is None or _FORBIDDEN.search(url) or "@" in form[2]:
        return None
    page = split_page(url)
    if page is None:
        return None
    port = _PORT.search(form[2])
    front = f"{form[1].lower()}://{page.host}{port[0] if port else ''}{_quoted(form[3]) or '/'}"
    query = without_parameters(form[4] or "", OURS).rstrip("&")
    return Target(page.host, front, _quoted(query), _quoted(form[5] or ""))


def signature(link_key: str, site: str, url: str) -> str:
    """Return `sig`: the HMAC-SHA256 of `s` LF `u` under the site's link key, base64url without padding.

    The key is the text as it stands in the settings, `u` the text before it is escaped for the link; both in UTF-8.
    """
    mac = digest(link_key.encode(), f"{site}\n{url}".encode(), "sha256")
    return urlsafe_b64encode(mac).rstrip(b"=").decode()


def signed(link_key: str, site: str, url: str, sig: str) -> bool:
    """Return whether `sig` is right, padded or not. Without a link key nothing is signed."""
    if not link_key or not sig.isascii():
        return False
    return compare_digest(sig.removesuffix("="), signature(link_key, site, url))


def _quoted(text: str) -> str:
    return quote(text, safe=_PRINTABLE)
