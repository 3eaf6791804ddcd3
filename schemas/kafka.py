"""How both wings reach Kafka: what aiokafka's clients are given, and what a failure to connect means.

aiokafka itself is imported by the two adapters alone; its errors are told apart here by their names.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from schemas.errors import FatalError, RetryError
from schemas.settings import Settings

CLOSE_S_MAX = 2.0
LOGIN_ERRORS = {
    "SaslAuthenticationFailed",
    "AuthenticationFailedError",
    "AuthenticationMethodNotSupported",
    "UnsupportedSaslMechanismError",
    "IllegalSaslStateError",
}
FORBIDDEN_ERRORS = {
    "TopicAuthorizationFailedError",
    "GroupAuthorizationFailedError",
    "ClusterAuthorizationFailedError",
}


def connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments that every aiokafka client takes. Raises FatalError where certificates cannot be read."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": "hitstream",
        "request_timeout_ms": int(settings.kafka_request_timeout_s * 1000),
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username or None,
        "sasl_plain_password": settings.kafka_sasl_password or None,
    }


async def reach(settings: Settings, hosts: Iterable[tuple[Any, ...]], connect: Callable[..., Any]) -> None:
    """Return when one of `hosts` takes a connection: aiokafka's clients do not say why none does. Raises RetryError.

    `hosts` and `connect` are what aiokafka makes of the bootstrap servers, and its way to connect to one.
    """
    options = {name: value for name, value in connection(settings).items() if name != "bootstrap_servers"}
    trouble: RetryError | None = None
    for host, port, _ in hosts:
        given_up: list[Any] = []
        options["on_close"] = lambda failed, _, given_up=given_up: given_up.append(failed)
        try:
            attempt = await connect(host, port, **options)
        except (OSError, RuntimeError) as error:  # KafkaError is a RuntimeError
            trouble = trouble or explained(error, f"{host}:{port}")
            for failed in given_up:  # over TLS it takes a while; a loop that ends before would leave the socket open
                await asyncio.wait([failed.close()], timeout=CLOSE_S_MAX)
        else:
            await attempt.close()
            return
    raise trouble or RetryError("KAFKA_BOOTSTRAP_SERVERS names no broker")


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if "SSL" not in settings.kafka_security_protocol:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile or None)
        if settings.kafka_ssl_certfile:
            password = settings.kafka_ssl_key_password  # an empty one too: None would ask at the terminal
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile or None, password)
    except OSError as error:  # ssl.SSLError is one
        raise FatalError(f"the files that HITSTREAM_KAFKA_SSL_* name cannot be used: {error}") from error
    return context


def explained(error: Exception, server: str) -> RetryError:
    """Return what a failed connection to `server` means and what to do about it.

    It is an error to try again after, whatever it is: names, passwords and rights are set right on the other side too.
    """
    where = f"Kafka at {server}"
    if isinstance(error, socket.gaierror):
        why = "its name does not resolve: check KAFKA_BOOTSTRAP_SERVERS, and this host's DNS"
    elif isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({error.verify_message}): check HITSTREAM_KAFKA_SSL_CAFILE"
    elif isinstance(error, ssl.SSLError):
        why = f"TLS failed ({error.reason or error}): check HITSTREAM_KAFKA_SECURITY_PROTOCOL and the port"
    elif type(error).__name__ in LOGIN_ERRORS:
        why = (
            f"it refuses the login ({_text(error)}): check HITSTREAM_KAFKA_SASL_USERNAME, _PASSWORD and _MECHANISM, "
            "and HITSTREAM_KAFKA_SECURITY_PROTOCOL"
        )
    elif type(error).__name__ in FORBIDDEN_ERRORS:
        why = f"this user may not ({_text(error)}): see the rights in docs/kafka.md"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there"
    elif isinstance(error, TimeoutError):
        why = "no answer in time"
    elif isinstance(error, ConnectionError) or type(error).__name__ == "KafkaConnectionError":
        why = (
            f"{_text(error)}; is HITSTREAM_KAFKA_SECURITY_PROTOCOL what the port speaks? Does it want a certificate "
            "(HITSTREAM_KAFKA_SSL_CERTFILE)?"
        )
    else:
        why = _text(error)
    return RetryError(f"{where}: {why}")


def _text(error: Exception) -> str:
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}" if text else name
