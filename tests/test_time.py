"""How long entries live, and what may be served when they are no longer fresh.

The store's clock is moved by PEXPIRE on the entry; memory's is real, so lifetimes of
memory are tens of milliseconds here, and what must not have happened yet is given
seconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import datetime
import logging
import struct
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from driver import AsyncDriver, Driver, Work, each_driver
from servers import RedisServer

from cachekit import NEVER, CacheMiss

driver = each_driver

BRIEF = 0.03  # a lifetime in memory that is waited for
MINUTE = 60_000  # of the store's milliseconds


@pytest.fixture
def make(driver: Driver, redis_server: RedisServer) -> Callable[..., Work]:
    """Functions on a server that is up, without memory unless asked."""
    cache = driver.cache(redis_server.url)

    def make(**options: Any) -> Work:
        options.setdefault("l1_enabled", False)
        return driver.work(cache, **options)

    return make


@pytest.fixture
def in_memory(driver: Driver) -> Callable[..., Work]:
    cache = driver.cache(None)
    return lambda **options: driver.work(cache, **options)


def left(server: RedisServer, work: Work, n: int = 1) -> int:
    """What the store says of the entry: ms left, -1 no expiry, -2 no entry."""
    return server.call("PTTL", work.key_for(n))


def age(server: RedisServer, work: Work, seconds: float, n: int = 1) -> None:
    """Make the entry that much older."""
    key = work.key_for(n)
    server.call("PEXPIRE", key, server.call("PTTL", key) - int(seconds * 1000))


def expire_in_memory(work: Work) -> None:
    work.driver.wait_until(lambda: work.entry(1).stale)
    work.driver.rest(0.015)  # hits go by a clock with ticks of some milliseconds


def events(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [r for r in caplog.records if getattr(r, "event", "") == event]


# ttl


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        (60, MINUTE),
        (90.5, 90_500),
        (datetime.timedelta(minutes=2), 2 * MINUTE),
        (lambda value: value["n"] * 30, MINUTE),
        (lambda value: datetime.timedelta(seconds=40), 40_000),
        (None, 60 * MINUTE),
        (lambda value: None, 60 * MINUTE),
    ],
    ids=["int", "float", "timedelta", "callable", "callable-delta", "none", "of-none"],
)
def test_ttl_is_the_stores_expiry(make, redis_server, ttl, milliseconds):
    work = make(ttl=ttl)
    work(2)
    assert milliseconds - 5000 < left(redis_server, work, 2) <= milliseconds


@pytest.mark.parametrize("ttl", [NEVER, lambda value: NEVER], ids=["given", "callable"])
def test_never_has_no_expiry_and_is_served(make, redis_server, ttl):
    work = make(ttl=ttl)
    work(1)
    assert left(redis_server, work) == -1
    assert work(1)["run"] == 1


def test_the_default_ttl_is_the_configurations(driver, redis_server):
    work = driver.work(driver.cache(redis_server.url, default_ttl=30))
    work(1)
    assert 25_000 < left(redis_server, work) <= 30_000


def test_a_ttl_of_memory_ends(in_memory):
    work = in_memory(ttl=BRIEF)
    assert work(1)["run"] == 1
    work.driver.rest(2 * BRIEF)
    assert work(1)["run"] == 2


def test_a_ttl_of_the_store_ends(make, redis_server):
    work = make(ttl=60)
    work(1)
    redis_server.call("PEXPIRE", work.key_for(1), 1)
    work.driver.rest(0.01)
    assert work(1)["run"] == 2


def raises(value: Any) -> Any:
    raise LookupError(f"about {value}")


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": raises},
        {"ttl": lambda value: 0},
        {"ttl": lambda value: -1},
        {"ttl": lambda value: float("nan")},
        {"ttl": lambda value: True},
        {"ttl": lambda value: "soon"},
        {"cache_if": raises},
    ],
    ids=["ttl-raises", "zero", "negative", "nan", "bool", "str", "predicate-raises"],
)
def test_a_callable_that_cannot_tell_means_do_not_store(
    make, redis_server, caplog, options
):
    work = make(**options)
    assert work(1) == {"n": 1, "run": 1}
    assert work(1) == {"n": 1, "run": 2}
    assert left(redis_server, work) == -2
    (record,) = events(caplog, "judge_raised")
    assert "about" not in record.getMessage()


def test_cache_if_decides_on_the_result(make, redis_server):
    work = make(cache_if=lambda value: value["n"] % 2 == 0)
    for n in (1, 2):
        work(n)
        work(n)
    assert work.runs == 3
    assert left(redis_server, work, 1) == -2 and left(redis_server, work, 2) > 0


def test_none_is_cached_like_any_value(make, redis_server):
    work = make(ttl=60)
    work.answer = lambda n: None
    assert work(1) is work(1) is None
    assert work.runs == 1
    assert left(redis_server, work) > 50_000


def test_negative_ttl_is_the_lifetime_of_none_alone(make, redis_server):
    work = make(ttl=60, negative_ttl=5)
    work.answer = lambda n: None if n == 1 else n
    work(1)
    work(2)
    assert 0 < left(redis_server, work, 1) <= 5000
    assert left(redis_server, work, 2) > 50_000


def test_negative_ttl_zero_does_not_store_none(make, redis_server):
    work = make(ttl=60, negative_ttl=0)
    work.answer = lambda n: None
    work(1)
    work(1)
    assert work.runs == 2
    assert left(redis_server, work) == -2


def test_jitter_shortens_by_up_to_its_fraction(make, redis_server):
    work = make(ttl=1000, ttl_jitter=0.1)
    lives = []
    for n in range(40):
        work(n)
        lives.append(left(redis_server, work, n))
    assert all(895_000 < life <= 1_000_000 for life in lives)
    assert max(lives) - min(lives) > 20_000


# One entry, one clock


def test_the_stores_expiry_covers_the_longest_period(make, redis_server):
    for options, seconds in [
        ({"stale_ttl": 30}, 90),
        ({"serve_stale_on_error": True}, 60 + 24 * 3600),
        ({"stale_ttl": 30, "serve_stale_on_error": True, "stale_if_error_ttl": 20}, 90),
        (
            {"stale_ttl": 30, "serve_stale_on_error": True, "stale_if_error_ttl": 50},
            110,
        ),
    ]:
        work = make(ttl=60, **options)
        work(1)
        assert seconds - 5 < left(redis_server, work) / 1000 <= seconds
    keys = [key for key in redis_server.call("KEYS", "*") if b":v:" not in key]
    assert len(keys) == 4, "never a second copy"


def test_age_is_total_lifetime_less_what_the_store_says_is_left(make, redis_server):
    work = make(ttl=60)
    work(1)
    age(redis_server, work, 45)
    entry = work.entry(1)
    assert 45 <= entry.age < 50
    assert 10 < entry.remaining_ttl <= 15
    assert entry.tier == "store" and not entry.stale


def test_an_age_below_zero_is_zero(make, redis_server):
    work = make(ttl=60)
    work(1)
    redis_server.call("PEXPIRE", work.key_for(1), 10 * MINUTE)
    entry = work.entry(1)
    assert 0 <= entry.age < 1 and entry.remaining_ttl <= 60


def test_without_expiry_only_a_never_entry_is_served(make, redis_server):
    work = make(ttl=60)
    work(1)
    redis_server.call("PERSIST", work.key_for(1))
    with pytest.raises(CacheMiss):
        work.using("FRESH")(1)
    assert work(1)["run"] == 2
    assert left(redis_server, work) > 0, "what replaces it has an expiry again"


def written_at(frame: bytes, milliseconds: int) -> bytes:
    """The frame, as a host whose clock is that far off would have written it."""
    name = ctypes.util.find_library("xxhash")
    if name is None:
        pytest.skip("libxxhash is not installed as a shared library")
    check = ctypes.CDLL(name).XXH3_64bits
    check.restype, check.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    (created,) = struct.unpack_from("<Q", frame, 6)
    body = frame[:6] + struct.pack("<Q", created + milliseconds) + frame[14:-8]
    return body + struct.pack("<Q", check(body, len(body)))


@pytest.mark.parametrize("hours", [-5, 5])
def test_hosts_with_skewed_clocks_agree_on_an_age(make, redis_server, hours):
    work = make(ttl=60)
    work(1)
    key = work.key_for(1)
    frame = redis_server.call("GET", key)
    assert written_at(frame, 0) == frame
    redis_server.call("SET", key, written_at(frame, hours * 3_600_000), "PX", MINUTE)
    age(redis_server, work, 20)
    entry = work.entry(1)
    assert 20 <= entry.age < 25
    assert work(1)["run"] == 1
    age(redis_server, work, 35)
    assert work.entry(1).remaining_ttl <= 5


class Clockless:
    """A backend that cannot tell how long an entry has to live."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        return (self.data[key], -2) if key in self.data else None

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self.data[key] = bytes(data)

    def delete(self, keys: Any, timeout: float) -> int:
        return sum(self.data.pop(key, None) is not None for key in keys)

    def ping(self, timeout: float) -> None:
        pass

    def close(self) -> None:
        pass


