"""What a verdict means for a hit, by the settings of its site: made once for each, looked up for every hit. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ingest.consent import choice_of, verdict_of
from ingest.given import Given
from ingest.hit_builder import KNOWN, NEW
from schemas.consent import DENIED, Verdict
from schemas.settings import Settings
from schemas.site import Site


class Denial(NamedTuple):
    """A no: what becomes of a hit (`denials.py`). `mark` is the ruling's `known`.

    `site` names the site in counts: its id where it has a table of its own, else "". `domains`: where its pages may be.
    """

    site: str
    verdict: Verdict
    mark: bytes
    dropped: bool
    domains: tuple[str, ...]


class Ruling(NamedTuple):
    """A verdict on a site's hits. `known` and `new` stand behind the visitor's id, as `hit_builder.KNOWN` and `NEW`."""

    verdict: Verdict
    denial: Denial | None
    known: bytes
    new: bytes


class Rulings:
    """The rulings of all sites.

    `usual` is what holds when a hit's headers and parameters say nothing of consent, by the site's id, of sites whose
    visitors have a cookie and where nothing is denied then; `usual_in_query` the same by the query's first parameter
    (`s=<site id>`), and `usual_anywhere` the same where no site has a table of its own, else None.
    """

    def __init__(self, settings: Settings) -> None:
        self._sites = {name: _SiteRulings(name, site) for name, site in settings.sites.items()}
        self._default = _SiteRulings("", settings.default_site)
        usual = {
            name: rulings.usual for name, rulings in self._sites.items() if settings.site(name).identity == "cookie"
        }
        self.usual = {name: ruling for name, ruling in usual.items() if ruling.denial is None}
        self.usual_in_query = {b"s=" + name.encode(): ruling for name, ruling in self.usual.items()}
        anywhere = self._default.usual
        self.usual_anywhere = None if self._sites or settings.cookieless or anywhere.denial is not None else anywhere

    def of(self, given: Given, signals: int, *, opted_out: bool) -> Ruling:
        """Return the ruling on a hit that says `given`, with a request's signals (`consent.signals_of`)."""
        site = given.get("s")
        rulings = self._sites.get(site, self._default) if isinstance(site, str) else self._default
        return rulings.of_verdict[verdict_of(rulings.mode, choice_of(given.get("c")), signals, opted_out=opted_out)]


class _SiteRulings:
    """The rulings of one site, by verdict."""

    def __init__(self, name: str, site: Site) -> None:
        self.mode = site.consent
        self.of_verdict = {verdict: _ruling(name, site, verdict) for verdict in Verdict}
        self.usual = self.of_verdict[verdict_of(site.consent, None, 0, opted_out=False)]


def _ruling(name: str, site: Site, verdict: Verdict) -> Ruling:
    said = b',"consent":"%b"' % verdict.value.encode()
    denial = None
    if verdict in DENIED:
        denial = Denial(name, verdict, KNOWN + said, site.denied == "drop", site.page_domains)
    return Ruling(verdict, denial, KNOWN + said, NEW + said)
