"""docs/consent.md is what the code says, and every combination in it is what a real collector does."""

from functools import cache
from itertools import product
from pathlib import Path
from urllib.parse import urlencode

import orjson
import pytest
from support.edge import COOKIE, HOST, edge, post, run

from infra.command.consent_page import (
    ADDRESS,
    AGENT,
    CHOICES,
    EITHER,
    EXAMPLE,
    MODES,
    PARTLY,
    STRIPPED,
    WHOLE,
    Case,
    example,
    kind,
    lines_of,
    page,
    stored,
)
from schemas.consent import DENIED, Verdict
from schemas.server_key import key_hash, make_key

ROOT = Path(__file__).parents[2]
SITES = [f"{mode}.{denied}" for mode, denied in product(MODES, ("anonymous", "drop"))]
KEYS = {site: make_key(f"k{place}", bytes(32)) for place, site in enumerate(SITES)}
TARGET = "https://shop.example/landing"
# Columns that tell one run, one way in or one verdict from another.
OWN = {
    *("spool_id", "spool_seq", "received_at", "ts", "ts_source", "visitor_id", "session_id", "session_start"),
    *("consent", "source", "site"),
}  # fmt: skip


def settings():
    sites = {}
    for site in SITES:
        mode, denied = site.split(".")
        key = {"id": KEYS[site].split("_")[1], "sha256": key_hash(KEYS[site])}
        sites[site] = {"consent": mode, "denied": denied, "keys": [key], "redirect_hosts": ["shop.example"]}
    return {"sites": sites, "trusted_proxies": "127.0.0.1"}


def test_the_page_is_current():
    assert (ROOT / "docs" / "consent.md").read_text() == page(), (
        "run: python -m infra.command.consent_page > docs/consent.md"
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_lines_of_a_mode_cover_every_combination_once(mode):
    covered = [case for line, _ in lines_of(mode) for case in line.cases()]
    assert sorted(covered, key=repr) == sorted(map(Case._make, product(EITHER, CHOICES, EITHER, EITHER)), key=repr)


def test_every_verdict_is_in_the_table():
    assert {verdict for mode in MODES for _, verdict in lines_of(mode)} == set(Verdict)


def head(case):
    cookie = COOKIE.strip().replace(b"Cookie: ", b"Cookie: _hs_out=1; " if case.opted_out else b"Cookie: ")
    lines = [cookie, b"User-Agent: " + AGENT.encode(), b"X-Forwarded-For: " + ADDRESS[:-1].encode() + b"9"]
    return [*lines, *([b"Sec-GPC: 1"] if case.gpc else []), *([b"DNT: 1"] if case.dnt else [])]


def get(path, lines, **parameters):
    lines = b"".join(line + b"\r\n" for line in lines)
    return b"GET %b?%b HTTP/1.1\r\n" % (path, urlencode(parameters).encode()) + HOST + lines + b"\r\n"


def requests_of(site, case):
    """The request of every way in that a browser has, by source."""
    said = {} if case.c is None else {"c": case.c}
    event = EXAMPLE | {"s": site} | said
    return {
        "pixel": get(b"/p.gif", head(case), **event | {"items": orjson.dumps(EXAMPLE["items"]).decode()}),
        "beacon": post(orjson.dumps(event), *head(case)),
        "click": get(b"/c", head(case), s=site, u=TARGET, uid="joe", **said),
    }


@cache
def stored_like(verdict):
    kept = next(name for name in (WHOLE, PARTLY, STRIPPED) if kind(name) == kind(verdict))
    return stored(example(kept))


def check_stored(hit, verdict):
    """What the worker makes of the collector's hit is what the page says of the verdict."""
    columns, told = stored(orjson.dumps(hit)), stored_like(verdict)
    assert columns["consent"] == verdict
    if hit["source"] == "click":  # says less than the example
        assert verdict not in DENIED or columns.keys() <= told.keys()
        assert verdict in DENIED or columns["user_id"] == "joe"
        return
    assert columns.keys() - OWN == told.keys() - OWN
    for name in told.keys() - OWN:
        assert columns[name] == told[name], name


def test_every_combination_in_a_real_collector(tmp_path):
    rows = [
        (site, case, verdict)
        for site in SITES
        for line, verdict in lines_of(site.split(".")[0])
        for case in line.cases()
    ]

    async def main():
        async with edge(tmp_path, **settings()) as box:
            expected = []
            for site, case, verdict in rows:
                requests = requests_of(site, case)
                answers, _ = await box.probed(b"".join(requests.values()))
                for source, answer in zip(requests, answers, strict=True):
                    assert answer.status == {"pixel": 200, "beacon": 204, "click": 302}[source]
                    assert b"set-cookie" not in answer.headers
                    if source == "click":
                        assert (answer.headers[b"location"] == TARGET.encode()) == (verdict in DENIED)
                    if verdict not in DENIED or site.endswith(".anonymous"):
                        expected.append((source, site, verdict))
            hits = box.hits()
            assert len(hits) == len(expected)
            for hit, (source, _, verdict) in zip(hits, expected, strict=True):
                assert (hit["source"], hit["consent"]) == (source, verdict)
                check_stored(hit, verdict)
            told = sum(box.counters.dropped.values())
            assert told == 3 * sum(verdict in DENIED and site.endswith(".drop") for site, _, verdict in rows)

    run(main)


def test_server_events_by_mode_and_c_alone(tmp_path):
    no_one = Case(opted_out=True, c=None, gpc=True, dnt=True)

    async def main():
        async with edge(tmp_path, **settings()) as box:
            for site in SITES:
                items = [EXAMPLE | {"s": site, "vid": "00000000000000ab", **({"c": c} if c else {})} for c in CHOICES]
                bearer = b"Authorization: Bearer " + KEYS[site].encode()
                (answer,), _ = await box.probed(post(orjson.dumps(items), bearer, *head(no_one), path=b"/v1/events"))
                assert orjson.loads(answer.body) == {"accepted": len(items), "rejected": []}
            verdicts = [
                verdict
                for site, c in product(SITES, CHOICES)
                for verdict in [Case(opted_out=False, c=c, gpc=False, dnt=False).verdict(site.split(".")[0])]
                if verdict not in DENIED or site.endswith(".anonymous")
            ]
            hits = box.hits()
            assert [hit["consent"] for hit in hits] == verdicts
            for hit, verdict in zip(hits, verdicts, strict=True):
                columns = stored(orjson.dumps(hit))
                assert (columns.get("ip"), columns.get("browser", "Other")) == (None, "Other"), "the server's own"
                if verdict in DENIED:
                    assert columns.keys() - OWN == stored_like(verdict).keys() - OWN

    run(main)