def test_where_the_store_has_no_clock_the_headers_times_serve(driver):
    backend = Clockless()
    work = driver.work(driver.cache(backend), ttl=60, stale_ttl=30, l1_enabled=False)
    work(1)
    key = work.key_for(1)
    frame = backend.data[key]
    assert work(1)["run"] == 1
    backend.data[key] = written_at(frame, -45_000)
    assert 45 <= work.entry(1).age < 50
    backend.data[key] = written_at(frame, -75_000)
    assert work.entry(1).stale
    backend.data[key] = written_at(frame, -95_000)
    assert work.entry(1) is None
    backend.data[key] = written_at(frame, 3_600_000)
    assert 0 <= work.entry(1).age < 1


# Memory


def test_memory_keeps_an_entry_for_its_remaining_lifetime(driver, redis_server):
    writer, reader = (
        driver.work(driver.cache(redis_server.url), ttl=60, name="remaining")
        for _ in range(2)
    )
    writer(1)
    age(redis_server, writer, 50)
    reader(1)
    entry = reader.entry(1)
    assert entry.tier == "memory"
    assert entry.remaining_ttl <= 10 and 50 <= entry.age < 55


def test_memory_serves_nothing_after_the_remaining_lifetime(driver, redis_server):
    caches = [driver.cache(redis_server.url) for _ in range(2)]
    writer, reader = (driver.work(cache, ttl=60, name="ends") for cache in caches)
    writer(1)
    redis_server.call("PEXPIRE", writer.key_for(1), 40)
    assert reader(1)["run"] == 1 and reader.runs == 0
    driver.rest(0.06)
    with pytest.raises(CacheMiss):
        reader.using("FRESH")(1)


