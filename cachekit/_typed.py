# SPDX-License-Identifier: MIT
"""What a type checker sees of ``@cache``. Never imported at run time.

One C type serves ``def`` and ``async def``; for a type checker they are two, as what an
async function's ``peek`` returns has to be awaited. The parameters of the function are
those of the call and of every method that takes ``*args, **kwargs``.

Type checkers look through ``staticmethod`` and ``classmethod`` before they look at a
decorator above them, so for them ``@cache`` belongs below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Protocol, TypeVar, overload

from typing_extensions import ParamSpec, Self, Unpack

from cachekit._options import Keywords, LocalKeywords
from cachekit._types import CacheInfo, Entry, Invalidation, Strategy

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Bound(Protocol[P, R_co]):
    """A cached ``def`` function, bound to an object or to a strategy."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Invalidation: ...
    def invalidate_cache(self, *args: P.args, **kwargs: P.kwargs) -> Invalidation: ...
    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def put(self, value: Any, /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def entry(self, *args: P.args, **kwargs: P.kwargs) -> Entry | None: ...
    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def using(self, strategy: Strategy | str, /) -> Bound[P, R_co]: ...


class AsyncBound(Protocol[P, R_co]):
    """A cached ``async def`` function, bound to an object or to a strategy."""

    def __call__(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R_co]: ...
    def invalidate(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Invalidation]: ...
    def invalidate_cache(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Invalidation]: ...
    def ainvalidate_cache(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[Invalidation]: ...
    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co]: ...
    def put(
        self, value: Any, /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[None]: ...
    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co]: ...
    def entry(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[Entry | None]: ...
    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def using(self, strategy: Strategy | str, /) -> AsyncBound[P, R_co]: ...


class Cached(Bound[P, R_co], Protocol[P, R_co]):
    """A cached ``def`` function."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...
    def invalidate_all(self) -> Invalidation: ...
    def check_health(self) -> bool: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: Cached[Concatenate[S, Q], R],
        instance: S,
        owner: type | None = None,
        /,
    ) -> Bound[Q, R]: ...


class AsyncCached(AsyncBound[P, R_co], Protocol[P, R_co]):
    """A cached ``async def`` function."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R_co]]: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...
    def invalidate_all(self) -> Awaitable[Invalidation]: ...
    def check_health(self) -> Awaitable[bool]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], R],
        instance: S,
        owner: type | None = None,
        /,
    ) -> AsyncBound[Q, R]: ...


class Decorator(Protocol):
    """What ``@cache(...)`` returns: takes a function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...


class Factory:
    """``@cache`` and its presets: a decorator, and a maker of decorators."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        **options: Unpack[Keywords],
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, R], /, **options: Unpack[Keywords]
    ) -> Cached[P, R]: ...
    @overload
    def __call__(self, **options: Unpack[Keywords]) -> Decorator: ...
    def __call__(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


class LocalFactory:
    """``@cache.local``."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        **options: Unpack[LocalKeywords],
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, R], /, **options: Unpack[LocalKeywords]
    ) -> Cached[P, R]: ...
    @overload
    def __call__(self, **options: Unpack[LocalKeywords]) -> Decorator: ...
    def __call__(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError
