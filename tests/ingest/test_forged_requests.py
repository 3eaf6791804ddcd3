"""What a client says of itself and is not believed, by every way in: cookies that are none, addresses, https."""

import time

import pytest
from support.edge import HOST, edge, post, run, statuses

ID = "00000000000000ab"
NOW = int(time.time())
SITES = {"shop": {"redirect_hosts": ["shop.example"]}}
NO_COOKIES = {
    "truncated id": f"_hs={ID[:-1]}.{NOW}",
    "truncated at the dot": f"_hs={ID}.",
    "without a birth": f"_hs={ID}",
    "empty": "_hs=",
    "id 0": f"_hs={'0' * 16}.{NOW}",
    "upper case": f"_hs={ID.upper()}.{NOW}",
    "no number": f"_hs={ID}.{NOW}x",
    "before 1970": f"_hs={ID}.-{NOW}",
    "born more than a day ahead": f"_hs={ID}.{NOW + 86_400 + 7200}",
    "born far ahead": f"_hs={ID}.99999999999",
    "more digits than a time has": f"_hs={ID}.{NOW}0000",
    "doubled": f"_hs={ID}.{NOW}; _hs={ID}.{NOW}",
    "doubled, one of them none": f"_hs=x; _hs={ID}.{NOW}",
    "in two fields": f"_hs={ID}.{NOW}\r\nCookie: _hs={ID}.{NOW}",
    "quoted": f'_hs="{ID}.{NOW}"',
    "another name": f"x_hs={ID}.{NOW}",
    "another case": f"_HS={ID}.{NOW}",
    "inside another's value": f"a=_hs={ID}.{NOW}",
    "control characters": f"_hs={ID}.{NOW}\t\x7f",
}
# Of these the answer may be 400: HTTP forbids the byte.
MALFORMED = {"control characters"}


def ways(lines):
    """The same browser by every way in, and once more in the strict reader's hands."""
    pixel = b"GET /p.gif?s=shop HTTP/1.1\r\n" + HOST + lines + b"\r\n"
    return [
        pixel,
        pixel.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n"),
        post(b'[{"s":"shop"},{"s":"shop"}]', lines.removesuffix(b"\r\n")),
        b"GET /c?s=shop&u=https%3A%2F%2Fshop.example%2F HTTP/1.1\r\n" + HOST + lines + b"\r\n",
    ]


@pytest.mark.parametrize("why", NO_COOKIES)
def test_a_cookie_that_is_none_makes_a_new_visitor(tmp_path, why):
    cookie = f"Cookie: {NO_COOKIES[why]}\r\n".encode()

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            for request in ways(cookie):
                answers, _ = await box.probed(request)
                if why in MALFORMED:
                    assert statuses(answers) == [400]
                    continue
                assert len(answers) == 1
                fresh = answers[0].headers[b"set-cookie"].removeprefix(b"_hs=")[:16].decode()
                assert fresh not in (ID, "0" * 16)
                kept = box.hits()[-1]
                assert (kept["visitor_id"], kept["key"], kept["new_visitor"]) == (fresh, fresh, True)
            visitors = {hit["visitor_id"] for hit in box.hits()}
            assert len(visitors) == (0 if why in MALFORMED else len(ways(cookie)))
            assert ID not in visitors

    run(main)


def test_a_forged_cookie_that_is_well_formed_is_a_visitor_and_no_more(tmp_path):
    """An id is as good as unguessable; who makes one up is a visitor of that id, and has no say in anything else."""
    cookie = b"Cookie: _hs=0123456789abcdef.%d\r\nSec-GPC: 1\r\n" % NOW

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            answers, _ = await box.probed(*ways(cookie))
            assert not any(b"set-cookie" in answer.headers for answer in answers)
            assert {hit["visitor_id"] for hit in box.hits()} == {"0" * 16}
            await box.probed(*ways(cookie.replace(b"Sec-GPC: 1\r\n", b"")))
            assert {hit["visitor_id"] for hit in box.hits()[5:]} == {"0123456789abcdef"}

    run(main)


CLAIMS = (
    b"X-Forwarded-For: 198.51.100.7\r\nForwarded: for=198.51.100.7;proto=https\r\nX-Real-IP: 198.51.100.7\r\n"
    b"CF-Connecting-IP: 198.51.100.7\r\nTrue-Client-IP: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"
)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"])
@pytest.mark.parametrize("trusted", ["", "192.0.2.0/24, 2001:db8::/32"])
def test_an_untrusted_peer_is_not_believed(tmp_path, header, trusted):
    settings = {"client_address_header": header, "trusted_proxies": trusted, "ip_keep": "full", "sites": SITES}

    async def main():
        async with edge(tmp_path, **settings) as box:
            requests = [*ways(CLAIMS), post(b"", b"Sec-Fetch-Site: same-origin", CLAIMS.strip(), path=b"/optout")]
            answers, _ = await box.probed(*requests)
            assert {hit["ip"] for hit in box.hits()} == {"127.0.0.1"}
            assert len(answers) == len(requests)
            assert not any(b"Secure" in answer.headers[b"set-cookie"] for answer in answers)

    run(main)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        (b"198.51.100.66, 203.0.113.9", "203.0.113.9"),  # the proxy wrote the last one, the client made up the first
        (b"127.0.0.1, 203.0.113.9", "203.0.113.9"),
        (b"198.51.100.66, 203.0.113.9, 127.0.0.2", "203.0.113.9"),
        (b"198.51.100.66, nonsense", "127.0.0.1"),
        (b"198.51.100.66, nonsense, 127.0.0.2", "127.0.0.2"),
        (b"", "127.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_what_the_client_put_in_front_does_not_count(tmp_path, field, address):
    async def main():
        async with edge(tmp_path, sites=SITES, trusted_proxies="127.0.0.0/8", ip_keep="full") as box:
            await box.probed(*ways(b"X-Forwarded-For: " + field + b"\r\n"))
            assert {hit["ip"] for hit in box.hits()} == {address}

    run(main)
