"""Wait until something is true, never for a fixed time."""

import asyncio
import inspect
import time

POLL_S = 0.1


async def until(condition, timeout_s=30.0):
    """Return once `condition()`, plain or a coroutine, is true; raise TimeoutError when it never is."""
    async with asyncio.timeout(timeout_s):
        while True:
            result = condition()
            if await result if inspect.isawaitable(result) else result:
                return
            await asyncio.sleep(0.01)


def wait_until(condition, timeout_s=30.0, why_not=lambda: ""):
    """As `until`, where there is no event loop; `why_not()` is what the TimeoutError says."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(why_not())
        time.sleep(POLL_S)
