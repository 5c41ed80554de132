"""One shared store: what is said of it, and how it is used outside a cached call."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest
from basic_store import BasicStore

from cachekit import (
    BackendConnectionError,
    BackendReplyError,
    BackendUnavailable,
    CacheConfig,
    PoolTimeout,
)
from cachekit._store import SharedStore

_numbers = itertools.count()


class Store(BasicStore):
    """A store that fails as it is told, under an address of its own."""

    failure: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.address = f"store-{next(_numbers)}"

    def read(self, key: str, timeout: float) -> Any:
        if self.failure is not None:
            raise self.failure
        return super().read(key, timeout)


def make(**config: Any) -> tuple[Store, SharedStore]:
    backend = Store()
    return backend, SharedStore(backend, CacheConfig(**config).over_environment())


def use(store: SharedStore, times: int = 1) -> None:
    for _ in range(times):
        try:
            store.use("lookup", "key", ())
        except Exception:
            pass


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [r for r in caplog.records if r.levelno == logging.WARNING]
    caplog.clear()
    return [getattr(record, "event", "") for record in said]


def test_an_outage_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, store = make(circuit_breaker_failure_threshold=1000)
    backend.failure = BackendConnectionError("down")
    use(store, 10)
    assert warnings(caplog) == ["store_failed"]


def test_the_breaker_tells_of_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    backend, store = make(circuit_breaker_failure_threshold=2)
    backend.failure = BackendConnectionError("down")
    use(store, 5)
    assert sorted(warnings(caplog)) == ["breaker_changed", "store_failed"]
    backend.failure = None
    store.guard.answered()
    use(store, 5)
    assert "store_recovered" in warnings(caplog)
    backend.failure = BackendConnectionError("down")
    use(store)
    assert warnings(caplog) == ["store_failed"]


def test_a_short_outage_after_a_while_is_told_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, store = make(circuit_breaker_failure_threshold=1000)

    def outage() -> list[str]:
        backend.failure = BackendConnectionError("down")
        use(store, 3)
        backend.failure = None
        use(store)
        return warnings(caplog)

    assert outage() == ["store_failed"]
    assert outage() == []  # within a minute
    store._told -= 3600
    assert outage() == ["store_failed"]


def test_what_is_no_fault_of_the_store_is_not_called_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, store = make()
    backend.failure = BackendUnavailable("covered")
    use(store, 3)
    assert warnings(caplog) == []
    backend.failure = PoolTimeout("full")
    use(store, 3)
    assert warnings(caplog) == ["store_busy"]
    assert store.guard.state()["failure_count"] == 0
    assert store.last_error is None


def test_a_living_server_that_refuses_does_not_open_the_breaker() -> None:
    backend, store = make(circuit_breaker_failure_threshold=1)
    backend.failure = BackendReplyError("READONLY", kind="readonly")
    use(store, 3)
    assert store.guard.state()["state"] == "closed"
    assert store.last_error == "readonly"


def test_a_skipped_operation_says_so() -> None:
    backend, store = make(circuit_breaker_failure_threshold=1)
    backend.failure = BackendConnectionError("down")
    use(store)
    with pytest.raises(BackendUnavailable):
        store.use("lookup", "key", ())

    async def main() -> None:
        with pytest.raises(BackendUnavailable):
            await store.ause("lookup", "key", ())

    asyncio.run(main())


def test_a_cancelled_operation_is_no_failure() -> None:
    backend, store = make(circuit_breaker_failure_threshold=1)

    class Stalled:
        async def read(self, key: str, timeout: float) -> None:
            await asyncio.sleep(60)

    backend.asyncio = Stalled  # type: ignore[method-assign,assignment]

    async def main() -> None:
        task = asyncio.create_task(store.ause("lookup", "key", ()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert store.guard.state()["state"] == "closed"


def test_settings_of_a_users_backend_are_none_of_ours() -> None:
    class Mine(Store):
        settings = {"probe": "mine"}

    SharedStore(Mine(), CacheConfig().over_environment())