def test_l1_ttl_caps_memory_and_not_the_store(make, redis_server):
    work = make(ttl=60, l1_enabled=True, l1_ttl=BRIEF)
    work(1)
    assert left(redis_server, work) > 50_000
    work.driver.rest(2 * BRIEF)
    assert work(1)["run"] == 1
    assert work.info.l2_hits == 1
    assert work.info.l1_hits == 0


def test_l1_ttl_does_not_lengthen(in_memory):
    work = in_memory(ttl=BRIEF, l1_ttl=60)
    work(1)
    work.driver.rest(2 * BRIEF)
    assert work(1)["run"] == 2


# Stale while revalidate

STALE = {"ttl": 60, "stale_ttl": 600}


def stale_in_store(make: Callable[..., Work], server: RedisServer, **more: Any) -> Work:
    work = make(**{**STALE, **more})
    work(1)
    age(server, work, 61)
    return work


def stale_in_memory(in_memory: Callable[..., Work], **more: Any) -> Work:
    work = in_memory(**{"ttl": BRIEF, "stale_ttl": 600, **more})
    work(1)
    expire_in_memory(work)
    return work


@pytest.fixture(params=["store", "memory"])
def stale(
    request: pytest.FixtureRequest,
    make: Callable[..., Work],
    in_memory: Callable[..., Work],
    redis_server: RedisServer,
) -> Callable[..., Work]:
    """Functions that have a stale entry, in one tier or the other."""
    if request.param == "store":
        return lambda **more: stale_in_store(make, redis_server, **more)
    return lambda **more: stale_in_memory(in_memory, **more)


