"""The snippet in a real browser: what `hitstream site snippet` prints, pasted into pages, against a real collector."""

import asyncio
import json
import re
import time
from urllib.parse import parse_qsl

import pytest
from support.edge import edge, run
from support.waiting import until
from support.web_server import web_server

from infra.command.snippet import page as snippet
from ingest.http_response import GIF
from ingest.script import script_of
from schemas.settings import load

pytest_plugins = ["support.browser"]
pytestmark = pytest.mark.outside

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FASTER = "<script>const later = setTimeout; window.setTimeout = (f, ms) => later(f, (ms || 0) / 50)</script>"


@pytest.fixture
def web():
    with web_server() as server:
        yield server


def tag(port, more="", settings=None):
    """The line to paste into a page's head."""
    line = snippet(settings or load(), "shop", f"http://localhost:{port}", explained=False).splitlines()[0]
    return line.replace(" data-site", f" {more} data-site")


async def visited(box, browser, url, count):
    """Open a page and return the collector's hits once there are `count`."""
    await asyncio.to_thread(browser.get, url)
    await until(lambda: len(box.hits()) >= count)
    return box.hits()


def events(hits):
    return [hit["event"] for hit in hits]


def test_a_page_is_counted_with_all_that_is_known_of_it(tmp_path, web, browser):
    async def main():
        async with edge(tmp_path) as box:
            first = web.page("/a?x=1", f"<title>Käse</title>{tag(box.port)}<a href='/b'>b</a>")
            second = web.page("/b", f"<title>B</title>{tag(box.port, 'data-consent=analytics')}")
            web.answers["/a"] = web.answers["/a?x=1"]
            before = time.time() * 1000
            await visited(box, browser, first + "#here", 1)
            await asyncio.to_thread(browser.execute_script, "document.querySelector('a').click()")
            await until(lambda: len(box.hits()) == 2)
            one, two = box.hits()
        event = one["event"]
        assert {name: event[name] for name in ("s", "e", "u", "ti")} == {
            "s": "shop", "e": "PageView", "u": first + "#here", "ti": "Käse",
        }  # fmt: skip
        assert UUID.fullmatch(event["id"])
        assert before <= event["t"] <= event["sent"] <= time.time() * 1000
        assert re.fullmatch(r"\d+x\d+", event["sr"])
        assert event["l"]
        assert "c" not in event
        assert (one["source"], one["new_visitor"]) == ("beacon", True)
        assert two["visitor_id"] == one["visitor_id"], "the beacon's cookie came back"
        assert (two["event"]["u"], two["event"]["r"], two["event"]["c"]) == (second, first, "analytics")

    run(main)


def test_calls_wait_for_the_script_and_consent_goes_first(tmp_path, web, browser):
    async def main():
        async with edge(tmp_path) as box:
            text = snippet(load(), "shop", "", explained=True)
            purchase, choice = re.findall(r"<script>\n.*?</script>", text, re.DOTALL)
            choice = choice.replace("CHOICE", "'analytics,ads'")
            url = web.page("/cart", f"{purchase}{choice}{tag(box.port)}")
            await visited(box, browser, url, 2)
            calls = (
                "hitstream('consent', 'ads,analytics');"
                "hitstream('Lead', {v: 1, 'p.plan': 'x', items: [{sku: 'a'}], id: 'mine'});"
                "hitstream('consent', '0'); hitstream('Contact', {id: 'no'})"
            )
            await asyncio.to_thread(browser.execute_script, calls)
            await until(lambda: len(box.hits()) == 4)
            hits = box.hits()
            view, purchase, lead, contact = events(hits)
        assert [view["e"], purchase["e"], lead["e"]] == ["PageView", "Purchase", "Lead"]
        assert [view["c"], purchase["c"], lead["c"]] == ["analytics,ads", "analytics,ads", "ads,analytics"]
        assert (contact["e"], "id" in contact, hits[3]["consent"]) == ("Contact", False, "denied_param")
        assert (purchase["v"], purchase["cur"], purchase["oid"]) == (49.9, "EUR", "ORDER")
        assert (lead["v"], lead["p.plan"], lead["items"], lead["id"]) == (1, "x", [{"sku": "a"}], "mine")
        assert view["id"] != purchase["id"]

    run(main)


