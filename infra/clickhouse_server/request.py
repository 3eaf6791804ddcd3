"""An HTTP request read as ClickHouse reads it: who asks, and query, parameters, settings and formats.

Promise: no web page gets past `refusal`. A browser names the page's origin on every cross-site POST, says so in
Sec-Fetch-Site on the rest, and a rebound DNS name shows as a Host that is not this server's.
Source of names: https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp import web

from infra.clickhouse_server import compression, errors
from infra.clickhouse_server.statement import FORMAT_NAME

# Parameters of the protocol; every other one is a setting of the engine.
_PROTOCOL = frozenset(
    (
        *("query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check"),
        *("user", "password", "quota_key", "role", "compress", "decompress", "buffer_size", "wait_end_of_query"),
        *("client_protocol_version", "enable_http_compression", "send_progress_in_http_headers", "stacktrace"),
        *("http_headers_progress_interval_ms", "http_zlib_compression_level", "close_session", "add_http_cors_header"),
        *("http_wait_end_of_query", "http_response_buffer_size", "cancel_http_readonly_queries_on_client_close"),
    )
)
SESSION_TIMEOUT_S = 60
SESSION_TIMEOUT_S_MAX = 3600
NAME_CHARS_MAX = 256
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
_PARAMETER = re.compile(r"[A-Za-z0-9_]{1,256}")


@dataclass(frozen=True)
class Request:
    """One query as asked for. `query` is the URL's part of the text; the body's follows it."""

    query: str
    query_id: str
    database: str = ""
    default_format: str = "TabSeparated"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""
    session_timeout_s: int = SESSION_TIMEOUT_S
    session_check: bool = False
    readonly: bool = False
    wait_end: bool = False
    body_encoding: str = ""
    answer_encoding: str = ""


def refusal(http: web.Request, hosts: frozenset[str]) -> tuple[str, str] | None:
    """Return (reason, text) if the request comes from a web page or under a foreign name, else None.

    `hosts` are the values of Host that name this server, lower case.
    """
    if "Origin" in http.headers:
        return "origin", "this server answers no web page: a request with an Origin header is refused"
    if http.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "fetch_site", "this server answers no web page: a cross-site request is refused"
    if http.headers.get("Host", "").lower() not in hosts:
        return "host", "the Host header names another server than this one; use its address and port"
    return None


def own_hosts(addresses: frozenset[str], port: int) -> frozenset[str]:
    """Return the values of Host that name a server bound to `addresses` (IP or name, unbracketed) at `port`."""
    names = _LOOPBACK | {f"[{address}]" if ":" in address else address.lower() for address in addresses}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == 80 else frozenset())


def authenticate(http: web.Request, password: str) -> None:
    """Raise ServerError 516 unless the request names user `default` and its password; 401 asks for one."""
    user, key = http.headers.get("X-ClickHouse-User"), http.headers.get("X-ClickHouse-Key")
    authorization = http.headers.get("Authorization", "")
    if user is None and key is None and authorization:
        user, key = _basic(authorization)
    if user is None and key is None:
        user, key = http.query.get("user"), http.query.get("password")
    named = user is not None or key is not None
    user, key = user or "default", key or ""
    right = hmac.compare_digest(key.encode("utf-8", "surrogateescape"), password.encode())
    if user == "default" and right:
        return
    message = f"{user}: Authentication failed: password is incorrect, or there is no user with such name"
    raise errors.ServerError(516, "AUTHENTICATION_FAILED", message, status=403 if named else 401)


def _basic(header: str) -> tuple[str, str]:
    kind, _, encoded = header.partition(" ")
    try:
        plain = base64.b64decode(encoded.strip() if kind.lower() == "basic" else "!", validate=True)
        user, _, key = plain.decode().partition(":")
    except (ValueError, binascii.Error):
        message = "Authorization is not understood; Basic is"
        raise errors.ServerError(516, "AUTHENTICATION_FAILED", message, status=403) from None
    return user, key


def parse(http: web.Request, form: Mapping[str, str] | None = None, ignored: frozenset[str] = frozenset()) -> Request:
    """Return the query that the request asks for. Raises ServerError.

    `form` holds the fields of a multipart body; parameters in `ignored` are about its external tables.
    """
    named = {name: value for name, value in {**http.query, **(form or {})}.items() if name not in ignored}
    for name in ("compress", "decompress"):
        if _flag(named.get(name, "0")):
            raise errors.not_implemented(
                f"{name}=1, ClickHouse's own block framing, is not in the embedded server; "
                "use Content-Encoding, or enable_http_compression=1 with Accept-Encoding"
            )
    if named.get("role"):
        raise errors.ServerError(511, "UNKNOWN_ROLE", f"There is no role {named['role']} in the embedded ClickHouse")
    settings = {name: value for name, value in named.items() if name not in _PROTOCOL and not _is_parameter(name)}
    packed = _flag(named.get("enable_http_compression", "0"))
    session_id, query_id = named.get("session_id", ""), named.get("query_id", "")
    if max(len(session_id), len(query_id)) > NAME_CHARS_MAX or not query_id.isprintable():
        raise errors.bad(f"query_id and session_id have at most {NAME_CHARS_MAX} printable characters")
    default_format = named.get("default_format") or http.headers.get("X-ClickHouse-Format") or "TabSeparated"
    if not FORMAT_NAME.fullmatch(default_format):
        raise errors.ServerError(73, "UNKNOWN_FORMAT", f"Unknown format {default_format!r}")
    return Request(
        query=named.get("query", ""),
        query_id=query_id or str(uuid4()),
        database=str(named.get("database") or http.headers.get("X-ClickHouse-Database", "")),
        default_format=default_format,
        settings=settings,
        parameters=_parameters(named),
        session_id=session_id,
        session_timeout_s=_session_timeout(named.get("session_timeout", str(SESSION_TIMEOUT_S))),
        session_check=_flag(named.get("session_check", "0")),
        readonly=http.method in ("GET", "HEAD"),
        wait_end=_flag(named.get("wait_end_of_query", "0")) or _flag(named.get("http_wait_end_of_query", "0")),
        body_encoding=http.headers.get("Content-Encoding", ""),
        answer_encoding=compression.accepted(http.headers.get("Accept-Encoding", "")) if packed else "",
    )


def _is_parameter(name: str) -> bool:
    return name.startswith("param_")


def _parameters(named: Mapping[str, str]) -> dict[str, str]:
    parameters = {name.removeprefix("param_"): value for name, value in named.items() if _is_parameter(name)}
    for name in parameters:
        if not _PARAMETER.fullmatch(name):
            raise errors.ServerError(457, "BAD_QUERY_PARAMETER", f"{name!r} is no name of a parameter", status=400)
    return parameters


def _flag(value: str) -> bool:
    return value.lower() in ("1", "true")


def _session_timeout(value: str) -> int:
    if not value.isdigit() or not 0 < int(value) <= SESSION_TIMEOUT_S_MAX:
        message = f"Invalid session timeout: '{value}', the maximum is {SESSION_TIMEOUT_S_MAX}"
        raise errors.ServerError(374, "INVALID_SESSION_TIMEOUT", message, status=400)
    return int(value)
