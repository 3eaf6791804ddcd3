"""Replays rejected hits: each is appended once more, through a spool of its own that the forwarder drains as any other.

- A replay is the hit as it was, `received_at` and log key too, so that times mean the same and it goes to the same
  partition; members that this release does not know stay. Only its name is the new spool's, and `replay_of` is the old.
- What `append` counts is on disk when it returns.
- Workers drop a replay whose hit has a row already, so appending one twice adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ingest.spool import Spool
from schemas.hit import Hit

SEGMENT_BYTES_MAX = 1024 * 1024

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_hit = msgspec.json.Decoder(Hit)


class Replay(NamedTuple):
    """A rejected hit's bytes, and the name that its replay gives in `replay_of`."""

    hit: bytes
    replay_of: str


class ReplaySpool:
    """A spool for replays, under the byte limit of all spools at `root`. Raises SpoolError."""

    def __init__(self, root: Path, *, bytes_max: int, collectors: int) -> None:
        self._spool = Spool(
            root, bytes_max=bytes_max, segment_bytes_max=SEGMENT_BYTES_MAX, collectors=collectors, disk=True
        )

    @property
    def id(self) -> str:
        """The spool's id."""
        return self._spool.id

    def append(self, replays: Sequence[Replay]) -> int:
        """Append replays, in order; return how many are kept: fewer than all when the spool or the disk is full.

        Raises OSError when it is not known whether they are on disk.
        """
        kept = 0
        while kept < len(replays):
            more = self._append_group(replays[kept:])
            if not more:
                break
            kept += more
        if kept:
            self._spool.sync()
        return kept

    def close(self) -> None:
        """Give the spool to the forwarder."""
        self._spool.close()

    def _append_group(self, replays: Sequence[Replay]) -> int:
        """Append as many as fit into a segment, at least one; once more after making room."""
        spool = self._spool
        group: list[bytes] = []
        for replay in replays:
            hit = renamed(replay, spool.id, spool.next_seq + len(group))
            if group and spool.frame_bytes([*group, hit]) > spool.segment_bytes:
                break
            group.append(hit)
        return spool.append(group) or (spool.append(group) if spool.prepare() else 0)


def renamed(replay: Replay, spool_id: str, spool_seq: int) -> bytes:
    """Return the hit of a replay under its new name. Raises msgspec.DecodeError where the bytes are no hit."""
    fields = _fields.decode(replay.hit)
    hit = _hit.decode(replay.hit)
    front = {"key": hit.key, "v": hit.v, "spool_id": spool_id, "spool_seq": spool_seq}
    kept = {name: value for name, value in fields.items() if name not in front and name != "replay_of"}
    return msgspec.json.encode({**front, **kept, "replay_of": replay.replay_of})
