"""``early_refresh``, ``soft_timeout``, ``hard_timeout``: callers that need not wait.

`Pace` is what a function's runs wait for, blocking and async alike.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from servers import RedisServer
from together import MAX

from cachekit import Cache, LoaderTimeout


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


class Pace:
    """Runs of `work` number `slow` and later wait until `go`, and return their number.

    ``cancelled`` counts the runs that were cancelled.
    """

    def __init__(self, driver: Driver, work: Work, slow: int = 2) -> None:
        self.driver, self.work, self.slow = driver, work, slow
        self.cancelled = 0
        self.error: Exception | None = None
        self._go = threading.Event()
        work.answer = self._answer

    def _answer(self, n: Any) -> Any:
        run = self.work.runs
        if self.driver.is_async:
            return self._wait_async(run)
        if run >= self.slow:
            assert self._go.wait(MAX)
        return self._end(run)

    async def _wait_async(self, run: int) -> int:
        deadline = time.monotonic() + MAX
        try:
            while run >= self.slow and not self._go.is_set():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self._end(run)

    def _end(self, run: int) -> int:
        if run >= self.slow and self.error is not None:
            raise self.error
        return run

    def go(self) -> None:
        self._go.set()


WHERE = pytest.mark.parametrize("where", ["memory", "store", "both"])


@pytest.fixture
def cache(driver: Driver, where: str, redis_server: RedisServer) -> Cache:
    url = None if where == "memory" else redis_server.url
    return driver.cache(url, l1_enabled=where != "store")


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + MAX
    while [t for t in threading.enumerate() if t.name == "cachekit-apart"]:
        assert time.monotonic() < deadline, "a thread of a run is left"
        time.sleep(0.005)


def timed(work: Any) -> tuple[Any, float]:
    began = time.monotonic()
    try:
        outcome = work(1)
    except Exception as error:
        outcome = type(error)
    return outcome, time.monotonic() - began


# ---- hard_timeout --------------------------------------------------------------------


@WHERE
@pytest.mark.parametrize("flights", [True, False], ids=["flight", "alone"])
def test_a_run_that_takes_too_long_raises(
    driver: Driver, cache: Cache, flights: bool
) -> None:
    work = driver.work(cache, ttl=600, hard_timeout=0.1, single_flight=flights)
    pace = Pace(driver, work, slow=1)
    outcome, took = timed(work)
    assert outcome is LoaderTimeout
    assert 0.1 <= took < 3.0
    if driver.is_async:
        driver.wait_until(lambda: pace.cancelled == 1)
    pace.go()
    assert work(1) == 2


def test_it_says_how_long_it_waited(driver: Driver) -> None:
    work = driver.work(driver.cache(None), hard_timeout=0.05)
    pace = Pace(driver, work, slow=1)
    with pytest.raises(LoaderTimeout, match="0.05"):
        work(1)
    pace.go()


@WHERE
def test_one_that_does_not_returns(driver: Driver, cache: Cache) -> None:
    limits = {"hard_timeout": MAX, "soft_timeout": MAX - 1}
    work = driver.work(cache, ttl=600, serve_stale_on_error=True, **limits)
    assert work(1)["run"] == work(1)["run"] == 1
    work.error = KeyError("x")
    work.invalidate(1)
    with pytest.raises(KeyError):
        work(1)


@pytest.mark.parametrize("flights", [True, False], ids=["flight", "alone"])
def test_followers_get_it_as_well(driver: Driver, flights: bool) -> None:
    work = driver.work(
        driver.cache(None), ttl=600, hard_timeout=0.2, single_flight=flights
    )
    pace = Pace(driver, work, slow=1)
    outcomes = together(driver, work, 4)
    assert [type(outcome) for outcome in outcomes] == [LoaderTimeout] * 4
    assert work.runs == (1 if flights else 4)
    pace.go()


def together(driver: Driver, work: Work, count: int) -> list[Any]:
    """The outcomes of so many calls at once."""
    if driver.is_async:

        async def main() -> Any:
            calls = (work.cached(1) for _ in range(count))
            return await asyncio.gather(*calls, return_exceptions=True)

        return list(driver.finish(main()))
    from together import in_threads

    return in_threads(count, lambda: work(1))


@WHERE
def test_an_old_value_stands_in_where_it_may(driver: Driver, cache: Cache) -> None:
    work = driver.work(
        cache, ttl=0.05, serve_stale_on_error=True, hard_timeout=0.1, stale_retry=30
    )
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.1)
    assert work(1) == 1
    assert work(1) == 1  # it was tried a moment ago
    assert work.runs == 2
    pace.go()


def test_refresh_and_bypass_are_limited_too(driver: Driver) -> None:
    work = driver.work(driver.cache(None), ttl=600, hard_timeout=0.05)
    pace = Pace(driver, work, slow=1)
    for call in (work.refresh, work.using("BYPASS"), work.using("INVALIDATE")):
        with pytest.raises(LoaderTimeout):
            call(1)
    pace.go()
    assert work.runs == 3


def test_the_function_sees_the_context_of_its_caller(driver: Driver) -> None:
    from contextvars import ContextVar

    user: ContextVar[str] = ContextVar("user", default="nobody")
    work = driver.work(driver.cache(None), ttl=600, hard_timeout=MAX)
    work.answer = lambda n: user.get()
    token = user.set("somebody")
    try:
        assert work(1) == "somebody"
    finally:
        user.reset(token)


# ---- soft_timeout --------------------------------------------------------------------


@WHERE
@pytest.mark.parametrize("flights", [True, False], ids=["flight", "alone"])
def test_the_old_value_is_served_and_the_run_goes_on(
    driver: Driver, cache: Cache, flights: bool
) -> None:
    options = {"ttl": 0.3, "serve_stale_on_error": True, "single_flight": flights}
    work = driver.work(cache, soft_timeout=0.05, **options)
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.35)
    outcome, took = timed(work)
    assert outcome == 1
    assert 0.05 <= took < 3.0
    pace.slow = 99
    pace.go()
    # What the late run made is stored: nobody runs for it again.
    driver.wait_until(
        lambda: (
            work.entry(1) is not None
            and not work.entry(1).stale
            and work.entry(1).value == 2
        )
    )
    assert work.runs == 2
    assert work.info.stale_hits == 1


@WHERE
def test_without_an_old_value_one_waits(driver: Driver, cache: Cache) -> None:
    work = driver.work(cache, ttl=600, serve_stale_on_error=True, soft_timeout=0.02)
    work.before = lambda: time.sleep(0.1)
    assert work(1)["run"] == 1


def test_one_that_was_invalidated_is_no_old_value(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=0.05, serve_stale_on_error=True, soft_timeout=0.02)
    work.before = lambda: time.sleep(0.1)
    work(1)
    work.invalidate(1)
    assert work(1)["run"] == 2


def test_followers_are_served_the_old_value(driver: Driver) -> None:
    work = driver.work(
        driver.cache(None), ttl=0.05, serve_stale_on_error=True, soft_timeout=0.1
    )
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.1)
    assert together(driver, work, 4) == [1] * 4
    assert work.runs == 2
    pace.go()


@WHERE
def test_a_late_run_that_raises_changes_nothing(driver: Driver, cache: Cache) -> None:
    work = driver.work(
        cache, ttl=0.05, serve_stale_on_error=True, soft_timeout=0.05, stale_retry=30
    )
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.1)
    assert work(1) == 1
    pace.error = KeyError("x")
    pace.go()
    driver.rest(0.1)
    assert work(1) == 1
    assert work.runs == 2


def test_first_the_soft_limit_and_then_the_hard_one(driver: Driver) -> None:
    """The run whose caller has left is ended by the hard limit."""
    work = driver.work(
        driver.cache(None),
        ttl=0.05,
        serve_stale_on_error=True,
        soft_timeout=0.05,
        hard_timeout=0.3,
        stale_retry=30,
    )
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.1)
    assert work(1) == 1
    if driver.is_async:
        driver.wait_until(lambda: pace.cancelled == 1)
    pace.go()


def test_an_invalidation_while_the_run_goes_on_keeps_it_from_storing(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=0.3, serve_stale_on_error=True, soft_timeout=0.05)
    pace = Pace(driver, work)
    assert work(1) == 1
    driver.rest(0.35)
    assert work(1) == 1
    work.invalidate(1)
    pace.slow = 99
    pace.go()
    driver.rest(0.1)
    assert work.entry(1) is None
    assert work(1) == 3


# ---- early_refresh -------------------------------------------------------------------


class Reader:
    """Reads a hot key of slow functions, again and again.

    ``waited``  runs that a caller waited for: it called before the run began, and had
                no answer when that had ended
    """

    def __init__(self, driver: Driver, seconds: float, *works: Work) -> None:
        self.driver, self.seconds, self.works = driver, seconds, works
        self.waited = self._calls = 0
        for work in works:
            work.answer = self._answer

    def _answer(self, n: Any) -> Any:
        begun = self._calls
        if self.driver.is_async:
            return self._sleep(n, begun)
        time.sleep(self.seconds)
        self.waited += self._calls == begun
        return n

    async def _sleep(self, n: Any, begun: int) -> Any:
        await asyncio.sleep(self.seconds)
        self.waited += self._calls == begun
        return n

    def _call(self, work: Work) -> None:
        if not work.driver.is_async:
            work(1)
            return

        async def call() -> None:
            await work.cached(1)

        work.driver.finish(call())

    @property
    def runs(self) -> int:
        return sum(work.runs for work in self.works)

    def read(self, seconds: float = MAX, runs: int = 0) -> None:
        """For so long, or until there have been so many runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (runs and self.runs >= runs):
            for work in self.works:
                self._calls += 1
                self._call(work)
            self.driver.rest(0.002)


