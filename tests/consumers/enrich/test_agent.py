"""User agents: agreement with uap-core's cases and with the crawler list, kinds of device, bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA, is_crawler
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.enrich.agent import AGENT_CHARS_MAX, AGENTS_CACHED_MAX, Agent, describe, described
from consumers.enrich.device import DEVICES

AGENTS = Path(__file__).parents[4] / "shared" / "data" / "agents.jsonl"
AGREEMENT_MIN = 0.99
WINDOWS_CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    if not AGENTS.is_file():
        pytest.fail(f"{AGENTS} is missing: the tests need shared/ beside the checkout")
    return [json.loads(line) for line in AGENTS.read_text(encoding="utf-8").splitlines()]


def test_browser_family_and_major_version_agree_with_uap_core(rows):
    cases = [row for row in rows if "browser" in row]
    wrong = []
    for row in cases:
        agent = describe(row["user_agent"])
        if (agent.browser, agent.browser_version.partition(".")[0]) != (row["browser"], row["browser_major"] or ""):
            wrong.append((row, agent))
    assert len(cases) >= 900
    assert 1 - len(wrong) / len(cases) >= AGREEMENT_MIN, wrong


def test_os_family_agrees_with_uap_core(rows):
    cases = [row for row in rows if "os" in row]
    wrong = [row for row in cases if describe(row["user_agent"]).os != row["os"]]
    assert len(cases) >= 70
    assert 1 - len(wrong) / len(cases) >= AGREEMENT_MIN, wrong


def _instances() -> Iterator[str]:
    for crawler in CRAWLER_USER_AGENTS_DATA:
        yield from crawler.get("instances", [])


def test_the_crawler_lists_own_instances_are_bots():
    instances = list(_instances())
    missed = [agent for agent in instances if not describe(agent).is_bot]
    assert len(instances) >= 1_000
    assert 1 - len(missed) / len(instances) >= AGREEMENT_MIN, missed


def test_bots_agree_with_the_crawler_lists_own_matcher(rows):
    agents = [row["user_agent"] for row in rows[::4]] + list(_instances())[::20]  # its matcher takes 0.2 ms an agent
    differ = [agent for agent in agents if describe(agent).is_bot != is_crawler(agent)]
    assert 1 - len(differ) / len(agents) >= AGREEMENT_MIN, differ


def test_a_browser_is_described_in_full():
    assert describe(WINDOWS_CHROME) == Agent("Chrome", "126.0.0", "Windows", "10", "desktop", False, "")


def test_a_crawler_is_described_with_its_reason():
    agent = describe("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
    assert agent == Agent("Googlebot", "2.1", "Other", "", "bot", True, "agent")


def test_an_empty_header_is_unknown_and_no_bot():
    assert describe("") == Agent("Other", "", "Other", "", "other", False, "")


MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 {}Safari/537.36"


@pytest.mark.parametrize(
    ("device", "user_agent"),
    [
        ("desktop", WINDOWS_CHROME),
        ("desktop", MAC),
        ("desktop", "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"),
        ("desktop", "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36"),
        ("desktop", "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)"),
        ("desktop", WINDOWS_CHROME + " AOLShield/123.0.6312.6"),
        ("mobile", IPHONE),
        ("mobile", ANDROID.format("Mobile ")),
        ("mobile", "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0"),
        ("mobile", "Dalvik/2.1.0 (Linux; U; Android 13; SM-A536B Build/TP1A.220624.014)"),
        ("mobile", "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10"),
        ("mobile", "Mozilla/5.0 (Mobile; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5"),
        ("mobile", "Yelp/8.0.0 CFNetwork/672.1.15 Darwin/14.0.0"),
        ("mobile", "Mozilla/5.0 (Linux; Android 12; AQUOS sense6) AppleWebKit/537.36 Chrome/99.0 Mobile Safari/537.36"),
        ("tablet", IPHONE.replace("iPhone;", "iPad;").replace("CPU iPhone OS", "CPU OS")),
        ("tablet", ANDROID.format("")),
        ("tablet", "Mozilla/5.0 (Android 14; Tablet; rv:127.0) Gecko/127.0 Firefox/127.0"),
        (
            "tablet",
            "Mozilla/5.0 (Linux; Android 5.1.1; KFAUWI) AppleWebKit/537.36 Silk/108.4.6 like Chrome/108 Safari/537.36",
        ),
        ("tv", "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/537.36 Version/5.0 TV Safari/537.36"),
        ("tv", "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0 Safari/537.36"),
        ("tv", "Mozilla/5.0 (Linux; Android 9; AFTT Build/PS7) AppleWebKit/537.36 Chrome/70.0 Mobile Safari/537.36"),
        ("tv", "Roku/DVP-9.10 (519.10E04111A)"),
        ("tv", "Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2) AppleWebKit/537.36 Chrome/103.0.0.0 Safari/537.36"),
        ("console", "Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 Version/15.4 Safari/605.1.15"),
        ("console", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 Edge/44.18363"),
        (
            "console",
            "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 NF/6.0.2.20.5 NintendoBrowser/5",
        ),
        (
            "other",
            "Mozilla/5.0 (Linux; Android 12; Quest 3) AppleWebKit/537.36 OculusBrowser/33.0 Chrome/126 VR Safari/537",
        ),
        ("other", "ArcGIS Pro 2.4.2 (000000000) - ArcGIS Pro"),
        ("bot", "Mozilla/5.0 (iPhone; CPU iPhone OS 8_3 like Mac OS X) Mobile (compatible; bingbot/2.0)"),
    ],
)
def test_device(device, user_agent):
    assert describe(user_agent).device == device


def test_a_bots_device_is_bot_and_no_other_is(rows):
    for row in rows:
        agent = describe(row["user_agent"])
        assert agent.device in DEVICES
        assert (agent.device == "bot") is agent.is_bot is (agent.bot_reason == "agent")


@pytest.mark.parametrize("unit", ["Mozilla/5.0 (", "Linux; Android 9; ", "1.", "/", "(", " ", "bot", "Chrome/1", "é"])
def test_nothing_behind_the_limit_is_looked_at(unit):
    hostile = (unit * 8192)[:8192]
    described.cache_clear()
    assert describe(hostile) == describe(hostile[:AGENT_CHARS_MAX])
    assert described.cache_info().currsize == 1


@settings(deadline=None)
@given(st.text(max_size=2_000))
def test_any_text_is_described(text):
    agent = describe(text)
    assert agent.browser
    assert agent.os
    assert agent.device in DEVICES


def test_the_cache_is_bounded_and_hit():
    described.cache_clear()
    describe(WINDOWS_CHROME)
    describe(WINDOWS_CHROME)
    info = described.cache_info()
    assert (info.hits, info.misses, info.maxsize) == (1, 1, AGENTS_CACHED_MAX)
