"""One test for both ways of using a cache: a `Face` says which.

``face.do(cache, "get", "key")`` is ``cache.get("key")`` or ``await cache.aget("key")``;
``face.function(cache, f)`` decorates ``f`` or an async function around it; and
``face.call(cached, 1)`` calls, and waits for what is to be waited for.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

FACES = ("sync", "async")


class Face:
    """A way of calling; the async one has a loop of its own."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "async"
        self.loop = asyncio.new_event_loop() if self.is_async else None

    def do(self, cache: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method of a Cache, or its twin."""
        name = "a" + method if self.is_async else method
        return self.call(getattr(cache, name), *args, **kwargs)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, and wait for what is to be waited for."""
        if self.loop is None:
            return function(*args, **kwargs)

        async def main() -> Any:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return self.loop.run_until_complete(main())

    def function(
        self, decorate: Callable[[Any], Any], function: Callable[..., Any]
    ) -> Any:
        """Decorate a blocking function, or an async one that does the same."""
        if self.loop is None:
            return decorate(function)

        @functools.wraps(function)
        async def twin(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return decorate(twin)

    def __enter__(self) -> Face:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
