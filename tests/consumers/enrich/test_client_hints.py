"""Client hints: each field strictly read, the agent's own words where they say nothing, and bounded time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.enrich.agent import Agent, describe, described
from consumers.enrich.client_hints import HINT_CHARS_MAX, NO_HINTS, NOTHING_HINTED, ClientHints, read
from consumers.enrich.device import DEVICES

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Chrome/141.0.0.0 Safari/537.36"
LINUX = f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36"
PHONE = f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36"
TABLET = f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/141.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
CHROME = '"Chromium";v="141", "Google Chrome";v="141", "Not?A_Brand";v="8"'
CHROME_FULL = '"Chromium";v="141.0.7390.54", "Google Chrome";v="141.0.7390.54", "Not?A_Brand";v="8.0.0.0"'
GREASE = ["Not?A_Brand", "Not A;Brand", " Not A;Brand", ";Not A Brand", "Not)A;Brand", "(Not(A:Brand", "Not/A)Brand"]


def hints(ua=CHROME, *, mobile="?0", platform='"Windows"', version="", model="", full=""):
    return ClientHints(ua, mobile, platform, version, model, full)


def software(agent: Agent) -> tuple[str, ...]:
    return agent[:4]


@pytest.mark.parametrize(
    ("brand", "version", "browser"),
    [
        ("Google Chrome", "141", ("Chrome", "141.0.0")),
        ("Microsoft Edge", "140", ("Edge", "140")),
        ("Opera", "124", ("Opera", "124")),
        ("Opera GX", "124", ("Opera GX", "124")),
        ("YaBrowser", "25.10", ("Yandex Browser", "25.10")),
        ("Brave", "141", ("Brave", "141")),
        ("Vivaldi", "7.6", ("Vivaldi", "7.6")),
        ("DuckDuckGo", "141", ("DuckDuckGo", "141")),
        ("Browser Of Tomorrow", "1", ("Browser Of Tomorrow", "1")),
    ],
)
@pytest.mark.parametrize("grease", GREASE)
def test_the_most_special_brand_in_any_order_is_the_browser(brand, version, browser, grease):
    brands = [f'"{grease}";v="99"', '"Chromium";v="141"', f'"{brand}";v="{version}"']
    for order in (brands, brands[::-1], [brands[1], brands[0], brands[2]]):
        agent = describe(WINDOWS, hints(", ".join(order)))
        assert (agent.browser, agent.browser_version) == browser
        assert not agent.is_bot


def test_an_engine_alone_is_chromium():
    assert describe(LINUX, hints('"Chromium";v="141"', platform='"Linux"')).browser == "Chromium"


@pytest.mark.parametrize(
    ("user_agent", "browser"),
    [
        (f"{WINDOWS} Vivaldi/7.6", ("Vivaldi", "7.6")),
        (f"{PHONE} [FB_IAB/FB4A;FBAV/400.0.0.37.76;]", ("Facebook", "400.0.0")),
    ],
)
def test_chromes_brand_does_not_hide_the_product_that_the_agent_names(user_agent, browser):
    platform = '"Android"' if "Android" in user_agent else '"Windows"'
    assert describe(user_agent, hints(platform=platform))[:2] == browser


def test_full_versions_go_over_frozen_ones():
    assert describe(WINDOWS, hints(full=CHROME_FULL)).browser_version == "141.0.7390"
    assert describe(WINDOWS, hints(full=CHROME_FULL[:-1])).browser_version == "141.0.0"  # malformed: says nothing


@pytest.mark.parametrize(
    ("user_agent", "platform", "version", "system"),
    [
        (WINDOWS, '"Windows"', '"15.0.0"', ("Windows", "11")),
        (WINDOWS, '"Windows"', '"13.0.0"', ("Windows", "11")),
        (WINDOWS, '"Windows"', '"12.0.0"', ("Windows", "10")),
        (WINDOWS, '"Windows"', '"10.0"', ("Windows", "10")),
        (WINDOWS, '"Windows"', '"0.3.0"', ("Windows", "8.1")),
        (WINDOWS, '"Windows"', '"0.1"', ("Windows", "7")),
        (WINDOWS, '"Windows"', "", ("Windows", "10")),
        (MAC, '"macOS"', '"15.6.1"', ("Mac OS X", "15.6.1")),
        (MAC, '"macOS"', '"26.0.0"', ("Mac OS X", "26")),
        (MAC, '"macOS"', "15.6.1", ("Mac OS X", "10.15.7")),  # no string: says nothing
        (PHONE, '"Android"', '"16.0.0"', ("Android", "16")),
        (PHONE, '"Android"', '""', ("Android", "10")),
        (LINUX, '"Chromium OS"', '"16371.0.0"', ("Chrome OS", "16371")),
        (LINUX, '"Linux"', '""', ("Linux", "")),
        (MAC, '"Unknown"', '"1.0"', ("Mac OS X", "10.15.7")),
        (MAC, "macOS", '"15.6.1"', ("Mac OS X", "10.15.7")),
    ],
)
def test_platform_and_its_version(user_agent, platform, version, system):
    assert describe(user_agent, hints(platform=platform, version=version))[2:4] == system


@pytest.mark.parametrize(
    ("device", "user_agent", "platform", "mobile", "model"),
    [
        ("mobile", PHONE, '"Android"', "?1", '"Pixel 9"'),
        ("tablet", TABLET, '"Android"', "?0", '"SM-X710"'),
        ("mobile", TABLET, '"Android"', "?1", '"SM-S901B"'),  # the flag goes over the agent's missing "Mobile"
        ("tablet", TABLET, '"Android"', "", '"SM-X710"'),
        ("tablet", PHONE, '"Android"', "yes", '"Galaxy Tab S9"'),
        ("tv", TABLET, '"Android"', "?0", '"BRAVIA 4K VH2"'),
        ("desktop", WINDOWS, '"Windows"', "?0", '""'),
        ("desktop", LINUX, '"Linux"', "?0", ""),
        ("desktop", "", '"macOS"', "?0", ""),
        ("console", f"{WINDOWS} Xbox", '"Windows"', "?0", ""),
    ],
)
def test_device_by_model_and_mobile_flag(device, user_agent, platform, mobile, model):
    assert describe(user_agent, hints(platform=platform, mobile=mobile, model=model)).device == device


@pytest.mark.parametrize(
    "ua",
    [
        "",
        " ",
        "Chromium",
        '"Chromium"',
        '"Chromium";v=141',
        '"Chromium";v="141",',
        '"Chromium";v="141" "Google Chrome";v="141"',
        '"Chromium";v="141", "Google Chrome',
        '"Chrom\u00e9ium";v="141"',
        '"Chromium";v="141"\n',
        '"Not?A_Brand";v="8"',
        '"<script>";v="1"',
        ", ".join(['"Chromium";v="141"'] * 17),
    ],
)
def test_without_a_usable_brand_list_the_agent_speaks(ua):
    assert read(hints(ua)) == NOTHING_HINTED
    assert describe(WINDOWS, hints(ua, platform='"Linux"', mobile="?1")) == describe(WINDOWS)


@pytest.mark.parametrize(
    ("user_agent", "given"),
    [
        (WINDOWS, hints()),
        (WINDOWS, NO_HINTS),
        (FIREFOX, NO_HINTS),
        (WINDOWS, hints(platform='"Windows"', mobile="?1")),
        (WINDOWS, hints('"Google Chrome";v="141"')),  # no engine's version to compare
        (WINDOWS, hints(platform='"Fuchsia"')),
        (LINUX, hints(platform='"Android"', mobile="?0")),  # "desktop site"
        (MAC, hints(platform='"Android"', mobile="?0")),
        (PHONE, hints(platform='"Linux"')),
        (LINUX, hints(platform='"Chrome OS"')),
        (LINUX.replace("X11; Linux", "X11; CrOS"), hints(platform='"Chromium OS"')),
        ("Mozilla/5.0 (compatible) MyShell/2", hints()),
        ("", hints()),
    ],
)
def test_what_browsers_send_is_no_contradiction(user_agent, given):
    assert describe(user_agent, given)[5:] == (False, "")


@pytest.mark.parametrize(
    ("user_agent", "given"),
    [
        (WINDOWS, hints('"HeadlessChrome";v="141", "Chromium";v="141", "Not?A_Brand";v="8"')),
        (WINDOWS, hints('"Chromium";v="138", "Google Chrome";v="138"')),
        (WINDOWS, hints(platform='"Linux"')),
        (MAC, hints(platform='"Windows"')),
        (PHONE, hints(platform='"Windows"')),
        (FIREFOX, hints()),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Version/17.4 Mobile/15E148",
            hints(platform='"Android"', mobile="?1"),
        ),
    ],
)
def test_a_contradiction_is_a_bot_and_keeps_its_device(user_agent, given):
    agent = describe(user_agent, given)
    assert agent[5:] == (True, "hint_mismatch")
    assert agent.device in ("desktop", "mobile")


def test_a_known_crawler_is_one_whatever_it_hints():
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/141.0.0.0"
    assert describe(crawler, hints('"Chromium";v="99"'))[4:] == ("bot", True, "agent")


TEXTS = st.text(max_size=80) | st.sampled_from([CHROME, CHROME_FULL, '"Android"', '"15.0.0"', "?1", '"', "\\", ""])


@given(st.sampled_from([WINDOWS, PHONE, ""]) | st.text(max_size=50), st.tuples(*[TEXTS] * 6))
def test_any_hints_are_described(user_agent, texts):
    agent = describe(user_agent, ClientHints(*texts))
    assert agent.browser
    assert agent.os
    assert agent.device in DEVICES
    if not texts[0]:
        assert agent == describe(user_agent)


@pytest.mark.parametrize("unit", ['"a";v="1",', '"', '\\"', ' ;v="', '"Not?A_Brand";v="8", ', "\t", '"a" ;'])
def test_hostile_hints_take_bounded_time(unit):
    hostile = (unit * 16_384)[:16_384]
    described.cache_clear()
    began = time.process_time()
    describe(WINDOWS, ClientHints(*[hostile] * 6))
    assert time.process_time() - began < 0.05
    assert describe(WINDOWS, ClientHints(*[hostile[:HINT_CHARS_MAX]] * 6)) == describe(
        WINDOWS, ClientHints(*[hostile] * 6)
    )
    assert described.cache_info().currsize == 1
