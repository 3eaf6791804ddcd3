"""`hitstream sql`: one statement of any kind, its answer streamed as it comes."""

from __future__ import annotations

import base64
import shutil
import sys
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from infra.command.database import clickhouse_url
from infra.command.errors import UserError, cause
from schemas.errors import RetryError
from schemas.settings import Settings

CONNECT_TIMEOUT_S = 60.0  # without a byte, each time: a query that runs longer sends its progress
DIRECT = build_opener(ProxyHandler({}))  # a proxy for the web does not know this machine's ports
BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)


def run_sql(settings: Settings, query: str, output_format: str) -> None:
    """Print the answer to a statement; a FORMAT in it wins. Raises UserError, RetryError."""
    text = query.strip().rstrip(";")
    if not text:
        raise UserError("the query is empty: write one, such as hitstream sql 'SHOW TABLES'")
    request = _request(clickhouse_url(settings), text, output_format)
    try:
        with DIRECT.open(request, timeout=CONNECT_TIMEOUT_S) as answer:
            sent = answer.read(1)
            sys.stdout.buffer.write(sent)
            shutil.copyfileobj(answer, sys.stdout.buffer)
    except HTTPError as error:
        message = error.read().decode(errors="replace")
        error.close()
        if error.code in BUSY:
            raise RetryError(message) from None
        raise UserError(cause(ValueError(message))) from None
    except (URLError, TimeoutError, ConnectionError) as error:
        raise RetryError(str(error)) from None
    sys.stdout.flush()
    if not sent and output_format.startswith("Pretty"):
        sys.stderr.write("no rows\n")


def _request(url: str, text: str, output_format: str) -> Request:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"CLICKHOUSE_URL must be http(s)://host:port, not {url!r}")
    settings = {
        "database": "hitstream",
        "default_format": output_format,
        "send_progress_in_http_headers": 1,
        "output_format_pretty_color": int(sys.stdout.isatty()),
    }
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", urlencode(settings), ""))
    request = Request(place, text.encode(), method="POST")  # noqa: S310  http(s) was checked
    if parts.username or parts.password:
        login = f"{unquote(parts.username or 'default')}:{unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    return request
