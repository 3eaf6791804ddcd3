"""Who opened an email: every row of the table, what is told by agent, hints and address, and the order of all."""

from __future__ import annotations

import pytest

from consumers.enrich.agent import describe
from consumers.enrich.client_hints import NO_HINTS, ClientHints
from consumers.enrich.email_open import AGENTS_CACHED_MAX, by_agent, opened
from consumers.enrich.tables import EMAIL_AGENTS
from schemas.bot_reason import BotReason
from schemas.email_open import OpenBy, OpenReason

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
OTHER_CHROME = ClientHints('"Chromium";v="99", "Google Chrome";v="99"')
APPLE_MAIL = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
BORROWED_EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 "
    "Safari/537.36 Edge/12.246 Mozilla/5.0"
)


def who(user_agent, hints=NO_HINTS, *, is_datacentre=False):
    return ":".join(opened(user_agent, describe(user_agent, hints), is_datacentre=is_datacentre))


@pytest.mark.parametrize(
    ("user_agent", "said"),
    [
        (GMAIL, "proxy:gmail"),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", "proxy:yahoo"),
        ("Mozilla/5.0", "proxy:apple"),
        (" Mozilla/5.0 ", "proxy:apple"),
        ("Mozilla/5.0 (compatible; SeznamEmailProxy/1.0; +http://napoveda.seznam.cz/)", "proxy:seznam"),
        ("FastmailUA/1.0", "proxy:fastmail"),
        ("Barracuda Sentinel (EE)", "scanner:gateway"),
        (BORROWED_EDGE, "scanner:gateway"),
        ("python-requests/2.32.3", "scanner:agent"),
        ("AHC/2.1", "scanner:agent"),
        ("", "scanner:no_agent"),
        (CHROME, "person:browser"),
        (APPLE_MAIL, "person:mail_client"),
        ("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", "person:mail_client"),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)", "person:mail_client"),
        ("Outlook-iOS/709.2226530.prod.iphone (3.24.0)", "person:mail_client"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Thunderbird/102.4.2", "person:mail_client"),
    ],
)
def test_agents(user_agent, said):
    assert who(user_agent) == said


@pytest.mark.parametrize("row", EMAIL_AGENTS, ids=lambda row: row.text[:40])
def test_every_row_of_the_table_is_reached(row):
    written = row.text.upper() + ("" if row.how == "is" else " x")
    assert who(written) == f"{row.by}:{row.reason}" or row.by == OpenBy.PERSON
    assert by_agent(written) == (row.by, row.reason)


def test_what_a_datacentres_address_and_contradicting_hints_tell():
    assert who(CHROME, is_datacentre=True) == "scanner:datacentre"
    assert who(APPLE_MAIL, is_datacentre=True) == "scanner:datacentre"
    assert who(GMAIL, is_datacentre=True) == "proxy:gmail"
    assert who("Mozilla/5.0", is_datacentre=True) == "proxy:apple"
    assert who(CHROME, OTHER_CHROME) == "scanner:hint_mismatch"


def test_every_word_is_said_and_a_reason_of_bots_is_the_same_word():
    said = {row.by for row in EMAIL_AGENTS} | {row.reason for row in EMAIL_AGENTS}
    by_hand = {"browser", "hint_mismatch", "no_agent", "datacentre"}
    assert said | by_hand == {*map(str, OpenBy), *map(str, OpenReason)}
    assert {str(reason) for reason in BotReason} - {"rate"} <= set(map(str, OpenReason))


def test_the_cache_is_bounded():
    assert by_agent.cache_info().maxsize == AGENTS_CACHED_MAX
