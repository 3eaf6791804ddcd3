"""What the pure steps depend on besides the hits and the state. Plain values: they are kept with a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from schemas.limits import Limits


class Enrichment(msgspec.Struct, frozen=True):
    """What enrichment goes by, besides the hit and the sites' domains. Plain values: they are kept with a batch.

    `scrub` says whether anything is taken out, the next two what else than the built-in kinds. `users_hashed` tells of
    a site whether its user ids are kept as their SHA-256, `other_users_hashed` of every site that is not named there.
    """

    scrub: bool = False
    scrub_parameters: tuple[str, ...] = ()
    scrub_patterns: tuple[str, ...] = ()
    users_hashed: Mapping[str, bool] = {}
    other_users_hashed: bool = False


class Rules(msgspec.Struct, frozen=True):
    """What the steps depend on besides state: validation's limits, each site's own domains, what enrichment goes by."""

    limits: Limits
    domains: Mapping[str, Sequence[str]]
    enrichment: Enrichment = Enrichment()
