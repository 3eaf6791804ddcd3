"""What a User-Agent header says: browser, operating system, kind of device, and whether it is a known crawler.

Promise: `describe` never raises and its time is bounded: a header is cut to `AGENT_CHARS_MAX` characters before
anything looks at it, and every pattern runs in Rust's regex engine, which is linear in the text (ua-parser's extractor
behind an Aho-Corasick prefilter, for crawlers as well). Results are cached (`AGENTS_CACHED_MAX`, least recently used
go first).
Sources: browser and OS names are ua-parser's families (ua-parser/uap-core); crawlers are those of
monperrus/crawler-user-agents, matched case-sensitively as its own `is_crawler` does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from ua_parser import OS, Domain, UserAgent, load_lazy_builtins
from ua_parser.regex import Resolver
from ua_parser_rs import UserAgentExtractor

AGENT_CHARS_MAX = 1_024
AGENTS_CACHED_MAX = 16_384  # a shop's day has a few thousand distinct agents; about 1 KiB each

DEVICES = ("desktop", "mobile", "tablet", "tv", "console", "other", "bot")
REASON_AGENT = "agent"
UNKNOWN = "Other"  # ua-parser's own word


class Agent(NamedTuple):
    """One agent. Names are ua-parser's, 'Other' when it knows none; versions are dotted, '' when unknown.

    `device` is one of `DEVICES`, 'bot' exactly when `is_bot`; `bot_reason` is `REASON_AGENT` or ''.
    """

    browser: str
    browser_version: str
    os: str
    os_version: str
    device: str
    is_bot: bool
    bot_reason: str


def describe(user_agent: str) -> Agent:
    """Return what the header says. An empty or unknown header gives 'Other', 'other' and no bot."""
    return described(user_agent[:AGENT_CHARS_MAX])


@lru_cache(AGENTS_CACHED_MAX)
def described(text: str) -> Agent:
    """Return what a header of at most `AGENT_CHARS_MAX` characters says (the cache behind `describe`)."""
    parsed = _RESOLVER(text, Domain.ALL)
    browser, os = parsed.user_agent, parsed.os
    browser_name = browser.family if browser else UNKNOWN
    os_name = os.family if os else UNKNOWN
    is_bot = _CRAWLERS.extract(text) is not None
    brand = (parsed.device.brand or "") if parsed.device else ""
    device = "bot" if is_bot else _device(text.lower(), os_name, brand)
    return Agent(browser_name, _version(browser), os_name, _version(os), device, is_bot, REASON_AGENT if is_bot else "")


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


# Tokens of the lower-cased header, plain substrings; tried in this order, because a television also says "Linux" or
# "Android", a console "Windows", and a tablet "Android" or "Mobile".
_TV = (
    "smart-tv", "smarttv", "smart tv", "googletv", "google tv", "android tv", "androidtv", "appletv", "apple tv",
    "hbbtv", "netcast", "web0s", "webos.tv", "lgwebostv", "tizen tv", "bravia", "roku", "crkey", "viera", "aquostv",
    "philipstv", "nettv", "opera tv", "mibox", "mitv", "shield android", "; aft", "firetv", "fire tv",
    "vizio", "hisense tv", "sonydtv", "inettvbrowser", "tv safari", "tv build", "chromecast",
    "tvos",
)  # fmt: skip
_CONSOLE = ("playstation", "xbox", "nintendo", "ps vita", "psp (")
_TABLET = (
    "ipad", "kindle", "playbook", "galaxy tab", "nexus 7", "nexus 9", "nexus 10", "sm-t", "sm-x", "touchpad", "xoom",
    "android; tablet", "kfot", "kftt", "kfjw", "kfso", "kfth", "kfap", "kfar", "kfme", "kfau", "kfma", "kftr", "kfgi",
    "lenovo tab", "mediapad", "matepad", "pixel c", "pixel tablet", "redmi pad", "silk-accelerated",
)  # fmt: skip
_MOBILE = (
    "iphone", "ipod", "windows phone", "iemobile", "blackberry", "bb10", "opera mini", "opera mobi", "symbian",
    "series60", "series40", "kaios", "maemo", "meego", "j2me", "midp", "palmos", "windows ce", "ucweb", "mobile",
    "docomo", "phone",
)  # fmt: skip
_DESKTOP_OS = frozenset({
    "Windows", "Mac OS X", "Mac OS", "Linux", "Chrome OS", "Ubuntu", "Debian", "Fedora", "Red Hat", "CentOS", "SUSE",
    "Gentoo", "Slackware", "Arch Linux", "Linux Mint", "Mandriva", "Mageia", "Kubuntu", "Puppy", "PCLinuxOS", "FreeBSD",
    "OpenBSD", "NetBSD", "BSD", "Solaris", "VectorLinux", "Lindows", "Haiku OS", "OS/2", "AIX", "HP-UX",
})  # fmt: skip
_MOBILE_OS = frozenset({
    "iOS", "Windows Phone", "Windows Mobile", "BlackBerry OS", "Symbian OS", "Symbian^3", "Symbian^3 Anna", "KaiOS",
    "Symbian^3 Belle", "Nokia Series 30 Plus", "Nokia Series 40", "Firefox OS", "Bada", "Maemo", "MeeGo", "Sailfish",
    "Brew MP", "HarmonyOS", "Windows CE",
})  # fmt: skip
_TV_OS = frozenset({"tvOS", "ATV OS X", "GoogleTV", "Chromecast", "FireTV", "Roku OS", "webOS TV"})
_NO_DEVICE = frozenset({"", "Apple", "Spider", "Generic"})


def _has(text: str, tokens: tuple[str, ...]) -> bool:
    return any(token in text for token in tokens)


def _device(text: str, os_name: str, brand: str) -> str:  # noqa: PLR0911  one line per kind, in order
    """Return the kind of device of an agent that is no crawler; `text` in lower case."""
    if os_name in _TV_OS or _has(text, _TV):
        return "tv"
    if _has(text, _CONSOLE):
        return "console"
    if os_name == "watchOS" or "oculusbrowser" in text or "wear os" in text:
        return "other"
    if _has(text, _TABLET) or (
        "tablet" in text and "tablet pc" not in text
    ):  # "Tablet PC 2.0": Windows on any computer
        return "tablet"
    if os_name == "Android":
        # Chrome and WebView on a phone say "Mobile", on a tablet they do not; apps (Dalvik, okhttp) never do
        return "tablet" if "applewebkit" in text and "mobile" not in text else "mobile"
    if os_name in _MOBILE_OS:
        return "mobile"
    if os_name in _DESKTOP_OS and "mobile" not in text:
        return "desktop"
    if _has(text, _MOBILE) or brand not in _NO_DEVICE:
        return "mobile"
    return "desktop" if os_name in _DESKTOP_OS else "other"
