"""Requests without consent whose every field holds a word of its own, and the search for these words in bytes.

A word is `zq<field>qz`; it stands in whatever may not be kept. Percent-encoded as a whole it begins with `%7A%71`.
Addresses and the visitor's id are looked for as text and as ClickHouse and the wire pack them.
"""

import re
import time
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote

import orjson
from hypothesis import strategies as st
from support.edge import HOST

from schemas.server_key import key_hash, make_key

VISITOR = 0xDEADBEEFCAFEF00D
ADDRESSES = ("198.51.100.77", "198.51.100.0", "2001:db8:77::1", "2001:db8:77::", "127.0.0.1", "127.0.0.0")
KEYS = {site: make_key(f"k{place}", bytes(32)) for place, site in enumerate(("open", "strict"))}
SITES = {
    "open": {"redirect_hosts": ["shop.example"]},
    "strict": {"consent": "opt-in", "domains": ["shop.example"], "redirect_hosts": ["shop.example"]},
}
for name, site in SITES.items():
    site["keys"] = [{"id": KEYS[name].split("_")[1], "sha256": key_hash(KEYS[name])}]
SETTINGS = {"sites": SITES, "default_site": {"consent": "opt-in"}, "trusted_proxies": "127.0.0.1", "ip_keep": "full"}


def word(field):
    return f"zq{field}qz"


def _packed(address):
    parsed = ip_address(address)
    return parsed.packed if parsed.version == 6 else b"\xff\xff" + parsed.packed


_TRACES = [
    rb"zq\w*qz",
    rb"%7a%71",
    *(re.escape(text.encode()) for text in (*ADDRESSES, f"{VISITOR:x}", str(VISITOR))),
    *(re.escape(VISITOR.to_bytes(8, order)) for order in ("big", "little")),
    *(re.escape(_packed(address)) for address in ADDRESSES),
]
_TRACE = re.compile(b"|".join(_TRACES), re.IGNORECASE)


def traces_in(data):
    """All that tells of a sender in bytes, each once."""
    return sorted(set(_TRACE.findall(data)))


class Request(NamedTuple):
    """Bytes to send, and the statuses that may come back."""

    data: bytes
    statuses: tuple


PAGES = [
    "https://{user}:{password}@{host}.example:8443/a/b?x={query}&gclid={click}&hsl={link}#{fragment}",
    "https://shop.example/a%20b?x={query}",
    "http://{host}.example",
    "javascript:{script}",
    "/{relative}",
    "",
]
REFERRERS = [
    "https://{ruser}@www.google.com/{rpath}?q={rquery}",
    "about:{rscheme}",
    "{rtext}",
    "android-app://a.b/{rapp}",
]
_FIELDS = re.compile(r"\{(\w+)\}")
PERSONAL = ("id", "uid", "oid", "ti", "l", "sr", "ab", "p.x", "items", "sig", "unknown")


def _filled(text):
    return _FIELDS.sub(lambda match: word(match[1]), text)


def _either(good, field):
    return st.sampled_from([good, word(field)])


EVENTS = st.fixed_dictionaries(
    {"u": st.sampled_from(PAGES).map(_filled), "r": st.sampled_from(REFERRERS).map(_filled)}
    | {name: st.just(word(name.replace(".", "_"))) for name in PERSONAL},
    optional={
        "e": st.sampled_from(["Purchase", f"1{word('e')}"]),
        "v": _either("49.90", "v"),
        "cur": _either("EUR", "cur"),
        "t": _either(str(int(time.time() * 1000)), "t"),
        "sent": _either("1e3", "sent"),
    },
)
SIGNALS = st.sets(st.sampled_from(["gpc", "dnt", "no", "word", "cookie", "mode"]), min_size=1)


def _head(draw, signals, pages=PAGES):
    cookie = f"a={word('cookie')}; _hs={VISITOR:016x}.{int(time.time()) - 60}"
    cookie += "; _hs_out=1" if "cookie" in signals else ""
    lines = [
        f"Cookie: {cookie}",
        f"User-Agent: Mozilla/5.0 {word('agent')}",
        f"Accept-Language: {word('language')}",
        f"Referer: {_filled(draw(st.sampled_from(pages)))}",
        f"X-Forwarded-For: {draw(st.sampled_from(ADDRESSES[:4]))}",
        f'Sec-CH-UA: "{word("hint")}";v="1"',
        f"Sec-CH-UA-Model: {word('model')}",
        f"X-{word('name')}: {word('value')}",
    ]
    lines += ["Sec-GPC: 1"] if "gpc" in signals else []
    lines += ["DNT: 1"] if "dnt" in signals else []
    return "".join(f"{line}\r\n" for line in draw(st.permutations(lines))).encode()


def _query(draw, event):
    def text(value):
        whole = draw(st.booleans())
        return "".join(f"%{byte:02X}" for byte in value.encode()) if whole else quote(value, safe="")

    pairs = [f"{text(name)}={text(value)}" for name, value in event.items() if value]
    pairs.append(f"uid={word('second')}")
    return "&".join(draw(st.permutations(pairs))).encode()


def _get(path, query, head, version=b"1.1"):
    return b"GET %b?%b HTTP/%b\r\n" % (path, query, version) + HOST + head + b"\r\n"


def _post(path, body, head):
    return b"POST %b HTTP/1.1\r\n" % path + HOST + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@st.composite
def denied_requests(draw):
    """A request of any way in that at least one signal denies."""
    way = draw(st.sampled_from(["pixel", "pixel", "beacon", "beacon", "click", "server"]))
    signals = draw(SIGNALS)
    if way == "server" and not signals & {"no", "word", "mode"}:
        signals |= {"mode"}
    said = {"c": "0"} if "no" in signals else {"c": word("c")} if "word" in signals else {}
    site = "strict" if "mode" in signals else "open"
    if way == "click":  # another's page is its referrer, whose host is kept
        head = _head(draw, signals, [page for page in PAGES if "{host}" not in page])
        given = {"s": site, "u": f"https://shop.example/{word('target')}?{word('tquery')}", "uid": word("uid")} | said
        return Request(_get(b"/c", _query(draw, given), head), (302,))
    head = _head(draw, signals)
    events = [{"s": site} | event | said for event in draw(st.lists(EVENTS, min_size=1, max_size=3))]
    if way == "pixel":
        event = draw(st.sampled_from([events[0], events[0] | {"s": f"a b{word('s')}"}]))
        return Request(_get(b"/p.gif", _query(draw, event), head), (200,))
    nested = draw(
        st.sampled_from([{}, {"uid": {"x": [word("nested")]}}, {"v": {"x": word("v")}}, {"items": [{"sku": 1}]}])
    )
    events[0] |= nested
    if way == "beacon":
        events[-1] |= draw(st.sampled_from([{}, {"s": f"a b{word('s')}"}, {"s": [word("s")]}]))
        body = orjson.dumps(draw(st.sampled_from([events, events[0], {"events": events}])))
        return Request(_post(b"/e", body, head), (204,))
    bearer = f"Authorization: Bearer {KEYS[site]}\r\n".encode()
    body = orjson.dumps([event | {"vid": f"{VISITOR:016x}"} for event in events])
    return Request(_post(b"/v1/events", body, head + bearer), (202,))
