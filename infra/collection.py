"""How collectors and workers collect garbage: seldom, as a batch makes many short-lived objects, no cycles.

Python's own threshold has them looked at every 700 objects.
"""

from __future__ import annotations

import gc

OBJECTS_NEW_MAX = 100_000
WORKERS_NEW_MAX = 500_000  # each event is four objects or five until its batch is in, and several batches are under way
ROUNDS = (20, 100)  # of the youngest before the next older are looked at, and of these


def freeze(objects_new_max: int = OBJECTS_NEW_MAX) -> None:
    """Collect now, leave what is here out from now on, and look at new objects seldom."""
    gc.set_threshold(objects_new_max, *ROUNDS)
    gc.collect()
    gc.freeze()
