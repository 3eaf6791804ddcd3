"""The child's side of processes: when to stop, and never to outlive the parent.

- SIGTERM and the end of the parent are one thing: `Life.stop` is set. SIGINT is the parent's business.
- The end of the parent shows as the end of the alive pipe, whose only write end the parent holds, however it ended.
- Without a parent a child ends: gracefully, or, when it has not managed that after `orphan_limit_s`, at once. What
  was acknowledged is on disk either way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

ORPHAN_LIMIT_S = 20.0

log = logging.getLogger("hitstream.child")


class Life:
    """The end of this process. Make it in the main thread, before any other thread starts.

    SIGTERM is blocked in every thread and taken by a thread that waits for nothing else: a handler in the main thread
    could meet the lock of the very event it has to set.
    """

    def __init__(self, alive_fd: int = -1, orphan_limit_s: float = ORPHAN_LIMIT_S) -> None:
        self.stop = threading.Event()
        self._alive_fd = alive_fd
        self._orphan_limit_s = orphan_limit_s
        self._callbacks: list[Callable[[], None]] = []
        self._guard = threading.Lock()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._await_signal, name="signals", daemon=True).start()
        if alive_fd >= 0:
            threading.Thread(target=self._await_parent, name="parent", daemon=True).start()

    def when_stopping(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from another thread, once the process is to stop; at once when it already is."""
        with self._guard:
            if not self.stop.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def set_in_loop(self, event: asyncio.Event) -> None:
        """Set `event`, of the running loop, once the process is to stop."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(event.set)

        self.when_stopping(tell)

    def end(self) -> None:
        """Begin to stop."""
        with self._guard:
            self.stop.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _await_signal(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self.end()

    def _await_parent(self) -> None:
        while os.read(self._alive_fd, 1):
            pass  # nobody writes; only its end means something
        log.warning("the parent is gone: stopping")
        self.end()
        threading.Event().wait(self._orphan_limit_s)
        log.error("not stopped %.0f s after the parent was gone: ending at once", self._orphan_limit_s)
        os._exit(1)
