"""Whether client hints and user agent contradict each other, as those of a driven browser with a borrowed agent do.

Promise: only what no unmodified browser sends counts. Missing hints never do: Firefox, Safari and pages over http send
none. Nor does Sec-CH-UA-Mobile, which tablets and "desktop site" set in their own ways; on Android, where that mode
changes the agent, an agent that claims a desktop is no contradiction either.
"""

from __future__ import annotations

import re

from consumers.enrich.client_hints import Hinted

_ENGINE = re.compile(r"Chrom(?:e|ium)/([0-9]{1,4})")
_OTHER_ENGINES = ("Firefox/", "FxiOS/", "CriOS/", "EdgiOS/", "Trident/", "Version/")  # none of these sends hints
# What stands in an agent, in the order in which to look, and the ua-parser family it stands for.
_PLATFORMS = (
    ("Windows NT", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Macintosh", "Mac OS X"),
    ("CrOS", "Chrome OS"),
    ("Android", "Android"),
    ("Linux", "Linux"),
)
_ALIKE = ({"Linux", "Android"}, {"Linux", "Chrome OS"}, {"Android", "Chrome OS"})  # one runs, or passes for, the other


def contradicts(user_agent: str, hinted: Hinted) -> bool:
    """Tell whether the hints are those of another browser, version or system than the agent's, or of a headless one."""
    if not hinted.browser:
        return False
    engine = _ENGINE.search(user_agent)
    if engine is None:
        other_browser = any(token in user_agent for token in _OTHER_ENGINES)
    else:
        other_browser = bool(hinted.chromium) and engine[1] != hinted.chromium
    return hinted.is_headless or other_browser or _other_system(user_agent, hinted.os)


def _other_system(user_agent: str, system: str) -> bool:
    claimed = next((name for token, name in _PLATFORMS if token in user_agent), "")
    if not system or not claimed or claimed == system or {claimed, system} in _ALIKE:
        return False
    return system != "Android" or claimed == "iOS"
