"""The files that tell what an address is: a place database in MaxMind's format, and lists of datacentres' ranges.

Promise: nothing here raises for what a file is or is not. A file that is missing, damaged or of another kind is said in
one log line and events go on without it; where an earlier one was in force, that stays. `refresh` looks at most once a
batch whether a file was replaced (inode, size or time of change), and then reads it anew.

The database is read into memory: the file may be overwritten where it lies, and a mapped file that shrinks would kill
the worker. Its reader is the Rust one, which is memory-safe: a damaged file makes the C reader corrupt its heap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

from maxminddb_rust import MODE_MEMORY, InvalidDatabaseError, open_database
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.enrich.address_ranges import AddressRange, AddressRanges, parse_ranges
from consumers.enrich.network import NO_PLACE, Network, Networks, Place, place_of

logger = logging.getLogger(__name__)

PLACE_BYTES_MAX = 4 << 30
RANGES_BYTES_MAX = 256 << 20
PROBED_MAX = 1_000  # records looked at for a country

Version = tuple[int, ...]
MISSING: Version = ()


class FileUnusableError(Exception):
    """A file cannot be used; the message says why."""


class PlaceDatabase:
    """A database, in memory. Raises FileUnusableError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damaged = 0
        try:
            if path.stat().st_size > PLACE_BYTES_MAX:
                raise FileUnusableError(f"more than {PLACE_BYTES_MAX} bytes")
            self._reader = open_database(path, MODE_MEMORY)
        except (InvalidDatabaseError, ValueError) as error:
            raise FileUnusableError(f"no database in MaxMind's format, or a damaged one ({error})") from None
        except OSError as error:
            raise FileUnusableError(error.strerror or str(error)) from None
        metadata = self._reader.metadata()
        self.kind = metadata.database_type
        self.build_s = metadata.build_epoch
        self._probe()

    @property
    def name(self) -> str:
        """The database's type and the day it was built, for a person."""
        try:
            return f"{self.kind} of {datetime.fromtimestamp(self.build_s, UTC):%Y-%m-%d}"
        except (OverflowError, ValueError, OSError):  # a damaged file may name any number
            return f"{self.kind} of an unknown day"

    def place(self, address: str) -> Place:
        """Return the place of an address; none where the database is damaged or knows no such address."""
        try:
            return place_of(self._reader.get(address))
        except (InvalidDatabaseError, UnicodeDecodeError) as error:
            self.damaged += 1
            if self.damaged == 1:
                logger.warning("place_database %s is damaged: %s; where it is, events have no place", self._path, error)
            return NO_PLACE
        except ValueError:  # no address, or an IPv6 one in a database of IPv4
            return NO_PLACE

    def _probe(self) -> None:
        """Raise FileUnusableError where none of the first records has a country."""
        try:
            for _, record in islice(iter(self._reader), PROBED_MAX):
                if place_of(record).country:
                    return
        except (InvalidDatabaseError, ValueError) as error:
            raise FileUnusableError(f"a damaged database of type {self.kind} ({error})") from None
        raise FileUnusableError(f"a database of type {self.kind} that gives no country")


def read_ranges(path: Path) -> list[AddressRange]:
    """Return the ranges of a file. Raises FileUnusableError."""
    try:
        with path.open("rb") as file:
            content = file.read(RANGES_BYTES_MAX + 1)
        if len(content) > RANGES_BYTES_MAX:
            raise FileUnusableError(f"more than {RANGES_BYTES_MAX} bytes")
        return parse_ranges(content)
    except OSError as error:
        raise FileUnusableError(error.strerror or str(error)) from None
    except ValueError as error:
        raise FileUnusableError(str(error)) from None


class NetworkFiles:
    """The files in force; `networks` answers by them. `truncated`: addresses are kept as their /24 and /48."""

    def __init__(self, place: Path | None, ranges: Sequence[Path] = (), *, truncated: bool = True) -> None:
        self.networks = Networks()
        self.place: PlaceDatabase | None = None
        self._place_path = place
        self._truncated = truncated
        self._ranges: dict[Path, list[AddressRange]] = {path: [] for path in ranges}
        self.datacentres = AddressRanges()
        self._versions: dict[Path, Version | None] = dict.fromkeys([*([place] if place else []), *ranges])
        self.refresh()

    def refresh(self) -> None:
        """Take up files that were replaced since the last look."""
        changed = [path for path, seen in self._versions.items() if _version(path) != seen]
        taken_up = [self._read(path) for path in changed]
        if any(taken_up):
            self.networks.replace(_Lookup(self.place, self.datacentres))

    def _read(self, path: Path) -> bool:
        """Read a file and return whether it is in force now."""
        self._versions[path] = _version(path)
        setting = "place_database" if path == self._place_path else "datacentre_ranges"
        try:
            if path == self._place_path:
                self.place = database = PlaceDatabase(path)
                logger.info("place_database %s: %s", path, database.name)
            else:
                self._take_ranges(path)
        except FileUnusableError as error:
            before = self.place if path == self._place_path else self._ranges[path]
            then = "the one read before stays in force" if before else "events go on without it"
            logger.warning("%s %s cannot be used: %s; %s", setting, path, error, then)
            return False
        return True

    def _take_ranges(self, path: Path) -> None:
        self._ranges[path] = read_ranges(path)
        self.datacentres = AddressRanges(chain.from_iterable(self._ranges.values()), truncated=self._truncated)
        logger.info(
            "datacentre_ranges %s: %d ranges; %d of all are narrower than what is kept of an address and left out",
            path,
            len(self._ranges[path]),
            self.datacentres.too_narrow,
        )


class _Lookup:
    """What the files said when they were read."""

    def __init__(self, place: PlaceDatabase | None, datacentres: AddressRanges) -> None:
        self._place = place
        self._datacentres = datacentres

    def __call__(self, address: str) -> Network:
        place = self._place.place(address) if self._place else NO_PLACE
        return Network(place, self._datacentres.covers(address))


class NetworkFileMetrics(Collector):
    """Exposes what is in force as `hitstream_worker_*`; as of when a database is tells whether it goes stale."""

    def __init__(self, files: NetworkFiles) -> None:
        self._files = files

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        place = self._files.place
        yield GaugeMetricFamily(
            "hitstream_worker_place_database_build_timestamp_seconds",
            "When the place database in force was built, in seconds since 1970; 0: none is.",
            value=place.build_s if place else 0,
        )
        yield GaugeMetricFamily(
            "hitstream_worker_place_database_damaged_records",
            "Addresses without a place because the database in force is damaged there.",
            value=place.damaged if place else 0,
        )
        yield GaugeMetricFamily(
            "hitstream_worker_datacentre_ranges",
            "Ranges of datacentres in force, merged where they touch.",
            value=len(self._files.datacentres),
        )


def _version(path: Path) -> Version:
    """Return what changes when a file is replaced or written."""
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