def test_a_stale_value_is_returned_and_refreshed_once(stale):
    work = stale()
    assert work(1)["run"] == 1
    work.driver.wait_until(lambda: work.runs == 2)
    work.driver.wait_until(lambda: work(1)["run"] >= 2)
    assert work.info.stale_hits >= 1


def test_a_stale_hit_does_not_wait_for_the_function(make, redis_server):
    work = stale_in_store(make, redis_server)
    gate = Gate(work.driver)
    work.answer = gate.pass_through
    assert [work(1) for _ in range(5)] == [{"n": 1, "run": 1}] * 5
    work.driver.wait_until(lambda: work.runs == 2)
    gate.open()
    work.driver.wait_until(lambda: work(1) == "through")
    assert work.runs == 2, "five stale hits, one refresh"


class Gate:
    """What a function waits at, in its thread or on its loop."""

    def __init__(self, driver: Driver) -> None:
        self._is_async = driver.is_async
        self._opened = threading.Event()

    def pass_through(self, n: int) -> Any:
        return self._later() if self._is_async else self._now()

    def _now(self) -> str:
        assert self._opened.wait(10)
        return "through"

    async def _later(self) -> str:
        while not self._opened.is_set():
            await asyncio.sleep(0.001)
        return "through"

    def open(self) -> None:
        self._opened.set()


