"""Whether a hit may be kept whole: its signals and its site's mode come to one `schemas.consent.Verdict`. Pure.

- Any no is a no, whatever else says yes. Of several, the first of these names the verdict: the opt-out cookie, the
  parameter `c`, Sec-GPC, DNT. In mode `none` the two header fields are not asked.
- `c` is read as the worker reads parameters. What cannot be read is a no, for it is certainly no yes.
"""

from __future__ import annotations

from enum import Enum

from schemas.consent import Verdict

GPC, DNT = 1, 2  # bits of a request's signals
PURPOSE, FURTHER_PURPOSE = "analytics", "ads"


class Choice(Enum):
    """What the parameter `c` says."""

    NO = "0"
    YES = "1"
    ANALYTICS = PURPOSE  # and not ads


def signals_of(gpc: bytes | None, dnt: bytes | None) -> int:
    """Return the signals of the header fields Sec-GPC and DNT; None: the field is not there.

    Both say no by the value 1 and nothing by any other (W3C GPC 3.2, Tracking Preference Expression 5.2); of repeated
    fields, which come joined by commas, any.
    """
    return (GPC if _says_no(gpc) else 0) | (DNT if _says_no(dnt) else 0)


def choice_of(c: object) -> Choice | None:
    """Return what `c` says, None when it is absent: `0`, `1` (in JSON numbers too), or purposes with commas."""
    if c is None or c == "":
        return None
    text = str(int(c)) if isinstance(c, int) else c
    if not isinstance(text, str):
        return Choice.NO
    if text.strip() == Choice.YES.value:
        return Choice.YES
    purposes = {purpose.strip().lower() for purpose in text.split(",")}
    if PURPOSE not in purposes:
        return Choice.NO
    return Choice.YES if FURTHER_PURPOSE in purposes else Choice.ANALYTICS


def verdict_of(mode: str, choice: Choice | None, signals: int, *, opted_out: bool) -> Verdict:  # noqa: PLR0911  a line per verdict, in order
    """Return the verdict on a hit of a site with this consent mode (`schemas.site.Site.consent`)."""
    if opted_out:
        return Verdict.DENIED_OPTOUT
    if choice is Choice.NO:
        return Verdict.DENIED_PARAM
    if signals and mode != "none":
        return Verdict.DENIED_GPC if signals & GPC else Verdict.DENIED_DNT
    if choice is Choice.YES:
        return Verdict.GRANTED
    if choice is Choice.ANALYTICS:
        return Verdict.GRANTED_ANALYTICS
    if mode == "opt-in":
        return Verdict.DENIED_DEFAULT
    return Verdict.NOT_REQUIRED if mode == "none" else Verdict.NOT_OBJECTED


def _says_no(value: bytes | None) -> bool:
    return value is not None and any(part.strip() == b"1" for part in value.split(b","))
