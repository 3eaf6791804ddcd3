"""aiokafka `getmany` -> the columns of `events` -> clickhouse-connect: what people write behind `aiohttp_kafka.py`.

It fills the same columns with libraries and caches, commits offsets after each insert, and promises less: a kill
inserts rows twice, its sessions start anew with the process and grow without bound, a hit that makes no sense ends it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from http.cookies import SimpleCookie
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import clickhouse_connect
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from ua_parser import parse as parse_agent

TOPIC = os.environ.get("RIVAL_TOPIC", "rival")
BATCH_ROWS, BATCH_S = 20_000, 1.0
SESSION_GAP_MS = 30 * 60_000
CACHED = 65_536
COLUMNS = (
    *("site", "event_name", "event_id", "user_id", "ts", "ts_source", "received_at", "source", "visitor_id"),
    *("session_id", "session_start", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"),
    *("click_id", "click_id_type", "ref_host", "url_host", "url_path", "url_query", "title", "value", "currency"),
    *("order_id", "items", "props", "ab", "consent", "os", "os_version", "browser", "browser_version", "device"),
    *("is_bot", "bot_reason", "lang", "screen_w", "screen_h", "ip", "spool_id", "spool_seq"),
    *("log_partition", "log_offset", "batch_first", "batch_last"),
)


class Agent(NamedTuple):
    """What a User-Agent header says."""

    os: str
    os_version: str
    browser: str
    browser_version: str
    device: str


class Page(NamedTuple):
    """A page's address and its campaign."""

    host: str
    path: str
    query: str
    campaign: Mapping[str, str]


class Session(NamedTuple):
    """A visitor's open session."""

    id: int
    start: int
    last: int
    channel: str


@lru_cache(CACHED)
def agent_of(text: str) -> Agent:
    """Parse a User-Agent header."""
    found = parse_agent(text).with_defaults()
    system, browser = found.os, found.user_agent
    mobile = "Mobile" in text or system.family in ("Android", "iOS")
    device = "bot" if found.device.family == "Spider" else "mobile" if mobile else "desktop"
    return Agent(system.family, system.major or "", browser.family, browser.major or "", device)


@lru_cache(CACHED)
def page_of(url: str) -> Page:
    """Split a page's address."""
    parts = urlsplit(url)
    campaign = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Page(parts.hostname or "", parts.path, parts.query, campaign)


@lru_cache(CACHED)
def address_of(text: str) -> IPv6Address:
    """Return an address as IPv6, without its last bits."""
    address = ip_address(text or "::")
    if isinstance(address, IPv6Address):
        return IPv6Address(int(address) >> 80 << 80)
    return IPv6Address((0xFFFF << 32) | (int(address) >> 8 << 8))


def channel_of(campaign: Mapping[str, str], ref_host: str) -> str:
    """Return the channel of a visit, roughly."""
    medium = campaign.get("utm_medium", "")
    if "gclid" in campaign or medium in ("cpc", "ppc"):
        return "Paid Search"
    if medium == "email":
        return "Email"
    if ref_host.endswith(("google.com", "bing.com")):
        return "Organic Search"
    return "Referral" if ref_host else "Direct"


class Sessions:
    """Every visitor's last session."""

    def __init__(self) -> None:
        self._open: dict[int, Session] = {}

    def of(self, visitor: int, at_ms: int, channel: str) -> Session:
        """Return the session that a visitor's event belongs to."""
        known = self._open.get(visitor)
        if known and at_ms - known.last <= SESSION_GAP_MS:
            session = known._replace(last=max(at_ms, known.last))
        else:
            session = Session(uuid4().int >> 64, at_ms, at_ms, channel)
        self._open[visitor] = session
        return session


def row(record: ConsumerRecord, sessions: Sessions, batch: tuple[int, int]) -> tuple[Any, ...]:
    """Return a record's row, in the order of COLUMNS."""
    hit = orjson.loads(record.value)
    given = {name: values[0] for name, values in parse_qs(hit["query"]).items()}
    agent = agent_of(hit.get("user-agent", ""))
    page = page_of(given.get("u") or hit.get("referer", ""))
    ref_host = page_of(given.get("r", "")).host
    if ref_host == page.host:
        ref_host = ""
    jar = SimpleCookie(hit.get("cookie", ""))
    visitor = int(jar["_hs"].value.partition(".")[0], 16) if "_hs" in jar else 0
    ts = int(given.get("t", record.timestamp))
    campaign = page.campaign
    session = sessions.of(visitor, ts, channel_of(campaign, ref_host))
    width, _, height = given.get("sr", "0x0").partition("x")
    click = next((name for name in ("gclid", "fbclid", "msclkid") if name in campaign), "")
    return (
        *(given["s"], given.get("e", "PageView"), given.get("id", ""), given.get("uid", ""), ts, "client"),
        *(record.timestamp, "pixel", visitor, session.id, session.start, session.channel),
        *(campaign.get("utm_source", ""), campaign.get("utm_medium", ""), campaign.get("utm_campaign", "")),
        *(campaign.get("utm_term", ""), campaign.get("utm_content", ""), campaign.get(click, ""), click),
        *(ref_host, page.host, page.path, page.query, given.get("ti", ""), Decimal(given.get("v", "0"))),
        *(given.get("cur", ""), given.get("oid", ""), []),
        {name[2:]: value for name, value in given.items() if name.startswith("p.")},
        *(given.get("ab", ""), "granted", *agent, agent.device == "bot", "agent" if agent.device == "bot" else ""),
        *(given.get("l", ""), int(width), int(height), address_of(hit["ip"]), 0, 0),
        *(record.partition, record.offset, *batch),
    )


def rows(records: Mapping[TopicPartition, list[ConsumerRecord]], sessions: Sessions) -> Iterable[tuple[Any, ...]]:
    """Yield the rows of what `getmany` gave."""
    for found in records.values():
        batch = (found[0].offset, found[-1].offset)
        for record in found:
            yield row(record, sessions, batch)


async def main() -> None:
    """Load until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = clickhouse_connect.get_client(dsn=os.environ["RIVAL_CLICKHOUSE"], database=os.environ["RIVAL_DATABASE"])
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=os.environ["RIVAL_KAFKA"],
        group_id="rival",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    sessions = Sessions()
    try:
        while not stop.is_set():
            made: list[tuple[Any, ...]] = []
            until = monotonic() + BATCH_S
            while len(made) < BATCH_ROWS and (left_s := until - monotonic()) > 0:
                found = await consumer.getmany(timeout_ms=int(left_s * 1000), max_records=BATCH_ROWS - len(made))
                made += rows(found, sessions)
            if made:
                await asyncio.to_thread(client.insert, "events", made, column_names=COLUMNS)
                await consumer.commit()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main())