def test_many_threads_at_a_stale_entry_start_one_refresh(redis_server):
    driver = Driver()
    cache = driver.cache(redis_server.url)
    work = stale_in_store(
        lambda **options: driver.work(cache, l1_enabled=False, **options), redis_server
    )
    gate = Gate(driver)
    work.answer = gate.pass_through
    values: list[Any] = []
    threads = [
        threading.Thread(target=lambda: values.append(work(1)["run"]))
        for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.open()
    driver.wait_until(lambda: work(1) == "through")
    driver.rest(0.02)
    assert values == [1] * 30 and work.runs == 2
    driver.close()


def test_many_tasks_at_a_stale_entry_start_one_refresh(redis_server):
    driver = AsyncDriver()
    cache = driver.cache(redis_server.url)
    work = stale_in_store(
        lambda **options: driver.work(cache, l1_enabled=False, **options), redis_server
    )
    gate = Gate(driver)
    work.answer = gate.pass_through

    async def main() -> None:
        values = await asyncio.gather(*[work.cached(1) for _ in range(50)])
        assert all(value["run"] == 1 for value in values)
        gate.open()

    driver.finish(main())
    driver.wait_until(lambda: work(1) == "through")
    assert work.runs == 2
    driver.close()


def test_a_refresh_takes_what_another_process_has_stored(driver, redis_server):
    here, there = (
        driver.work(driver.cache(redis_server.url), ttl=ttl, stale_ttl=600, name="two")
        for ttl in (BRIEF, 60)
    )
    here(1)
    expire_in_memory(here)
    there.put("newer", 1)
    driver.wait_until(lambda: here(1) == "newer")
    assert here.runs == 1


def test_when_it_is_gone_it_is_a_plain_miss(make, redis_server):
    work = stale_in_store(make, redis_server)
    age(redis_server, work, 600)
    assert work(1)["run"] == 2


def test_fresh_serves_a_stale_value_and_refreshes_nothing(stale):
    work = stale()
    assert work.using("FRESH")(1)["run"] == 1
    work.driver.rest(0.03)
    assert work.runs == 1


@pytest.mark.parametrize("strategy", ["INVALIDATE", "BYPASS"])
def test_who_asks_for_a_new_value_gets_one_in_place_of_a_stale(stale, strategy):
    work = stale()
    assert work.using(strategy)(1)["run"] == 2


def test_entry_says_that_it_is_stale(stale):
    entry = stale().entry(1)
    assert entry.stale and entry.stale_reason == "expired" and entry.remaining_ttl == 0
    assert entry.value == {"n": 1, "run": 1}


def test_a_refresh_that_fails_leaves_the_old_value_and_pauses(stale, caplog):
    work = stale()
    work.error = ValueError("a secret of the function")
    assert work(1)["run"] == 1
    work.driver.wait_until(lambda: events(caplog, "refresh_failed"))
    for _ in range(10):
        assert work(1)["run"] == 1
        work.driver.rest(0.005)
    assert work.runs == 2, "no second attempt within a second"
    assert "secret" not in events(caplog, "refresh_failed")[0].getMessage()


def test_after_the_pause_a_refresh_is_tried_again(make, redis_server):
    work = stale_in_store(make, redis_server)
    work.error = ValueError("once")
    work(1)
    work.driver.wait_until(lambda: work.runs == 2)
    work.error = None
    start = time.monotonic()
    work.driver.wait_until(lambda: work(1)["run"] > 1)
    assert 0.8 < time.monotonic() - start < 3


def test_a_refresh_that_failed_for_good_ends_in_the_functions_exception(
    make, redis_server
):
    work = stale_in_store(make, redis_server)
    work.error = error = ValueError("for good")
    work(1)
    work.driver.wait_until(lambda: work.runs == 2)
    age(redis_server, work, 600)
    with pytest.raises(ValueError) as caught:
        work(1)
    assert caught.value is error


VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="nothing")


def test_a_refresh_runs_with_the_callers_context_variables(stale):
    work = stale()
    seen: list[str] = []
    work.before = lambda: seen.append(VARIABLE.get())
    token = VARIABLE.set("the caller's")
    try:
        work(1)
    finally:
        VARIABLE.reset(token)
    work.driver.wait_until(lambda: seen)
    assert seen == ["the caller's"]


def test_a_refresh_is_not_cancelled_with_its_caller(redis_server):
    driver = AsyncDriver()
    cache = driver.cache(redis_server.url)
    work = stale_in_store(
        lambda **options: driver.work(cache, l1_enabled=False, **options), redis_server
    )
    cancelled: list[bool] = []

    async def slow() -> str:
        try:
            await asyncio.sleep(0.03)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "new"

    work.answer = lambda n: slow()

    async def caller() -> None:
        await work.cached(1)
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(caller())
        while work.runs < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        while await work.cached(1) != "new":
            await asyncio.sleep(0.002)

    driver.finish(main())
    assert not cancelled and work.runs == 2
    driver.close()


# Stale if error

ON_ERROR = {"ttl": 60, "serve_stale_on_error": True}


@pytest.fixture(params=["store", "memory"])
def late(
    request: pytest.FixtureRequest,
    make: Callable[..., Work],
    in_memory: Callable[..., Work],
    redis_server: RedisServer,
) -> Callable[..., Work]:
    """Functions whose entry may stand in for an exception only."""

    def build(**more: Any) -> Work:
        if request.param == "store":
            work = make(**{**ON_ERROR, **more})
            work(1)
            age(redis_server, work, 61)
            return work
        work = in_memory(**{**ON_ERROR, "ttl": BRIEF, **more})
        work(1)
        expire_in_memory(work)
        return work

    return build


