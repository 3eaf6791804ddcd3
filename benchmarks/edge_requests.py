r"""What the edge benchmarks send: wrk scripts with a browser's requests, 2,000 visitors mixed over the connections.

Every visitor has a cookie, a referrer, an agent, a page and a query of 160 bytes of his own, so that a cache of whole
heads finds nothing. A script prepares all requests before the first is sent.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

VISITORS = 2000
QUERY_BYTES = 160

LUA = r"""
local visitors, now, requests = %(visitors)d, %(now)d, {}
local method, events, cookie, extra = "%(method)s", %(events)d, %(cookie)s, "%(extra)s"
for v = 1, visitors do
  local page = string.format("https://shop.example/products/%%05d", v)
  local target, body = "/e", ""
  if method == "GET" then
    local query = string.format("s=shop&e=PageView&u=https%%%%3A%%%%2F%%%%2Fshop.example%%%%2Fproducts%%%%2F%%05d"
      .. "%%%%3Futm_source%%%%3Dnewsletter&r=https%%%%3A%%%%2F%%%%2Fshop.example%%%%2F&id=%%08x&t=%%d000&l=en-US",
      v, v * 7919, now)
    target = "/p.gif?" .. query .. string.rep("x", %(query_bytes)d - #query)
  else
    local list = {}
    for e = 1, events do
      list[e] = string.format('{"s":"shop","e":"ViewContent","u":"%%s","r":"https://shop.example/","id":"%%08x-%%d",'
        .. '"t":%%d000,"l":"en-US","sr":"1920x1080"}', page, v * 7919, e, now)
    end
    body = events == 1 and list[1] or "[" .. table.concat(list, ",") .. "]"
    extra = "%(extra)s" .. "Content-Type: text/plain;charset=UTF-8\r\nOrigin: https://shop.example\r\n"
      .. string.format("Content-Length: %%d\r\n", #body)
  end
  requests[v] = method .. " " .. target .. " HTTP/1.1\r\n"
    .. "Host: t.shop.example\r\nConnection: keep-alive\r\nsec-ch-ua-platform: \"Windows\"\r\n"
    .. "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    .. "Chrome/13" .. v %% 10 .. ".0.0.0 Safari/537.36\r\n"
    .. "sec-ch-ua: \"Google Chrome\";v=\"131\", \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\n"
    .. "sec-ch-ua-mobile: ?0\r\n" .. extra .. "Accept: image/avif,image/webp,image/apng,image/svg+xml,*/*;q=0.8\r\n"
    .. "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
    .. "Referer: " .. page .. "\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    .. string.format("Cookie: _ga=GA1.1.%%d.1700000000", v * 104729)
    .. (cookie and string.format("; _hs=%%016x.%%d", v * 7919, now - 86400) or "") .. "\r\n\r\n" .. body
end
local at = math.random(visitors)
function request() at = at %% visitors + 1; return requests[at] end
"""
PACED = r"""
function delay() return math.random(0, %d) end
"""


class Case(NamedTuple):
    """One kind of request: how many hits it carries, and what of it differs."""

    name: str
    method: str = "GET"
    events: int = 1
    cookie: bool = True
    extra: str = ""

    def script(self, directory: Path, *, delay_ms: int = 0) -> Path:
        """Write its wrk script and return the path.

        `delay_ms` is the mean of each connection's pauses between requests. They are drawn at random, so that the
        connections do not come to send all at once.
        """
        text = LUA % {
            "visitors": VISITORS,
            "now": int(time.time()),
            "query_bytes": QUERY_BYTES,
            "method": self.method,
            "events": self.events,
            "cookie": "true" if self.cookie else "false",
            "extra": self.extra,
        }
        path = directory / f"{self.name.replace(' ', '-')}-{delay_ms}.lua"
        path.write_text(text + (PACED % (2 * delay_ms) if delay_ms else ""))
        return path


RETURNING = Case("returning visitor")
NEW = Case("new visitor", cookie=False)
DENIED = Case("consent denied", extra="Sec-GPC: 1\\r\\n")
POST_ONE = Case("POST one event", method="POST")
POST_TWENTY = Case("POST 20 events", method="POST", events=20)
CASES = (RETURNING, NEW, DENIED, POST_ONE, POST_TWENTY)