@WHERE
def test_a_hot_key_is_renewed_before_it_expires(driver: Driver, cache: Cache) -> None:
    """A run takes 0.2 s: in the last 0.2 s of the fresh period some caller is early,
    and after the first nobody waits."""
    reader = Reader(driver, 0.2, driver.work(cache, ttl=1.0, early_refresh=True))
    reader.read(2.0)
    assert reader.runs >= 2
    assert reader.waited == 1


def test_without_it_somebody_waits(driver: Driver) -> None:
    reader = Reader(driver, 0.05, driver.work(driver.cache(None), ttl=0.3))
    reader.read(0.8)
    assert reader.waited == reader.runs > 1


def test_a_quick_function_is_not_renewed_early(driver: Driver) -> None:
    """The less a run costs, the later."""
    work = driver.work(driver.cache(None), ttl=600, early_refresh=True)
    work(1)
    for _ in range(2000):
        work(1)
    assert work.runs == 1


def test_it_is_renewed_by_one_process(
    driver: Driver, redis_server: RedisServer
) -> None:
    """The other takes what that one has stored."""
    elsewhere = Driver()
    try:
        options = {"name": "f", "ttl": 2.0, "early_refresh": True}
        ours = driver.work(driver.cache(redis_server.url), **options)
        theirs = elsewhere.work(elsewhere.cache(redis_server.url), **options)
        Reader(driver, 0.1, ours).read(runs=1)
        both = Reader(driver, 0.1, ours)
        Reader(elsewhere, 0.1, theirs)
        both.works = (ours, theirs)
        both.read(runs=2)
        both.read(0.3)
        assert both.runs == 2
        assert both.waited == 0
    finally:
        elsewhere.close()


def test_a_hit_outside_of_a_loop_refreshes_nothing(driver: Driver) -> None:
    """``asyncio.run(work(1))`` asks for the value before the loop runs."""
    work = driver.work(driver.cache(None), ttl=1.0, early_refresh=True)
    work.before = lambda: time.sleep(0.5)
    for _ in range(200):
        work(1)
    if driver.is_async:
        assert work.runs == 1


# ---- after a failure -----------------------------------------------------------------


def test_the_pause_after_a_failed_refresh_grows(driver: Driver) -> None:
    """One second, then two."""
    work = driver.work(driver.cache(None), ttl=0.05, stale_ttl=600)
    work(1)
    work.error = ValueError("no")
    driver.rest(0.1)
    attempts: list[float] = []
    work.before = lambda: attempts.append(time.monotonic())
    end = time.monotonic() + 2.6
    while time.monotonic() < end:
        assert work(1)["run"] == 1
        driver.rest(0.01)
    assert len(attempts) == 2
    assert 0.95 <= attempts[1] - attempts[0] < 2.0