def test_an_old_value_stands_in_for_an_exception(late, caplog):
    work = late()
    work.error = ConnectionError("the database is down")
    assert work(1) == {"n": 1, "run": 1}
    assert work.runs == 2
    assert work.info.stale_hits == 1
    (record,) = events(caplog, "stale_on_error")
    assert "database" not in record.getMessage()


def test_it_is_not_served_while_the_function_works(late):
    work = late()
    assert work(1)["run"] == 2
    assert work.info.stale_hits == 0


def test_after_a_failure_the_function_has_rest(late):
    work = late(stale_retry=60)
    work.error = ConnectionError("down")
    assert [work(1)["run"] for _ in range(10)] == [1] * 10
    assert work.runs == 2
    assert work.info.stale_hits == 10


def test_after_the_rest_it_is_tried_again(late):
    work = late(stale_retry=0.05)
    work.error = ConnectionError("down")
    work(1)
    work.error = None
    work.driver.wait_until(lambda: work(1)["run"] > 1)
    assert work.runs == 3


def test_the_rest_is_the_keys_alone(make, redis_server):
    work = make(**ON_ERROR, stale_retry=60)
    work(1)
    age(redis_server, work, 61)
    work.error = ConnectionError("down")
    work(1)
    work.error = None
    assert work(2)["n"] == 2


def test_only_what_stale_on_names_is_stood_in_for(late):
    work = late(stale_on=(ConnectionError, TimeoutError))
    work.error = error = KeyError("a bug")
    with pytest.raises(KeyError) as caught:
        work(1)
    assert caught.value is error
    work.error = TimeoutError("slow")
    assert work(1)["run"] == 1


def test_without_an_old_value_the_exception_is_the_functions(make):
    work = make(**ON_ERROR)
    work.error = error = ConnectionError("down")
    for _ in range(2):
        with pytest.raises(ConnectionError) as caught:
            work(1)
        assert caught.value is error
    assert work.runs == 2, "nothing to serve meanwhile: no rest either"


def test_what_was_invalidated_stands_in_for_nothing(late):
    work = late()
    work.invalidate(1)
    work.error = ConnectionError("down")
    with pytest.raises(ConnectionError):
        work(1)


def test_past_its_time_it_stands_in_for_nothing(make, redis_server):
    work = make(**ON_ERROR, stale_if_error_ttl=100)
    work(1)
    age(redis_server, work, 161)
    work.error = ConnectionError("down")
    with pytest.raises(ConnectionError):
        work(1)


@pytest.mark.parametrize("strategy", ["INVALIDATE", "BYPASS"])
def test_who_asks_for_a_new_value_gets_the_exception(late, strategy):
    work = late()
    work.error = ConnectionError("down")
    with pytest.raises(ConnectionError):
        work.using(strategy)(1)


def test_fresh_does_not_see_it(late):
    with pytest.raises(CacheMiss):
        late().using("FRESH")(1)


def test_cancellation_is_never_replaced(late):
    work = late()
    work.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        work(1)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_never_replaced(late, kind):
    work = late()
    work.error = kind()
    with pytest.raises(kind):
        work(1)


def test_both_stale_periods_follow_each_other(make, redis_server):
    work = make(ttl=60, stale_ttl=30, serve_stale_on_error=True, stale_retry=60)
    work(1)
    work.error = error = ConnectionError("down")
    age(redis_server, work, 65)
    assert work(1)["run"] == 1
    work.driver.wait_until(lambda: work.runs == 2)  # in the background
    age(redis_server, work, 60)
    assert work(1)["run"] == 1
    age(redis_server, work, 24 * 3600)
    with pytest.raises(ConnectionError) as caught:
        work(1)
    assert caught.value is error
