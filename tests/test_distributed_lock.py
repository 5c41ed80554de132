"""``distributed_lock``: one run at a time across processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from peers import Peer
from servers import RedisServer
from together import background, in_threads

from cachekit import Cache, CacheConfig
from cachekit.backends import MemoryBackend
from cachekit.backends._protocol import lock_key

PROCESSES, CALLERS = 8, 25


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def eventually(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)
    return found


class Shop:
    """What each process has: a slow function, blocking and async, under a lock."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.server = server
        # A cold key whose 200 callers meet: memory is no help, and must not hide runs.
        self.cache = Cache(CacheConfig(namespace="shop"), backend=server.url)
        options = {"ttl": 600, "distributed_lock": True, **options}
        self.seconds = 0.2
        self.fails = False

        def price(item: Any) -> str:
            self._begin(item)
            time.sleep(self.seconds)
            return self._end(item)

        async def aprice(item: Any) -> str:
            self._begin(item)
            await asyncio.sleep(self.seconds)
            return self._end(item)

        self.price = self.cache(name="price", **options)(price)
        self.aprice = self.cache(name="aprice", **options)(aprice)

    def _begin(self, item: Any) -> None:
        self.server.call("RPUSH", f"runs:{item}", "1")

    def _end(self, item: Any) -> str:
        if self.fails:
            raise ValueError("no price")
        return f"price of {item}"

    def slow(self, seconds: float, fails: bool = False) -> None:
        self.seconds, self.fails = seconds, fails

    def ready(self, item: Any) -> None:
        """Connect, subscribe, import: what a process has done once it is up."""
        former, self.seconds = self.seconds, 0.0
        self.price(item)
        asyncio.run(self._ready(item))
        self.seconds = former

    async def _ready(self, item: Any) -> None:
        await self.aprice(item)
        await self.cache.aclose()

    def one(self, item: Any) -> Any:
        try:
            return self.price(item)
        except ValueError as error:
            return str(error)

    def callers(self, item: Any, asynchronous: bool) -> tuple[set[Any], float]:
        """25 at once: what they got, and how long the longest of them waited."""
        if asynchronous:
            results = asyncio.run(self._tasks(item))
        else:
            results = in_threads(CALLERS, lambda: self._timed(item))
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return {value for value, _ in results}, max(took for _, took in results)

    def _timed(self, item: Any) -> tuple[Any, float]:
        began = time.monotonic()
        return self.price(item), time.monotonic() - began

    async def _tasks(self, item: Any) -> list[Any]:
        async def timed() -> tuple[Any, float]:
            began = time.monotonic()
            return await self.aprice(item), time.monotonic() - began

        try:
            return await asyncio.gather(*(timed() for _ in range(CALLERS)))
        finally:
            await self.cache.aclose()

    def refresh_by_reading(self, item: Any) -> str:
        return str(self.price(item))


@pytest.fixture
def shops(redis_server: RedisServer) -> Iterator[Callable[..., Peer]]:
    """Starts processes."""
    peers: list[Peer] = []

    def start(**options: Any) -> Peer:
        peers.append(Peer(lambda: Shop(redis_server, **options)))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def runs(server: RedisServer, item: Any) -> int:
    return int(server.call("LLEN", f"runs:{item}"))


def lock_of(server: RedisServer) -> bytes | None:
    """What the lock holds, if there is one: there is never more than one."""
    locks = [key for key in server.call("KEYS", "*") if key.endswith(b"}:l")]
    return server.call("GET", locks[0]) if locks else None


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_one_run_for_everybody(
    redis_server: RedisServer,
    shops: Callable[..., Peer],
    asynchronous: bool,
    record_property: Callable[[str, object], None],
) -> None:
    peers = [shops() for _ in range(PROCESSES)]
    for peer in peers:
        peer.call("ready", "another")
    for peer in peers:
        peer.tell("callers", "book", asynchronous)
    answers = [peer.answer() for peer in peers]
    assert all(values == {"price of book"} for values, _ in answers)
    assert runs(redis_server, "book") == 1
    longest = max(took for _, took in answers)
    record_property("longest wait", longest)
    print(f"the longest of {PROCESSES * CALLERS} callers waited {longest:.3f} s")
    # 0.25 s on a machine of its own.
    assert longest < 2.0
    assert lock_of(redis_server) is None


