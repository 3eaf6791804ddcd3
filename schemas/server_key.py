"""Keys for server events, as their owner holds them: `hs_<id>_<43 letters>`, the letters 256 random bits in base64url.

- hitstream keeps the SHA-256 of the whole text (`schemas.site.ServerKey`) and shows the text once, when it is made.
- The id is no secret. It says which kept hash a presented text is to be held against, whatever site owns it, so ids
  are unique among all sites.
- The comparison takes the same time whatever was presented, an unknown id included.

Pure: random bits and the time come in.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest

from schemas.site import ServerKey

SECRET_BYTES = 32
KEY_CHARS_MAX = 64  # 3 + 16 + 1 + 43, and one to spare

_KEY = re.compile(r"hs_([a-z0-9]{1,16})_[A-Za-z0-9_-]{43}")
_NOTHING = "0" * 64  # nobody has found a text of this SHA-256


def make_key(key_id: str, secret: bytes) -> str:
    """Return the text of a key from its id (1 to 16 of a-z and 0-9) and SECRET_BYTES random bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a key's secret has {SECRET_BYTES} bytes, not {len(secret)}")
    text = f"hs_{key_id}_{urlsafe_b64encode(secret).rstrip(b'=').decode()}"
    if not _KEY.fullmatch(text):
        raise ValueError(f"{key_id!r} is no id of a key")
    return text


def key_hash(text: str) -> str:
    """Return what is kept of a key: the SHA-256 of its text, in hex."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def key_id(text: str) -> str:
    """Return the id that a presented text names, or "" when it has not a key's form."""
    match = _KEY.fullmatch(text) if len(text) <= KEY_CHARS_MAX else None
    return match[1] if match else ""


def matches(text: str, key: ServerKey | None, now: datetime) -> bool:
    """Return whether a presented text is this key and has not expired at `now` (with its time zone).

    `key` is what is kept under the id that the text names; None: nothing is, and then this takes as long.
    """
    same = compare_digest(key_hash(text), key.sha256 if key else _NOTHING)
    return same and key is not None and (key.expires is None or now < key.expires)
