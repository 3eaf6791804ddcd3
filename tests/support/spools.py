"""Spools as collectors leave them, for the forwarder's tests."""

from __future__ import annotations

from pathlib import Path

from infra.journal.files import Lock
from infra.journal.frame import encode_all
from infra.journal.writer import JournalWriter
from ingest.forwarder_cursor import spool_root
from schemas.hit import PREFIX


def spool_hit(spool: str, seq: int, key: int | None = None, pad: int = 0) -> bytes:
    """A hit as the forwarder sees it: the key in its place, the rest its own affair."""
    return PREFIX + b'%016x","spool":"%s","seq":%d,"pad":"%s"}' % (
        seq * 7919 if key is None else key,
        spool.encode(),
        seq,
        b"x" * pad,
    )


def name_of(hit: bytes) -> tuple[str, int]:
    """The spool and number in a hit of `spool_hit`."""
    _, _, rest = hit.partition(b'"spool":"')
    spool, _, rest = rest.partition(b'","seq":')
    return spool.decode(), int(rest.partition(b",")[0])


class TestSpool:
    """One collector's spool directory; `die` frees its lock as the kernel does."""

    __test__ = False

    def __init__(self, data_dir: Path, name: str, segment_bytes: int = 4096) -> None:
        self.name = name
        self.directory = spool_root(data_dir) / name
        self.lock = Lock(self.directory / "owner.lock")
        assert self.lock.acquire()
        self.writer = JournalWriter(self.directory, segment_bytes=segment_bytes)

    def append(self, count: int, pad: int = 0) -> None:
        """Append hits, numbered on."""
        first = self.writer.number
        hits = [spool_hit(self.name, seq, pad=pad) for seq in range(first, first + count)]
        assert self.writer.append(encode_all(hits)) == count

    def roll(self) -> None:
        """Begin the next segment."""
        self.writer._leave()

    def segments(self) -> list[Path]:
        """The segment files."""
        return sorted(path for path in self.directory.glob("*.seg") if not path.name.startswith("."))

    def die(self) -> None:
        """End, as a collector that was stopped or killed."""
        self.writer.close()
        self.lock.release()
