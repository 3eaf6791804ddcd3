"""The cross-domain link parameter: made at the click, taken up where the visitor arrives, and by nobody else."""

import re
import time
from urllib.parse import quote

import orjson
import pytest
from support.edge import closing, edge, post, run

from ingest.link import Links
from ingest.redirect_target import signature
from schemas.page import split_page
from schemas.settings import load

KEY = "k" * 43
SITES = {
    "shop": {"domains": ["a.example", "b.example"], "link_key": KEY, "redirect_hosts": ["away.example"]},
    "bare": {"domains": ["a.example", "b.example"], "redirect_hosts": ["b.example"]},
    "blog": {"domains": ["a.example", "b.example"], "link_key": "x" * 43},
}
VISITOR = b"00000000000000ab"
NOW = int(time.time())
BIRTH = NOW - 5000
COOKIE = b"Cookie: _hs=%b.%d\r\n" % (VISITOR, BIRTH)
TTL_S = 3600  # longer than the tests take
LINKS = Links(load(sites=SITES, link_ttl_s=TTL_S))
LINK = LINKS.parameter("shop", VISITOR, BIRTH, NOW)
SIGNATURE = LINK.rpartition(".")[2]
LINK_IN = re.compile(r"[?&]hsl=([^&#]*)")


def click(url, site="shop"):
    sig = signature(KEY, site, url)
    return f"/c?s={site}&u={quote(url, safe='')}&sig={sig}".encode()


def get(target, lines=b"", host=b"hits.a.example"):
    return closing(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + lines + b"\r\n")


def page(link, more=""):
    return f"https://www.b.example/?x=1&hsl={link}&hsclid=c{more}#top"


def pixel(url, site="shop"):
    return f"/p.gif?s={site}&u={quote(url, safe='')}".encode()


@pytest.mark.parametrize(
    ("url", "site", "host", "linked"),
    [
        ("https://www.b.example/?a=b#c", "shop", b"hits.a.example", True),
        ("https://B.example/", "shop", b"A.example:8080", True),
        ("https://www.b.example/", "shop", b"collector.test", True),
        ("https://www.b.example/", "shop", b"[::1]:80", True),
        ("https://www.a.example/", "shop", b"hits.a.example", False),
        ("https://notb.example/", "shop", b"hits.a.example", False),
        ("https://away.example/", "shop", b"hits.a.example", False),
        ("https://b.example/", "bare", b"hits.a.example", False),
    ],
)
def test_a_click_hands_its_visitor_on_to_the_sites_other_domains(tmp_path, url, site, host, linked):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for cookie in (COOKIE, b""):
                (answer,) = await box.exchange(get(click(url, site), cookie, host))
                found = LINK_IN.search(answer.headers[b"location"].decode())
                assert bool(found) is linked
                if linked:
                    (hit,) = box.hits()[-1:]
                    visitor, birth_s, expires_s, _ = found[1].split(".")
                    assert visitor == hit["visitor_id"]
                    assert (int(birth_s) == BIRTH) is bool(cookie)
                    assert 100 < int(expires_s) - time.time() <= 120
                    assert LINKS.arrival("shop", page(found[1]), NOW) == (visitor.encode(), int(birth_s))

    run(main)


def test_who_arrives_goes_on_as_the_same_visitor(tmp_path):
    event = {"s": "shop", "u": page(LINK)}
    requests = {
        "u": get(pixel(page(LINK))),
        "Referer": get(b"/p.gif?s=shop", b"Referer: " + page(LINK).encode() + b"\r\n"),
        "beacon": closing(post(orjson.dumps([{"s": "shop"}, event]))),
    }

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for name, request in requests.items():
                (answer,) = await box.exchange(request)
                assert answer.headers[b"set-cookie"].startswith(b"_hs=%b.%d;" % (VISITOR, BIRTH)), name
                assert box.hits()[-1]["visitor_id"] == VISITOR.decode()
                assert "new_visitor" not in box.hits()[-1]
            assert box.counters.visitors_minted == 0
            (answer,) = await box.exchange(get(pixel(page(LINK)), b"Cookie: _hs=00000000000000cd.%d\r\n" % NOW))
            assert b"set-cookie" not in answer.headers
            assert box.hits()[-1]["visitor_id"] == "00000000000000cd", "who is known already stays who it was"

    run(main)


def forged(visitor="00000000000000ab", birth_s=BIRTH, expires_s=NOW + TTL_S, sig=SIGNATURE):
    return f"{visitor}.{birth_s}.{expires_s}.{sig}"


NOT_TAKEN = {
    "nothing": "",
    "another visitor": forged(visitor="00000000000000cd"),
    "another birth": forged(birth_s=BIRTH - 1),
    "more time": forged(expires_s=NOW + TTL_S + 1),
    "another signature": forged(sig="A" * 22),
    "cut": LINK[:-1],
    "longer": LINK + "A",
    "upper case": LINK.upper(),
    "padded": LINK + "==",
    "a target's signature": forged(sig=signature(KEY, "shop", forged())[:22]),
    "another site's": LINKS.parameter("blog", VISITOR, BIRTH, NOW),
    "expired": LINKS.parameter("shop", VISITOR, BIRTH, NOW - TTL_S - 100),
    "no visitor": LINKS.parameter("shop", b"0" * 16, BIRTH, NOW),
    "born in two days": LINKS.parameter("shop", VISITOR, NOW + 2 * 86_400, NOW),
    "the second of two": f"x&hsl={LINK}",
    "escaped": LINK.replace(".", "%2E"),
    "very long": "a" * 3000,
}


def test_what_is_not_taken_up_makes_a_new_visitor(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for name, link in NOT_TAKEN.items():
                await box.exchange(get(pixel(page(link))))
                hit = box.hits()[-1]
                assert hit["new_visitor"] is True, name
                assert hit["visitor_id"] not in (VISITOR.decode(), "0" * 16), name
            odd = [pixel(page(LINK), "bare"), pixel(page(LINK), "nobody"), b"/p.gif?u=" + pixel(page(LINK))[15:]]
            odd += [b"/p.gif?s=shop&v=x&p.hsl=" + LINK.encode(), b"/p.gif?s=shop&u=%zz?hsl=" + LINK.encode()]
            odd.append(pixel("https://www.b.example/#?hsl=" + LINK))
            for target in odd:
                await box.exchange(get(target))
                assert box.hits()[-1]["new_visitor"] is True, target
            await box.exchange(closing(post(orjson.dumps([{"s": 1, "u": page(LINK)}, {"s": "shop", "u": [LINK]}]))))
            assert box.hits()[-1]["new_visitor"] is True

    run(main)


def test_it_holds_until_it_expires():
    until = int(LINK.split(".")[2])
    assert LINKS.arrival("shop", page(LINK), until) == (VISITOR, BIRTH)
    assert LINKS.arrival("shop", page(LINK), until + 1) is None


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (f"hsl={LINK}", ""),
        (f"a=1&hsl={LINK}&hsclid=c", "a=1&hsclid=c"),
        (f"a=hsl&hsl={LINK}&hsl=x&HSL=y&%68sl=z", "a=hsl"),
        ("hsl", ""),
        ("ahsl=1&hsla=2&&b", "ahsl=1&hsla=2&&b"),
    ],
    ids=["alone", "between", "repeated", "without a value", "longer names"],  # the link holds the time
)
def test_it_leaves_no_trace_in_a_pages_query(query, left):
    assert split_page(f"https://b.example/?{query}#x").query == left
