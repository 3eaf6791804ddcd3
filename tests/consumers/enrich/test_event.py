"""What enrichment makes of an event by its consent verdict."""

import pytest
from support.events import event_of
from support.simulated_hits import BASE_MS

from consumers.enrich.event import Enricher
from consumers.rules import Enrichment
from schemas.consent import DENIED, Verdict
from schemas.hit import Hit

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def enriched(verdict, query="gclid=abc&utm_campaign=spring&FBCLID=def", **fields):
    event = event_of(
        site="shop", event_name="PageView", visitor_id=7, ts=BASE_MS, ts_source="received", received_at=BASE_MS,
        source="pixel", spool_id=1, spool_seq=0, consent=verdict, url_host="shop.example", url_query=query, **fields,
    )  # fmt: skip
    sent = Hit("", 1, "", 0, BASE_MS, "pixel", "", user_agent="" if verdict in DENIED else FIREFOX, consent=verdict)
    Enricher({}, Enrichment()).enrich(event, sent, "https://www.google.com/")
    return event


def test_consent_to_analytics_alone_keeps_no_click_id_but_the_channel_it_stands_for():
    event = enriched("granted_analytics")
    assert (event.click_id, event.click_id_type, event.url_query) == ("", "gclid", "utm_campaign=spring")
    assert event.channel == enriched("granted").channel == "Paid Search"
    assert enriched("granted_analytics", "a=1").url_query == "a=1"


@pytest.mark.parametrize("verdict", ["", *Verdict])
def test_all_other_verdicts_keep_it_and_denied_ones_know_no_agent(verdict):
    event = enriched(verdict)
    assert (event.click_id == "abc") == (verdict != "granted_analytics")
    assert (event.browser, event.os, event.device) == (
        ("", "", "") if verdict in DENIED else ("Firefox", "Linux", "desktop")
    )
