# SPDX-License-Identifier: MIT
"""What is decorated: blocking or async, cacheable or not; how a cached one looks."""

from __future__ import annotations

import sys
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CachedClassMethod", "is_async", "look_like_a_function"]

_CO_GENERATOR, _CO_COROUTINE, _CO_ITERABLE, _CO_ASYNC = 0x20, 0x80, 0x100, 0x200


def flags_of(function: Any) -> int:
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(type(function).__call__, "__code__", None)
    return getattr(code, "co_flags", 0)


def is_async(function: Any) -> bool:
    """Judge what is decorated. Raises TypeError for what cannot be cached."""
    if not callable(function):
        raise TypeError(f"cannot cache a {type(function).__qualname__}: no function")
    flags = flags_of(function)
    if flags & (_CO_GENERATOR | _CO_ASYNC) and not flags & _CO_ITERABLE:
        kind = "an async generator" if flags & _CO_ASYNC else "a generator"
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{name} is {kind} function: what it yields can be used only once and "
            "cannot be cached; return a list or a tuple"
        )
    if flags & (_CO_COROUTINE | _CO_ITERABLE):
        return True
    return getattr(function, "_is_coroutine_mark", None) is not None


def look_like_a_function(wrapper: Any, function: Any) -> None:
    """What inspect.iscoroutinefunction asks of an object that is no function."""
    for name in ("__code__", "__defaults__", "__kwdefaults__"):
        value = getattr(function, name, None)
        if value is not None or name != "__code__":
            setattr(wrapper, name, value)
    if sys.version_info >= (3, 12):
        import inspect

        inspect.markcoroutinefunction(wrapper)


class CachedClassMethod:
    """``@cache`` above ``@classmethod``: binds the class, the cached methods too."""

    def __init__(self, cached: Any) -> None:
        self.__func__ = cached
        self.__wrapped__ = cached.__wrapped__
        self.__doc__ = cached.__doc__
        self.__name__ = cached.__name__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.__func__.__get__(owner if owner is not None else type(instance))
