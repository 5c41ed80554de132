"""The interpreter ends while something is under way: argv[1] says what."""

import asyncio
import atexit
import gc
import sys
import threading
import time

from cachekit import Cache, _core

cache = Cache(backend=None)
go = threading.Event()
flights: list[object] = []


@cache
def slow(number: int) -> list[int]:
    flights.append(_core.current_flight.get())
    go.wait(60)
    return [number]


@cache(ttl=0.001, stale_ttl=60)
def stale(number: int) -> list[int]:
    return [number]


@cache
async def slow_async() -> None:
    flights.append(_core.current_flight.get())
    await asyncio.sleep(60)


@cache
def rows(number: int) -> list[int]:
    return [number]


def start(job: object) -> None:
    threading.Thread(target=job, daemon=True).start()  # type: ignore[arg-type]


def daemons() -> None:
    """A leader and followers in daemon threads."""
    for _ in range(3):
        start(lambda: slow(1))
    while not flights or flights[0].followers < 2:  # type: ignore[attr-defined]
        time.sleep(0.001)


def busy_daemons() -> None:
    """Daemon threads that hit and miss until they are stopped."""

    def work() -> None:
        number = 0
        while True:
            number += 1
            rows(number % 1000), rows(1)

    for _ in range(3):
        start(work)
    time.sleep(0.05)


def refresh_under_way() -> None:
    stale(1)
    time.sleep(0.02)
    stale(1)


def refresh_at_exit() -> None:
    """The first stale hit comes when exit has begun."""
    stale(1)
    time.sleep(0.02)
    atexit.register(lambda: stale(1))


def calls_at_exit() -> None:
    rows(1)
    atexit.register(lambda: rows(1))
    atexit.register(lambda: rows(2))


def pending_task() -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(slow_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert flights and not task.done()
    globals()["kept"] = (loop, task)


def coroutine_in_a_cycle() -> None:
    holder = [slow_async()]
    with_cycle = [holder]
    with_cycle.append(with_cycle)
    holder[0].close()
    call = slow._begin(_core.MODE_REFRESH, (1,), {})
    loop = [call]
    loop.append(loop)
    gc.disable()


class Late:
    def __del__(self) -> None:
        rows(3)


def calls_in_finalizers() -> None:
    rows(1)
    sys.late = Late()  # type: ignore[attr-defined]
    globals()["late"] = [Late()]


globals()[sys.argv[1]]()
