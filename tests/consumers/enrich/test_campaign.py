"""Campaigns in query strings: tags, more than twenty click-id kinds, odd encodings, linear time."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import grows_linearly

from consumers.enrich.campaign import (
    CAMPAIGN_CACHED_CHARS_MAX,
    NO_CAMPAIGN,
    Campaign,
    campaign,
    campaign_cached,
)
from consumers.enrich.tables import CLICK_IDS


def test_all_tags_and_a_click_id():
    query = (
        "a=b&utm_source=google&utm_medium=cpc&utm_campaign=Spring+Sale&utm_term=red%20shoes&utm_content=%C3%A4"
        "&utm_id=77&gclid=Cj0-_x"
    )
    assert campaign(query) == Campaign("google", "cpc", "Spring Sale", "red shoes", "ä", "Cj0-_x", "gclid")


@pytest.mark.parametrize(
    "query", ["", "a=b", "utm_source", "xutm_source=a", "utm_id=7", "gclid=", "utm_source=", "&&=&"]
)
def test_no_campaign(query):
    assert not campaign(query)
    assert campaign(query) == NO_CAMPAIGN


@pytest.mark.parametrize("place", range(len(Campaign._fields)))
def test_any_field_alone_is_a_campaign(place):
    assert Campaign(*("x" if place == index else "" for index in range(len(Campaign._fields))))


def test_there_are_more_than_twenty_kinds_of_click_id():
    google = {"gclid", "gbraid", "wbraid", "dclid", "srsltid"}
    social = {"fbclid", "ttclid", "twclid", "li_fat_id", "igshid", "epik", "sccid", "rdt_cid"}
    rest = {"msclkid", "yclid", "ysclid", "qclid", "vmcid", "tblci", "obclid", "irclickid", "cjevent", "awc", "tduid"}
    tools = {"s_kwcid", "ef_id", "_kx", "wickedid", "_openstat", "hsclid"}
    assert google | social | rest | tools <= set(CLICK_IDS)
    assert len(CLICK_IDS) >= 20


def test_the_id_of_a_subscriber_is_no_click_id():
    assert not campaign("mc_eid=1a2b3c&mc_cid=9f&ml_subscriber=7")


@pytest.mark.parametrize("name", CLICK_IDS)
def test_click_id_kind(name):
    for written in (name, name.upper()):
        assert campaign(f"x=1&{written}=AbC-9_.") == Campaign(click_id="AbC-9_.", click_id_type=name)


def test_the_type_is_the_parameter_in_lower_case():
    assert campaign("ScCid=1").click_id_type == "sccid"


def test_of_a_repeated_parameter_the_first_counts():
    assert campaign("utm_source=a&utm_source=b&UTM_SOURCE=c").utm_source == "a"
    assert campaign("gclid=1&gclid=2").click_id == "1"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("fbclid=f&gclid=g", "gclid"),
        ("srsltid=s&gclid=g", "gclid"),
        ("srsltid=s&msclkid=m", "msclkid"),
        ("gclid=&fbclid=f", "fbclid"),
        ("hsclid=h&ttclid=t", "ttclid"),
    ],
)
def test_an_ads_own_click_id_comes_before_one_that_any_link_may_carry(query, kind):
    assert campaign(query).click_id_type == kind


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("50%", "50%"),
        ("%zz", "%zz"),
        ("a%2", "a%2"),
        ("%ff", "%ff"),
        ("a+%ff", "a+%ff"),
        ("%C3%A4", "ä"),
        ("a=b", "a=b"),
    ],
)
def test_broken_encoding_is_kept_literally(raw, value):
    assert campaign(f"utm_campaign={raw}").utm_campaign == value


def test_surrounding_blanks_are_dropped():
    assert campaign("utm_source=+google%20&utm_medium= cpc").utm_source == "google"


values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: text == text.strip()
)


@settings(deadline=None)
@given(st.tuples(values, values, values, values, values, values), st.sampled_from([quote, quote_plus]))
def test_what_was_encoded_comes_back(parts, encode):
    names = ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "gclid"]
    query = "&".join(f"{name}={encode(part, safe='')}" for name, part in zip(names, parts, strict=True))
    assert campaign(query) == Campaign(*parts, "gclid")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read(text):
    assert campaign(text) == NO_CAMPAIGN or "=" in text
    assert isinstance(campaign("utm_source=" + text), Campaign)


@pytest.mark.parametrize("unit", ["&", "=", "%", "%41", "+", "utm_source=a&", "gclid=%ff&", "a=b&", "%f"])
def test_time_is_linear(unit):
    assert grows_linearly(campaign, unit)
    assert grows_linearly(lambda text: campaign("utm_source=" + text), unit)


def test_long_queries_are_read_but_not_cached():
    campaign_cached.cache_clear()
    assert campaign("utm_source=a&x=" + "y" * CAMPAIGN_CACHED_CHARS_MAX).utm_source == "a"
    assert campaign_cached.cache_info().currsize == 0
    assert campaign("utm_source=a") is campaign("utm_source=a")
    assert campaign_cached.cache_info().hits == 1
