"""From the click on /c to the landing page, through a real collector and the worker's steps: one visit, attributed."""

import time
from urllib.parse import quote

import pytest
from support.edge import COOKIE, closing, edge, run
from support.simulated_hits import records

from consumers.batch import Batch
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from infra.journal.reader import JournalReader
from ingest.redirect_target import signature
from schemas.limits import limits_of
from schemas.session import SessionRule
from schemas.settings import load

KEY = "k" * 43
SITES = {"shop": {"domains": ["shop.example"], "link_key": KEY}}
HOST = b"Host: hits.shop.example\r\n"
MAIL = "https://www.shop.example/sale?utm_source=news&utm_medium=email#top"
OUTSIDE = "https://partner.example/?utm_source=shop&gclid=1"
PAGE = b"Referer: https://www.shop.example/\r\n"


def get(target, lines=b""):
    return closing(b"GET " + target.encode() + b" HTTP/1.1\r\n" + HOST + COOKIE + lines + b"\r\n")


def click(url):
    return f"/c?s=shop&u={quote(url, safe='')}&sig={signature(KEY, 'shop', url)}"


def view(url):
    return f"/p.gif?s=shop&u={quote(url, safe='')}"


def events_of(box):
    """What the worker makes of the collector's hits."""
    settings = load(sites=SITES)
    (directory,) = (path for path in box.spool_root.iterdir() if path.is_dir())
    reader = JournalReader(directory)
    values = [bytes(payload) for payload in reader.read(1 << 20).payloads]
    reader.close()
    batch = Batch("hits", 0, 0, len(values) - 1, int(time.time() * 1000), records(values))
    limits = limits_of(settings)
    prepared = prepare(batch.records, Marks(), Rules(limits, limits.domains))
    loaded = finish(prepared, SessionState(SessionRule(), 1 << 60))
    assert not loaded.rejected
    return [event for _, event in loaded.events]


@pytest.mark.parametrize("before", [[], [get(view("https://www.shop.example/"))]])
def test_a_click_that_leads_to_the_site_opens_the_landings_visit(tmp_path, before):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for request in before:
                await box.exchange(request)
            (answer,) = await box.exchange(get(click(MAIL), b"Referer: https://archive.example/\r\n"))
            await box.exchange(get(view(answer.headers[b"location"].decode())))
            return events_of(box)

    *earlier, clicked, landed = run(main)
    assert (clicked.event_name, clicked.source, clicked.ref_host) == ("Click", "click", "archive.example")
    assert clicked.props == {"target": MAIL}
    assert landed.session_id == clicked.session_id
    assert landed.session_id not in {event.session_id for event in earlier}
    assert (landed.click_id, landed.click_id_type) == (clicked.event_id, "hsclid")
    assert (landed.channel, landed.utm_source) == ("Email", "news")
    assert landed.url_query == f"utm_source=news&utm_medium=email&hsclid={clicked.event_id}"


def test_a_click_that_leads_away_stays_in_its_pages_visit(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            await box.exchange(get(view("https://www.shop.example/?utm_source=x")))
            await box.exchange(get(click(OUTSIDE), PAGE))
            return events_of(box)

    viewed, clicked = run(main)
    assert clicked.session_id == viewed.session_id
    assert (clicked.url_host, clicked.utm_source, clicked.click_id) == ("www.shop.example", "x", "")
    assert clicked.props == {"target": OUTSIDE}


def test_a_click_from_another_page_that_leads_away_has_no_page(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            await box.exchange(get(click(OUTSIDE), b"Referer: https://archive.example/\r\n"))
            return events_of(box)

    (clicked,) = run(main)
    assert (clicked.url_host, clicked.ref_host, clicked.channel) == ("", "archive.example", "Referral")
