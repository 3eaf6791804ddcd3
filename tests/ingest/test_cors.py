"""Which origins are answered: any while a site may be anywhere, else those of the sites, whatever they look like."""

import pytest

from ingest.cors import Cors
from schemas.settings import load

SITES = {
    "shop": {
        "domains": ["shop.example"],
        "origins": ["app://shop", "https://partner.example:8443", "https://Späti.example"],
    },
    "blog": {"domains": ["www.blog.example"]},
}
SHOPS = Cors(load(sites=SITES).sites)
ANY = [Cors({}), Cors(load(sites=SITES | {"free": {}}).sites)]


def allowed(cors, origin):
    lines = cors.answer_lines(origin)
    assert lines.endswith(b"Vary: Origin\r\n")
    found = lines.startswith(
        b"Access-Control-Allow-Origin: " + origin + b"\r\nAccess-Control-Allow-Credentials: true\r\n"
    )
    assert found or lines == b"Vary: Origin\r\n"
    assert found == (b"Access-Control-Max-Age" in cors.preflight_lines(origin))
    return found


@pytest.mark.parametrize(
    "origin",
    [
        b"https://shop.example",
        b"http://shop.example:8080",
        b"https://deep.shop.example",
        b"https://SHOP.example",
        b"https://blog.example",
        b"app://shop",
        b"https://partner.example:8443",
        b"https://xn--spti-moa.example",
    ],
)
def test_the_sites_own_origins_are_answered(origin):
    assert allowed(SHOPS, origin)
    assert all(allowed(cors, origin) for cors in ANY)


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"https://other.example",
        b"https://badshop.example",
        b"https://shop.example.evil.test",
        b"https://shop.example:80:443",
        b"ftp://shop.example",
        b"https://partner.example",
        b"https://[::1]",
        b"https://.shop.example.",
    ],
)
def test_others_are_answered_only_where_a_site_may_be_anywhere(origin):
    assert not allowed(SHOPS, origin)
    assert all(allowed(cors, origin) for cors in ANY)


@pytest.mark.parametrize(
    "origin", [b"", b"shop.example", b"https://shop.example/", b"https://u@shop.example", b"https://shop.example\t"]
)
def test_what_is_no_origin_is_never_echoed(origin):
    assert not any(allowed(cors, origin) for cors in [SHOPS, *ANY])
    assert SHOPS.answer_lines(None) == b"Vary: Origin\r\n"
