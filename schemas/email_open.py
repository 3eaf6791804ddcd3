"""The closed sets that say who opened an email: the words in `events.open_by` and `events.open_reason`.

Both are empty on every event that is no image hit of an EmailOpen. Adding one is a change of the contract.
"""

from __future__ import annotations

from enum import StrEnum


class OpenBy(StrEnum):
    """Who fetched the image."""

    PERSON = "person"  # a mail program or a browser, over the person's own connection
    PROXY = "proxy"  # a mail provider's image proxy: before, at or without an opening by a person
    SCANNER = "scanner"  # a security gateway or another program: nobody opened anything


class OpenReason(StrEnum):
    """By what it was told. A proxy's is the provider."""

    MAIL_CLIENT = "mail_client"
    BROWSER = "browser"
    APPLE = "apple"  # Mail Privacy Protection
    GMAIL = "gmail"
    YAHOO = "yahoo"
    OUTLOOK = "outlook"
    FASTMAIL = "fastmail"
    SEZNAM = "seznam"
    SHORTWAVE = "shortwave"
    GATEWAY = "gateway"  # a security product names itself
    AGENT = "agent"  # a known crawler or program library
    HINT_MISMATCH = "hint_mismatch"
    NO_AGENT = "no_agent"  # neither mail program nor browser leaves the User-Agent header out
    DATACENTRE = "datacentre"  # the address lies in a range of `datacentre_ranges`
