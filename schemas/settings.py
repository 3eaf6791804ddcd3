"""Every setting of hitstream, its default and its meaning. The only module that reads the environment.

A setting comes from `HITSTREAM_<NAME>`, else from `hitstream.toml` (or the file that `HITSTREAM_CONFIG` names), else
from its default here. `docs/settings.md` is generated from this module.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from contextvars import ContextVar
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.pattern import compiled
from schemas.settings_error import SettingsError, got, unusable
from schemas.site import DEFAULT_SITE, RETENTION_DAYS_MAX, Site, misfits, site_id
from schemas.topics import HITS

Network = IPv4Network | IPv6Network
SiteId = Annotated[str, AfterValidator(site_id)]
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_file: ContextVar[Path | None] = ContextVar("file", default=None)


class Settings(BaseSettings):
    """All settings. Units stand last in a name: `_s` seconds, `_bytes`, `_max` limits."""

    model_config = SettingsConfigDict(env_prefix="HITSTREAM_", extra="forbid", frozen=True, populate_by_name=True)

    # where things are
    data_dir: Path = Field(default=Path("hitstream-data"), description="Spools, local log and embedded ClickHouse.")
    host: str = Field(default="0.0.0.0", description="Address of the public port.")  # noqa: S104  pixels are public
    port: int = Field(default=8080, ge=0, le=65535, description="Public port; 0 picks a free one.")
    admin_host: str = Field(default="127.0.0.1", description="Address of the admin ports.")
    admin_port: int = Field(
        default=9470, ge=0, le=65535, description="Admin port of `up` and `collect`; `forward` +1, `work` +2."
    )
    clickhouse_port: int = Field(default=8123, ge=0, le=65535, description="Port of the embedded ClickHouse.")
    clickhouse_host: str = Field(default="127.0.0.1", description="Address of the embedded ClickHouse.")
    clickhouse_password: str = Field(
        default="", description="Password of the embedded ClickHouse's user `default`; needed off loopback."
    )
    clickhouse_url: str = Field(
        default="",
        validation_alias=AliasChoices("CLICKHOUSE_URL", "clickhouse_url"),
        description="HTTP address of ClickHouse; empty: the embedded one (CLICKHOUSE_URL).",
    )
    clickhouse_cluster: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]{0,63}$",
        description="Name of the ClickHouse cluster that has the tables, as in its `remote_servers`; "
        "empty: a single server.",
    )
    kafka_bootstrap_servers: str = Field(
        default="",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        description="Kafka brokers, `host:port` with commas; empty: the local log (KAFKA_BOOTSTRAP_SERVERS).",
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hitstream",
        description="What is downloaded once: the jars of the local Apache Kafka.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Log lines of this level and above go to stderr."
    )

    # how many, how durable
    collectors: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="Collector processes."
    )
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes.")
    partitions: int = Field(default=12, ge=1, le=1024, description="Log partitions; fixed once the log is made.")
    sync: Literal["os", "disk"] = Field(
        default="os",
        description="`os` survives kill -9; `disk` survives power loss (fdatasync before the answer).",
    )

    # the spool and the log
    spool_bytes_max: int = Field(default=8 * GIB, ge=256 * KIB, description="All spools of this host together.")
    log_bytes_max: int = Field(default=8 * GIB, ge=256 * KIB, description="All local partitions together.")
    segment_bytes_max: int = Field(default=32 * MIB, ge=64 * KIB, le=GIB, description="Size of a spool or log segment.")
    group_hits_max: int = Field(default=64, ge=1, description="Hits per group commit; the group is written at once.")
    group_bytes_max: int = Field(default=64 * KIB, ge=4 * KIB, description="Bytes per group commit.")
    hit_bytes_max: int = Field(default=256 * KIB, ge=4 * KIB, description="Largest hit that is kept.")
    forward_batch_bytes_max: int = Field(default=4 * MIB, ge=64 * KIB, description="Bytes the forwarder moves at once.")
    forward_linger_s: float = Field(default=0.1, ge=0, le=10, description="A hit waits so long for more to go with it.")

    # limits of the public port
    target_bytes_max: int = Field(default=8 * KIB, ge=256, description="Longer request targets get 414.")
    head_bytes_max: int = Field(default=32 * KIB, ge=1 * KIB, description="Longer request heads get 431.")
    headers_max: int = Field(default=100, ge=8, description="More header fields get 431.")
    body_bytes_max: int = Field(default=128 * KIB, ge=1 * KIB, description="Longer bodies get 413.")
    post_events_max: int = Field(default=500, ge=1, description="More events in one POST get 413.")
    json_depth_max: int = Field(default=32, ge=2, description="Deeper JSON bodies get 400.")
    connections_max: int = Field(default=10_000, ge=1, description="Open connections per collector; more are closed.")
    idle_timeout_s: float = Field(
        default=75.0, gt=0, description="A keep-alive connection without a request is closed."
    )
    request_timeout_s: float = Field(default=15.0, gt=0, description="A request not complete by then gets 408.")
    write_timeout_s: float = Field(
        default=30.0, gt=0, description="A client that does not read its answers is cut off."
    )
    stop_timeout_s: float = Field(default=8.0, gt=0, description="SIGTERM: in-flight requests have this long.")
    retry_after_s: int = Field(default=5, ge=1, description="Retry-After of a 503.")

    # the public answers
    pixel_path: str = Field(default="/p.gif", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Path of the pixel.")
    events_path: str = Field(default="/e", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Path for POSTed events.")
    server_events_path: str = Field(
        default="/v1/events", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Path for events from servers."
    )
    click_path: str = Field(default="/c", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Path of click redirects.")
    link_ttl_s: int = Field(
        default=120, ge=1, le=86_400, description="A cross-domain link hands its visitor on for so long."
    )
    script_path: str = Field(
        default="/pixel.js", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Path of the browser snippet."
    )
    optout_path: str = Field(default="/optout", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Page to opt out.")
    optin_path: str = Field(default="/optin", pattern=r"^/[A-Za-z0-9._/-]{1,63}$", description="Page to opt in again.")
    cookie_renew_s: int = Field(default=30 * 86_400, ge=3600, description="The cookie is sent again when older.")
    cookie_secure: bool = Field(default=False, description="Always mark the cookie Secure.")
    third_party: bool = Field(default=False, description="Cookie as SameSite=None; Secure; Partitioned.")
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(), description="CIDR list of proxies whose address header is believed."
    )
    client_address_header: Literal["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"] = Field(
        default="x-forwarded-for", description="The one header that names the client behind a trusted proxy."
    )
    ip_keep: Literal["truncated", "full", "none"] = Field(
        default="truncated", description="What is kept of the client address: /24 and /48, all, or nothing."
    )

    # the worker
    batch_rows_max: int = Field(default=20_000, ge=1, le=500_000, description="Records per batch of one partition.")
    batch_bytes_max: int = Field(default=16 * MIB, ge=256 * KIB, description="Bytes per batch of one partition.")
    batch_age_s_max: float = Field(
        default=0.7, gt=0, description="A smaller batch is loaded after this time; sooner where ClickHouse has time."
    )
    batch_age_s_min: float = Field(
        default=0.25,
        ge=0,
        description="A batch that is not full gathers so long, at most `batch_age_s_max`.",
    )
    parts_max: int = Field(
        default=600,
        ge=64,  # merges begin at 17, see 0008_merges_of_alike.sql; batches must not wait for them below
        description="From so many parts in a partition of a ClickHouse table on, batches wait for merges.",
    )
    inserts_at_once_max: int = Field(
        default=2, ge=1, le=64, description="Batches that a worker loads at a time; on a cluster it is one."
    )
    recovery_age_s_max: float = Field(
        default=1800.0,
        gt=0,
        description="A batch begun earlier is healed by looking alone: ClickHouse may have forgotten its token.",
    )
    insert_timeout_s: float = Field(default=120.0, gt=0, description="An insert without an answer is asked after.")
    event_age_s_max: int = Field(default=7 * 86_400, ge=0, description="Older client times become `received_at`.")
    event_ahead_s_max: int = Field(default=600, ge=0, description="Client times further ahead become `received_at`.")
    session_gap_s: int = Field(default=1800, ge=1, description="A longer gap opens a new session.")
    session_length_s_max: int = Field(default=86_400, ge=60, description="A session stays below this length.")
    session_event_ids_max: int = Field(default=1024, ge=1, description="Event ids a session knows.")
    session_cache_horizon_s: int = Field(
        default=2 * 86_400,
        ge=3600,
        description="Sessions that ended longer ago leave memory; late hits look them up.",
    )
    items_max: int = Field(default=500, ge=0, description="More items in one event are rejected.")
    properties_max: int = Field(default=64, ge=0, description="More `p.` properties in one event are rejected.")
    field_chars_max: int = Field(default=8192, ge=64, description="Longest text parameter; URLs included.")

    # what enrichment knows and takes out
    place_database: Path | None = Field(
        default=None, description="Database in MaxMind's format that gives country, region and city of an address."
    )
    datacentre_ranges: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Files of datacentres' address ranges, with commas: a CIDR a line, or any JSON."
    )
    bot_events_per_minute_max: int = Field(
        default=300, ge=0, description="More events of a session in a minute of event time are a bot's; 0: no limit."
    )
    scrub: bool = Field(
        default=True,
        description="Replace e-mail addresses, tokens and values of private parameters in pages, titles and "
        "properties by `(redacted)`.",
    )
    scrub_parameters: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="More names of private parameters and properties, with commas."
    )
    scrub_patterns: tuple[str, ...] = Field(
        default=(), description="More of what is private: a list of RE2 expressions; as a variable, JSON."
    )

    # Kafka; all of it means nothing without kafka_bootstrap_servers
    kafka_topic: str = Field(
        default=HITS, pattern=r"^[A-Za-z0-9._-]{1,200}$", description="Topic of the hits; made when it is missing."
    )
    kafka_replication: int = Field(
        default=-1, ge=-1, le=32_767, description="Replicas of a topic that is made; -1: the broker's default."
    )
    kafka_group: str = Field(default="hitstream", min_length=1, description="Consumer group of the workers.")
    kafka_instance_id: str = Field(
        default="",
        description="A name of this host that survives restarts, for static membership (the worker's number is added); "
        "empty: members come and go.",
    )
    kafka_session_timeout_s: float = Field(
        default=45.0, gt=0, description="A worker without heartbeat for so long loses its partitions."
    )
    kafka_rebalance_timeout_s: float = Field(
        default=60.0, gt=0, description="A worker that has not joined a rebalance by then is left out."
    )
    kafka_request_timeout_s: float = Field(default=10.0, gt=0, description="A broker's answer is awaited so long.")
    kafka_delivery_timeout_s: float = Field(
        default=30.0, gt=0, description="Hits not acknowledged by then are sent again from the forwarder's cursor."
    )
    kafka_batch_bytes_max: int = Field(
        default=512 * KIB, ge=16 * KIB, description="Hits of one produce batch, before compression."
    )
    kafka_fetch_bytes_max: int = Field(
        default=MIB, ge=16 * KIB, description="Bytes fetched ahead per partition, as compressed in the log."
    )
    kafka_stall_timeout_s: float = Field(
        default=120.0, gt=0, description="A worker that gets no records for so long although there are some ends."
    )
    kafka_skip_expired: bool = Field(
        default=False,
        description="Go on behind records that the topic's retention deleted before they were loaded; they are lost.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How brokers are reached."
    )
    kafka_ssl_cafile: str = Field(default="", description="PEM file of the authorities; empty: the system's.")
    kafka_ssl_certfile: str = Field(default="", description="PEM file of this client's certificate chain.")
    kafka_ssl_keyfile: str = Field(default="", description="PEM file of this client's key.")
    kafka_ssl_key_password: str = Field(default="", description="Password of that key.")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="SASL mechanism."
    )
    kafka_sasl_username: str = Field(default="", description="SASL user.")
    kafka_sasl_password: str = Field(default="", description="SASL password.")
    kafka_local_port: int = Field(
        default=9092, ge=0, le=65535, description="Port of the local Apache Kafka (`hitstream kafka`); 0: a free one."
    )
    kafka_local_heap_mib: int = Field(default=768, ge=256, description="Heap of the local Apache Kafka.")

    # sites
    sites: dict[SiteId, Site] = Field(
        default_factory=dict, description="Known sites; none: every well-formed id passes."
    )
    rejected_retention_days: int = Field(
        default=30,
        ge=1,
        le=RETENTION_DAYS_MAX,
        description="Rejected records leave after so many days; earlier where their site's `retention_days` are less.",
    )
    default_site: Site = Field(default=DEFAULT_SITE, description="What holds for a site without a table.")

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _brokers(cls, value: str) -> str:
        brokers = value.replace(",", " ").split()
        for broker in brokers:
            if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(:\d{1,5})?", broker):
                raise ValueError(f"{broker!r} is no host:port of a broker")
        return ",".join(brokers)

    @field_validator("place_database", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:  # noqa: ANN401  whatever TOML or the environment held
        return value or None

    @field_validator("datacentre_ranges", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:  # noqa: ANN401  whatever TOML or the environment held
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("scrub_parameters", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:  # noqa: ANN401  whatever TOML or the environment held
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("scrub_patterns")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for expression in value:
            compiled(expression)
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> tuple[Network, ...]:  # noqa: ANN401  whatever TOML or the environment held
        parts = value.replace(",", " ").split() if isinstance(value, str) else value
        return tuple(ip_network(part, strict=False) for part in parts)

    @classmethod
    def settings_customise_sources(  # noqa: D102  pydantic's own hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, toml

    def site(self, site_id: str) -> Site:
        """Return what holds for a site id, defined or not."""
        return self.sites.get(site_id, self.default_site)

    @property
    def cookieless(self) -> bool:
        """Whether any site's visitors have no cookie, so that collectors need the salt."""
        return any(site.identity == "cookieless" for site in (*self.sites.values(), self.default_site))

    @property
    def clickhouse_address(self) -> str:
        """The URL workers and reports use: `clickhouse_url`, else the embedded server's."""
        return self.clickhouse_url or f"http://127.0.0.1:{self.clickhouse_port}"


