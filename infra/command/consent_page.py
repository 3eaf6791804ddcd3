"""docs/consent.md: every setting and signal, the verdict they come to, and what is stored. Printed by `python -m`.

Promise: no verdict and no stored value on the page is written by hand. The code that runs in the collector gives the
verdicts; the values are what collector and worker make of one example. The lines of a mode cover every combination of
signals once, and all combinations of a line come to its verdict.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple, get_args

import orjson

from consumers.batch import Batch
from consumers.deduplicate import Marks
from consumers.enrich.network import Network, Networks, Place
from consumers.log_reader.port import Record
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from ingest.consent import DNT, GPC, choice_of, verdict_of
from ingest.denied_hit import denied_event
from ingest.given import given_in_event
from ingest.hit_builder import KNOWN, NO_VISITOR, HitBuilder, text_member
from schemas.consent import DENIED, Verdict
from schemas.event import Event
from schemas.limits import Limits
from schemas.session import SessionRule
from schemas.site import Site

FIELDS = tuple(Event.__annotations__)
MODES: tuple[str, ...] = get_args(Site.model_fields["consent"].annotation)
ABSENT, NO, YES, ANALYTICS = (None,), ("0", "ads"), ("1", "analytics,ads"), ("analytics",)  # values of `c`
CHOICES: tuple[str | None, ...] = (*ABSENT, *NO, *YES, *ANALYTICS)
EITHER = (False, True)
WHOLE, PARTLY, STRIPPED = Verdict.GRANTED, Verdict.GRANTED_ANALYTICS, Verdict.DENIED_PARAM  # one of each kind


class Case(NamedTuple):
    """What one hit says of consent: whether it has the opt-out cookie, `c`, whether Sec-GPC and DNT are 1."""

    opted_out: bool
    c: str | None
    gpc: bool
    dnt: bool

    def verdict(self, mode: str) -> Verdict:
        """Return the collector's verdict for a site with this mode."""
        signals = GPC * self.gpc | DNT * self.dnt
        return verdict_of(mode, choice_of(self.c), signals, opted_out=self.opted_out)


class Line(NamedTuple):
    """The values of each signal that stand in one line of the table."""

    opted_out: tuple[bool, ...]
    c: tuple[str | None, ...]
    gpc: tuple[bool, ...]
    dnt: tuple[bool, ...]

    def cases(self) -> Iterator[Case]:
        """Yield the combinations that the line stands for."""
        return (Case(*values) for values in product(*self))

    def verdicts(self, mode: str) -> set[Verdict]:
        """Return what they come to."""
        return {case.verdict(mode) for case in self.cases()}


SAID = (ABSENT, YES, ANALYTICS)  # what `c` may say but no
LINES = (
    Line((True,), CHOICES, EITHER, EITHER),
    Line((False,), NO, EITHER, EITHER),
    Line((False,), (*ABSENT, *YES, *ANALYTICS), (True,), EITHER),
    Line((False,), (*ABSENT, *YES, *ANALYTICS), (False,), (True,)),
    Line((False,), (*ABSENT, *YES, *ANALYTICS), (False,), (False,)),
)


def lines_of(mode: str) -> list[tuple[Line, Verdict]]:
    """Return a mode's lines and their verdicts: LINES, split by `c` where that makes a difference."""
    found: list[tuple[Line, Verdict]] = []
    for line in LINES:
        split = [line] if len(line.verdicts(mode)) == 1 else [line._replace(c=said) for said in SAID]
        for part in split:
            [verdict] = part.verdicts(mode)
            found.append((part, verdict))
    return found


# A hit that says everything.
MS = 1_767_225_600_000
EXAMPLE: dict[str, Any] = {
    "s": "shop", "e": "Purchase", "id": "e-1", "t": MS - 3000, "sent": MS - 1000, "uid": "joe", "ti": "Thank you",
    "u": "https://shop.example/thanks?order=7&utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=shoes"
    "&utm_content=red&gclid=Cj0",
    "r": "https://www.google.com/search?q=shoes", "l": "de-DE", "sr": "1920x1080", "v": "49.90", "cur": "EUR",
    "oid": "o-7", "items": [{"sku": "a", "price": "49.90"}], "ab": "button:red", "p.colour": "red",
}  # fmt: skip
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
ADDRESS = "203.0.113.0"
VISITOR, RANDOM_KEY, SPOOL = b"00000000000000ab", b"00000000000000ff", "0000000000000001"
PLACES = Networks(lambda address: Network(Place("DE", "Land Berlin", "Berlin" if address else ""), is_datacentre=False))


def stored(payload: bytes) -> dict[str, Any]:
    """Return the columns of `events` that hold anything, by the worker's own steps, for a hit's JSON."""
    batch = Batch("hits", 0, 0, 0, MS, [Record(0, payload[8:24], payload)])
    prepared = prepare(batch.records, Marks(), Rules(Limits(), {}), PLACES)
    loaded = finish(prepared, SessionState(SessionRule(), 0))
    if loaded.rejected:
        raise AssertionError(f"rejected: {loaded.rejected[0].rejection}")
    [(_, event)] = loaded.events
    return {name: value for name in FIELDS if (value := getattr(event, name, None))}


