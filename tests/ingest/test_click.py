"""`GET /c` from outside: where it sends a browser, what it keeps of the click, and what it refuses."""

import re
import time
from urllib.parse import quote

import pytest
from support.edge import closing, edge, plain, run, statuses
from support.waiting import until
from test_redirect_target import TRICKS

from ingest.redirect_target import signature

HOST = b"Host: hits.shop.example\r\n"
KEY = "k" * 43
SITES = {
    "shop": {
        "domains": ["shop.example", "shop-b.example"],
        "link_key": KEY,
        "redirect_hosts": ["Partner.example", "münchen.example"],
    },
    "open": {"redirect_hosts": ["partner.example"]},
}
TARGET = "https://www.shop.example/landing?utm_source=mail#top"
CLICK_ID = re.compile(rb"[?&]hsclid=([0-9a-f]{32})(?=[&#]|$)")
VISITOR = "00000000000000ab"
COOKIE = b"Cookie: _hs=%b.%d\r\n" % (VISITOR.encode(), time.time() - 3600)


def link(url, *, site="shop", sig=None, more="", key=KEY):
    sig = signature(key, site, url) if sig is None else sig
    return f"/c?s={site}&u={quote(url, safe='')}&sig={sig}{more}".encode()


def get(target, lines=b"", method=b"GET"):
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def test_a_signed_click(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            lines = b"User-Agent: ua\r\nReferer: https://www.shop.example/page?a=b\r\n"
            (answer,) = await box.exchange(closing(get(link(TARGET, more="&p.banner=top&c=1&ab=x:y&uid=u&v=9"), lines)))
            (hit,) = box.hits()
        assert answer.status == 302
        assert answer.body == b""
        assert answer.headers[b"cache-control"] == b"no-store"
        location = answer.headers[b"location"]
        click_id = CLICK_ID.search(location)[1].decode()
        assert location == f"https://www.shop.example/landing?utm_source=mail&hsclid={click_id}#top".encode()
        visitor = answer.headers[b"set-cookie"].removeprefix(b"_hs=")[:16].decode()
        assert plain(hit) == {
            "key": visitor, "v": 1, "source": "click", "visitor_id": visitor, "new_visitor": True, "ip": "127.0.0.0",
            "user_agent": "ua", "consent": "granted",
            "event": {
                "s": "shop", "e": "Click", "id": click_id, "u": "https://www.shop.example/page?a=b", "p.target": TARGET,
                "p.banner": "top", "c": "1", "ab": "x:y", "uid": "u",
            },
        }  # fmt: skip

    run(main)


@pytest.mark.parametrize(
    ("more", "lines", "verdict"),
    [
        ("&c=0", b"", "denied_param"),
        ("", b"Sec-GPC: 1\r\n", "denied_gpc"),
        ("&c=1", b"Cookie: _hs_out=1; _hs=00000000000000cd.1750000000\r\n", "denied_optout"),
    ],
)
def test_a_click_without_consent_goes_on_and_leaves_no_trace_of_who(tmp_path, more, lines, verdict):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            lines_ = b"User-Agent: ua\r\nReferer: https://www.shop.example/page?a=b\r\n" + lines
            (answer,) = await box.exchange(closing(get(link(TARGET, more=f"{more}&uid=u&p.banner=top"), lines_)))
            (hit,) = box.hits()
        assert (answer.status, answer.headers[b"location"]) == (302, TARGET.encode())
        assert b"set-cookie" not in answer.headers
        key = hit["key"]
        assert plain(hit) == {
            "key": key, "v": 1, "source": "click", "visitor_id": "0" * 16, "consent": verdict,
            "event": {"s": "shop", "e": "Click", "u": "/page"},
        }  # fmt: skip
        assert key not in ("0" * 16, "00000000000000cd")

    run(main)


def test_a_known_visitors_click_from_elsewhere(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            requests = [get(link(TARGET), COOKIE + b"Referer: " + page + b"\r\n") for page in (
                b"https://mail.example/inbox", b"https://evil-shop.example/", b"android-app://com.mail/", b"\xff"
            )]  # fmt: skip
            answers, _ = await box.probed(*requests, get(link(TARGET), COOKIE))
            assert statuses(answers) == [302] * 5
            assert not any(b"set-cookie" in answer.headers for answer in answers)
            hits = box.hits()
        assert {hit["visitor_id"] for hit in hits} == {VISITOR}
        assert not any("u" in hit["event"] for hit in hits)
        assert [hit["event"].get("r") for hit in hits] == [
            "https://mail.example/inbox", "https://evil-shop.example/", "android-app://com.mail/", "ÿ", None,
        ]  # fmt: skip
        assert len({hit["event"]["id"] for hit in hits}) == 5

    run(main)


def test_allowed_hosts_need_no_signature(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            allowed = [
                "https://partner.example/a?hsclid=old",
                "http://PARTNER.example:8080/",
                "https://xn--mnchen-3ya.example/",
            ]
            answers, _ = await box.probed(*(get(link(url, sig="")) for url in allowed))
            assert statuses(answers) == [302] * 3
            assert [CLICK_ID.sub(b"", answer.headers[b"location"]) for answer in answers] == [
                b"https://partner.example/a", b"http://partner.example:8080/", b"https://xn--mnchen-3ya.example/",
            ]  # fmt: skip
            others = ["https://www.partner.example/", "https://partner.example.evil.example/", "https://evil.example/"]
            answers, _ = await box.probed(*(get(link(url, sig="")) for url in others))
            assert statuses(answers) == [400] * 3
            assert box.hits()[0]["event"]["p.target"] == "https://partner.example/a"

    run(main)


REFUSED = {
    "nothing": b"/c",
    "empty": b"/c?s=&u=&sig=",
    "no signature": b"/c?s=shop&u=https%3A%2F%2Fa.example%2F",
    "a wrong signature": link("https://a.example/", sig="A" * 43),
    "another target's": link("https://a.example/", sig=signature(KEY, "shop", "https://a.example")),
    "another site's": link("https://a.example/", sig=signature(KEY, "open", "https://a.example/")),
    "of an empty key": link("https://a.example/", site="open", key=""),
    "an unknown site": link("https://a.example/", site="nobody"),
    "no site": link("https://a.example/", site=""),
    "a site that is none": link("https://a.example/", site="a%0Ab"),
    "the second target": b"/c?s=shop&u=https%3A%2F%2Fb.example%2F&" + link("https://a.example/")[3:],
    "not UTF-8": b"/c?s=shop&u=https%3A%2F%2Fpartner.example%2F%FF",
    "broken escapes": b"/c?s=shop&u=https%3A%2F%2Fpartner.example%2F&x=%zz",
    "a NUL": b"/c?s=shop&u=https%3A%2F%2Fpartner.example%2F%00",
    "a header": b"/c?s=shop&u=https%3A%2F%2Fpartner.example%2F%0D%0ASet-Cookie%3A%20a%3Db",
    "a long signature": link("https://a.example/", sig="A" * 5000),
} | {f"trick {url!r}": link(url) for url in TRICKS}


def test_what_is_refused_is_neither_followed_nor_kept(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for name, target in REFUSED.items():
                answers, kept_open = await box.probed(get(target))
                assert statuses(answers) == [400], name
                assert b"location" not in answers[0].headers
                assert kept_open
            assert box.hits() == []
            assert box.counters.refused["bad_link"] == len(REFUSED)
            ((answer,), _) = await box.probed(get(link("https://a.example/" + "a" * 9000)))
            assert answer.status == 414

    run(main)


def test_of_repeated_parameters_the_first_counts(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            more = "&s=open&u=https%3A%2F%2Fevil.example%2F&sig=x&p.a=1&p.a=2&p.target=x&e=Purchase&id=x&t=1"
            (answer,) = await box.exchange(closing(get(link(TARGET, more=more))))
            assert answer.headers[b"location"].startswith(b"https://www.shop.example/")
            (hit,) = box.hits()
            assert (hit["event"]["s"], hit["event"]["e"], hit["event"]["p.a"]) == ("shop", "Click", "1")
            assert hit["event"]["p.target"] == TARGET
            assert set(hit["event"]) == {"s", "e", "id", "p.a", "p.target"}

    run(main)


def test_head_is_followed_without_an_id_and_keeps_nothing(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, click_path="/go") as box:
            target = link("https://shop-b.example/?hsclid=1&a=b").replace(b"/c?", b"/go?")
            heads = [get(target, method=b"HEAD"), get(b"/go", method=b"HEAD")]
            answers, _ = await box.probed(*heads, get(target, method=b"POST"), get(link(TARGET)), heads=(0, 1))
            assert statuses(answers) == [302, 400, 405, 404]
            assert answers[0].headers == {
                b"location": b"https://shop-b.example/?a=b", b"cache-control": b"no-store", b"content-length": b"0",
            }  # fmt: skip
            assert answers[2].headers[b"allow"] == b"GET, HEAD"
            assert box.hits() == []

    run(main)


def test_a_full_spool_sends_on_without_an_id_and_counts_it(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, spool_bytes_max=256 * 1024) as box:
            request = get(link("https://shop-b.example/a", more="&p.x=" + "x" * 3000), COOKIE)
            kept = 0
            while True:
                ((answer,), _) = await box.probed(request)
                if not CLICK_ID.search(answer.headers[b"location"]):
                    break
                kept += 1
            assert answer.status == 302
            assert answer.headers[b"location"] == b"https://shop-b.example/a"
            assert len(box.hits()) == kept > 0
            assert box.counters.refused["spool_full"] == 1
            assert box.counters.answers[503] == 0
            assert box.counters.answers[302] == kept + 1
            min(box.spool_root.glob("*/0*.seg")).unlink()
            await until(box.collector.is_ready)
            ((answer,), _) = await box.probed(request)
            assert CLICK_ID.search(answer.headers[b"location"])

    run(main)


@pytest.mark.parametrize("sites", [{}, {"shop": {"link_key": KEY}}])
def test_without_domains_any_referring_page_is_the_sites(tmp_path, sites):
    async def main():
        default = {"link_key": KEY}
        async with edge(tmp_path, sites=sites, default_site=default) as box:
            (answer,) = await box.exchange(closing(get(link(TARGET), b"Referer: https://any.example/\r\n")))
            assert answer.status == 302
            assert box.hits()[0]["event"]["u"] == "https://any.example/"

    run(main)