def test_pages_that_a_script_navigates_to_are_counted(tmp_path, web, browser):
    async def main():
        async with edge(tmp_path) as box:
            url = web.page("/app", tag(box.port))
            await visited(box, browser, url, 1)
            base = url.removesuffix("/app")
            steps = ("history.pushState({}, '', '/two'); document.title = 'Two'", "history.back()")
            for count, step in enumerate(steps, 2):
                await asyncio.to_thread(browser.execute_script, step)
                await until(lambda count=count: len(box.hits()) == count)
            nothing = "history.replaceState({}, '', '/app#x'); history.pushState({}, '', '/app#y'); location.hash = 'z'"
            await asyncio.to_thread(browser.execute_script, nothing)
            await asyncio.to_thread(browser.execute_script, "setTimeout(() => hitstream('Lead'), 50)")
            await until(lambda: len(box.hits()) == 4)
            app, two, back, lead = events(box.hits())
        assert [two["u"], two["r"], two["ti"]] == [f"{base}/two", f"{base}/app", "Two"]
        assert [back["u"], back["r"]] == [f"{base}/app", f"{base}/two"]
        assert [event["e"] for event in (app, two, back, lead)] == ["PageView"] * 3 + ["Lead"]

    run(main)


def test_without_beacons_an_image_says_the_same(tmp_path, web, browser):
    async def main():
        async with edge(tmp_path, script_path="/hs.js", pixel_path="/x.gif", events_path="/in") as box:
            settings = load(script_path="/hs.js", pixel_path="/x.gif")
            no_beacon = "<script>navigator.sendBeacon = () => false</script>"
            url = web.page("/old", f"<title>Käse &amp; Brot</title>{no_beacon}{tag(box.port, settings=settings)}")
            await visited(box, browser, url, 1)
            await asyncio.to_thread(browser.execute_script, "hitstream('Lead', {items: [{sku: 'a'}]})")
            await until(lambda: len(box.hits()) == 2)
            view, lead = (dict(parse_qsl(hit["query"])) for hit in box.hits())
        assert (view["s"], view["e"], view["u"], view["ti"]) == ("shop", "PageView", url, "Käse & Brot")
        assert "c" not in view
        assert json.loads(lead["items"]) == [{"sku": "a"}]

    run(main)


@pytest.mark.parametrize("answers", [[503, (200, "image/gif", GIF)], [503]], ids=["then taken", "never taken"])
def test_an_image_that_fails_is_sent_once_more_with_its_id_and_time(web, browser, answers):
    web.answers["/pixel.js"] = (200, "text/javascript", script_of(load()).whole.partition(b"\r\n\r\n")[2])
    web.answers["/p.gif"] = list(answers)
    no_beacon = "<script>navigator.sendBeacon = () => false</script>"
    browser.get(web.page("/page", f"{FASTER}{no_beacon}{tag(web.port)}"))

    def tries():
        return [dict(parse_qsl(path.partition("?")[2])) for path, _ in web.requests if path.startswith("/p.gif")]

    asyncio.run(until(lambda: len(tries()) == 2))
    browser.execute_async_script("setTimeout(arguments[0], 50 * 500)")  # FASTER: half a second for a third try
    first, second = tries()
    assert (first["id"], first["t"]) == (second["id"], second["t"])
    assert int(second["sent"]) > int(first["sent"])


def test_what_happens_offline_is_sent_when_the_network_is_back(tmp_path, web, browser):
    async def main():
        async with edge(tmp_path) as box:
            await visited(box, browser, web.page("/off", tag(box.port)), 1)
            offline = {"offline": True, "latency": 0, "throughput": -1}
            await asyncio.to_thread(browser.set_network_conditions, **offline)
            try:
                await asyncio.to_thread(browser.execute_script, "hitstream('Lead')")
                later = "setTimeout(() => arguments[0](navigator.onLine), 300)"
                assert await asyncio.to_thread(browser.execute_async_script, later) is False
                assert len(box.hits()) == 1
            finally:
                await asyncio.to_thread(browser.delete_network_conditions)
            await until(lambda: len(box.hits()) == 2)
            lead = box.hits()[1]["event"]
        assert lead["e"] == "Lead"
        assert lead["sent"] >= lead["t"] + 300

    run(main)
