"""The closed set of reasons for which an event is a bot's: the words in `events.bot_reason`.

Of several reasons the first in this order stands on the row. An event without a reason is no bot's (`is_bot` 0).
"""

from __future__ import annotations

from enum import StrEnum


class BotReason(StrEnum):
    """Why an event is labelled; it is kept all the same."""

    AGENT = "agent"  # the user agent is a known crawler's
    HINT_MISMATCH = "hint_mismatch"  # client hints contradict the user agent
    DATACENTRE = "datacentre"  # the address lies in a range of `datacentre_ranges`
    RATE = "rate"  # more than `bot_events_per_minute_max` events of the session in one minute
