"""The closed set of reasons for which a kept hit becomes a row in `rejected` instead of one in `events`.

The same words are the metric's label and the column `rejected.reason`. Adding one is a change of the contract.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a hit left no row in `events`."""

    BAD_JSON = "bad_json"  # the record is no JSON object
    BAD_HIT = "bad_hit"  # JSON, but not a hit by hit.schema.json
    BAD_VERSION = "bad_version"  # a hit format this release does not know
    BAD_ENCODING = "bad_encoding"  # broken percent-encoding, not UTF-8, or a NUL in a parameter
    BAD_TYPE = "bad_type"  # a field of another JSON type than documented
    TOO_LONG = "too_long"  # a field longer than its limit
    BAD_SITE = "bad_site"  # missing or not a site id
    UNKNOWN_SITE = "unknown_site"  # sites are defined, and this is none of them
    WRONG_DOMAIN = "wrong_domain"  # the page is on none of its site's domains
    BAD_EVENT_NAME = "bad_event_name"  # not [A-Za-z][A-Za-z0-9_.]{0,63}
    BAD_URL = "bad_url"  # the page URL is no http(s) URL
    BAD_TIME = "bad_time"  # t, sent or received_at is no time at all
    BAD_VALUE = "bad_value"  # not a decimal number, negative, or past Decimal(18,4)
    BAD_CURRENCY = "bad_currency"  # not an ISO 4217 code
    BAD_ITEMS = "bad_items"  # not a list of {sku,name,category,price,qty}
    TOO_MANY_ITEMS = "too_many_items"  # more than items_max
    TOO_MANY_PROPERTIES = "too_many_properties"  # more than properties_max
    UNPROCESSABLE = "unprocessable"  # a step failed on it; so that one hit stops no partition


class Rejection(NamedTuple):
    """A reason, and what exactly was wrong, for a person."""

    reason: Reason
    detail: str
