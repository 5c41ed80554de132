"""What each strategy does, with memory and without, on a real store; one file for both
drivers. The whole matrix of states is in test_strategy_table.py."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from driver import Driver, Work, each_driver
from servers import RedisServer, free_port

from cachekit import BackendError, CacheMiss, SerializationError, Strategy

driver = each_driver

RUNNING = ["REFRESH", "INVALIDATE", "BYPASS"]
ALL = ["FRESH", *RUNNING]


@pytest.fixture(params=[True, False], ids=["memory", "no-memory"])
def memory(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def work(driver: Driver, redis_server: RedisServer, memory: bool) -> Work:
    """On a server that is up."""
    cache = driver.cache(redis_server.url)
    return driver.work(cache, ttl=60, l1_enabled=memory)


@pytest.fixture
def lost(driver: Driver, memory: bool) -> Work:
    """On a server that refuses."""
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}")
    return driver.work(cache, ttl=60, l1_enabled=memory)


def stored(server: RedisServer, work: Work, *args: Any) -> bytes | None:
    return server.call("GET", work.key_for(*args))


def warnings(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [
        record
        for record in caplog.records
        if record.levelno == logging.WARNING and getattr(record, "event", "") == event
    ]


# REFRESH


def test_refresh_runs_once_and_serves_the_value_from_then_on(work):
    assert [work(1) for _ in range(5)] == [{"n": 1, "run": 1}] * 5
    assert work.runs == 1
    assert work.info.hits == 4 and work.info.misses == 1


def test_refresh_writes_back_for_other_processes(driver, redis_server, memory):
    first, second = (
        driver.work(
            driver.cache(redis_server.url), ttl=60, l1_enabled=memory, name="shared"
        )
        for _ in range(2)
    )
    assert first(1) == {"n": 1, "run": 1}
    assert second(1) == {"n": 1, "run": 1}
    assert second.runs == 0 and second.info.l2_hits == 1


def test_a_hit_of_the_store_is_kept_in_memory(driver, redis_server, proxy):
    options = {"ttl": 60, "name": "kept"}
    driver.work(driver.cache(redis_server.url), **options)(1)
    work = driver.work(driver.cache(proxy.url), **options)
    assert work(1) == work(1) == {"n": 1, "run": 1}
    assert (work.info.l2_hits, work.info.l1_hits) == (1, 1)


def test_a_hit_costs_one_round_trip_and_a_fill_two_more(driver, proxy):
    work = driver.work(driver.cache(proxy.url), ttl=60, l1_enabled=False)
    work(0)
    before = proxy.round_trips
    work(1)
    assert proxy.round_trips == before + 3
    work(1)
    assert proxy.round_trips == before + 4


def test_a_memory_hit_asks_no_server(driver, proxy):
    work = driver.work(driver.cache(proxy.url), ttl=60)
    work(1)
    before = proxy.round_trips
    work(1)
    assert proxy.round_trips == before


# FRESH


def test_fresh_without_an_entry_raises_and_never_runs(work, redis_server):
    with pytest.raises(CacheMiss):
        work.using("FRESH")(1)
    assert work.runs == 0
    assert stored(redis_server, work, 1) is None
    assert work.info.misses == 1


def test_fresh_serves_an_entry(work):
    work(1)
    assert work.using("FRESH")(1) == {"n": 1, "run": 1}
    assert work.runs == 1


# INVALIDATE


def test_invalidate_deletes_before_it_runs_and_writes_back(work, redis_server):
    work(1)
    seen: list[Any] = []
    work.before = lambda: seen.append(stored(redis_server, work, 1))
    assert work.using("INVALIDATE")(1) == {"n": 1, "run": 2}
    assert seen == [None]
    assert work(1) == {"n": 1, "run": 2}
    assert stored(redis_server, work, 1) is not None


def test_invalidate_leaves_nothing_when_the_function_raises(work, redis_server):
    work(1)
    work.error = KeyError("gone")
    with pytest.raises(KeyError):
        work.using("INVALIDATE")(1)
    assert stored(redis_server, work, 1) is None
    with pytest.raises(CacheMiss):
        work.using("FRESH")(1)


# BYPASS


def test_bypass_leaves_the_old_entry_until_the_new_one_is_there(work, redis_server):
    work(1)
    old = stored(redis_server, work, 1)
    seen: list[Any] = []
    work.before = lambda: seen.append(stored(redis_server, work, 1))
    assert work.using("BYPASS")(1) == {"n": 1, "run": 2}
    assert seen == [old]
    work.before = None
    assert work(1) == {"n": 1, "run": 2}
    assert stored(redis_server, work, 1) not in (None, old)


def test_bypass_keeps_the_old_entry_when_the_function_raises(work):
    work(1)
    work.error = KeyError("not today")
    with pytest.raises(KeyError):
        work.using("BYPASS")(1)
    assert work(1) == {"n": 1, "run": 1}


# Choosing


@pytest.mark.parametrize("name", ["bypass", "BYPASS", "Bypass", Strategy.BYPASS])
def test_a_strategy_is_chosen_by_member_or_by_name_in_any_case(work, name):
    work(1)
    assert work.using(name)(1)["run"] == 2
    assert work(1)["run"] == 2, "the choice is for one call"


def test_a_function_may_have_a_strategy_of_its_own(driver, redis_server):
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, strategy="FRESH")
    with pytest.raises(CacheMiss):
        work(1)
    assert work.using("REFRESH")(1) == work(1) == {"n": 1, "run": 1}


def test_an_unknown_strategy_is_a_value_error_that_names_the_accepted(work):
    with pytest.raises(ValueError, match="FRESH, REFRESH, INVALIDATE, BYPASS"):
        work.cached.using("lazy")
    with pytest.raises(TypeError):
        work.cached.using(3)


# The store fails


@pytest.mark.parametrize("strategy", RUNNING)
def test_no_store_failure_reaches_the_caller(lost, strategy):
    for n in range(8):
        assert lost.using(strategy)(n) == {"n": n, "run": n + 1}


def test_fresh_raises_the_store_failure(lost):
    with pytest.raises(BackendError):
        lost.using("FRESH")(1)
    assert lost.runs == 0 and lost.info.misses == 0


@pytest.mark.parametrize("strategy", ["FRESH", "REFRESH"])
def test_a_memory_hit_is_served_while_the_store_fails(driver, proxy, strategy):
    work = driver.work(driver.cache(proxy.url), ttl=60)
    work(1)
    proxy.refuse()
    assert work.using(strategy)(1) == {"n": 1, "run": 1}
    assert work.runs == 1 and work.info.errors == 0


def test_what_a_failing_store_did_not_take_is_kept_in_memory(driver):
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}")
    work = driver.work(cache, ttl=60)
    assert work(1) == work(1) == {"n": 1, "run": 1}


def test_after_a_failed_read_no_write_is_tried(driver, proxy):
    proxy.refuse()
    work = driver.work(driver.cache(proxy.url), ttl=60, l1_enabled=False)
    work.before = proxy.heal
    work(1)
    assert proxy.connections == 0


@pytest.mark.parametrize("strategy", ["FRESH", "REFRESH", "INVALIDATE", "BYPASS"])
def test_without_fallback_a_failing_store_raises_before_the_run(driver, strategy):
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}")
    work = driver.work(cache, fallback_enabled=False)
    with pytest.raises(BackendError):
        work.using(strategy)(1)
    assert work.runs == 0


def test_without_fallback_a_failed_write_raises_and_memory_keeps_the_value(driver):
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}")
    work = driver.work(cache, fallback_enabled=False)
    with pytest.raises(BackendError):
        work.put("at hand", 1)
    assert work(1) == "at hand"
    assert work.runs == 0


def test_without_fallback_an_open_breaker_raises_too(driver):
    cache = driver.cache(f"redis://127.0.0.1:{free_port()}", fallback_enabled=False)
    work = driver.work(cache)
    for _ in range(10):
        with pytest.raises(BackendError):
            work(1)
    assert work.runs == 0


def test_a_store_that_fails_is_logged_once_per_change(driver, proxy, caplog):
    cache = driver.cache(proxy.url, circuit_breaker_failure_threshold=3)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    proxy.refuse()
    for n in range(20):
        work(n)
    assert len(warnings(caplog, "store_failed")) == 1
    proxy.heal()
    driver.wait_until(lambda: (work(1), work.info.l2_hits)[1] > 0)
    assert len(warnings(caplog, "store_recovered")) == 1
    proxy.refuse()
    for n in range(20):
        work(n)
    assert len(warnings(caplog, "store_failed")) == 2


WRITES_FAIL = {
    "out of memory": ("maxmemory", "1", "0"),
    "too few replicas": ("min-replicas-to-write", "1", "0"),
}


@pytest.mark.parametrize("state", WRITES_FAIL)
def test_a_refused_write_is_quiet_logged_once_and_no_matter_for_the_breaker(
    driver, redis_server, proxy, state, caplog
):
    name, broken, healthy = WRITES_FAIL[state]
    cache = driver.cache(proxy.url)
    work = driver.work(cache, l1_enabled=False)
    redis_server.call("CONFIG", "SET", name, broken)
    try:
        for n in range(10):
            assert work(n)["n"] == n
    finally:
        redis_server.call("CONFIG", "SET", name, healthy)
    assert len(warnings(caplog, "store_failed")) == 1
    assert work.runs == 10
    assert cache.detailed_health_check()["circuit_breaker"]["state"] == "closed"


# The function raises


@pytest.mark.parametrize("strategy", RUNNING)
@pytest.mark.parametrize("up", [True, False], ids=["store-up", "store-down"])
def test_the_functions_own_exception_arrives_as_it_is(
    driver, redis_server, memory, strategy, up
):
    url = redis_server.url if up else f"redis://127.0.0.1:{free_port()}"
    work = driver.work(driver.cache(url), l1_enabled=memory)
    work.error = error = ConnectionError("the database is down")
    with pytest.raises(ConnectionError) as caught:
        work.using(strategy)(1)
    assert caught.value is error
    assert error.__cause__ is None and error.__context__ is None
    assert work.runs == 1
    assert work.info.errors == 0 or not up


def test_the_functions_exceptions_never_open_the_breaker(driver, redis_server):
    cache = driver.cache(redis_server.url)
    work = driver.work(cache)
    work.error = TimeoutError("the database is slow")
    for n in range(10):
        with pytest.raises(TimeoutError):
            work(n)
    breaker = cache.detailed_health_check()["circuit_breaker"]
    assert breaker["state"] == "closed" and breaker["failure_count"] == 0
    assert work.info.errors == 0


def test_a_backend_error_of_the_function_is_the_functions(driver, redis_server):
    cache = driver.cache(redis_server.url)
    work = driver.work(cache)
    work.error = error = BackendError("a client that the function uses")
    with pytest.raises(BackendError) as caught:
        work(1)
    assert caught.value is error and work.runs == 1 and work.info.errors == 0


@pytest.mark.parametrize("strategy", ["FRESH", "REFRESH"])
def test_an_entry_spares_the_caller_a_raising_function(work, strategy):
    work(1)
    work.error = KeyError("never reached")
    assert work.using(strategy)(1) == {"n": 1, "run": 1}
    assert work.runs == 1


# One run at most


@pytest.mark.parametrize("strategy", RUNNING)
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("harm", ["refuse", "reset", "cut", "stall", "drop"])
def test_the_function_runs_once_whatever_happens_to_the_store_meanwhile(
    driver, proxy, strategy, raises, harm
):
    cache = driver.cache(proxy.url, socket_timeout=0.05)
    work = driver.work(cache, l1_enabled=False)
    work(0)
    runs = work.runs
    work.before = getattr(proxy, harm)
    work.error = ValueError("no") if raises else None
    if raises:
        with pytest.raises(ValueError):
            work.using(strategy)(1)
    else:
        assert work.using(strategy)(1) == {"n": 1, "run": runs + 1}
    assert work.runs == runs + 1


# Values that cannot be stored


class Opaque:
    def __repr__(self) -> str:
        return "the secret"


@pytest.mark.parametrize("strategy", RUNNING)
def test_what_cannot_be_encoded_is_returned_counted_and_not_stored(
    work, redis_server, strategy
):
    value = {"users": [1, Opaque()]}
    work.answer = lambda n: value
    assert work.using(strategy)(1) is value
    assert work.info.unencodable == 1
    assert stored(redis_server, work, 1) is None
    work.answer = None
    assert work(1) == {"n": 1, "run": 2}


def test_what_cannot_be_encoded_is_logged_once_without_its_content(work, caplog):
    work.answer = lambda n: {"users": [1, Opaque()]}
    for _ in range(5):
        work(1)
    assert work.runs == 5 and work.info.unencodable == 5
    (record,) = warnings(caplog, "unencodable")
    text = record.getMessage()
    assert work.cached._plan.name in text
    assert "Opaque" in text and "$.users[1]" in text
    assert "secret" not in text
    assert "@cache.local" not in text
    assert "secret" not in str(record.__dict__)


def test_in_memory_only_the_notice_offers_local(driver, caplog):
    work = driver.work(driver.cache(None))
    work.answer = lambda n: Opaque()
    work(1)
    (record,) = warnings(caplog, "unencodable")
    assert "@cache.local" in record.getMessage()


def test_without_fallback_what_cannot_be_encoded_raises(driver, redis_server, memory):
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, fallback_enabled=False, l1_enabled=memory)
    work.answer = lambda n: [Opaque()]
    with pytest.raises(SerializationError) as caught:
        work(1)
    assert caught.value.code == "E004"
    assert work.runs == 1 and work.info.unencodable == 1


def test_what_is_too_large_is_returned_counted_and_not_stored(
    driver, redis_server, memory, caplog
):
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, max_value_size=100, l1_enabled=memory)
    work.answer = lambda n: "x" * 200
    assert work(1) == work(1) == "x" * 200
    assert work.runs == 2 and work.info.oversized == 2
    assert stored(redis_server, work, 1) is None
    assert len(warnings(caplog, "oversized")) == 1


# Values


def test_a_caller_that_changes_its_value_changes_no_other(work):
    first = work(1)
    first["n"] = "changed"
    second = work(1)
    assert second == {"n": 1, "run": 1}
    second["n"] = "changed"
    assert work(1) == {"n": 1, "run": 1}


# Memory only


@pytest.mark.parametrize("strategy", RUNNING)
def test_memory_alone_follows_the_same_rules(driver, strategy):
    work = driver.work(driver.cache(None), ttl=60)
    with pytest.raises(CacheMiss):
        work.using("FRESH")(1)
    assert work.using(strategy)(1) == {"n": 1, "run": 1}
    assert work(1) == work.using("FRESH")(1) == {"n": 1, "run": 1}
    expected = 1 if strategy == "REFRESH" else 2
    assert work.using(strategy)(1)["run"] == expected
    assert work(1)["run"] == expected


# Both kinds of function on one store


def test_sync_and_async_functions_share_entries(redis_server):
    from driver import AsyncDriver

    one, other = Driver(), AsyncDriver()
    try:
        plain = one.work(one.cache(redis_server.url), name="both")
        coroutine = other.work(other.cache(redis_server.url), name="both")
        assert plain.key_for(1) == coroutine.key_for(1)
        assert plain(1) == coroutine(1) == {"n": 1, "run": 1}
        assert coroutine.runs == 0
    finally:
        one.close()
        other.close()


def test_strategies_hold_for_many_threads_at_once(redis_server):
    driver = Driver()
    work = driver.work(driver.cache(redis_server.url), ttl=60)
    seen: list[Any] = []

    def caller(i: int) -> None:
        for n in range(20):
            seen.append(work.using(RUNNING[(i + n) % 3])(n)["n"] == n)

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    driver.close()
    assert seen == [True] * 160
