"""Host names as browsers put them in `location.hostname`, and whether one belongs to a site. Pure; no input raises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address

import idna

HOST_CHARS_MAX = 253  # RFC 1035, without the trailing dot
LABEL_CHARS_MAX = 63

_DOT = re.compile("[.\u3002\uff0e\uff61]")  # what IDNA takes for a dot (UTS 46)
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def normal_host(name: str) -> str:
    """Return a host name in lower-case punycode without its trailing dot, or '' when it is no host name."""
    host = name.lower().removesuffix(".")
    if len(host) > HOST_CHARS_MAX or max(map(len, _DOT.split(host))) > LABEL_CHARS_MAX:
        return ""  # before IDNA, whose cost grows with the square of a label's length
    try:
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
        labels = host.split(".")
        if labels[-1].isdigit():  # the URL standard: a host that ends in a number is an IPv4 address or nothing
            return str(IPv4Address(host))
    except (AddressValueError, UnicodeError):  # idna.IDNAError is a UnicodeError
        return ""
    fits = len(host) <= HOST_CHARS_MAX and max(map(len, labels)) <= LABEL_CHARS_MAX
    return host if fits and _HOST.fullmatch(host) else ""


def is_on(host: str, domains: Iterable[str]) -> bool:
    """Return whether a normal host is one of `domains` (as `schemas.site.Site` has them) or below one."""
    for domain in domains:
        before = len(host) - len(domain)
        if host.endswith(domain) and (before == 0 or host[before - 1] == "."):
            return True
    return False
