"""An instance that goes gives back its reference to its type, which argv[1] names."""

import asyncio
import gc
import itertools
import sys

from cachekit import Cache, _core

MANY = 200
cache = Cache(backend=None)


@cache(ignore=("self",))
def double(self: object, number: int) -> int:
    return 2 * number


@cache
def flying(number: int) -> int:
    flights.append(_core.current_flight.get())
    return number


@cache
async def flying_async(number: int) -> int:
    flights.append(_core.current_flight.get())
    if number % 2:
        raise ValueError
    return number


class Owner:
    method = double


flights: list[object] = []
numbers = itertools.count(10)


def flights_of_both() -> object:
    flying.cache_clear()
    flying_async.cache_clear()
    flying(1)
    asyncio.run(failing())
    asyncio.run(flying_async(2))
    assert len(flights) == 3 and all(type(it) is _core.Flight for it in flights)
    made = list(flights)
    flights.clear()
    return made


async def failing() -> None:
    try:
        await flying_async(1)
    except ValueError:
        pass


def abandoned_call() -> object:
    call = flying._begin(_core.MODE_REFRESH, (next(numbers),), {})
    assert call.leads
    return call


MAKERS = {
    "Flag": _core.Flag,
    "Memory": lambda: _core.Memory(max_bytes=1 << 20, max_entries=10),
    "CachedFunction": lambda: cache(lambda number: number)(3) and cache(lambda: 1),
    "BoundFunction": lambda: (Owner().method, double.using("FRESH"), Owner.method),
    "Flight": flights_of_both,
    "Call": abandoned_call,
    "Keyring": lambda: _core.Keyring("ab" * 32),
}


def references(name: str) -> int:
    gc.collect()
    return sys.getrefcount(getattr(_core, name))


def main(name: str) -> None:
    make = MAKERS[name]
    for _ in range(3):
        make()
    before = references(name)
    for _ in range(MANY):
        make()
    after = references(name)
    assert after - before < 3, f"{name}: {after - before} references in {MANY} rounds"
    made = [make() for _ in range(MANY)]
    assert references(name) - before >= MANY, "an instance holds its type"
    del made
    after = references(name)
    assert after - before < 3, f"{name}: {after - before} references kept"
    if name in ("Flag", "Keyring"):  # without GC
        return
    instance = make()
    instance = instance[0] if isinstance(instance, (list, tuple)) else instance
    assert type(instance) in gc.get_referents(instance), "traverse visits the type"


main(sys.argv[1])
