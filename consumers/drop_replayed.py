"""Step 5: a replay is dropped where the hit that it replays has a row already: replaying twice adds nothing. Pure.

- A replay names in `replay_of` the rejected hit that it replays, the first one where replays were replayed. It is
  dropped when an earlier record of its partition left a row in `events` under that name or with that `replay_of`.
- "Earlier" is log order: rows of batches before this one (`known`, read from `events` with `log_offset` before the
  batch), then rows of this batch. So the decision is the same however batches are cut, formed again or retried.
- A replay keeps its hit's log key, random ones of denied visitors too, and the partition count is fixed: all replays
  of a hit are in its own partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from schemas.event import Event
from schemas.hit import name_text


class Replays:
    """What the replays of one batch ask for: `wanted` names, of which `known` have rows from before the batch."""

    def __init__(self, wanted: AbstractSet[str], known: Iterable[str]) -> None:
        self._wanted = wanted
        self._present = set(known)

    def drops(self, replay_of: str) -> bool:
        """Return whether a replay of this name adds nothing; False for "", a hit that is no replay."""
        return bool(replay_of) and replay_of in self._present

    def note(self, event: Event) -> None:
        """Take down an event that leaves a row: replays further on in the batch may be of it, or of the same hit."""
        if not self._wanted:
            return
        self._present.update(self._wanted & {event.replay_of, name_text(event.spool_id, event.spool_seq)})