def test_others_are_told_when_the_value_is_there(
    redis_server: RedisServer, shops: Callable[..., Peer]
) -> None:
    """They do not find out by looking: after 1.6 s the looks are 0.1 to 0.2 s apart."""
    one, *others = (shops() for _ in range(4))
    for peer in (one, *others):
        peer.call("ready", "another")
    one.call("slow", 1.6)
    one.tell("one", "book")
    eventually(lambda: lock_of(redis_server))
    for peer in others:
        peer.tell("one", "book")
    one.answer()
    came = time.monotonic()
    assert [peer.answer() for peer in others] == ["price of book"] * 3
    assert time.monotonic() - came < 0.5
    assert runs(redis_server, "book") == 1
    stats = redis_server.call("INFO", "commandstats").decode()
    assert "cmdstat_publish:calls=1," in stats


def test_a_holder_that_is_killed_is_replaced(
    redis_server: RedisServer, shops: Callable[..., Peer]
) -> None:
    one, two = shops(), shops()
    one.call("slow", 60.0)
    one.tell("one", "book")
    eventually(lambda: runs(redis_server, "book"))
    two.tell("one", "book")
    eventually(lambda: (lock_of(redis_server) or b"").endswith(b"w"))
    one.kill()
    # It lives for 5 s at most from here on; no need to wait for all of them.
    (lock,) = (k for k in redis_server.call("KEYS", "*") if k.endswith(b"}:l"))
    assert 0 < redis_server.call("PTTL", lock) <= 5000
    redis_server.call("PEXPIRE", lock, 200)
    assert two.answer() == "price of book"
    assert runs(redis_server, "book") == 2
    assert lock_of(redis_server) is None


def test_a_lock_is_renewed_while_the_function_runs(
    redis_server: RedisServer, shops: Callable[..., Peer]
) -> None:
    one = shops()
    one.call("slow", 2.6)
    one.tell("one", "book")
    eventually(lambda: lock_of(redis_server))
    (lock,) = (k for k in redis_server.call("KEYS", "*") if k.endswith(b"}:l"))
    left: list[int] = []
    while one.busy:
        left.append(redis_server.call("PTTL", lock))
        time.sleep(0.05)
    left = [ms for ms in left if ms >= 0]  # the last may have come too late
    assert max(left) <= 5000
    assert any(later > earlier for earlier, later in zip(left, left[1:], strict=False))
    assert lock_of(redis_server) is None


def test_a_run_that_outlives_its_lock_still_stores(
    driver: Driver, redis_server: RedisServer
) -> None:
    """Nothing was invalidated; the lock is there to save work, no more."""
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, distributed_lock=True)
    lock = lock_key(work.cached.key_for(1))
    work.before = lambda: redis_server.call("DEL", lock)
    assert work(1)["run"] == 1
    assert work(1)["run"] == 1


def test_the_lock_of_another_is_not_given_back(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, distributed_lock=True)
    lock, theirs = lock_key(work.cached.key_for(1)), 16 * "a"
    work.before = lambda: redis_server.call("SET", lock, theirs)
    work(1)
    work.error = ValueError("no")
    redis_server.call("DEL", work.cached.key_for(1), lock)
    with pytest.raises(ValueError):
        work(1)
    driver.rest(0.1)
    assert redis_server.call("GET", lock) == theirs.encode()


