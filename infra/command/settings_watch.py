"""Takes up the sites of a settings file that changes while a process runs: `[sites]`, `[default_site]`, nothing else.

- All of it or nothing: what the settings refuse leaves those in force as they are, and is said with its line, in the
  log and in `problem`, until the file is right.
- So is what cannot be taken up yet (a salt or ClickHouse is missing): said once, tried again every second. A file that
  goes back meanwhile is handed over all the same, for a part of the other may hold already.
- A file counts once it has been the same for a whole look, so that one that is being written is not taken for whole. A
  file that is gone takes no site with it.
- It costs the process one stat a second, in a thread of its own; the file is read there, too.
- What else the file changed holds from the next start on; the log names it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.errors import FatalError, RetryError
from schemas.settings import Settings, config_file, load
from schemas.settings_error import SettingsError
from schemas.site import Site

LOOK_S = 1.0
PROBLEM_CHARS_MAX = 2_000
TAKEN_UP = ("sites", "default_site")

log = logging.getLogger("hitstream.settings")

Version = tuple[int, ...]
MISSING: Version = ()
UNREAD: Version = (-1,)


class SettingsWatch:
    """Watches for a process that runs by `settings`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._unusable = self._late = ""  # what is wrong with the file; why it cannot be taken up yet
        self.waiting: tuple[str, ...] = ()  # settings that differ in the file
        self.taken_up = 0
        self._file = config_file()
        self._seen = self._read = UNREAD  # so the first looks read it: it may have changed since the process did
        self._due: Settings | None = None

    @property
    def problem(self) -> str:
        """Why the sites in force are not the file's; "" when they are."""
        return self._unusable or self._late

    def start(self, take_up: Callable[[Settings], None]) -> None:
        """Look every second, in a thread, for the life of the process; see `look`."""
        threading.Thread(target=self._run, args=(take_up,), name="settings", daemon=True).start()

    def look(self, take_up: Callable[[Settings], None]) -> None:
        """Take up what changed, if it has been as it is since the last look.

        `take_up` is called with the settings that hold from then on. It may raise RetryError: then the next look calls
        it again.
        """
        version, before = _version(self._file), self._seen
        self._seen = version
        if version == before != self._read:
            self._read_file(version)
        if self._due is not None:
            self._hand_over(self._due, take_up)

    def _run(self, take_up: Callable[[Settings], None]) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_S):
            try:
                self.look(take_up)
            except Exception:  # whatever it trips over, the next change of the file must be seen
                log.exception("%s was not taken up, on an error that is ours", self._file)

    def _read_file(self, version: Version) -> None:
        problem, found = "", self.settings
        try:
            found = load()
        except SettingsError as error:
            problem = " ".join(line.strip() for line in str(error).splitlines())[:PROBLEM_CHARS_MAX]
        if _version(self._file) != version:
            return  # it changed under our eyes
        self._read = version
        if version == MISSING and _sites(found) != _sites(self.settings):
            problem, found = f"{self._file} is gone", self.settings
        if problem and problem != self._unusable:
            log.error("the settings read before hold on: %s", problem)
        elif self._unusable and not problem:
            log.info("%s can be used again", self._file)
        self._unusable = problem
        if not problem:
            self._compare(found)

    def _compare(self, found: Settings) -> None:
        others = [name for name in Settings.model_fields if name not in TAKEN_UP]
        waiting = tuple(name for name in others if getattr(found, name) != getattr(self.settings, name))
        if waiting and waiting != self.waiting:
            log.warning("%s: changed %s; that holds from the next start on", self._file, ", ".join(waiting))
        self.waiting = waiting
        if self._due is not None or _sites(found) != _sites(self.settings):
            self._due = self.settings.model_copy(update={name: getattr(found, name) for name in TAKEN_UP})

    def _hand_over(self, due: Settings, take_up: Callable[[Settings], None]) -> None:
        try:
            take_up(due)
        except RetryError as error:
            late = f"sites cannot be taken up yet, those before hold on: {error}"
            if late != self._late:
                log.warning("%s", late)
            self._late = late
            return
        except FatalError as error:
            log.error("sites were not taken up whole: %s", error)  # noqa: TRY400  the message is made for the reader
        before, self.settings, self._due = self.settings, due, None
        self._late = ""
        self.taken_up += 1
        log.info("%s: taken up: %s", self._file, "; ".join(changes(before, due)) or "the sites are as before")
        if before.sites and not due.sites:
            log.warning("no site is defined any more: every well-formed site id and any Origin is accepted")


def changes(before: Settings, after: Settings) -> Iterator[str]:
    """Yield what differs between two settings' sites, in words; names alone, as there are secrets among the values."""
    for name in sorted(before.sites.keys() | after.sites.keys()):
        old, new = before.sites.get(name), after.sites.get(name)
        if old is None or new is None:
            yield f"site {name} {'removed' if new is None else 'added'}"
        elif old != new:
            yield f"site {name}: {_differing(old, new)}"
    if before.default_site != after.default_site:
        yield f"default_site: {_differing(before.default_site, after.default_site)}"


class SettingsWatchMetrics(Collector):
    """Exposes a watch as `hitstream_settings_*`."""

    def __init__(self, watch: SettingsWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        watch = self._watch
        yield GaugeMetricFamily(
            "hitstream_settings_unusable",
            "1 while the file is wrong or cannot be taken up yet, and the settings before hold on; /readyz says why.",
            value=int(bool(watch.problem)),
        )
        yield GaugeMetricFamily(
            "hitstream_settings_waiting",
            "Settings that differ in the file and hold from the next start on.",
            value=len(watch.waiting),
        )
        yield CounterMetricFamily(
            "hitstream_settings_taken_up", "Changes of sites taken up while running.", value=watch.taken_up
        )


def _sites(settings: Settings) -> tuple[dict[str, Site], Site]:
    return settings.sites, settings.default_site


def _differing(old: Site, new: Site) -> str:
    return ", ".join(name for name in Site.model_fields if getattr(old, name) != getattr(new, name))


def _version(path: Path) -> Version:
    """Return what changes when a file is replaced or written."""
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
