"""The kind of device that a user agent, and a model named beside it, stand for. Pure; plain substring tests."""

from __future__ import annotations

from collections.abc import Callable

OTHER, BOT = "other", "bot"
DEVICES = ("desktop", "mobile", "tablet", "tv", "console", OTHER, BOT)

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


def device(text: str, os_name: str, brand_of: Callable[[], str]) -> str:  # noqa: PLR0911  one line per kind, in order
    """Return the kind of device of an agent that is no crawler; `text` in lower case.

    `brand_of` is asked for the brand only where nothing else decides: finding it is the dearest part of an agent.
    """
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
    if _has(text, _MOBILE) or brand_of() not in _NO_DEVICE:
        return "mobile"
    return "desktop" if os_name in _DESKTOP_OS else "other"
