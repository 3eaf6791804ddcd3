"""What a User-Agent header and client hints say: browser, operating system, device, and whether it is a bot's.

Promise: `describe` never raises and its time is bounded: the header is cut to `AGENT_CHARS_MAX` characters and each
hint to `HINT_CHARS_MAX` before anything looks at them, and every pattern over the header runs in Rust's regex engine,
which is linear in the text (ua-parser's extractor behind an Aho-Corasick prefilter, for crawlers as well). Results are
cached (`AGENTS_CACHED_MAX`, least recently used go first).

Hints go over the header, whose versions browsers have frozen; where hints are missing or unusable the header speaks.
Sources: browser and OS names are ua-parser's families (ua-parser/uap-core); crawlers are those of
monperrus/crawler-user-agents, matched case-sensitively as its own `is_crawler` does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from ua_parser import OS, Domain, UserAgent, load_lazy_builtins
from ua_parser.regex import Resolver
from ua_parser_rs import UserAgentExtractor

from consumers.enrich.client_hints import HINT_CHARS_MAX, NO_HINTS, ClientHints, Hinted, read
from consumers.enrich.device import device
from consumers.enrich.hint_mismatch import contradicts
from schemas.bot_reason import BotReason

AGENT_CHARS_MAX: Final = 1_024
AGENTS_CACHED_MAX = 16_384  # a shop's day has a few thousand distinct agents; 1 to 2 KiB each

UNKNOWN = "Other"  # ua-parser's own word
# Families that name no product of their own beside Chrome's brand or the engine's.
_PLAIN_CHROME = frozenset(("Chrome", "Chrome Mobile", "Chrome Mobile WebView", "Chromium", "HeadlessChrome", UNKNOWN))
_DESKTOPS = frozenset(("Windows", "Mac OS X", "Linux", "Chrome OS"))


class Agent(NamedTuple):
    """One agent. Names are ua-parser's, 'Other' when it knows none; versions are dotted, '' when unknown.

    `device` is one of `device.DEVICES`, 'bot' for a known crawler; `bot_reason` is '' or a `BotReason`.
    """

    browser: str
    browser_version: str
    os: str
    os_version: str
    device: str
    is_bot: bool
    bot_reason: str


def describe(user_agent: str, hints: tuple[str, ...] = NO_HINTS) -> Agent:
    """Return what header and hints, in the order of `ClientHints`, say.

    An empty or unknown header gives 'Other', 'other' and no bot.
    """
    if not hints[0]:
        hints = NO_HINTS
    elif len("".join(hints)) > HINT_CHARS_MAX:  # one of them may be
        hints = tuple(hint[:HINT_CHARS_MAX] for hint in hints)
    return described(user_agent[:AGENT_CHARS_MAX], hints)


@lru_cache(AGENTS_CACHED_MAX)
def described(text: str, hints: tuple[str, ...]) -> Agent:
    """Return what a header and hints, cut to their limits, say (the cache behind `describe`)."""
    parsed = _RESOLVER(text, Domain.USER_AGENT | Domain.OS)
    hinted = read(ClientHints(*hints))
    os_name, os_version = _system(parsed.os, hinted)
    browser, version = _browser(parsed.user_agent, hinted, text)
    kind = device(f"{text} {hinted.model}".lower(), os_name, lambda: _brand(text))
    kind = _hinted_device(kind, os_name, hinted)
    reason = ""
    if _CRAWLERS.extract(text) is not None:
        kind, reason = "bot", BotReason.AGENT.value
    elif contradicts(text, hinted):
        reason = BotReason.HINT_MISMATCH.value
    return Agent(browser, version, os_name, os_version, kind, bool(reason), reason)


def _browser(found: UserAgent | None, hinted: Hinted, text: str) -> tuple[str, str]:
    """Return (family, version). What names a product goes over what names only Chrome or its engine."""
    family, version = (found.family if found else UNKNOWN), _version(found)
    is_product = "Chrome/" in text and family not in _PLAIN_CHROME
    if not hinted.browser or (hinted.is_generic and is_product):
        return family, version
    if family == hinted.browser and version.startswith(hinted.browser_version + "."):
        return family, version  # the header says more: "141.0.0" for the hint "141"
    return hinted.browser, hinted.browser_version


def _system(found: OS | None, hinted: Hinted) -> tuple[str, str]:
    family, version = (found.family if found else UNKNOWN), _version(found)
    if not hinted.os:
        return family, version
    return hinted.os, hinted.os_version or (version if family == hinted.os else "")


def _hinted_device(kind: str, os_name: str, hinted: Hinted) -> str:
    """Return the kind of device, with Sec-CH-UA-Mobile telling phone from tablet and desktop."""
    if hinted.mobile is None or kind in ("tv", "console", "other"):
        return kind
    if hinted.mobile:
        return "mobile"
    if os_name == "Android":
        return "tablet"
    return "desktop" if os_name in _DESKTOPS else kind


def _brand(text: str) -> str:
    found = _RESOLVER(text, Domain.DEVICE).device
    return (found.brand or "") if found else ""


_RESOLVER = Resolver(load_lazy_builtins())
_CRAWLERS = UserAgentExtractor(
    (entry["pattern"], "crawler", None, None, None, None) for entry in CRAWLER_USER_AGENTS_DATA
)


def _version(found: UserAgent | OS | None) -> str:
    """Return 'major.minor.patch' as far as it is known."""
    if found is None or not found.major:
        return ""
    parts = [found.major]
    for part in (found.minor, found.patch):
        if not part:
            break
        parts.append(part)
    return ".".join(parts)
