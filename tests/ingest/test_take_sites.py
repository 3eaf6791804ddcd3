"""Sites that change under a running collector: open connections go by the new ones, and no request is lost."""

import asyncio

import orjson
from support.edge import HOST, PIXEL, answers_of, closing, edge, post, run, statuses

from ingest.redirect_target import signature
from schemas.server_key import key_hash, make_key
from schemas.settings import load

KEYS = [make_key(name, name.encode() * 8) for name in ("old1", "new1")]
LINK_KEYS = ["o" * 40, "n" * 40]
TARGET = "https://shop.example/x"


def sites(generation):
    name = ("old", "new")[generation]
    return {
        "shop": {
            "domains": [f"{name}.example"],
            "consent": ("none", "opt-in")[generation],
            "keys": [{"id": f"{name}1", "sha256": key_hash(KEYS[generation])}],
            "link_key": LINK_KEYS[generation],
            "redirect_hosts": [f"{name}.example"],
        }
    }


def asked(generation):
    """One request for each thing that a site decides, as its sender of this generation makes it."""
    name = ("old", "new")[generation]
    signed = f"/c?s=shop&u={TARGET}&sig={signature(LINK_KEYS[generation], 'shop', TARGET)}".encode()
    return [
        post(b'{"s":"shop"}', b"Origin: https://" + name.encode() + b".example"),
        post(b'[{"e":"Lead"}]', b"Authorization: Bearer " + KEYS[generation].encode(), path=b"/v1/events"),
        b"GET " + signed + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /c?s=shop&u=https://" + name.encode() + b".example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    ]


def said(answers):
    """Which generation's sender was taken for right, in each of the four."""
    cors, server, signed, host = answers
    return [
        b"access-control-allow-origin" in cors.headers,
        server.status == 202,
        signed.status == 302,
        host.status == 302,
    ]


def test_all_that_sites_decide_changes_at_once_on_connections_that_are_open_too(tmp_path):
    async def main():
        async with edge(tmp_path, sites=sites(0)) as box:

            async def right(generation):
                *requests, last = asked(generation)
                return said(await box.exchange(b"".join([*requests, closing(last)])))

            reader, writer = await box.connect()
            writer.write(PIXEL)
            await reader.readuntil(b";")
            assert (await right(0), await right(1)) == ([True] * 4, [False] * 4)
            box.collector.take_sites(load(data_dir=tmp_path, sites=sites(1)))
            assert (await right(0), await right(1)) == ([False] * 4, [True] * 4)
            writer.write(closing(PIXEL))
            await reader.read(-1)
            writer.close()
        assert [hit["consent"] for hit in box.hits() if hit["source"] == "pixel"] == ["not_required", "denied_default"]

    run(main)


def test_a_change_in_the_middle_of_requests_loses_none(tmp_path):
    body = orjson.dumps([{"s": "shop", "id": str(number)} for number in range(20)])

    async def main():
        async with edge(tmp_path, sites=sites(0)) as box:
            connections = [await box.connect() for _ in range(5)]
            request = closing(post(body))
            for _, writer in connections:
                writer.write(request[:-50])
            await asyncio.sleep(0.02)
            for generation, (_, writer) in enumerate(connections):
                box.collector.take_sites(load(data_dir=tmp_path, sites=sites(generation % 2)))
                writer.write(request[-50:])
            got = [answers_of(await asyncio.wait_for(reader.read(-1), 10)) for reader, _ in connections]
            for _, writer in connections:
                writer.close()
            assert [statuses(answers) for answers in got] == [[204]] * 5
        assert len(box.hits()) == 100

    run(main)
