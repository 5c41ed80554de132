"""Things done wrong on purpose: the model must find each of them.

A fault takes a worker before it begins and makes its cache misbehave.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cachekit import Invalidation

if TYPE_CHECKING:
    from soak.worker import Worker


class _Liar:
    """A cached function, some of whose methods are replaced."""

    def __init__(self, function: Any, **methods: Callable[..., Any]) -> None:
        self._function = function
        self.__dict__.update(methods)

    def __call__(self, key: int) -> Any:
        call = self.__dict__.get("call", self._function)
        return call(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def _replace(worker: Worker, lie: Callable[[Any, str], _Liar]) -> None:
    """Blocking functions lie."""
    for (name, is_async), function in worker.functions.items():
        if not is_async:
            worker.functions[name, is_async] = lie(function, name)


def forgets_invalidations(worker: Worker) -> None:
    """They are said to be delivered."""
    _replace(
        worker,
        lambda function, _: _Liar(
            function, invalidate=lambda key: Invalidation.DELIVERED
        ),
    )


def serves_another_key(worker: Worker) -> None:
    _replace(worker, lambda function, _: _Liar(function, call=lambda key: function(0)))


def leaks_an_exception(worker: Worker) -> None:
    def call(key: int) -> Any:
        raise ConnectionResetError("the store is not there")

    _replace(worker, lambda function, _: _Liar(function, call=call))


def keeps_callers_waiting(worker: Worker) -> None:
    def slow(function: Any) -> Callable[[int], Any]:
        def call(key: int) -> Any:
            time.sleep(2.2)
            return function(key)

        return call

    _replace(worker, lambda function, _: _Liar(function, call=slow(function)))


def hands_out_its_own(worker: Worker) -> None:
    """Every caller gets the same object."""

    def shared(function: Any) -> Callable[[int], Any]:
        first: dict[int, Any] = {}
        return lambda key: first.setdefault(key, function(key))

    _replace(worker, lambda function, _: _Liar(function, call=shared(function)))


def runs_twice(worker: Worker) -> None:
    def twice(function: Any) -> Callable[[int], Any]:
        def call(key: int) -> Any:
            function.__wrapped__(key)
            return function.__wrapped__(key)

        return call

    _replace(worker, lambda function, _: _Liar(function, call=twice(function)))


def dies(worker: Worker) -> None:
    os._exit(3)


FAULTS: dict[str, Callable[[Worker], None]] = {
    fault.__name__: fault
    for fault in (
        forgets_invalidations,
        serves_another_key,
        leaks_an_exception,
        keeps_callers_waiting,
        hands_out_its_own,
        runs_twice,
        dies,
    )
}
