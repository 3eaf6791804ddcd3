"""The opt-out cookie changes by a POST of our own page, and by nothing else that a browser can be made to send."""

import pytest
from support.edge import COOKIE, HOST, PIXEL_SEEN, edge, post, run, statuses

OUT = b"_hs_out=1; Path=/; HttpOnly; SameSite=Lax; Max-Age=34128000"
GONE = b"_hs=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
BACK = b"_hs_out=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
OWN = b"Sec-Fetch-Site: same-origin"


def get(path, *lines, method=b"GET"):
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def form(path, *lines):
    return post(b"", b"Content-Type: application/x-www-form-urlencoded", *lines, path=path)


def test_out_and_in_again(tmp_path):
    cookie, out = COOKIE.strip(), b"Cookie: a=b; _hs_out=1"

    async def main():
        async with edge(tmp_path) as box:
            answers, _ = await box.probed(
                get(b"/optout", cookie), form(b"/optout", cookie, OWN), get(b"/optout", out),
                get(b"/optin", out), form(b"/optin", out, OWN), get(b"/optin"),
            )  # fmt: skip
            assert statuses(answers) == [200] * 6
            cookies = [answer.headers.get(b"set-cookie") for answer in answers]
            assert cookies == [None, OUT + b"\n" + GONE, None, None, BACK, None]
            assert [b"has opted out" in answer.body for answer in answers] == [False, True, True, True, False, False]
            assert [b"<button>" in answer.body for answer in answers] == [True, False, False, True, False, False]
            assert b'href="optin"' in answers[1].body
            assert b'href="optout"' in answers[4].body
            for answer in answers:
                assert answer.headers[b"cache-control"] == b"no-store"
                assert b"frame-ancestors 'none'" in answer.headers[b"content-security-policy"]
            assert box.hits() == []

    run(main)


def test_what_the_cookie_does(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            (answer,), _ = await box.probed(PIXEL_SEEN.replace(b"Cookie: ", b"Cookie: _hs_out=1; "))
            assert (answer.status, b"set-cookie" in answer.headers) == (200, False)
            assert [hit["consent"] for hit in box.hits()] == ["denied_optout"]

    run(main)


def own(origin, host=b"t.example"):
    return form(b"/optin", b"Origin: " + origin).replace(HOST, b"Host: " + host + b"\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        form(b"/optin", OWN, b"Origin: null"),
        own(b"http://t.example"),
        own(b"https://T.example"),
        own(b"https://t.example:443"),
        own(b"http://t.example", b"t.example:80"),
        own(b"http://127.0.0.1:8080", b"127.0.0.1:8080"),
    ],
)
def test_a_post_of_our_own_page(tmp_path, request_):
    async def main():
        async with edge(tmp_path) as box:
            (answer,), _ = await box.probed(request_)
            assert (answer.status, answer.headers[b"set-cookie"]) == (200, BACK)

    run(main)


NOT_OWN = {
    "a third party's image": get(b"/optin", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: image"),
    "our own page's image": get(b"/optin", OWN, b"Sec-Fetch-Dest: image"),
    "a link": get(b"/optin?in=1", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate"),
    "HEAD": get(b"/optin", OWN, method=b"HEAD"),
    "a third party's form": form(b"/optin", b"Sec-Fetch-Site: cross-site", b"Origin: https://evil.example"),
    "a third party's form that names us": form(b"/optin", b"Sec-Fetch-Site: cross-site", b"Origin: http://t.example"),
    "another host of the site": form(b"/optin", b"Sec-Fetch-Site: same-site", b"Origin: https://www.t.example"),
    "typed": form(b"/optin", b"Sec-Fetch-Site: none"),
    "said twice": form(b"/optin", OWN, b"Sec-Fetch-Site: cross-site"),
    "a list": form(b"/optin", b"Sec-Fetch-Site: same-origin, same-origin"),
    "an old browser's foreign form": own(b"https://evil.example"),
    "another port": own(b"http://t.example:8081"),
    "a host that ends like ours": own(b"http://not-t.example"),
    "a host that begins like ours": own(b"http://t.example.evil.example"),
    "user information": own(b"http://t.example@evil.example"),
    "a path": own(b"http://t.example/"),
    "no origin to name": own(b"null"),
    "two origins": form(b"/optin", b"Origin: http://t.example", b"Origin: http://t.example"),
    "neither field": form(b"/optin"),
    "a Referer instead": form(b"/optin", b"Referer: http://t.example/optin"),
}


def test_nothing_else_opts_in_or_out(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            for why, request in NOT_OWN.items():
                for sent in (request, request.replace(b"/optin", b"/optout", 1)):
                    heads = (0,) if why == "HEAD" else ()
                    (answer,), _ = await box.probed(sent, heads=heads)
                    assert b"set-cookie" not in answer.headers, why
                    assert answer.status == (403 if sent.startswith(b"POST") else 200), why
            refused = sum(request.startswith(b"POST") for request in NOT_OWN.values())
            assert box.counters.refused["cross_origin"] == 2 * refused
            (answer,), _ = await box.probed(get(b"/optin", method=b"DELETE"))
            assert (answer.status, answer.headers[b"allow"]) == (405, b"GET, HEAD, POST")
            assert box.hits() == []

    run(main)


def test_renamed_pages_a_proxy_that_says_https_and_the_third_party_cookie(tmp_path):
    settings = {"optout_path": "/privacy/no", "optin_path": "/yes", "trusted_proxies": "127.0.0.1"}
    https = b"X-Forwarded-Proto: https"

    async def main():
        async with edge(tmp_path / "1", **settings) as box:
            answers, _ = await box.probed(form(b"/privacy/no", OWN, https), form(b"/yes", OWN, https), get(b"/optout"))
            assert statuses(answers) == [200, 200, 404]
            assert answers[0].headers[b"set-cookie"] == OUT + b"; Secure\n" + GONE + b"; Secure"
            assert answers[1].headers[b"set-cookie"] == BACK + b"; Secure"
            assert b'href="../yes"' in answers[0].body
            assert b'href="privacy/no"' in answers[1].body
        async with edge(tmp_path / "2", third_party=True) as box:
            answers, _ = await box.probed(form(b"/optout", OWN))
            assert answers[0].headers[b"set-cookie"] == (
                b"_hs_out=1; Path=/; HttpOnly; SameSite=None; Secure; Max-Age=34128000\n"
                b"_hs=; Path=/; HttpOnly; SameSite=None; Secure; Partitioned; Max-Age=0"
            )

    run(main)