def config_file() -> Path:
    """Return the settings file's path; it need not exist."""
    return _file.get() or Path(os.environ.get("HITSTREAM_CONFIG", "hitstream.toml"))


def in_environment(variable: str) -> bool:
    """Return whether a variable is set; in any case of letters, as the settings read it."""
    return any(name.upper() == variable.upper() for name in os.environ)


def load(file: Path | None = None, /, **overrides: Any) -> Settings:  # noqa: ANN401  values of any setting
    """Return the settings from environment, file and defaults; `overrides` win. Raises SettingsError.

    `file` stands in for `config_file()`.
    """
    token = _file.set(file)
    path = config_file()
    try:
        settings = Settings(**overrides)
        wrong = list(
            misfits(settings.sites, settings.default_site, settings.session_gap_s, settings.session_length_s_max)
        )
    except ValidationError as error:
        wrong = [(item["loc"], item["msg"] + got(item["loc"], item["input"])) for item in error.errors()]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}: line {line}: it is not written in UTF-8 ({error.reason})") from None
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {error}") from None
    finally:
        _file.reset(token)
    if wrong:
        raise unusable(path, wrong)
    return settings


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a child process: this one plus `extra`, output unbuffered."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **extra}


if sys.platform != "linux":  # pragma: no cover
    raise SettingsError("hitstream needs Linux: SO_REUSEPORT, fdatasync and flock are used as Linux has them")
