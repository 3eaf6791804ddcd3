"""Pages on a site's further `origins` are its own, in CORS, for hits kept whole, denied ones and server events."""

import orjson
import pytest
from support.edge import edge, post, run

from consumers.decode import decode
from infra.command.worker_rules import worker_rules
from schemas.rejection import Reason
from schemas.server_key import key_hash, make_key
from schemas.settings import load
from schemas.validate import validate

KEY = make_key("k", bytes(32))
SHOP = {
    "domains": ["shop.example"],
    "origins": ["https://Checkout.partner.example:8443", "app://shop"],
    "keys": [{"id": "k", "sha256": key_hash(KEY)}],
}
RULES = worker_rules(load(sites={"shop": SHOP})).rules
PARTNER, OTHER = "https://checkout.partner.example", "https://www.partner.example"


@pytest.mark.parametrize("consent", ["1", "0"])
@pytest.mark.parametrize(("origin", "taken"), [(PARTNER, True), (OTHER, False)])
def test_a_page_there_is_answered_and_taken(tmp_path, consent, origin, taken):
    event = {"s": "shop", "u": f"{origin}/pay", "c": consent}
    requests = [
        post(orjson.dumps(event), f"Origin: {origin}:8443".encode()),
        post(orjson.dumps(event), b"Authorization: Bearer " + KEY.encode(), path=b"/v1/events"),
    ]

    async def main():
        async with edge(tmp_path, sites={"shop": SHOP}) as box:
            (browser, server), _ = await box.probed(b"".join(requests))
            assert (b"access-control-allow-origin" in browser.headers) == taken
            rejected = [] if taken else [{"index": 0, "reason": Reason.WRONG_DOMAIN.value}]
            assert orjson.loads(server.body)["rejected"] == rejected
            first = validate(decode(orjson.dumps(box.hits()[0])), RULES.limits)
            if taken:
                assert first[0].url_path == "/pay"
            else:
                assert first.reason in {Reason.WRONG_DOMAIN, Reason.BAD_URL}  # a denied one's page is gone

    run(main)


def test_a_referrer_there_is_a_referrer():
    assert RULES.domains == {"shop": ("shop.example",)}


def test_without_domains_pages_may_be_anywhere():
    [limits] = [worker_rules(load(sites={"shop": {"origins": [PARTNER]}})).rules.limits]
    assert limits.domains == {}