@pytest.mark.parametrize("end", ["return", "raise", "invalidated"])
def test_the_lock_is_given_back_at_once(
    driver: Driver, redis_server: RedisServer, end: str
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work = driver.work(cache, name="f", ttl=600, distributed_lock=True)
    other = Driver()
    theirs = other.work(other.cache(redis_server.url), name="f")
    key = work.cached.key_for(1)
    seen: list[Any] = []

    def during() -> None:
        seen.append(redis_server.call("GET", lock_key(key)))
        if end == "invalidated":
            theirs.invalidate(1)

    work.before = during
    if end == "raise":
        work.error = ValueError("no")
        with pytest.raises(ValueError):
            work(1)
    else:
        work(1)
    other.close()
    assert len(seen[0]) == 16
    driver.wait_until(
        lambda: redis_server.call("EXISTS", lock_key(key)) == 0, seconds=2.0
    )


def test_after_a_failure_another_process_runs(
    redis_server: RedisServer, shops: Callable[..., Peer]
) -> None:
    one, two = shops(), shops()
    for peer in (one, two):
        peer.call("ready", "another")
    one.call("slow", 0.4, True)
    one.tell("one", "book")
    eventually(lambda: lock_of(redis_server))
    two.tell("one", "book")
    assert one.answer() == "no price"
    began = time.monotonic()
    assert two.answer() == "price of book"
    assert time.monotonic() - began < 2.0  # and not 5
    assert runs(redis_server, "book") == 2


def test_a_holder_that_is_cancelled_gives_it_back(redis_server: RedisServer) -> None:
    cache = Cache(CacheConfig(namespace="shop"), backend=redis_server.url)

    @cache(ttl=600, distributed_lock=True)
    async def price(item: str) -> str:
        await asyncio.sleep(60)
        return item

    async def main() -> None:
        lock = lock_key(price.key_for("book"))
        task = asyncio.ensure_future(price("book"))
        while not redis_server.call("EXISTS", lock):
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadline = time.monotonic() + 2.0
        while redis_server.call("EXISTS", lock):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
        await cache.aclose()

    asyncio.run(main())


class Tangled:
    """Two functions that call each other, each under a lock of its own."""

    def __init__(self, server: RedisServer, one: str) -> None:
        cache = Cache(CacheConfig(namespace="tangled"), backend=server.url)
        self.server, self.one, self.depth = server, one, 0

        def visit(name: str, other: Callable[[int], str]) -> str:
            if self.depth:
                return name
            self.depth = 1
            server.call("RPUSH", f"holds:{name}", "1")
            eventually(
                lambda: (
                    server.call("LLEN", "holds:a") and server.call("LLEN", "holds:b")
                )
            )
            return name + other(1)

        @cache(name="a", ttl=600, distributed_lock=True)
        def a(n: int) -> str:
            return visit("a", b)

        @cache(name="b", ttl=600, distributed_lock=True)
        def b(n: int) -> str:
            return visit("b", a)

        self.a, self.b = a, b

    def go(self) -> tuple[str, float]:
        began = time.monotonic()
        return getattr(self, self.one)(1), time.monotonic() - began


def test_two_that_hold_what_the_other_wants_do_not_wait(
    redis_server: RedisServer,
) -> None:
    with (
        Peer(lambda: Tangled(redis_server, "a")) as one,
        Peer(lambda: Tangled(redis_server, "b")) as two,
    ):
        one.tell("go")
        two.tell("go")
        (first, took), (second, took_too) = one.answer(), two.answer()
    assert {first, second} <= {"ab", "ba", "aab", "aba", "bba", "bab"}
    assert max(took, took_too) < 3.0


def test_without_a_lock_to_be_had_the_function_runs(
    driver: Driver, own_redis: RedisServer
) -> None:
    """The server is full: no fence, no lock, no entry; an answer all the same."""
    cache = driver.cache(own_redis.url, l1_enabled=False)
    work = driver.work(cache, ttl=600, distributed_lock=True)
    work(1)
    own_redis.cli("CONFIG SET maxmemory 1")
    began = time.monotonic()
    assert work(2)["run"] == 2
    assert work(1)["run"] == 1
    assert time.monotonic() - began < 2.0


def test_who_has_waited_long_enough_runs(
    driver: Driver, redis_server: RedisServer
) -> None:
    """After half of what those wait who follow a flight, its own followers among
    them: they need not run as well."""
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, distributed_lock=True, single_flight_timeout=0.4)
    redis_server.call("SET", lock_key(work.cached.key_for(1)), 16 * "a")
    began = time.monotonic()
    assert work(1)["run"] == 1
    assert 0.2 <= time.monotonic() - began < 2.0


