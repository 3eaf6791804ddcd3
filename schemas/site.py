"""A site: what a `[sites.ID]` table of hitstream.toml may say, and `[default_site]` for every site without a table.

What a site is made of is checked and made normal here, once, so that who reads it can compare: hosts are as browsers
name them (`schemas/host.py`), origins as browsers send them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal
from zoneinfo import available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from schemas.host import normal_host

Loc = tuple[str | int, ...]  # where in the settings: names of tables, places in lists
SITE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
DAY_S = 86_400
RETENTION_DAYS_MAX = 18_000  # behind the last time that a hit may name, 2100, ClickHouse's Date goes on to mid-2149
LINK_KEY_PATTERN = r"^(\S{32,256})?$"  # `site add` makes 256 random bits in base64url

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<host>[^/:@?#\s]+)(?P<port>:\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # a browser leaves them out


def site_id(text: str) -> str:
    """Return a site id as it is. Raises ValueError for what is none."""
    if not re.fullmatch(SITE_ID_PATTERN, text):
        raise ValueError("no site id: write 1 to 64 letters, digits, '.', '_' and '-', with a letter or digit first")
    return text


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
        description="Domains of the site, subdomains included (a leading `www.` is ignored): a referrer on one is "
        "internal, a page on another is rejected, CORS answers their origins. None: any page.",
    )
    origins: tuple[str, ...] = Field(
        default=(),
        description="Further origins, scheme://host[:port]: CORS answers them, and pages on their hosts are taken; a "
        "referrer there is a referrer.",
    )
    consent: Literal["opt-in", "opt-out", "none"] = Field(
        default="opt-out",
        description="`opt-in`: denied until `c` says yes; `opt-out`: kept until a signal says no; `none`: no consent "
        "is needed, only the opt-out cookie and `c` say no.",
    )
    denied: Literal["anonymous", "drop"] = Field(
        default="anonymous", description="Of a denied hit keep what names nobody, or nothing at all."
    )
    identity: Literal["cookie", "cookieless"] = Field(
        default="cookie",
        description="Visitor id from the cookie, or from a keyed hash under a daily salt (`hitstream salt`).",
    )
    user_id: Literal["given", "hashed"] = Field(
        default="given", description="`uid` as given, or as SHA-256 of its trimmed lower-case text."
    )
    session_gap_s: int | None = Field(default=None, ge=1, description="A longer gap opens a new session.")
    session_length_s_max: int | None = Field(default=None, ge=60, description="A session stays below this length.")
    timezone: str = Field(default="UTC", description="IANA time zone that cuts the site's days in reports.")
    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=RETENTION_DAYS_MAX,
        description="Rows leave ClickHouse after so many days; none: they stay. Longer than a session may last.",
    )
    keys: tuple[ServerKey, ...] = Field(default=(), description="Keys for server events.")
    link_key: str = Field(
        default="", pattern=LINK_KEY_PATTERN, description="Signs click redirects and cross-domain links; a secret."
    )
    redirect_hosts: tuple[str, ...] = Field(default=(), description="Hosts that /c redirects to without a signature.")

    @property
    def page_domains(self) -> tuple[str, ...]:
        """Where the site's pages may be, subdomains included: its domains and its origins' hosts; (): anywhere."""
        if not self.domains:
            return ()
        webs = (match for match in map(_ORIGIN.fullmatch, self.origins) if match and match["scheme"] in _DEFAULT_PORTS)
        return tuple(dict.fromkeys((*self.domains, *(match["host"] for match in webs))))

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone")
        return value

    @field_validator("domains")
    @classmethod
    def _normal_domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_host(name).removeprefix("www.") for name in value))

    @field_validator("redirect_hosts")
    @classmethod
    def _normal_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_host(name) for name in value))

    @field_validator("origins")
    @classmethod
    def _normal_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_origin(text) for text in value))


def _host(name: str) -> str:
    if name.startswith("*."):
        raise ValueError(f"{name!r}: subdomains are included, write {name[2:]!r}")
    host = normal_host(name)
    if not host:
        raise ValueError(f"{name!r} is no host name: write it without scheme, port and path, such as 'shop.example'")
    return host


def _origin(text: str) -> str:
    match = _ORIGIN.fullmatch(text.lower())
    host = normal_host(match["host"]) if match else ""
    if match is None or not host:
        raise ValueError(f"{text!r} is no origin: write scheme://host[:port], such as 'https://shop.example'")
    port = match["port"] or ""
    return f"{match['scheme']}://{host}{'' if port == _DEFAULT_PORTS.get(match['scheme']) else port}"


DEFAULT_SITE = Site()


def misfits(sites: Mapping[str, Site], default_site: Site, gap_s: int, length_s_max: int) -> Iterator[tuple[Loc, str]]:
    """Yield what is wrong with tables that are right each by itself: where, and why.

    Two server keys must not have one id: a presented key says by its id alone which one it is. Rows must not leave
    while their session may still grow; `gap_s` and `length_s_max` are the settings' session rule.
    """
    owners: dict[str, str] = {}
    for name, site in sites.items():
        for place, key in enumerate(site.keys):
            if key.id in owners:
                yield ("sites", name, "keys", place, "id"), f"site {owners[key.id]!r} has a key {key.id!r}, too"
            owners[key.id] = name
    tables: list[tuple[Loc, Site]] = [(("sites", name), site) for name, site in sites.items()]
    for loc, site in [*tables, (("default_site",), default_site)]:
        longest_s = (site.session_length_s_max or length_s_max) + (site.session_gap_s or gap_s)
        least = -(-longest_s // DAY_S)
        if site.retention_days is not None and site.retention_days < least:
            yield (
                (*loc, "retention_days"),
                f"{site.retention_days} is shorter than a session may last: at least {least}",
            )
