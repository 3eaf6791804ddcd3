"""Wait until something is true, never for a fixed time."""

import asyncio
import inspect


async def until(condition, timeout_s=30.0):
    """Return once `condition()`, plain or a coroutine, is true; raise TimeoutError when it never is."""
    async with asyncio.timeout(timeout_s):
        while True:
            result = condition()
            if await result if inspect.isawaitable(result) else result:
                return
            await asyncio.sleep(0.01)
