"""The closed set of consent verdicts: what a hit's signals and its site's mode came to, decided before it is kept.

The same words stand in the hit (`consent`), in the column `events.consent` and as the metric's label. Adding one is a
change of the contract. A hit without a verdict is from a release that had none.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """Why a hit may be kept whole, or why not."""

    GRANTED = "granted"  # c=1, or purposes with analytics and ads
    GRANTED_ANALYTICS = (
        "granted_analytics"  # purposes with analytics, without ads: click ids are not kept, their type is
    )
    NOT_OBJECTED = "not_objected"  # mode opt-out, and nothing says no
    NOT_REQUIRED = "not_required"  # mode none, and nothing says no
    DENIED_OPTOUT = "denied_optout"  # the opt-out cookie
    DENIED_PARAM = "denied_param"  # c=0, or purposes without analytics
    DENIED_GPC = "denied_gpc"  # Sec-GPC: 1
    DENIED_DNT = "denied_dnt"  # DNT: 1
    DENIED_DEFAULT = "denied_default"  # mode opt-in, and nothing says yes


DENIED = frozenset(verdict for verdict in Verdict if verdict.value.startswith("denied_"))
