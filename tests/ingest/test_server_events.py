"""`POST /v1/events` from outside: keys, a verdict for each item, what is kept; and the worker takes what it accepts."""

import asyncio
import json
import urllib.error
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.edge import HOST, closing, edge, plain, post, run, statuses
from support.waiting import until

import schemas
import schemas.server_key
from consumers.decode import decode
from ingest.counters import Counters
from ingest.denials import Denials
from ingest.hit_builder import HitBuilder
from ingest.http_strict import Request
from ingest.rulings import Rulings
from ingest.server_events import ServerEvents
from schemas.limits import limits_of
from schemas.rejection import Reason
from schemas.server_key import key_hash, make_key
from schemas.settings import load
from schemas.validate import validate

VALID = Draft202012Validator(json.loads((Path(schemas.__file__).parent / "hit.schema.json").read_text()))
KEY, NEXT, EXPIRED, OTHER = (make_key(name, name[:1].encode() * 32) for name in ("one", "two", "old", "blog"))
NOW = datetime.now(UTC)
SITES = {
    "shop": {
        "domains": ["shop.example"],
        "keys": [
            {"id": "one", "sha256": key_hash(KEY), "expires": NOW + timedelta(hours=1)},
            {"id": "two", "sha256": key_hash(NEXT)},
            {"id": "old", "sha256": key_hash(EXPIRED), "expires": NOW - timedelta(seconds=1)},
        ],
    },
    "blog": {"keys": [{"id": "blog", "sha256": key_hash(OTHER)}]},
}
SMALL = {"items_max": 2, "properties_max": 2, "field_chars_max": 100}
VISITOR = "00000000000000ab"


def bearer(key):
    return b"Authorization: Bearer " + key.encode()


def sent(value, *lines, key=KEY):
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return post(body, bearer(key), *lines, path=b"/v1/events")