def test_an_invalidation_does_not_wait_for_the_lock(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, ttl=600, distributed_lock=True)
    redis_server.call("SET", lock_key(work.cached.key_for(1)), 16 * "a")
    began = time.monotonic()
    work.put({"n": 1, "run": 0}, 1)
    work.refresh(1)
    work.using("BYPASS")(1)
    work.using("INVALIDATE")(1)
    work.invalidate(1)
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("locks", [False, True], ids=["", "lock"])
def test_one_process_refreshes_in_the_background(
    redis_server: RedisServer, shops: Callable[..., Peer], locks: bool
) -> None:
    """With and without distributed_lock; meanwhile all serve the old value."""
    options = {"ttl": 0.2, "stale_ttl": 600, "distributed_lock": locks}
    peers = [shops(**options) for _ in range(4)]
    for peer in peers:
        peer.call("ready", "book")
        peer.call("slow", 0.5)
    before = runs(redis_server, "book")
    time.sleep(0.3)
    began = time.monotonic()
    for _ in range(4):
        for peer in peers:
            peer.tell("refresh_by_reading", "book")
        assert [peer.answer() for peer in peers] == ["price of book"] * 4
    served_in = time.monotonic() - began
    eventually(lambda: runs(redis_server, "book") > before)
    if served_in < 0.5:  # or else the next refresh may have been due
        assert runs(redis_server, "book") == before + 1


def test_stale_is_served_while_another_process_holds_the_lock(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False)
    work: Work = driver.work(cache, ttl=0.05, stale_ttl=600, distributed_lock=True)
    work(1)
    driver.rest(0.1)
    redis_server.call("SET", lock_key(work.cached.key_for(1)), 16 * "a")
    began = time.monotonic()
    assert work(1)["run"] == 1
    driver.rest(0.1)
    assert work(1)["run"] == 1
    assert time.monotonic() - began < 2.0
    assert work.runs == 1


def test_followers_within_a_process_wait_for_their_leader(
    driver: Driver, redis_server: RedisServer
) -> None:
    """25 callers of one process look at another's lock as one."""
    if driver.is_async:
        pytest.skip("one caller at a time")
    work = driver.work(driver.cache(redis_server.url), ttl=600, distributed_lock=True)
    lock = lock_key(work.cached.key_for(1))
    redis_server.call("SET", lock, 16 * "a")
    with background(lambda: in_threads(CALLERS, lambda: work(1))) as calls:
        eventually(lambda: len(redis_server.call("GET", lock)) == 17)
        time.sleep(0.1)
        redis_server.call("DEL", lock)
        results = calls.result()
    assert results == [{"n": 1, "run": 1}] * CALLERS


class LateAnswers(MemoryBackend):
    """Takes the lock, and says so when nobody listens any more."""

    def asyncio(self) -> Any:
        face = super().asyncio()
        claim = face.claim

        async def late(request: Any, timeout: float) -> Any:
            claimed = await claim(request, timeout)
            await asyncio.sleep(5)
            return claimed

        face.claim = late  # type: ignore[method-assign]
        return face


def test_a_lock_that_nobody_hears_of_is_given_back() -> None:
    backend = LateAnswers()
    cache = Cache(CacheConfig(namespace="late"), backend=backend)

    @cache(distributed_lock=True)
    async def work(number: int) -> int:
        return number

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(work(1), 0.05)
        name = lock_key(work.key_for(1))
        for _ in range(400):
            if backend.lookup(name, (name,), 1.0)[2] == (None,):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the lock is still there")

    asyncio.run(main())
    cache.close()
