"""A site: what a `[sites.ID]` table of hitstream.toml may say, and `[default_site]` for every site without a table."""

from __future__ import annotations

from typing import Literal
from zoneinfo import available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator


class ServerKey(BaseModel):
    """One key for `POST /v1/events`, kept as its hash: the key itself was shown once, when it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]{1,16}$", description="Names the key in lists and logs; no secret.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex.")
    expires: AwareDatetime | None = Field(
        default=None, description="Refused from then on; rotation sets it on the old key."
    )


class Site(BaseModel):
    """One site. What is None follows the setting of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domains: tuple[str, ...] = Field(
        default=(),
        description="Domains of the site, subdomains included: a referrer on one is internal, a page on another is "
        "rejected, CORS answers their origins. None: any page.",
    )
    origins: tuple[str, ...] = Field(default=(), description="Further origins that CORS answers: scheme://host[:port].")
    consent: Literal["opt-in", "opt-out", "none"] = Field(
        default="opt-out",
        description="`opt-in`: denied until `c` says yes; `opt-out`: kept until a signal says no; `none`: no consent "
        "is needed, only the opt-out cookie and `c` say no.",
    )
    denied: Literal["anonymous", "drop"] = Field(
        default="anonymous", description="Of a denied hit keep what names nobody, or nothing at all."
    )
    identity: Literal["cookie", "cookieless"] = Field(
        default="cookie", description="Visitor id from the cookie, or from a keyed hash under a daily salt."
    )
    user_id: Literal["given", "hashed"] = Field(
        default="given", description="`uid` as given, or as SHA-256 of its trimmed lower-case text."
    )
    session_gap_s: int | None = Field(default=None, ge=1, description="A longer gap opens a new session.")
    session_length_s_max: int | None = Field(default=None, ge=60, description="A session stays below this length.")
    timezone: str = Field(default="UTC", description="IANA time zone that cuts the site's days in reports.")
    retention_days: int | None = Field(default=None, ge=1, description="Rows leave ClickHouse after so many days.")
    keys: tuple[ServerKey, ...] = Field(default=(), description="Keys for server events.")
    link_key: str = Field(default="", description="Signs click redirects and cross-domain links.")
    redirect_hosts: tuple[str, ...] = Field(default=(), description="Hosts that /c redirects to without a signature.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone")
        return value


DEFAULT_SITE = Site()