def test_an_item_without_consent_is_stripped(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            batch = [{"e": "Purchase", "vid": VISITOR, "c": c, "oid": "o-1", "v": "9.50", "uid": "u"} for c in (0, "1")]
            (answer,), _ = await box.probed(sent(batch))
            assert orjson.loads(answer.body) == {"accepted": 2, "rejected": []}
            denied, granted = box.hits()
        assert plain(denied) == {
            "key": denied["key"], "v": 1, "source": "server", "visitor_id": "0" * 16, "consent": "denied_param",
            "event": {"e": "Purchase", "s": "shop", "v": "9.5"},
        }  # fmt: skip
        assert denied["key"] != VISITOR
        assert (granted["visitor_id"], granted["consent"], granted["event"]["oid"]) == (VISITOR, "granted", "o-1")

    run(main)


def test_what_is_accepted_is_kept_as_the_keys_sites(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            batches = [
                {"e": "Purchase", "vid": VISITOR},
                [{"e": "Lead"}, {"e": "Lead", "s": "shop", "vid": None}],
                {"events": [{"s": "", "vid": ""}, {"vid": "0" * 16}]},
                [],
            ]
            agent = b"User-Agent: curl\r\nReferer: https://shop.example/\r\nCookie: _hs=00000000000000cd.1"
            answers, kept_open = await box.probed(*(sent(batch, agent) for batch in batches))
            assert kept_open
            assert statuses(answers) == [202] * 4
            assert [orjson.loads(answer.body)["accepted"] for answer in answers] == [1, 2, 2, 0]
            for answer in answers:
                assert answer.headers[b"content-type"] == b"application/json"
                assert answer.headers[b"cache-control"] == b"no-store"
                assert b"set-cookie" not in answer.headers
                assert orjson.loads(answer.body)["rejected"] == []
            hits = box.hits()
        for hit in hits:
            VALID.validate(hit)
            assert decode(orjson.dumps(hit)).source == "server"
        assert plain(hits[0]) == {
            "key": VISITOR, "v": 1, "source": "server", "visitor_id": VISITOR,
            "consent": "not_objected", "event": {"e": "Purchase", "s": "shop"},
        }  # fmt: skip
        assert [hit["visitor_id"] for hit in hits[1:]] == ["0" * 16] * 4
        assert len({hit["key"] for hit in hits}) == 5, "no visitor: a log key of its own"
        assert {hit["event"]["s"] for hit in hits} == {"shop"}

    run(main)


# What each reason looks like; the rules themselves are test_validate's.
WRONG = [
    (Reason.BAD_JSON, 1),
    (Reason.BAD_JSON, ["e"]),
    (Reason.BAD_JSON, None),
    (Reason.BAD_TYPE, {"vid": 1}),
    (Reason.BAD_TYPE, {"vid": "AB" * 8}),
    (Reason.BAD_TYPE, {"vid": VISITOR + ".1700000000"}),
    (Reason.BAD_TYPE, {"vid": VISITOR + "\n"}),
    (Reason.BAD_TYPE, {"vid": [VISITOR]}),
    (Reason.BAD_TYPE, {"s": ["shop"]}),
    (Reason.BAD_TYPE, {"e": {}}),
    (Reason.UNKNOWN_SITE, {"s": "blog"}),
    (Reason.UNKNOWN_SITE, {"s": "nobody"}),
    (Reason.BAD_SITE, {"s": "a b"}),
    (Reason.BAD_EVENT_NAME, {"e": "1"}),
    (Reason.BAD_URL, {"u": "javascript:alert(1)"}),
    (Reason.BAD_URL, {"u": "https://shop.example/a\r\nb"}),
    (Reason.BAD_TIME, {"t": "x"}),
    (Reason.BAD_VALUE, {"v": -1}),
    (Reason.BAD_CURRENCY, {"cur": "XXQ"}),
    (Reason.BAD_ITEMS, {"items": "["}),
    (Reason.TOO_MANY_ITEMS, {"items": [{}, {}, {}]}),
    (Reason.TOO_MANY_PROPERTIES, {"p.a": "", "p.b": "1", "p.c": "1", "p.d": "1"}),
    (Reason.TOO_LONG, {"ti": "x" * 101}),
    (Reason.BAD_ENCODING, {"ti": "\0"}),
]


def test_each_item_has_its_own_verdict(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, **SMALL) as box:
            good = {"e": "Lead", "id": "a"}
            items = [item for _, wrong in WRONG for item in (wrong, good)]
            ((answer,), _) = await box.probed(sent(items))
            assert answer.status == 202
            assert orjson.loads(answer.body) == {
                "accepted": len(WRONG),
                "rejected": [{"index": 2 * n, "reason": reason.value} for n, (reason, _) in enumerate(WRONG)],
            }
            assert [hit["event"] for hit in box.hits()] == [good | {"s": "shop"}] * len(WRONG)
            assert box.counters.server_rejected[Reason.BAD_TYPE] == 7
            assert box.counters.as_dict()["server_rejected.bad_url"] == 2

    run(main)


def test_without_a_valid_key_nothing_is_read_or_kept(tmp_path, monkeypatch):
    compared = []
    compare = schemas.server_key.compare_digest
    monkeypatch.setattr(
        "schemas.server_key.compare_digest", lambda *texts: compared.append(len(texts[0])) or compare(*texts)
    )
    event = b"{}"
    without = [
        (post(event, path=b"/v1/events"), False),
        (post(event, b"Authorization:", path=b"/v1/events"), True),
        (post(event, b"Authorization: Basic " + KEY.encode(), path=b"/v1/events"), True),
        (post(event, b"Authorization: " + KEY.encode(), path=b"/v1/events"), True),
        (post(event, bearer(KEY) + b", " + bearer(KEY), path=b"/v1/events"), True),
        (post(event, bearer(KEY), bearer(KEY), path=b"/v1/events"), True),
        (post(event, bearer("k" * 20_000), path=b"/v1/events"), True),
        (post(event, b"Authorization: Bearer \xff\xfe", path=b"/v1/events"), True),
        (post(b"no JSON", bearer(KEY[:-1]), path=b"/v1/events"), True),
        *((sent({}, key=key), True) for key in ("x", KEY[:-1] + "A", EXPIRED, make_key("nobody", b"x" * 32))),
        (sent({}, key=make_key("one", b"x" * 32)), True),
    ]

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            answers, kept_open = await box.probed(*(request for request, _ in without))
            assert kept_open
            for (_, presented), answer in zip(without, answers, strict=True):
                assert (answer.status, answer.body) == (401, b'{"error":"unauthorized"}')
                challenge = answer.headers[b"www-authenticate"]
                assert challenge.startswith(b'Bearer realm="hitstream"')
                assert (b"invalid_token" in challenge) is presented
            assert compared == [64] * (len(without) - 1), "one comparison, whatever was presented"
            assert box.hits() == []
            assert box.counters.refused["unauthorized"] == len(without)
            taken, _ = await box.probed(*(sent({}, key=key) for key in (KEY, NEXT)), sent({}, key=OTHER))
            assert statuses(taken) == [202] * 3
            assert [hit["event"]["s"] for hit in box.hits()] == ["shop", "shop", "blog"]

    run(main)


BODIES = [
    (b"", 400), (b"{", 400), (b"nonsense", 400), (b'{"e":"\xff"}', 400), (b"1", 202), (b'"x"', 202), (b"null", 202),
    (b'{"events":{}}', 400), (b'{"events":null}', 400), (b"[" * 5000 + b"]" * 5000, 400), (b"[{}]x", 400),
    (b'{"v":NaN}', 400), (b"[" + b",".join([b"{}"] * 501) + b"]", 413),
    (b'{"ti":"' + b"x" * 5000 + b'"}', 413), (b'{"p.a":"' + b"x" * 200 + b'"}', 202),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
def test_bodies(tmp_path, body, status):
    async def main():
        async with edge(tmp_path, sites=SITES, hit_bytes_max=4096) as box:
            (answer,) = await box.exchange(closing(sent(body)))
            assert answer.status == status
            if status == 202:
                found = orjson.loads(answer.body)
                assert found["accepted"] == len(box.hits())
                assert found["accepted"] + len(found["rejected"]) == 1
            else:
                assert box.hits() == []
                reasons = {"bad_body"} if status == 400 else {"too_many_events", "hit_too_large"}
                assert orjson.loads(answer.body)["error"] in reasons
                assert answer.headers[b"content-type"] == b"application/json"
                assert sum(box.counters.refused.values()) == 1

    run(main)


def test_methods_types_and_paths(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, server_events_path="/in") as box:
            get = b"GET /in HTTP/1.1\r\n" + HOST + b"\r\n"
            requests = [get, get.replace(b"GET", b"OPTIONS"), sent({}), post(b"{}", bearer(KEY), path=b"/in")]
            requests.append(post(b"{}", bearer(KEY), b"Content-Type: text/html", path=b"/in"))
            answers, _ = await box.probed(*requests)
            assert statuses(answers) == [405, 405, 404, 202, 400]
            assert answers[-1].body == b'{"error":"bad_content_type"}'
            assert answers[0].headers[b"allow"] == b"POST"
            assert not any(b"access-control-allow-origin" in answer.headers for answer in answers)

    run(main)


def test_a_full_spool_keeps_nothing_of_a_batch(tmp_path):
    async def main():
        async with edge(tmp_path, sites=SITES, spool_bytes_max=256 * 1024, retry_after_s=7) as box:
            batch = sent([{"e": "Lead", "p.x": "x" * 100}] * 100)
            kept = 0
            while True:
                ((answer,), _) = await box.probed(batch)
                if answer.status == 503:
                    break
                kept += orjson.loads(answer.body)["accepted"]
            assert answer.headers[b"retry-after"] == b"7"
            assert answer.body == b""
            assert len(box.hits()) == kept > 0
            min(box.spool_root.glob("*/0*.seg")).unlink()
            await until(box.collector.is_ready)
            assert statuses((await box.probed(batch))[0]) == [202]

    run(main)


def test_the_example_in_the_docs_works(tmp_path):
    page = (Path(schemas.__file__).parents[1] / "docs" / "server-events.md").read_text()
    example = {}
    exec(page.partition("```python\n")[2].partition("```")[0], example)

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            example.update(URL=f"http://127.0.0.1:{box.port}/v1/events", KEY=KEY)
            vid = example["visitor_of"]({"_hs": f"{VISITOR}.1700000000"})
            events = [{"e": "Lead", "vid": vid}, {"e": "1"}]
            assert await asyncio.to_thread(example["send"], events) == [({"e": "1"}, "bad_event_name")]
            (hit,) = box.hits()
            assert hit["visitor_id"] == VISITOR
            example.update(KEY=KEY[:-1])
            with pytest.raises(urllib.error.HTTPError) as refused:
                await asyncio.to_thread(example["send"], events)
            refused.value.close()
            assert refused.value.code == 401

    run(main)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "s",
    "e",
    "u",
    "r",
    "id",
    "t",
    "sent",
    "ti",
    "l",
    "sr",
    "v",
    "cur",
    "oid",
    "items",
    "uid",
    "c",
    "ab",
    "p.x",
    "vid",
)
LIKELY = st.sampled_from(("shop", "Purchase", "https://shop.example/?a=b", "1", "1e9", "EUR", "[]", VISITOR, "1x1"))
ITEM = JSON | st.dictionaries(st.sampled_from(NAMES), JSON | LIKELY | st.text("a1.%\0é-"), max_size=5)


class OneGroup:
    """A group as `ServerEvents` sees it, with nothing behind it."""

    def __init__(self):
        self.builder = HitBuilder("00000000000000ff")
        self.builder.at(int(NOW.timestamp() * 1000))
        self.post_bytes_max = 1 << 20

    def open(self, bytes_bound, hits):
        self.bytes_bound = bytes_bound
        return 5


def random_key():
    return b"00000000000000ee"


SETTINGS = load(sites=SITES, **SMALL)
COUNTERS = Counters()
TAKER = SimpleNamespace(group=OneGroup())
TAKER.events = ServerEvents(
    SETTINGS, TAKER.group, COUNTERS, Rulings(SETTINGS), Denials(TAKER.group.builder, COUNTERS, random_key), random_key
)


@settings(deadline=None)
@given(st.lists(ITEM, max_size=4))
def test_the_worker_takes_all_that_is_accepted(items):
    request = Request(
        b"POST", b"", b"", {b"authorization": [b"bearer " + KEY.encode()]}, orjson.dumps(items), *(0,) * 3
    )
    status, answer, _, hits = TAKER.events.take(request)
    verdicts = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    refused = {rejected["index"] for rejected in verdicts["rejected"]}
    assert status == 202
    assert verdicts["accepted"] + len(refused) == len(items)
    assert not hits or sum(map(len, hits)) <= TAKER.group.bytes_bound
    kept = [item for index, item in enumerate(items) if index not in refused]
    for hit, item in zip(hits, kept, strict=True):
        event, _ = validate(decode(hit), limits_of(SETTINGS))
        assert (event.site, event.source) == ("shop", "server")
        assert event.visitor_id == int(item.get("vid") or "0", 16)
