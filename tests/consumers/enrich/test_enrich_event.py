"""The step as a whole: what a hit becomes, under each site's rules and the consent that its visitor gave."""

from __future__ import annotations

from hashlib import sha256

import pytest
from support.simulated_hits import hit, records

from consumers.deduplicate import Marks
from consumers.enrich.network import NO_NETWORK, UNKNOWN_NETWORKS, Network, Networks, Place
from consumers.enrich.scrub import MARKER
from consumers.pipeline import prepare
from consumers.rules import Enrichment, Rules
from schemas.limits import Limits

PAGE = "https://shop.example/cart?gclid=Cj0&utm_source=google&utm_medium=cpc&email=joe%40x.example&FBCLID=Iw"
SCRUBBING = Enrichment(scrub=True)


def event_of(members=None, rules=SCRUBBING, networks=UNKNOWN_NETWORKS, **parameters):
    """The event of one beacon hit with these parameters and hit members."""
    made = records([hit(**{"event": {"u": PAGE, **parameters}, **(members or {})})])
    [prepared] = prepare(made, Marks(), Rules(Limits(), {}, rules), networks)
    assert prepared.rejection is None, prepared.rejection
    return prepared.event


def test_page_title_and_properties_are_scrubbed_and_the_campaign_stays():
    event = event_of(**{"ti": "Hello joe@x.example", "p.note": "ask joe@x.example", "p.email": "joe", "p.n": 1})
    assert event.url_query == f"gclid=Cj0&utm_source=google&utm_medium=cpc&email={MARKER}&FBCLID=Iw"
    assert event.title == f"Hello {MARKER}"
    assert event.props == {"note": f"ask {MARKER}", "email": MARKER, "n": "1"}
    assert (event.click_id, event.click_id_type, event.channel) == ("Cj0", "gclid", "Paid Search")


def test_who_is_named_in_a_newsletters_tags_is_scrubbed_and_the_channel_stays():
    page = "https://shop.example/?utm_source=news&utm_medium=email&utm_term=joe%40x.example&utm_content=EN123456"
    event = event_of(rules=Enrichment(True, ("utm_campaign",), (r"[A-Z]{2}\d{6,}",)), u=page + "&utm_campaign=joe")
    tags = f"utm_term={MARKER}&utm_content={MARKER}&utm_campaign={MARKER}"
    assert event.url_query == f"utm_source=news&utm_medium=email&{tags}"
    assert (event.utm_source, event.utm_medium) == ("news", "email")
    assert (event.utm_term, event.utm_content, event.utm_campaign) == (MARKER, MARKER, MARKER)
    assert event.channel == "Email"


def test_nothing_is_scrubbed_where_the_setting_says_so():
    event = event_of(rules=Enrichment(), ti="joe@x.example")
    assert event.title == "joe@x.example"
    assert "email=joe%40x.example" in event.url_query


def test_without_consent_to_ads_click_ids_go_and_their_kind_stays():
    event = event_of({"consent": "granted_analytics"})
    assert (event.click_id, event.click_id_type) == ("", "gclid")
    assert event.url_query == f"utm_source=google&utm_medium=cpc&email={MARKER}"
    assert event.channel == "Paid Search"


@pytest.mark.parametrize("consent", ["", "granted", "not_objected", "not_required"])
def test_any_other_verdict_keeps_them(consent):
    assert event_of({"consent": consent}).click_id == "Cj0"


def test_user_ids_are_hashed_for_the_sites_that_ask_for_it():
    rules = Enrichment(users_hashed={"shop": True})
    joe = sha256(b"joe@x.example").hexdigest()
    assert event_of(rules=rules, uid=" Joe@X.example ").user_id == joe
    assert event_of(rules=rules, uid="joe@x.example").user_id == joe
    assert event_of(rules=rules).user_id == ""
    assert event_of(rules=Enrichment(), uid=" Joe ").user_id == " Joe "
    assert event_of(rules=Enrichment(other_users_hashed=True), uid="joe@x.example").user_id == joe
    assert event_of(rules=Enrichment(users_hashed={"shop": False}, other_users_hashed=True), uid="Joe").user_id == "Joe"


def test_the_place_is_that_of_the_kept_address():
    def berlin(address):
        return (
            Network(Place("DE", "Land Berlin", "Berlin"), is_datacentre=False) if address == "192.0.2.0" else NO_NETWORK
        )

    networks = Networks(berlin)
    event = event_of({"ip": "192.0.2.0"}, networks=networks)
    assert (event.country, event.region, event.city) == ("DE", "Land Berlin", "Berlin")
    assert event_of({"ip": "192.0.3.0"}, networks=networks).country == ""
    assert event_of({}, networks=networks).country == ""
