"""Channels: each rule of GA4's default channel groups, their order, click ids, referrers, and odd input."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import grows_linearly

from consumers.enrich.campaign import NO_CAMPAIGN, Campaign, campaign
from consumers.enrich.channel import CHANNELS_CACHED_MAX, channel, channel_cached
from consumers.enrich.tables import CLICK_IDS, SOURCES
from schemas.channels import Channel

PAID_MEDIA = ("cpc", "ppc", "retargeting", "paid", "paidsearch", "paid-social", "cpm", "cpv", "xcpx", "CPC", " cpc ")

# channel, utm_source, utm_medium, utm_campaign: one row or more for each alternative of each of GA4's definitions
RULES = [
    ("Direct", "(direct)", "(none)", ""),
    ("Direct", "(direct)", "(not set)", ""),
    ("Unassigned", "(direct)", "other", ""),
    ("Cross-network", "google", "cpc", "2026 cross-network shop"),
    ("Cross-network", "anything", "anything", "Cross-Network"),
    ("Cross-network", "", "", "cross-network"),
    ("Paid Shopping", "amazon", "cpc", ""),
    ("Paid Shopping", "ebay.de", "ppc", ""),
    ("Paid Shopping", "google", "cpc", "summer shopping"),
    ("Paid Shopping", "google", "cpc", "Shop now"),
    ("Paid Shopping", "google", "cpc", "e-shop"),
    ("Paid Shopping", "google", "cpc", "eshop"),
    ("Paid Search", "google", "cpc", "workshop"),
    ("Paid Search", "google", "cpc", ""),
    ("Paid Search", "bing", "ppc", ""),
    ("Paid Search", "duckduckgo.com", "retargeting", ""),
    ("Paid Search", "www.google.co.uk", "paid", ""),
    ("Paid Search", "yandex", "cpm", ""),
    ("Paid Search", "Google", "CPC", ""),
    ("Paid Social", "facebook", "cpc", ""),
    ("Paid Social", "ig", "paid_social", ""),
    ("Paid Social", "t.co", "paidsocial", ""),
    ("Paid Social", "l.facebook.com", "cpm", ""),
    ("Paid Video", "youtube", "cpv", ""),
    ("Paid Video", "vimeo.com", "paid", ""),
    ("Display", "partner", "display", ""),
    ("Display", "partner", "banner", ""),
    ("Display", "partner", "expandable", ""),
    ("Display", "partner", "interstitial", ""),
    ("Display", "partner", "cpm", ""),
    ("Paid Other", "partner", "cpc", ""),
    ("Paid Other", "partner", "ppc", ""),
    ("Paid Other", "partner", "retargeting", ""),
    ("Paid Other", "partner", "paid-partner", ""),
    ("Paid Other", "chatgpt.com", "cpc", ""),
    ("Organic Shopping", "etsy", "any", ""),
    ("Organic Shopping", "amazon.co.jp", "referral", ""),
    ("Organic Shopping", "google", "organic", "shopping"),
    ("Organic Shopping", "newsletter", "email", "shop opening"),
    ("Organic Social", "facebook", "any", ""),
    ("Organic Social", "m.facebook.com", "referral", ""),
    ("Organic Social", "partner", "social", ""),
    ("Organic Social", "partner", "social-network", ""),
    ("Organic Social", "partner", "social-media", ""),
    ("Organic Social", "partner", "sm", ""),
    ("Organic Social", "partner", "social network", ""),
    ("Organic Social", "partner", "social media", ""),
    ("Organic Video", "youtube.com", "referral", ""),
    ("Organic Video", "partner", "video", ""),
    ("Organic Video", "partner", "in-video-link", ""),
    ("Organic Search", "google", "any", ""),
    ("Organic Search", "google", "", ""),
    ("Organic Search", "partner", "organic", ""),
    ("AI Assistant", "chatgpt.com", "ai-assistant", "(ai-assistant)"),
    ("AI Assistant", "partner", "ai-assistant", ""),
    ("AI Assistant", "chatgpt.com", "", ""),
    ("AI Assistant", "perplexity", "referral", ""),
    ("Referral", "partner", "referral", ""),
    ("Referral", "partner", "app", ""),
    ("Referral", "partner", "link", ""),
    ("Email", "newsletter", "email", ""),
    ("Email", "newsletter", "e-mail", ""),
    ("Email", "newsletter", "e_mail", ""),
    ("Email", "newsletter", "E Mail", ""),
    ("Email", "email", "any", ""),
    ("Email", "e-mail", "", ""),
    ("Email", "e_mail", "", ""),
    ("Email", "e mail", "", ""),
    ("Email", "copilot", "email", ""),
    ("Affiliates", "partner", "affiliate", ""),
    ("Unassigned", "partner", "affiliates", ""),
    ("Audio", "podcast", "audio", ""),
    ("SMS", "sms", "any", ""),
    ("SMS", "partner", "sms", ""),
    ("Mobile Push Notifications", "app", "webpush", ""),
    ("Mobile Push Notifications", "app", "push", ""),
    ("Mobile Push Notifications", "app", "mobile-app", ""),
    ("Mobile Push Notifications", "app", "in-app notification", ""),
    ("Mobile Push Notifications", "firebase", "any", ""),
    ("Unassigned", "partner", "any", ""),
    ("Unassigned", "partner", "", ""),
    ("Unassigned", "", "newsletter", ""),
    ("Unassigned", "", "", "spring"),
]


@pytest.mark.parametrize(("name", "source", "medium", "tag"), RULES)
def test_manual_tags(name, source, medium, tag):
    assert channel(Campaign(source, medium, tag), "") == name


@pytest.mark.parametrize(("name", "source", "medium", "tag"), RULES)
def test_manual_tags_win_over_the_referrer_and_come_through_a_query(name, source, medium, tag):
    query = urlencode({"utm_source": source, "utm_medium": medium, "utm_campaign": tag})
    assert channel(campaign(query), "www.google.com") == name


def test_every_channel_has_a_case():
    assert {name for name, *_ in RULES} == set(Channel)


@pytest.mark.parametrize("medium", PAID_MEDIA)
def test_paid_media_with_each_kind_of_source(medium):
    expected = {"google": "Paid Search", "facebook": "Paid Social", "youtube": "Paid Video", "amazon": "Paid Shopping"}
    assert {source: channel(Campaign(source, medium), "") for source in expected} == expected


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("google.com", "Organic Search"),
        ("www.google.com", "Organic Search"),
        ("www.google.de", "Organic Search"),
        ("www.google.com.br", "Organic Search"),
        ("google.co.uk", "Organic Search"),
        ("www.bing.com", "Organic Search"),
        ("cn.bing.com", "Organic Search"),
        ("duckduckgo.com", "Organic Search"),
        ("search.yahoo.com", "Organic Search"),
        ("fr.search.yahoo.com", "Organic Search"),
        ("yandex.ru", "Organic Search"),
        ("yandex.com.tr", "Organic Search"),
        ("ya.ru", "Organic Search"),
        ("www.baidu.com", "Organic Search"),
        ("m.baidu.com", "Organic Search"),
        ("www.ecosia.org", "Organic Search"),
        ("www.qwant.com", "Organic Search"),
        ("www.startpage.com", "Organic Search"),
        ("search.brave.com", "Organic Search"),
        ("search.naver.com", "Organic Search"),
        ("search.seznam.cz", "Organic Search"),
        ("com.google.android.googlequicksearchbox", "Organic Search"),
        ("facebook.com", "Organic Social"),
        ("l.facebook.com", "Organic Social"),
        ("lm.facebook.com", "Organic Social"),
        ("l.instagram.com", "Organic Social"),
        ("t.co", "Organic Social"),
        ("x.com", "Organic Social"),
        ("www.linkedin.com", "Organic Social"),
        ("lnkd.in", "Organic Social"),
        ("www.reddit.com", "Organic Social"),
        ("old.reddit.com", "Organic Social"),
        ("out.reddit.com", "Organic Social"),
        ("www.pinterest.co.uk", "Organic Social"),
        ("de.pinterest.com", "Organic Social"),
        ("news.ycombinator.com", "Organic Social"),
        ("bsky.app", "Organic Social"),
        ("someone.blogspot.com", "Organic Social"),
        ("someone.blogspot.co.uk", "Organic Social"),
        ("com.linkedin.android", "Organic Social"),
        ("www.youtube.com", "Organic Video"),
        ("youtu.be", "Organic Video"),
        ("player.vimeo.com", "Organic Video"),
        ("www.twitch.tv", "Organic Video"),
        ("www.amazon.com", "Organic Shopping"),
        ("smile.amazon.co.uk", "Organic Shopping"),
        ("www.ebay.de", "Organic Shopping"),
        ("www.etsy.com", "Organic Shopping"),
        ("shopping.google.com", "Organic Shopping"),
        ("chatgpt.com", "AI Assistant"),
        ("chat.openai.com", "AI Assistant"),
        ("gemini.google.com", "AI Assistant"),
        ("copilot.microsoft.com", "AI Assistant"),
        ("claude.ai", "AI Assistant"),
        ("www.perplexity.ai", "AI Assistant"),
        ("chat.deepseek.com", "AI Assistant"),
        ("grok.com", "AI Assistant"),
        ("blog.example", "Referral"),
        ("mail.google.com", "Referral"),
        ("docs.google.com", "Referral"),
        ("ads.google.com", "Referral"),
        ("aws.amazon.com", "Referral"),
        ("notgoogle.com", "Referral"),
        ("google.com.evil.example", "Referral"),
        ("facebook.com.evil.example", "Referral"),
        ("myfacebook.com", "Referral"),
        ("127.0.0.1", "Referral"),
        ("[::1]", "Referral"),
        ("localhost", "Referral"),
        ("", "Direct"),
    ],
)
def test_untagged_visits_by_referrer(host, name):
    assert channel(NO_CAMPAIGN, host) == name


@pytest.mark.parametrize(
    ("kind", "name"),
    {
        "gclid": "Paid Search",
        "gbraid": "Paid Search",
        "wbraid": "Paid Search",
        "dclid": "Display",
        "msclkid": "Paid Search",
        "yclid": "Paid Search",
        "ysclid": "Organic Search",
        "ttclid": "Paid Social",
        "twclid": "Paid Social",
        "li_fat_id": "Paid Social",
        "epik": "Paid Social",
        "sccid": "Paid Social",
        "rdt_cid": "Paid Social",
        "fbclid": "Organic Social",
        "igshid": "Organic Social",
        "irclickid": "Affiliates",
        "mkt_tok": "Email",
        "tblci": "Paid Other",
        "srsltid": "Organic Shopping",
    }.items(),
)
def test_a_click_id_stands_for_its_platform(kind, name):
    assert channel(campaign(f"{kind}=x"), "") == name
    assert channel(campaign(f"{kind}=x"), "blog.example") == name


@pytest.mark.parametrize("kind", [kind for kind, platform in CLICK_IDS.items() if not platform.source])
def test_a_click_id_of_no_known_platform_leaves_it_to_the_referrer(kind):
    assert channel(campaign(f"{kind}=x"), "www.google.com") == "Organic Search"
    assert channel(campaign(f"{kind}=x"), "") == "Direct"


@pytest.mark.parametrize("kind", CLICK_IDS)
def test_every_known_platform_lands_in_a_channel(kind):
    assert channel(campaign(f"{kind}=x"), "") in set(Channel) - {"Unassigned"}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("utm_source=newsletter&utm_medium=email&gclid=x", "Email"),
        ("utm_source=newsletter&utm_medium=email&fbclid=x", "Email"),
        ("utm_source=newsletter&fbclid=x", "Unassigned"),
        ("utm_medium=paid_social&fbclid=x", "Paid Social"),
        ("utm_source=google&gclid=x", "Paid Search"),
        ("utm_campaign=spring&gclid=x", "Paid Search"),
        ("utm_campaign=shopping&gclid=x", "Paid Shopping"),
        ("utm_term=shoes&utm_content=a", "Direct"),
    ],
)
def test_tags_and_click_ids_together(query, name):
    assert channel(campaign(query), "") == name


def test_term_and_content_alone_leave_it_to_the_referrer():
    assert channel(campaign("utm_content=a"), "www.google.com") == "Organic Search"


@settings(deadline=None)
@given(*(st.text(max_size=60) for _ in range(3)), st.sampled_from(["", *CLICK_IDS, "unknown"]), st.text(max_size=300))
def test_anything_lands_in_a_channel(source, medium, tag, kind, host):
    found = channel(Campaign(source, medium, tag, click_id="x", click_id_type=kind), host)
    assert type(found) is str
    assert found in set(Channel)


@pytest.mark.parametrize("unit", ["s", "sh", "shop", "eshop ", "cp", "a.", ".", "www.", "google.", "-"])
def test_time_is_linear(unit):
    assert grows_linearly(lambda text: channel(Campaign(text, text, text), text), unit)


def test_the_click_id_itself_does_not_fill_the_cache():
    channel_cached.cache_clear()
    for number in range(100):
        assert channel(campaign(f"gclid={number}"), "") == "Paid Search"
    info = channel_cached.cache_info()
    assert (info.currsize, info.hits, info.maxsize) == (1, 99, CHANNELS_CACHED_MAX)


def test_the_source_table_has_hundreds_of_entries_of_each_kind():
    counted = {category: list(SOURCES.values()).count(category) for category in set(SOURCES.values())}
    assert counted["search"] >= 200
    assert counted["social"] >= 300
    assert counted["shopping"] >= 100
    assert counted["video"] >= 50
    assert counted["ai"] >= 50
