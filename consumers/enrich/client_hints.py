"""What the client hints Sec-CH-UA* say: a browser of the Chromium family names itself, its system and its device.

Promise: `read` never raises, and its time is linear in the text, which `agent` has cut. Each field is read by itself,
strictly (RFC 8941); what is malformed says nothing. Brands that are there to be ignored ("Not?A_Brand") are. Of the
rest the most special one counts: a product ("Brave", "Microsoft Edge") before "Google Chrome" before "Chromium".
Sources: wicg.github.io/ua-client-hints; Windows 11 is a platform version of 13 or more
(learn.microsoft.com/microsoft-edge/web-platform/how-to-detect-win11). Names come out as ua-parser's families, so that
both ways give the same words.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HINT_CHARS_MAX: Final = 512
BRANDS_MAX = 16
CHROMIUM = "Chromium"
GENERIC_BRANDS = ("Google Chrome", "Android WebView", CHROMIUM)  # in order of precedence, behind any product
WINDOWS_11_SINCE = 13
_WINDOWS_BEFORE_10 = {"0.1": "7", "0.2": "8", "0.3": "8.1"}

_TEXT = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"'
_STRING = re.compile(rf"[ \t]*{_TEXT}[ \t]*")
_BRAND = re.compile(rf"[ \t]*{_TEXT}[ \t]*;[ \t]*v=[ \t]*{_TEXT}[ \t]*(?:,|\Z)")
_BOOLEAN = {"?0": False, "?1": True}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 ._-]{0,39}")
_VERSION = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){0,3}")
_LETTERS = re.compile(r"[^A-Za-z]+")

# Brand -> ua-parser's family; (on a phone, elsewhere) where they differ. A product that is not here is its own name.
_FAMILIES = {
    "Google Chrome": ("Chrome Mobile", "Chrome"),
    CHROMIUM: ("Chrome Mobile", "Chromium"),
    "Android WebView": ("Chrome Mobile WebView", "Chrome Mobile WebView"),
    "Microsoft Edge": ("Edge Mobile", "Edge"),
    "Microsoft Edge WebView2": ("Edge Mobile", "Edge"),
    "Opera": ("Opera Mobile", "Opera"),
    "OperaMobile": ("Opera Mobile", "Opera Mobile"),
    "Opera GX": ("Opera GX", "Opera GX"),
    "YaBrowser": ("Yandex Browser", "Yandex Browser"),
    "DuckDuckGo": ("DuckDuckGo Mobile", "DuckDuckGo"),
}
# Platform -> ua-parser's family. Others ("Unknown", "Fuchsia") leave it to the user agent.
_SYSTEMS = {
    "Windows": "Windows",
    "macOS": "Mac OS X",
    "Linux": "Linux",
    "Android": "Android",
    "Chrome OS": "Chrome OS",
    "Chromium OS": "Chrome OS",
    "iOS": "iOS",
}


class ClientHints(NamedTuple):
    """The fields' values as they came, '' for one that did not; in the order of the hit's `ch_*` members."""

    ua: str = ""
    mobile: str = ""
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    full_version_list: str = ""


class Hinted(NamedTuple):
    """What the hints say; '' and None: nothing. Names are ua-parser's families, versions dotted.

    `is_generic`: the brand is that of an engine or of Chrome, which other products carry as well. `chromium` is the
    engine's major version, `is_headless` whether a brand says so.
    """

    browser: str = ""
    browser_version: str = ""
    is_generic: bool = False
    chromium: str = ""
    is_headless: bool = False
    os: str = ""
    os_version: str = ""
    mobile: bool | None = None
    model: str = ""


NO_HINTS: Final = ClientHints()
NOTHING_HINTED = Hinted()


def read(hints: ClientHints) -> Hinted:
    """Return what the hints say. Without a usable Sec-CH-UA they are not a browser's, and say nothing."""
    brands = _brands(hints.ua)
    if not brands:
        return NOTHING_HINTED
    mobile = _BOOLEAN.get(hints.mobile.strip(" \t"))
    brand = next((name for name in brands if name not in GENERIC_BRANDS), "") or next(
        (name for name in GENERIC_BRANDS if name in brands), ""
    )
    full = _brands(hints.full_version_list).get(brand, "")
    families = _FAMILIES.get(brand, (brand, brand))
    system = _SYSTEMS.get(_string(hints.platform), "")
    return Hinted(
        browser=families[0] if mobile else families[1],
        browser_version=".".join((full or brands[brand]).split(".")[:3]),
        is_generic=brand in GENERIC_BRANDS,
        chromium=brands.get(CHROMIUM, "").partition(".")[0],
        is_headless=any("Headless" in name for name in brands),
        os=system,
        os_version=_os_version(system, _string(hints.platform_version)),
        mobile=mobile,
        model=_string(hints.model),
    )


def _brands(text: str) -> dict[str, str]:
    """Return brand -> version of a brand list, without the brands that mean nothing; {} when it is malformed."""
    found: dict[str, str] = {}
    at = 0
    for _ in range(BRANDS_MAX):
        match = _BRAND.match(text, at)
        if match is None:
            return {}
        name, version = match[1].strip(), match[2]
        if _LETTERS.sub("", name).lower() != "notabrand" and _NAME.fullmatch(name):
            found.setdefault(name, version if _VERSION.fullmatch(version) else "")
        at = match.end()
        if at == len(text):
            return found if text[-1] != "," else {}
    return {}


def _string(text: str) -> str:
    """Return the value of a string field, '' when it is malformed."""
    match = _STRING.fullmatch(text)
    return match[1].strip() if match else ""


def _os_version(system: str, version: str) -> str:
    """Return a platform version as the user agent would say it: "14.0.0" is Android 14, "15.0.0" Windows 11."""
    if not _VERSION.fullmatch(version):
        return ""
    if system == "Windows":
        major = int(version.partition(".")[0])
        if major == 0:
            return _WINDOWS_BEFORE_10.get(".".join(version.split(".")[:2]), "")
        return "11" if major >= WINDOWS_11_SINCE else "10"
    parts = version.split(".")[:3]
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    return ".".join(parts)
