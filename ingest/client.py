"""A client's connection as those see it who answer: what it is, how many answers are due, and the way to send them.

Promise: answers leave in the order in which they are sent. They are written to the socket directly, through a handle of
the connection's own, for as long as the kernel takes them whole; from the first one that it does not, they go through
the loop's buffer, which knows of slow readers.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod

from ingest.client_address import Peer

NOBODY = Peer("", trusted=False, ip_member=b"")


class Client(ABC):
    """The answering half of a connection; `http_protocol.Connection` adds the reading half.

    `unanswered` counts requests that wait for their answer, `held`: `proceed` is wanted once there are none. `queued`:
    a read waits to be taken. `since_s` is when the connection last did what its time limits go by.
    """

    __slots__ = ("handle", "held", "lost", "peer", "queued", "since_s", "transport", "unanswered")

    def __init__(self, since_s: float) -> None:
        self.peer = NOBODY
        self.handle = -1  # of the socket, for answers that the kernel takes whole; -1: it takes none any more
        self.unanswered = 0
        self.held = False
        self.queued = False
        self.lost = False
        self.since_s = since_s
        self.transport: asyncio.Transport

    def send(self, answer: bytes) -> None:
        """Hand an answer to the kernel, or, where that does not take it whole, to the loop."""
        sent = 0
        if self.handle >= 0:
            try:
                sent = os.write(self.handle, answer)
            except BlockingIOError:
                pass
            except OSError:  # reset by the client
                self.transport.abort()
                return
        if sent < len(answer):
            self._send_slowly(answer[sent:])

    @abstractmethod
    def read(self, data: bytes) -> None:
        """Take the requests in `data`, which starts where the last one ended, or within one."""

    @abstractmethod
    def proceed(self) -> None:
        """Go on, now that all requests so far are answered: close, or read what was kept back."""

    def has_handle(self) -> bool:
        """Return whether the process may have one more open file: the connection's own handle of its socket.

        It is a duplicate, because the loop closes its own before it says so, and the number may be another
        connection's by then.
        """
        try:
            self.handle = os.dup(self.transport.get_extra_info("socket").fileno())
        except OSError:
            return False
        return True

    def close_handle(self) -> None:
        """Let all later answers take the slow way."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def _send_slowly(self, answer: bytes) -> None:
        """Hand an answer to the loop, and all later ones: the kernel does not take them at once."""
        self.close_handle()
        if not self.lost:
            self.transport.write(answer)
