"""The hot path against the general way: the same request in one read and in two is kept and answered alike."""

import re
import time

import pytest
from support.edge import HOST, edge, plain, post, run

from ingest.http_strict import StrictReader
from ingest.link import Links
from ingest.routes import Routes
from schemas.settings import load

NOW = int(time.time())
DAY_S = 86_400
SITES = {
    "shop": {"domains": ["a.example", "b.example"], "link_key": "k" * 43},
    "asks": {"consent": "opt-in"},
    "bare": {"consent": "none"},
}
LINK = Links(load(sites=SITES, link_ttl_s=3600)).parameter("shop", b"00000000000000ab", NOW - 5000, NOW)
MINTED = re.compile(rb"_hs=([0-9a-f]{16})\.(\d+)")


def get(query, *lines):
    return b"GET /p.gif?" + query + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def cookie(birth, ident=b"0123456789abcdef", front=b"", behind=b""):
    return b"Cookie: " + front + b"_hs=%b.%d" % (ident, birth) + behind


USUAL = {
    "returning": get(b"s=shop&e=PageView", cookie(NOW - DAY_S)),
    "among cookies": get(
        b"s=shop", b"Referer: https://a.example/", cookie(NOW - DAY_S, front=b"a=1; ", behind=b"; b=2")
    ),
    "new": get(b"s=shop&u=https%3A%2F%2Fa.example%2F", b"User-Agent: x"),
    "due for renewal": get(b"s=shop", cookie(NOW - 40 * DAY_S)),
    "nothing required": get(b"s=bare", b"Sec-GPC: 0", cookie(NOW - DAY_S)),
    "no id": get(b"s=shop", cookie(NOW - DAY_S, ident=b"0" * 16)),
    "upper case": get(b"s=shop", cookie(NOW - DAY_S, ident=b"0123456789ABCDEF")),
    "ahead": get(b"s=shop", cookie(NOW + 2 * DAY_S)),
    "of nine digits": get(b"s=shop", cookie(999_999_999)),
    "twice": get(b"s=shop", cookie(NOW - DAY_S, front=b"_hs=00000000000000ab.1750000000; ")),
    "another's": get(b"s=shop", b"Cookie: a_hs=0123456789abcdef.%d" % (NOW - DAY_S)),
    "no digits": get(b"s=shop", b"Cookie: _hs=0123456789abcdef.%dx" % (NOW // 10)),
    "a dot too many": get(b"s=shop", b"Cookie: _hs=0123456789abcdef.%d.0" % (NOW // 100)),
    "longer": get(b"s=shop", cookie(NOW - DAY_S, behind=b"0")),
    "blank behind": get(b"s=shop", cookie(NOW - DAY_S, behind=b" ;c=d")),
    "no query": get(b"s=shop&", cookie(NOW - DAY_S)),
}
UNUSUAL = {
    "opted out": get(b"s=shop", cookie(NOW - DAY_S, front=b"_hs_out=1; ")),
    "gpc": get(b"s=shop", b"Sec-GPC: 1", cookie(NOW - DAY_S)),
    "says no": get(b"s=shop&c=0", cookie(NOW - DAY_S)),
    "says yes": get(b"s=asks&c=1", cookie(NOW - DAY_S)),
    "says yes, escaped": get(b"s=asks&%63=1", cookie(NOW - DAY_S)),
    "asked for nothing": get(b"s=asks", cookie(NOW - DAY_S)),
    "unknown site": get(b"s=x", cookie(NOW - DAY_S)),
    "site behind": get(b"e=PageView&s=shop", cookie(NOW - DAY_S)),
    "by a link": get(b"s=shop&u=https%3A%2F%2Fb.example%2F%3Fhsl%3D" + LINK.encode()),
    "too large": get(b"s=shop&p.x=" + b"x" * 4000, cookie(NOW - DAY_S)),
}

ORIGIN = b"Origin: https://a.example"
POSTS = {
    "returning": post(b'{"s":"shop","e":"PageView"}', ORIGIN, b"Content-Type: text/plain", cookie(NOW - DAY_S)),
    "new": post(b'[{"s":"shop"},{"s":"bare"}]', ORIGIN, b"Content-Type: text/plain;charset=UTF-8"),
    "denied": post(b'{"s":"asks","uid":"u"}', ORIGIN, b"Sec-GPC: 1", cookie(NOW - DAY_S)),
    "nothing": post(b"[]", b"Origin: https://elsewhere.example"),
    "no json": post(b"{", ORIGIN, b"Content-Type: application/json"),
    "no text": post(b"{}", ORIGIN, b"Content-Type: image/gif"),
    "too large": post(b'{"s":"shop","x":"' + b"x" * 4000 + b'"}', cookie(NOW - DAY_S)),
    "says yes": post(b'{"s":"asks","c":1}', ORIGIN, cookie(NOW - DAY_S)),
    "due for renewal": post(b'{"s":"shop"}', ORIGIN, cookie(NOW - 40 * DAY_S)),
    "opted out": post(b'{"s":"shop"}', ORIGIN, cookie(NOW - DAY_S, front=b"_hs_out=1; ")),
    "by a link": post(b'{"s":"shop","u":"https://b.example/?hsl=%b"}' % LINK.encode(), ORIGIN),
    "no site": post(b'{"s":["shop"]}', ORIGIN, cookie(NOW - DAY_S)),
    "spaced": post(b' { "s" : "shop" } ', b"Referer: https://a.example/", cookie(NOW - DAY_S)),
}


USUAL_POSTS = ("returning", "spaced")


def told(answer, hits):
    """What an answer and its hits say, but for fresh ids and keys drawn at random."""
    headers = dict(answer.headers)
    set_cookie = MINTED.search(headers.get(b"set-cookie", b""))
    fresh = {set_cookie[1].decode()} if set_cookie else set()
    if set_cookie:
        headers[b"set-cookie"] = MINTED.sub(b"_hs=", headers[b"set-cookie"])
    kept = []
    for hit in map(plain, hits):
        if hit["visitor_id"] in fresh or hit["visitor_id"] == "0" * 16:
            assert (hit["key"] == hit["visitor_id"]) == (hit["visitor_id"] in fresh)
            hit |= {"key": "", "visitor_id": hit["visitor_id"] if hit["visitor_id"] == "0" * 16 else ""}
        kept.append(hit)
    return answer.status, headers, answer.body, kept


@pytest.mark.parametrize(("requests", "general"), [(USUAL, False), (UNUSUAL, True)], ids=["usual", "unusual"])
def test_one_read_and_two_come_to_the_same(tmp_path, monkeypatch, requests, general):
    went = []
    pixel = Routes.pixel
    monkeypatch.setattr(Routes, "pixel", lambda self, *given: went.append(1) or pixel(self, *given))

    async def main():
        async with edge(tmp_path, sites=SITES, hit_bytes_max=4096) as box:
            for name, request in requests.items():
                seen = []
                for pieces in ((request,), (request[:30], request[30:])):
                    before, went[:] = len(box.hits()), []
                    (answer,), kept_open = await box.probed(*pieces)
                    assert kept_open
                    assert bool(went) is (general or len(pieces) > 1), name
                    seen.append(told(answer, box.hits()[before:]))
                assert seen[0] == seen[1], name

    run(main)


def test_a_post_in_one_read_and_in_two_comes_to_the_same(tmp_path, monkeypatch):
    strictly, went = [], []
    feed, post = StrictReader.feed, Routes.post
    monkeypatch.setattr(StrictReader, "feed", lambda self, *given: strictly.append(1) or feed(self, *given))
    monkeypatch.setattr(Routes, "post", lambda self, *given: went.append(1) or post(self, *given))

    async def main():
        async with edge(tmp_path, sites=SITES, hit_bytes_max=4096) as box:
            for name, request in POSTS.items():
                seen = []
                for pieces in ((request,), (request[:30], request[30:])):
                    before, strictly[:], went[:] = len(box.hits()), [], []
                    (answer,), _ = await box.probed(*pieces)
                    assert bool(went) is (name not in USUAL_POSTS or len(pieces) > 1), name
                    assert bool(strictly[1:]) is (len(pieces) > 1), name  # one is the probe's
                    seen.append(told(answer, box.hits()[before:]))
                assert seen[0] == seen[1], name

    run(main)


def test_many_at_once_are_numbered_and_answered_each(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, group_hits_max=16) as box:
            ends = [await box.connect() for _ in range(40)]
            for place, (_, writer) in enumerate(ends):
                odd = {7: UNUSUAL["gpc"], 8: b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"}
                writer.write(
                    odd.get(place % 10, get(b"s=shop&id=%d" % place, cookie(NOW - DAY_S, b"%016x" % (place + 1))))
                )
            answers = [await reader.readuntil(b"\r\n\r\n") for reader, _ in ends]
            for _, writer in ends:
                writer.close()
            hits = box.hits()
        assert [answer[9:12] for answer in answers] == [b"404" if place % 10 == 8 else b"200" for place in range(40)]
        ids = [hit["visitor_id"] for hit in hits if hit["consent"] == "not_objected"]
        assert sorted(ids) == sorted("%016x" % (place + 1) for place in range(40) if place % 10 not in (7, 8))
        assert len(hits) == len(ids) + 4

    run(main)
