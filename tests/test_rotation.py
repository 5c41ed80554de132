"""Changing the master key of a fleet: the cache stays warm, and nothing old comes back.

The steps are those of docs/encryption.md: every process first learns the new key as a
former one, then writes with it, then forgets the old one. Processes of two steps that
follow each other are at work side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from driver import AsyncDriver, Driver, Work
from peers import Peer
from servers import RedisServer
from vault import ALIEN, FORMER, KEY, entries, the_entry

from cachekit import Cache, CacheConfig, DecryptionError, Invalidation
from cachekit.backends import MemoryBackend

#: (current, former ...) by step.
STEPS = [(FORMER,), (FORMER, KEY), (KEY, FORMER), (KEY,)]
BOTH = STEPS[1:3]


class Side:
    """One process of the fleet, at a step."""

    def __init__(
        self, driver: Driver, url: Any, step: tuple[str, ...], l1: bool, **options: Any
    ) -> None:
        self.driver = driver
        self.cache = driver.cache(
            url,
            master_key=step[0],
            previous_master_keys=list(step[1:]),
            l1_enabled=l1,
        )
        self.work = driver.work(
            self.cache, name="rotated", fail_closed=True, ttl=600, **options
        )

    def all(self, method: str, *args: Any) -> Any:
        name = f"a{method}" if self.driver.is_async else method
        return self.driver.finish(getattr(self.cache, name)(*args))


@pytest.fixture(params=[Driver, AsyncDriver], ids=["sync", "async"])
def drivers(request: pytest.FixtureRequest) -> Iterator[list[Driver]]:
    made = [request.param() for _ in range(2)]
    yield made
    for driver in made:
        driver.close()


PAIRS = pytest.mark.parametrize(
    "steps",
    [
        pair
        for pair in itertools.permutations(range(4), 2)
        if abs(pair[0] - pair[1]) == 1
    ],
    ids=lambda pair: f"{pair[0]} and {pair[1]}",
)
TAGGED = pytest.mark.parametrize(
    "options",
    [
        {},
        {"tags": ["t"]},
        {"tags": lambda n: ["t", f"n:{n}"]},
        {"tenant": lambda n: "x"},
    ],
    ids=["plain", "tags", "computed tags", "tenant"],
)


def sides(
    drivers: list[Driver],
    server: RedisServer,
    steps: tuple[int, int],
    *,
    l1: bool = False,
    **options: Any,
) -> tuple[Side, Side]:
    one, two = (
        Side(driver, server.url, STEPS[step], l1, **options)
        for driver, step in zip(drivers, steps, strict=True)
    )
    return one, two


def warm(works: list[Work], n: int, run: int) -> None:
    """All read what that run made, and none runs."""
    for work in works:
        runs = work.runs
        assert work(n) == {"n": n, "run": run}
        assert work.runs == runs


# -- warm ------------------------------------------------------------------------------


@PAIRS
@TAGGED
def test_what_one_side_fills_the_other_reads(
    drivers: list[Driver],
    redis_server: RedisServer,
    steps: tuple[int, int],
    options: dict[str, Any],
) -> None:
    one, two = sides(drivers, redis_server, steps, **options)
    assert one.work(1)["run"] == 1
    warm([two.work, one.work], 1, 1)
    assert two.work(2)["run"] == 1
    warm([one.work, two.work], 2, 1)


def test_a_cache_stays_warm_through_all_steps(redis_server: RedisServer) -> None:
    for number, step in enumerate(STEPS):
        driver = Driver()
        side = Side(driver, redis_server.url, step, False)
        for n in range(number):
            warm([side.work], n, 1)
        side.work(number)
        if number == 2:  # written anew with the new key before the old one is forgotten
            for n in range(number):
                side.work.put({"n": n, "run": 1}, n)
        driver.close()


@PAIRS
def test_a_fill_leaves_one_name(
    drivers: list[Driver], redis_server: RedisServer, steps: tuple[int, int]
) -> None:
    one, two = sides(drivers, redis_server, steps)
    one.work(1)
    two.work.refresh(1)
    name, _ = the_entry(redis_server)
    assert name == two.work.key_for(1)
    one.work.refresh(1)
    if {steps[0], steps[1]} <= {1, 2} or steps[0] in (1, 2):
        name, _ = the_entry(redis_server)
        assert name == one.work.key_for(1)


def test_an_entry_of_a_key_that_was_forgotten_is_a_miss(
    drivers: list[Driver], redis_server: RedisServer
) -> None:
    one, two = sides(drivers, redis_server, (0, 3))
    one.work(1)
    assert two.work(1)["run"] == 1 and two.work.runs == 1
    assert len(entries(redis_server)) == 2


def test_three_former_keys_are_read(redis_server: RedisServer) -> None:
    keys = [KEY, FORMER, ALIEN, "33" * 32]
    for n, key in enumerate(keys):
        driver = Driver()
        Side(driver, redis_server.url, (key,), False).work(n)
        driver.close()
    driver = Driver()
    side = Side(driver, redis_server.url, tuple(keys), False)
    for n in range(4):
        warm([side.work], n, 1)
    driver.close()


def test_one_round_trip_whatever_the_keys(redis_server: RedisServer) -> None:
    """Counted as commands that the server was asked for in reading."""
    counts = []
    for step in ((KEY,), (KEY, FORMER, ALIEN)):
        driver = Driver()
        side = Side(driver, redis_server.url, step, False)
        side.work(1)
        redis_server.call("CONFIG", "RESETSTAT")
        for _ in range(5):
            side.work(1)
        stats = redis_server.call("INFO", "commandstats").decode()
        counts.append(
            sorted(
                (line.split(":")[0], line.split("calls=")[1].split(",")[0])
                for line in stats.splitlines()
                if "calls=" in line and "info" not in line and "config" not in line
            )
        )
        driver.close()
    assert counts[0] == counts[1]


# -- nothing old comes back ------------------------------------------------------------


@PAIRS
@TAGGED
@pytest.mark.parametrize(
    "how", ["invalidate", "put", "refresh", "INVALIDATE", "BYPASS"]
)
def test_one_entry_is_renewed_for_both(
    drivers: list[Driver],
    redis_server: RedisServer,
    steps: tuple[int, int],
    options: dict[str, Any],
    how: str,
) -> None:
    one, two = sides(drivers, redis_server, steps, **options)
    one.work(1)
    warm([two.work], 1, 1)
    two.work.runs = 10
    if how == "invalidate":
        assert two.work.invalidate(1) is Invalidation.DELIVERED
        assert entries(redis_server) == {}
        two.work(1)
    elif how == "put":
        two.work.put({"n": 1, "run": 11}, 1)
    elif how == "refresh":
        two.work.refresh(1)
    else:
        two.work.using(how)(1)
    warm([one.work, two.work], 1, 11)


@PAIRS
@TAGGED
@pytest.mark.parametrize("how", ["invalidate_all", "tags", "clear"])
def test_all_entries_are_renewed_for_both(
    drivers: list[Driver],
    redis_server: RedisServer,
    steps: tuple[int, int],
    options: dict[str, Any],
    how: str,
) -> None:
    one, two = sides(drivers, redis_server, steps, **options)
    one.work(1), two.work(2)
    warm([two.work], 1, 1)
    warm([one.work], 2, 1)
    for side in (one, two):
        side.work.runs = 10
    if how == "invalidate_all":
        assert two.work.invalidate_all() is Invalidation.DELIVERED
    elif how == "clear":
        assert two.all("clear") is Invalidation.DELIVERED
    elif "tags" in options:
        assert two.all("invalidate_tags", "t") is Invalidation.DELIVERED
    else:
        return
    for n in (1, 2):
        assert one.work(n)["run"] > 10
    warm([two.work], 1, 11)
    warm([two.work], 2, 12)


@PAIRS
def test_a_run_that_began_before_an_invalidation_stores_nothing(
    drivers: list[Driver], redis_server: RedisServer, steps: tuple[int, int]
) -> None:
    """Both fences: the run is of one key, the invalidation of the other."""
    one, two = sides(drivers, redis_server, steps)
    other = Side(Driver(), redis_server.url, STEPS[steps[1]], False)
    one.work.before = lambda: other.work.invalidate(1)
    assert one.work(1)["run"] == 1
    one.work.before = None
    assert entries(redis_server) == {}
    assert one.work(1)["run"] == 2
    other.driver.close()


@PAIRS
@pytest.mark.parametrize("renewed", ["put", "refresh"])
def test_a_run_that_began_before_a_renewal_does_not_replace_it(
    drivers: list[Driver],
    redis_server: RedisServer,
    steps: tuple[int, int],
    renewed: str,
) -> None:
    one, two = sides(drivers, redis_server, steps)
    other = Side(Driver(), redis_server.url, STEPS[steps[1]], False)
    other.work.answer = lambda n: "newer"

    def before() -> None:
        if renewed == "put":
            other.work.put("newer", 1)
        else:
            other.work.refresh(1)

    one.work.before = before
    one.work(1)
    one.work.before = None
    # Not stored; where it was of the other key it takes the newer entry with it.
    seen = one.work(1)
    assert seen in ("newer", {"n": 1, "run": 2}) and two.work(1) == seen
    other.driver.close()


# -- with memory, across processes -----------------------------------------------------


class Program:
    def __init__(self, url: str, step: tuple[str, ...]) -> None:
        config = CacheConfig(
            namespace="test", master_key=step[0], previous_master_keys=list(step[1:])
        )
        self.cache = Cache(config, backend=url)
        self.runs = 0

        @self.cache(name="shared", tags=["t"])
        def shared(n: int) -> int:
            self.runs += 1
            return self.runs

        self.shared = shared

    def read(self, n: int) -> int:
        value: int = self.shared(n)
        return value

    def count(self, runs: int) -> None:
        self.runs = runs

    def do(self, how: str) -> None:
        if how == "tags":
            self.cache.invalidate_tags("t")
        elif how == "clear":
            self.cache.clear()
        elif how == "put":
            self.shared.put(99, 1)
        elif how == "invalidate_all":
            self.shared.invalidate_all()
        else:
            getattr(self.shared, how)(1)


@PAIRS
@pytest.mark.parametrize(
    "how", ["invalidate", "put", "refresh", "invalidate_all", "tags", "clear"]
)
def test_memory_of_the_other_side_hears_of_it(
    redis_server: RedisServer, steps: tuple[int, int], how: str
) -> None:
    driver = Driver()
    with Peer(lambda: Program(redis_server.url, STEPS[steps[0]])) as peer:
        here = Program(redis_server.url, STEPS[steps[1]])
        here.runs = 10
        assert peer.call("read", 1) == here.read(1) == peer.call("read", 1) == 1
        peer.call("count", 20)
        here.do(how)
        new = here.read(1)
        assert new in (11, 99)
        driver.wait_until(lambda: peer.call("read", 1) == new)
        here.cache.close()
    driver.close()


# -- strict ----------------------------------------------------------------------------


def test_a_damaged_entry_under_a_former_key_is_an_error_once(
    redis_server: RedisServer,
) -> None:
    driver = Driver()
    Side(driver, redis_server.url, (FORMER,), False).work(1)
    name, data = the_entry(redis_server)
    redis_server.call("SET", name, data[:-1], "KEEPTTL")
    side = Side(driver, redis_server.url, (KEY, FORMER), False)
    with pytest.raises(DecryptionError):
        side.work(1)
    assert entries(redis_server) == {}
    assert side.work(1)["run"] == 1
    driver.close()


def test_a_key_of_a_function_has_the_former_keys_of_the_configuration(
    redis_server: RedisServer,
) -> None:
    driver = Driver()
    Side(driver, redis_server.url, (FORMER,), False).work(1)
    cache = driver.cache(
        redis_server.url, previous_master_keys=[FORMER], l1_enabled=False
    )
    work = driver.work(cache, name="rotated", master_key=KEY)
    warm([work], 1, 1)
    driver.close()


# -- other stores ----------------------------------------------------------------------


class Basic:
    """The least that a backend of the user's own has."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[bytes, int]] = {}

    def read(self, key: str, timeout: float) -> Any:
        return self.entries.get(key)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self.entries[key] = (bytes(data), ttl_ms)

    def delete(self, keys: Any, timeout: float) -> None:
        for key in keys:
            self.entries.pop(key, None)


@pytest.mark.parametrize("kind", [Basic, MemoryBackend])
@pytest.mark.parametrize("how", ["invalidate", "put", "refresh"])
def test_other_backends_know_all_names(kind: Any, how: str) -> None:
    backend, driver = kind(), Driver()
    one, two = (Side(driver, backend, step, False) for step in (STEPS[1], STEPS[2]))
    one.work(1)
    warm([two.work], 1, 1)
    two.work.runs = 10
    if how == "put":
        two.work.put({"n": 1, "run": 11}, 1)
    else:
        getattr(two.work, how)(1)
        two.work(1)
    warm([one.work, two.work], 1, 11)
    driver.close()