def example(verdict: Verdict) -> bytes:
    """Return the hit that the collector keeps of EXAMPLE under a verdict."""
    builder = HitBuilder(SPOOL)
    builder.at(MS)
    mark = KNOWN + text_member(b"consent", verdict.value.encode())
    if verdict in DENIED:
        event = denied_event(given_in_event(EXAMPLE), b"")
        return builder.event(1, b"beacon", RANDOM_KEY, NO_VISITOR, mark, b"", event)
    members = text_member(b"ip", ADDRESS.encode()) + text_member(b"user_agent", AGENT.encode())
    return builder.event(1, b"beacon", VISITOR, VISITOR, mark, members, orjson.dumps(EXAMPLE))


def kind(verdict: Verdict) -> str:
    """Return in a word how a hit with this verdict is kept."""
    return "stripped" if verdict in DENIED else "without click ids" if verdict is PARTLY else "whole"


def verdict_lines() -> Iterator[str]:
    """Yield the lines of the first table."""
    for mode in MODES:
        for line, verdict in lines_of(mode):
            signals = (_flag(line.opted_out), _choice(line.c), _flag(line.gpc), _flag(line.dnt))
            kept = kind(verdict), "nothing" if verdict in DENIED else kind(verdict)
            yield "| " + " | ".join((f"`{mode}`", *signals, f"`{verdict.value}`", *kept)) + " |\n"


def stored_lines() -> Iterator[str]:
    """Yield the lines of the second table."""
    kept = [stored(example(verdict)) for verdict in (WHOLE, PARTLY, STRIPPED)]
    for name in FIELDS:
        values = [_value(columns.get(name)) for columns in kept]
        if any(values):
            yield "| " + " | ".join((f"`{name}`", *(f"`{text}`" if text else "" for text in values))) + " |\n"


def _flag(values: tuple[bool, ...]) -> str:
    return "any" if len(values) > 1 else "yes" if values[0] else ""


def _choice(values: tuple[str | None, ...]) -> str:
    if values == CHOICES:
        return "any"
    return ", ".join("absent" if value is None else f"`{value}`" for value in values)


def _value(value: Any) -> str:  # noqa: ANN401  of any column
    if value is None:
        return ""
    plain = [list(item) for item in value] if isinstance(value, tuple) else value
    text = str(plain) if isinstance(plain, (str, Decimal)) else orjson.dumps(plain, default=str).decode()
    return text.replace("|", "\\|")


HEAD = """# Consent

Every hit gets a verdict before it is written, from the site's mode (`consent`), the opt-out cookie, the parameter
`c`, and the header fields `Sec-GPC` and `DNT`. It is the column `consent`, and counted
(`hitstream_collector_verdicts_total`).

- *Any no is a no*, whatever else says yes; of several the first in the order of the columns names the verdict.
- `c` is `0`, `1`, or purposes with commas. `analytics` is what this is; with it and without `ads`, click ids are
  not kept. What says neither (`ads` alone, a word, a number) is a no. In the browser `data-consent` sets it, see
  [sites](sites.md).
- `Sec-GPC` and `DNT` say no by the value 1. In the mode `none` they are not asked; the cookie and `c` always are.

This page is written by `python -m infra.command.consent_page`.

## The verdict

| `consent` of the site | opt-out cookie | `c` | `Sec-GPC: 1` | `DNT: 1` | verdict | kept | with `denied="drop"` |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
MIDDLE = """
So it is with pixels, POSTed events (each has a verdict of its own) and clicks. Of [server events](server-events.md)
the mode and the item's `c` are asked; cookie and header fields of such a request are the sending server's own.

## What is kept

*Stripped* is decided in the collector, so nothing else reaches spool, log or ClickHouse: no `Set-Cookie` goes out,
there is no visitor, the log key is random, and of the event only site, name, value, currency, times, the page's
path and the referrer's host are kept, each only if it is what its name says. A value that would be rejected is
replaced by `?`: the hit is rejected without its bytes. A click goes on to its target without an id. With
`denied="drop"` nothing is kept at all; the answer is the same, and `hitstream_collector_dropped_total` counts by
verdict and site.

What ClickHouse holds of one event that says everything (`python -m infra.command.consent_page` sends it through
collector and worker):

| column | whole | without click ids | stripped |
| --- | --- | --- | --- |
"""
FOOT = """
## Opting out

`/optout` and `/optin` are pages with a button, to link from a privacy policy; they can be renamed (`optout_path`,
`optin_path`). The first sets the cookie `_hs_out=1` for 395 days and takes `_hs` back, the second takes `_hs_out`
back. Only a `POST` of the page itself does: the browser says so by `Sec-Fetch-Site: same-origin`, where it sends
none by an `Origin` with the host that was asked. A `GET`, an image, a form on another host get no cookie, and no
page may frame these (403, `cross_origin`).

The cookie holds for the host that set it. A third-party collector's (`third_party`) is `SameSite=None`, but never
`Partitioned`, so that one click counts on all sites; browsers that block such cookies do not send it, and a site
offers the choice itself then, by `c=0`.
"""


def page() -> str:
    """Return docs/consent.md."""
    return HEAD + "".join(verdict_lines()) + MIDDLE + "".join(stored_lines()) + FOOT


if __name__ == "__main__":
    sys.stdout.write(page())
