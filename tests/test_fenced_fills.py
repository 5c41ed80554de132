"""What was computed before an invalidation elsewhere is not stored after it.

One program's function has read a row; then another program, which shares the store and
nothing else, invalidates or writes something newer; then the function returns.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from peers import Peer
from proxy import Proxy
from servers import RedisServer

from cachekit import Cache, CacheConfig
from cachekit._errors import CacheMiss
from cachekit.backends._protocol import fence_key, lock_key


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


@pytest.fixture
def elsewhere() -> Iterator[Driver]:
    """The other program; blocking, so that it can act in the middle of a run."""
    driver = Driver()
    yield driver
    driver.close()


_races = itertools.count(1)


class Race:
    """Two programs, and a row that both of their functions read.

    The first run of ours has read "old" when `lands` is called, by which the row has
    become "new".
    """

    def __init__(
        self,
        ours: Driver,
        theirs: Driver,
        url: str,
        their_url: str = "",
        **options: Any,
    ) -> None:
        # Of its own: a refresh in the background may outlive its test.
        self.name = f"row{next(_races)}"
        options = {"name": self.name, "ttl": 600, **options}
        l1_enabled = options.pop("l1_enabled", True)
        self.row = "old"
        self.url = their_url or url
        self.cache = theirs.cache(self.url, l1_enabled=l1_enabled)
        self.theirs = theirs.work(self.cache, **options)
        self.ours = ours.work(ours.cache(url, l1_enabled=l1_enabled), **options)
        self.ours.answer = self._first
        self.theirs.answer = lambda n: self.row
        self.lands: Callable[[Race], Any] = lambda race: None

    def _first(self, n: Any) -> str:
        row = self.row
        if row == "old":
            self.row = "new"
            self.lands(self)
        return row

    def run(self, lands: Callable[[Race], Any], first: Any = None) -> Any:
        self.lands = lands
        return (first or Work.__call__)(self.ours, 1)

    def stored(self) -> Any:
        """What the store holds, told by a program that begins now."""
        driver = Driver()
        try:
            work = driver.work(
                driver.cache(self.url), name=self.name, ttl=600, stale_ttl=600
            )
            return work.using("FRESH")(1)
        except CacheMiss:
            return None
        finally:
            driver.close()


NEWER: dict[str, Callable[[Race], Any]] = {
    "invalidate": lambda race: race.theirs.invalidate(1),
    "put": lambda race: race.theirs.put("new", 1),
    "refresh": lambda race: race.theirs.refresh(1),
    "BYPASS": lambda race: race.theirs.using("BYPASS")(1),
    "INVALIDATE": lambda race: race.theirs.using("INVALIDATE")(1),
}
WHOLE: dict[str, Callable[[Race], Any]] = {
    "invalidate_all": lambda race: race.theirs.invalidate_all(),
    "clear": lambda race: race.cache.clear(),
    "clear namespace": lambda race: race.cache.clear(namespace="test"),
}
FIRST: dict[str, Callable[[Work, int], Any]] = {
    "call": Work.__call__,
    "refresh": lambda fn, n: fn.refresh(n),
    "BYPASS": lambda fn, n: fn.using("BYPASS")(n),
    "INVALIDATE": lambda fn, n: fn.using("INVALIDATE")(n),
}


@pytest.mark.parametrize("locks", [False, True], ids=["", "lock"])
@pytest.mark.parametrize("newer", [*NEWER, *WHOLE])
def test_an_older_run_stores_nothing(
    driver: Driver,
    elsewhere: Driver,
    redis_server: RedisServer,
    newer: str,
    locks: bool,
) -> None:
    race = Race(
        driver, elsewhere, redis_server.url, l1_enabled=False, distributed_lock=locks
    )
    happens = {**NEWER, **WHOLE}[newer]
    assert race.run(happens) == "old"
    assert race.stored() == (None if newer in ("invalidate", *WHOLE) else "new")
    assert race.ours(1) == "new"
    assert race.theirs(1) == "new"


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("newer", NEWER)
def test_neither_does_one_that_did_not_begin_with_a_read(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer, newer: str, first: str
) -> None:
    race = Race(driver, elsewhere, redis_server.url)
    assert race.run(NEWER[newer], FIRST[first]) == "old"
    assert race.stored() == (None if newer == "invalidate" else "new")
    driver.wait_until(lambda: race.ours(1) == "new")  # memory keeps nothing of it
    assert race.theirs(1) == "new"


@pytest.mark.parametrize("newer", ["invalidate", "put", "invalidate_all"])
def test_a_refresh_in_the_background_stores_nothing_either(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer, newer: str
) -> None:
    options = {"ttl": 0.05, "stale_ttl": 600, "l1_enabled": False}
    race = Race(driver, elsewhere, redis_server.url, **options)
    race.row = "oldest"
    race.theirs(1)
    driver.rest(0.1)
    race.row = "old"
    ended: list[int] = []
    happens = {**NEWER, **WHOLE}[newer]
    race.lands = lambda race: ended.append(happens(race))
    assert race.ours(1) == "oldest"
    driver.wait_until(lambda: ended)
    driver.rest(0.05)
    assert race.stored() == ("new" if newer == "put" else None)
    assert race.ours(1) == "new"


def test_a_tag_is_invalidated_meanwhile(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    options = {"tags": lambda n: [f"row:{n}"], "l1_enabled": False}
    race = Race(driver, elsewhere, redis_server.url, **options)
    race.theirs(2)
    assert race.run(lambda race: race.cache.invalidate_tags("row:1")) == "old"
    assert race.ours(1) == "new"


def test_a_name_is_set_meanwhile(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    full_key = {"full_key": lambda n: f"row:{n}", "l1_enabled": False}
    race = Race(driver, elsewhere, redis_server.url, **full_key)
    assert race.run(lambda race: race.cache.set("row:1", "new")) == "old"
    assert race.ours(1) == "new"
    assert race.cache.get("row:1") == "new"
    assert race.ours.runs == 1


def test_of_two_runs_that_overlap_one_stores(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    """They share a fence; nothing was invalidated, so the one that is first stores."""
    race = Race(driver, elsewhere, redis_server.url, l1_enabled=False)
    assert race.run(lambda race: race.theirs(1)) == "old"
    assert race.stored() == "new"
    assert race.ours(1) == "new"


def test_a_later_run_stores(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    """The fence that an older run leaves behind is no burden for those after it."""
    race = Race(driver, elsewhere, redis_server.url, l1_enabled=False)
    race.run(NEWER["invalidate"])
    assert race.ours(1) == "new"
    assert race.stored() == "new"
    race.theirs(1)
    assert race.theirs.runs == 0


@pytest.mark.parametrize("newer", ["invalidate", "put", "invalidate_all"])
def test_a_reply_on_the_wire_is_not_kept(
    driver: Driver,
    elsewhere: Driver,
    proxy: Proxy,
    redis_server: RedisServer,
    newer: str,
) -> None:
    """The store has given the old entry away when it is invalidated; the answer arrives
    after the news."""
    race = Race(driver, elsewhere, proxy.url, redis_server.url)
    race.row = "oldest"
    assert race.theirs(1) == "oldest"
    race.ours(2)
    race.row = "new"

    proxy.only(listening=False)
    proxy.hold()
    trips = proxy.round_trips
    happens = {**NEWER, **WHOLE}[newer]
    with Meanwhile(
        lambda: proxy.round_trips > trips,
        lambda: happens(race),
        lambda: time.sleep(0.1),  # for the news to be heard
        proxy.heal,
    ):
        assert race.ours(1) == "oldest"
    assert race.ours(1) == "new"


class Meanwhile:
    """Do things in another thread, once something holds."""

    def __init__(self, holds: Callable[[], Any], *jobs: Callable[[], Any]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1)
        self._holds, self._jobs = holds, jobs

    def _work(self) -> None:
        deadline = time.monotonic() + 10
        while not self._holds():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        for job in self._jobs:
            job()

    def __enter__(self) -> None:
        self._future = self._pool.submit(self._work)

    def __exit__(self, *exc: object) -> None:
        try:
            self._future.result()
        finally:
            self._pool.shutdown()


# ---- between processes ---------------------------------------------------------------


class Shop:
    """What each of two processes has."""

    def __init__(self, url: str, locks: bool) -> None:
        self.cache = Cache(CacheConfig(namespace="shop"), backend=url)

        @self.cache(name="price", ttl=600, distributed_lock=locks)
        def price(item: int, row: str = "", seconds: float = 0.0) -> str:
            self.runs += 1
            time.sleep(self.seconds)
            return self.row

        self.runs, self.row, self.seconds = 0, "old", 0.0
        self.function = price

    def set(self, row: str, seconds: float) -> None:
        self.row, self.seconds = row, seconds

    def price(self) -> str:
        return str(self.function(1))

    def invalidate(self) -> str:
        return self.function.invalidate(1).name

    def count(self) -> int:
        return self.runs


@pytest.mark.parametrize("locks", [False, True], ids=["", "lock"])
def test_an_older_run_of_another_process_stores_nothing(
    redis_server: RedisServer, locks: bool
) -> None:
    url = redis_server.url
    with Peer(lambda: Shop(url, locks)) as one, Peer(lambda: Shop(url, locks)) as two:
        two.call("set", "new", 0.0)
        one.call("set", "old", 0.5)
        one.tell("price")
        while not any(key.endswith(b"}:f") for key in redis_server.call("KEYS", "*")):
            time.sleep(0.002)
        assert two.call("invalidate") == "DELIVERED"
        assert one.answer() == "old"
        one.call("set", "new", 0.0)
        assert one.call("price") == "new"
        assert two.call("price") == "new"
        assert one.call("count") + two.call("count") == 2


# ---- what the server does to scripts, and to fences ----------------------------------


@pytest.mark.parametrize("event", ["SCRIPT FLUSH", "restart"])
def test_scripts_that_are_lost_are_sent_again(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer, event: str
) -> None:
    race = Race(driver, elsewhere, own_redis.url, l1_enabled=False)

    def lands(race: Race) -> None:
        if event == "restart":
            own_redis.restart()
        else:
            own_redis.cli(event)
        race.theirs.invalidate(1)
        if event != "restart":
            own_redis.cli(event)

    race.ours.answer, former = (lambda n: "else"), race.ours.answer
    race.ours(2)  # the scripts are known
    race.ours.answer = former
    assert race.run(lands) == "old"
    assert race.stored() is None
    assert race.ours(1) == "new"
    assert race.stored() == "new"
    assert race.ours.info.errors == 0 or event == "restart"


def test_where_scripts_are_refused_fills_are_plain(
    driver: Driver,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_redis.cli("ACL SETUSER plain on >secret ~* &* +@all -eval -evalsha")
    url = own_redis.url.replace("redis://", "redis://plain:secret@")
    cache = driver.cache(url, l1_enabled=False)
    assert cache.detailed_health_check()["fenced"] is True
    work = driver.work(cache, ttl=600)
    with caplog.at_level(logging.WARNING, "cachekit"):
        for n in range(5):
            assert work(n)["run"] == n + 1
            assert work(n)["run"] == n + 1
        work.invalidate(0)
        assert work(0)["run"] == 6
        work.invalidate_all()
        assert work(0)["run"] == 7
        assert work(0)["run"] == 7
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.event for record in said] == ["unfenced"]
    assert "script" in said[0].getMessage()
    assert cache.detailed_health_check()["fenced"] is False
    assert not [key for key in own_redis.call("KEYS", "*") if key.endswith(b":f")]


def test_a_run_that_outlives_its_fence_stores_nothing(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, fence_ttl=0.05)
    work.before = lambda: time.sleep(0.15)
    assert work(1)["run"] == 1
    work.before = None
    assert work(1)["run"] == 2
    assert work(1)["run"] == 2


def test_one_that_takes_less_does(driver: Driver, redis_server: RedisServer) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, fence_ttl=60)
    work.before = lambda: time.sleep(0.15)
    assert work(1)["run"] == 1
    assert work(1)["run"] == 1


def test_a_fence_lives_for_an_hour(driver: Driver, redis_server: RedisServer) -> None:
    work = driver.work(driver.cache(redis_server.url), ttl=600)
    left: list[int] = []
    fence = fence_key(work.cached.key_for(1))
    work.before = lambda: left.append(redis_server.call("PTTL", fence))
    work(1)
    assert 3_590_000 < left[0] <= 3_600_000
    assert redis_server.call("EXISTS", fence, lock_key(work.cached.key_for(1))) == 0


def test_a_foreign_del_does_not_fence(
    driver: Driver, redis_server: RedisServer
) -> None:
    """Only what is invalidated with cachekit is."""
    work = driver.work(driver.cache(redis_server.url, l1_enabled=False), ttl=600)
    work.before = lambda: redis_server.call("DEL", work.cached.key_for(1))
    assert work(1)["run"] == 1
    assert work(1)["run"] == 1


@pytest.mark.parametrize("side", [fence_key, lock_key])
@pytest.mark.parametrize("kind", ["list", "text"])
def test_a_side_key_that_is_somebody_elses_is_left_alone(
    driver: Driver,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    side: Callable[[str], str],
    kind: str,
) -> None:
    cache = driver.cache(own_redis.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, distributed_lock=True)
    key = side(work.cached.key_for(1))
    store = ("RPUSH", key, "theirs") if kind == "list" else ("SET", key, "theirs")
    own_redis.call(*store)
    with caplog.at_level(logging.WARNING, "cachekit"):
        assert work(1)["run"] == 1
        assert work(1)["run"] == 2
    read = ("LINDEX", key, 0) if kind == "list" else ("GET", key)
    assert own_redis.call(*read) == b"theirs"
    assert [record.event for record in caplog.records] == ["foreign_key"]
    assert cache.detailed_health_check()["circuit_breaker"]["failure_count"] == 0
    assert work(2)["run"] == 3
    assert work(2)["run"] == 3
