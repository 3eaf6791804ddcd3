"""The closed set of channels: GA4's default channel groups, spelled as GA4 spells them.

Source: support.google.com/analytics/answer/9756891 ("Default channel group"), with AI Assistant as added in May 2026.
The same words stand in `events.channel`, in `sessions.channel` and in `ad_spend.channel`.
"""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """A default channel group, in the order in which GA4 lists and tries them."""

    DIRECT = "Direct"
    CROSS_NETWORK = "Cross-network"
    PAID_SHOPPING = "Paid Shopping"
    PAID_SEARCH = "Paid Search"
    PAID_SOCIAL = "Paid Social"
    PAID_VIDEO = "Paid Video"
    DISPLAY = "Display"
    PAID_OTHER = "Paid Other"
    ORGANIC_SHOPPING = "Organic Shopping"
    ORGANIC_SOCIAL = "Organic Social"
    ORGANIC_VIDEO = "Organic Video"
    ORGANIC_SEARCH = "Organic Search"
    AI_ASSISTANT = "AI Assistant"
    REFERRAL = "Referral"
    EMAIL = "Email"
    AFFILIATES = "Affiliates"
    AUDIO = "Audio"
    SMS = "SMS"
    MOBILE_PUSH_NOTIFICATIONS = "Mobile Push Notifications"
    UNASSIGNED = "Unassigned"
