"""Sites that drop what they have no consent for: answered as ever, nothing kept, counted by verdict and site."""

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from support.edge import HOST, closing, edge, post, run, statuses

from ingest.metrics import CollectorMetrics
from schemas.server_key import key_hash, make_key

KEY_ID = "k1"
KEY = make_key(KEY_ID, bytes(32))
SITES = {
    "drop": {
        "denied": "drop",
        "redirect_hosts": ["shop.example"],
        "keys": [{"id": KEY_ID, "sha256": key_hash(KEY)}],
    },
    "strict": {"denied": "drop", "consent": "opt-in"},
    "strip": {},
}
DENIED = b"Sec-GPC: 1\r\n"


def get(target, lines=b""):
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def metrics_of(counters):
    registry = CollectorRegistry()
    registry.register(CollectorMetrics(counters.as_dict))
    return generate_latest(registry).decode().splitlines()


def test_what_is_denied_is_answered_and_counted_and_not_kept(tmp_path):
    batch = orjson.dumps([{"c": "0"}, {"c": "1"}, {"e": "1"}])

    async def main():
        async with edge(tmp_path, sites=SITES) as box:
            answers, _ = await box.probed(
                get(b"/p.gif?s=drop&e=PageView", DENIED),
                post(b'[{"s":"drop"},{"s":"drop","c":"0"},{"s":"strip","c":"0"},{"s":"strict"}]'),
                get(b"/c?s=drop&u=https%3A%2F%2Fshop.example%2Fx", DENIED),
                post(batch, b"Authorization: Bearer " + KEY.encode(), path=b"/v1/events"),
                get(b"/p.gif?s=strict&e=PageView"),
                get(b"/p.gif?s=strict&c=1"),
            )
            assert statuses(answers) == [200, 204, 302, 202, 200, 200]
            assert answers[2].headers[b"location"] == b"https://shop.example/x"
            assert orjson.loads(answers[3].body) == {
                "accepted": 2,
                "rejected": [{"index": 2, "reason": "bad_event_name"}],
            }
            assert [b"set-cookie" in answer.headers for answer in answers] == [False, True, False, False, False, True]
            kept = [(hit["source"], hit["consent"]) for hit in box.hits()]
            assert kept == [
                ("beacon", "not_objected"), ("beacon", "denied_param"), ("server", "granted"), ("pixel", "granted"),
            ]  # fmt: skip
        lines = metrics_of(box.counters)
        for line in (
            'hitstream_collector_dropped_total{site="drop",verdict="denied_gpc"} 2.0',
            'hitstream_collector_dropped_total{site="drop",verdict="denied_param"} 2.0',
            'hitstream_collector_dropped_total{site="strict",verdict="denied_default"} 2.0',
            'hitstream_collector_verdicts_total{verdict="denied_param"} 3.0',
            'hitstream_collector_verdicts_total{verdict="denied_optout"} 0.0',
            'hitstream_collector_verdicts_total{verdict="granted"} 2.0',
        ):
            assert line in lines

    run(main)


def test_sites_without_a_table_are_counted_as_one(tmp_path):
    async def main():
        async with edge(tmp_path, default_site={"denied": "drop"}) as box:
            (answer,) = await box.exchange(closing(get(b"/p.gif?s=anything.at.all&c=0")))
            assert answer.status == 200
            assert box.hits() == []
        assert 'hitstream_collector_dropped_total{site="",verdict="denied_param"} 1.0' in metrics_of(box.counters)

    run(main)
