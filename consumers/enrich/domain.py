"""The registrable domain and the public suffix of a host. Pure.

Promise: no input raises. No network and no cache directory: the public suffix list is the snapshot inside tldextract.
"""

from __future__ import annotations

from functools import lru_cache

from tldextract import TLDExtract

from schemas.host import HOST_CHARS_MAX

HOSTS_CACHED_MAX = 16_384

_suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)


def registrable_domain(host: str) -> str:
    """Return the host's registrable domain ('shop.example.co.uk' -> 'example.co.uk').

    Private suffixes count ('a.github.io' is one, apart from 'b.github.io'), as for a browser's "same site". Under a
    top level that the list does not know it is the last two labels. An address, a single label like 'localhost' and
    a bare public suffix are their own domain.
    """
    return domain_cached(host) if len(host) <= HOST_CHARS_MAX else host


@lru_cache(HOSTS_CACHED_MAX)
def public_suffix(host: str) -> str:
    """Return the host's ICANN public suffix ('co.uk'), or '' when it has none. `host` has at most 253 characters."""
    return _suffixes.extract_str(host).suffix


@lru_cache(HOSTS_CACHED_MAX)
def domain_cached(host: str) -> str:
    """Return the registrable domain (the cache behind `registrable_domain`)."""
    found = _suffixes.extract_str(host, include_psl_private_domains=True)
    if found.suffix:
        return f"{found.domain}.{found.suffix}" if found.domain else host
    labels = host.split(".")
    if host.startswith("[") or labels[-1].isdigit():
        return host
    return ".".join(labels[-2:])  # publicsuffix.org/list: "If no rules match, the prevailing rule is '*'"
