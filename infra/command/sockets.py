"""Listening sockets that the parent opens and keeps, so that no queued connection is lost with a child.

- One socket per collector with SO_REUSEPORT: the kernel spreads connections over them.
- SO_REUSEPORT would also let a second, foreign box share the port in silence, so the port is tried without it first.
"""

from __future__ import annotations

import errno
import os
import socket

from infra.command.errors import UserError

BACKLOG = 4096


def public_sockets(host: str, port: int, count: int, *, shared: bool) -> list[socket.socket]:
    """Return `count` listening sockets on one port; `port` 0 picks a free one.

    `shared`: processes of an earlier run of this box may still hold the port. Raises UserError.
    """
    if port and not shared:
        listening(host, port, "HITSTREAM_PORT").close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(_bound(host, port, reuse_port=True))
            port = port_of(sockets[0])
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _explained(error, host, port, "HITSTREAM_PORT") from None
    return sockets


def listening(host: str, port: int, variable: str) -> socket.socket:
    """Return one listening socket that nobody shares. `variable` is the setting to name in the UserError."""
    try:
        sock = _bound(host, port, reuse_port=False)
        try:
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise _explained(error, host, port, variable) from None
    return sock


def port_of(sock: socket.socket) -> int:
    """Return the port a socket is bound to."""
    return int(sock.getsockname()[1])


def _bound(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.settimeout(0)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _explained(error: OSError, host: str, port: int, variable: str) -> UserError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return UserError(f"{where} is in use by another program: end it, or set {variable} to another port (0: any)")
    if error.errno == errno.EACCES:
        return UserError(f"{where} needs more rights: set {variable} to a port above 1023")
    reason = error.strerror or os.strerror(error.errno or 0)
    return UserError(f"{where} cannot be opened ({reason}): check {variable} and the host setting beside it")
