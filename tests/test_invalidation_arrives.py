"""What is invalidated in one process is dropped from the memory of the others.

Through a channel of the store, by a connection of its own. Where that is lost, nothing
is served that missed its invalidation by more than a PING takes to be missed; the tests
let that be sooner than in the field.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, Work, each_driver  # noqa: F401
from processes import Child
from proxy import Proxy
from servers import RedisServer

from cachekit import Cache, CacheConfig
from cachekit._messages import channel_of
from cachekit.backends import _redis

PING, TIMEOUT = 0.2, 0.3
#: Seconds in which a loss must be noticed. The interval in the field would be longer.
SOON = 3.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis, "PING_INTERVAL", PING)


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


@pytest.fixture
def elsewhere() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


class Two:
    """The same function in two programs: ours, with a memory, and theirs."""

    def __init__(
        self, ours: Driver, theirs: Driver, url: str, their_url: str, **options: Any
    ) -> None:
        options = {"name": "f", "ttl": 600, **options}
        self.driver, self.row = ours, 1
        self.our_cache = ours.cache(url, socket_timeout=TIMEOUT)
        self.their_cache = theirs.cache(their_url)
        self.ours = ours.work(self.our_cache, **options)
        self.theirs = theirs.work(self.their_cache, **options)
        self.ours.answer = self.theirs.answer = lambda n: self.row

    def hits(self) -> int:
        """How often our memory had it."""
        return int(self.ours.info.l1_hits)

    def in_memory(self, n: int = 1) -> bool:
        before = self.hits()
        self.ours(n)
        return self.hits() > before

    def change(self) -> None:
        """There is a newer row, and somebody says so, elsewhere."""
        self.row += 1
        self.theirs.invalidate(1)

    def settle(self) -> None:
        """Until our memory is used."""
        self.driver.wait_until(self.in_memory, seconds=10.0)


@pytest.fixture
def two(driver: Driver, elsewhere: Driver, redis_server: RedisServer) -> Two:
    two = Two(driver, elsewhere, redis_server.url, redis_server.url)
    two.settle()
    return two


@pytest.fixture
def apart(
    driver: Driver, elsewhere: Driver, proxy: Proxy, redis_server: RedisServer
) -> Two:
    """Ours is behind the proxy."""
    two = Two(driver, elsewhere, proxy.url, redis_server.url)
    two.settle()
    return two


# ---- it arrives ----------------------------------------------------------------------

WAYS: dict[str, Callable[[Two], Any]] = {
    "invalidate": lambda two: two.theirs.invalidate(1),
    "put": lambda two: two.theirs.put(2, 1),
    "refresh": lambda two: two.theirs.refresh(1),
    "BYPASS": lambda two: two.theirs.using("BYPASS")(1),
    "INVALIDATE": lambda two: two.theirs.using("INVALIDATE")(1),
    "invalidate_all": lambda two: two.theirs.invalidate_all(),
    "clear": lambda two: two.their_cache.clear(),
    "namespace": lambda two: two.their_cache.clear(namespace="test"),
}


@pytest.mark.parametrize("way", WAYS)
def test_memory_elsewhere_drops_it(two: Two, way: str) -> None:
    two.row = 2
    began = time.monotonic()
    WAYS[way](two)
    two.driver.wait_until(lambda: two.ours(1) == 2)
    assert time.monotonic() - began < 2.0


def test_a_name_that_is_deleted_or_set(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    ours, theirs = driver.cache(redis_server.url), elsewhere.cache(redis_server.url)
    ours.set("name", 1)
    driver.wait_until(lambda: ours.get("name") == theirs.get("name") == 1)
    theirs.set("name", 2)
    driver.wait_until(lambda: ours.get("name") == 2)
    theirs.delete("name")
    driver.wait_until(lambda: ours.get("name") is None)


def test_only_what_was_invalidated_is_dropped(two: Two) -> None:
    two.ours(2)
    assert two.in_memory(2)
    two.change()
    two.driver.wait_until(lambda: two.ours(1) == 2)
    assert two.in_memory(2)


def test_what_we_say_ourselves_is_not_told_to_us(two: Two) -> None:
    """It would take from memory what has been filled since."""
    for way in ("invalidate", "refresh"):
        getattr(two.ours, way)(1)
        two.ours(1)
        two.driver.rest(0.1)
        assert two.in_memory()
    two.ours.invalidate_all()
    two.ours(1)
    two.driver.rest(0.1)
    assert two.in_memory()


def test_two_namespaces_have_two_channels(
    driver: Driver, elsewhere: Driver, redis_server: RedisServer
) -> None:
    here = Two(driver, elsewhere, redis_server.url, redis_server.url, namespace="a")
    here.settle()
    channels = redis_server.call("PUBSUB", "CHANNELS")
    assert channel_of("a").encode() in channels
    here.change()
    driver.wait_until(lambda: here.ours(1) == 2)


def test_one_connection_serves_blocking_and_async_functions(
    redis_server: RedisServer, driver: Driver
) -> None:
    cache = driver.cache(redis_server.url)
    before = listeners(redis_server)

    @cache(ttl=600)
    def one() -> int:
        return 1

    @cache(ttl=600)
    async def other() -> int:
        return 1

    one()
    driver.work(cache, ttl=600)(1)
    if driver.is_async:
        driver.finish(other())
    assert listeners(redis_server) == before + 1


def listeners(server: RedisServer) -> int:
    """Connections that have subscribed to something."""
    return sum(
        " sub=0 " not in line
        for line in server.call("CLIENT", "LIST").decode().splitlines()
    )


# ---- the subscription is lost --------------------------------------------------------

LOSSES: dict[str, Callable[[Proxy, RedisServer], Any]] = {
    "killed": lambda proxy, server: server.cli("CLIENT KILL TYPE pubsub"),
    "reset": lambda proxy, server: proxy.reset(),
    "closed": lambda proxy, server: proxy.disconnect(),
    "silent": lambda proxy, server: proxy.forget(),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_an_invalidation_during_a_loss_is_made_up_for(
    apart: Two, proxy: Proxy, redis_server: RedisServer, loss: str
) -> None:
    """It is sent while nobody listens; memory is dropped when somebody does again."""
    proxy.only(listening=True)
    began = time.monotonic()
    LOSSES[loss](proxy, redis_server)
    apart.change()
    apart.driver.wait_until(lambda: apart.ours(1) == 2, seconds=10.0)
    assert time.monotonic() - began < SOON
    proxy.heal()
    apart.settle()


def test_while_nothing_is_heard_the_store_is_asked(apart: Two, proxy: Proxy) -> None:
    """The store answers calls, and no subscription can be had."""
    proxy.only(listening=True)
    proxy.stall()
    began = time.monotonic()
    apart.change()
    # Memory is all that is asked: no call finds out.
    apart.driver.wait_until(lambda: apart.ours(1) == 2, seconds=10.0)
    assert time.monotonic() - began < SOON
    for row in range(3, 8):
        apart.change()
        assert apart.ours(1) == row
        assert not apart.in_memory()
    proxy.heal()
    apart.settle()
    apart.change()
    apart.driver.wait_until(lambda: apart.ours(1) == 8)


def test_nothing_is_filled_before_it_stands(
    driver: Driver, elsewhere: Driver, proxy: Proxy, redis_server: RedisServer
) -> None:
    proxy.only(listening=True)
    proxy.stall()
    two = Two(driver, elsewhere, proxy.url, redis_server.url)
    for row in range(2, 6):
        assert two.ours(1) == row - 1
        assert not two.in_memory()
        two.change()
        assert two.ours(1) == row
    proxy.heal()
    two.settle()


def test_it_is_taken_anew_again_and_again(apart: Two, proxy: Proxy) -> None:
    for row in range(2, 6):
        proxy.reset()
        apart.change()
        apart.driver.wait_until(lambda row=row: apart.ours(1) == row, seconds=10.0)
        apart.settle()


# ---- the server refuses --------------------------------------------------------------


def test_where_subscribing_is_refused_memory_is_capped(
    driver: Driver,
    elsewhere: Driver,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_redis.cli("ACL SETUSER deaf on >secret ~* &* +@all -subscribe -ssubscribe")
    url = own_redis.url.replace("redis://", "redis://deaf:secret@")
    with caplog.at_level(logging.WARNING, "cachekit"):
        two = Two(driver, elsewhere, url, own_redis.url)
        two.settle()
        two.ours(2)
        other = driver.work(two.our_cache, ttl=600)
        other(1)
        driver.rest(4 * PING)
    for n in (1, 2):
        entry = two.ours.entry(n)
        assert entry.tier == "memory"
        assert 0 < entry.remaining_ttl <= 5.0
    assert [record.event for record in caplog.records] == ["coherence_refused"]
    assert two.theirs.entry(1).remaining_ttl > 100


# ---- the server is gone --------------------------------------------------------------


def test_while_the_server_is_down_memory_is_served(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer
) -> None:
    two = Two(driver, elsewhere, own_redis.url, own_redis.url)
    two.settle()
    two.row = 2
    own_redis.kill()
    for _ in range(5):
        assert two.ours(1) == 1
        driver.rest(PING)
    assert two.ours.runs == 1
    assert two.ours(3) == 2  # what is new is kept as well
    assert two.in_memory(3)
    own_redis.start()
    # Somebody may have said anything meanwhile.
    driver.wait_until(lambda: two.ours(1) == two.ours(3) == 2, seconds=10.0)
    driver.wait_until(lambda: two.ours.runs >= 3)
    two.settle()


def test_while_the_server_is_silent_memory_is_served(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer
) -> None:
    two = Two(driver, elsewhere, own_redis.url, own_redis.url)
    two.settle()
    two.row = 2
    own_redis.stop()
    for _ in range(5):
        assert two.ours(1) == 1
        driver.rest(PING)
    own_redis.cont()
    two.theirs.invalidate(1)
    driver.wait_until(lambda: two.ours(1) == 2, seconds=10.0)


def test_what_was_taken_in_before_the_server_came_is_dropped(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer
) -> None:
    own_redis.kill()
    two = Two(driver, elsewhere, own_redis.url, own_redis.url)
    assert two.ours(1) == 1
    assert two.in_memory()
    two.row = 2
    own_redis.start()
    driver.wait_until(lambda: two.ours(1) == 2, seconds=10.0)
    two.settle()


def test_what_we_invalidate_meanwhile_is_gone_here_and_later_there(
    driver: Driver, elsewhere: Driver, own_redis: RedisServer
) -> None:
    with Proxy(own_redis.port) as proxy:
        two = Two(driver, elsewhere, proxy.url, own_redis.url)
        two.settle()
        assert two.theirs(1) == 1
        proxy.refuse()
        two.row = 2
        assert two.ours.invalidate(1).name == "QUEUED"
        assert two.ours(1) == 2
        assert two.theirs(1) == 1
        proxy.heal()
        driver.wait_until(lambda: two.ours(1) == two.theirs(1) == 2, seconds=10.0)


# ---- forked --------------------------------------------------------------------------


def test_a_forked_child_drops_what_it_inherited_and_listens(
    redis_server: RedisServer,
) -> None:
    cache = Cache(CacheConfig(namespace="test"), backend=redis_server.url)
    row = [1]

    @cache(name="f", ttl=600)
    def f(n: int) -> int:
        return row[0]

    f(1), f(1)
    assert f.cache_info().l1_hits == 1

    def in_the_child() -> tuple[int, int]:
        before = f.cache_info()
        f(1)
        after = f.cache_info()
        deadline = time.monotonic() + 10
        while f.cache_info().l1_hits == after.l1_hits:  # until it hears
            f(1)
            assert time.monotonic() < deadline
        row[0] = 2
        redis_server.call("PUBLISH", "child", "ready")
        while f(1) != 2:
            assert time.monotonic() < deadline
        return after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits

    with redis_server.client() as client:
        client.call("SUBSCRIBE", "child")
        child = Child(in_the_child)
        client.read()
    f.invalidate(1)
    assert child.result() == (0, 1)
    cache.close()


# ---- what else comes on the channel --------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"CKI\x01", b"x" * 5_000])
def test_garbage_costs_a_flush_and_no_more(
    driver: Driver,
    elsewhere: Driver,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    text: bytes,
) -> None:
    two = Two(driver, elsewhere, own_redis.url, own_redis.url)
    two.settle()
    with caplog.at_level(logging.WARNING, "cachekit"):
        for _ in range(20):
            own_redis.call("PUBLISH", channel_of("test"), text)
        driver.wait_until(lambda: caplog.records)
        two.settle()
    assert [record.event for record in caplog.records] == ["coherence_garbage"]
    assert two.ours.runs == 1  # the store still has it
    two.change()
    driver.wait_until(lambda: two.ours(1) == 2)


def test_a_message_that_is_too_long_costs_a_flush_as_well(
    two: Two, redis_server: RedisServer
) -> None:
    """The subscription is taken anew."""
    two.ours(2)
    hits = two.ours.info.l2_hits
    redis_server.call("PUBLISH", channel_of("test"), b"x" * 100_000)
    two.driver.wait_until(lambda: two.ours(1) and two.ours.info.l2_hits > hits)
    two.settle()
    assert two.ours.runs + two.theirs.runs == 2


# ---- coherence="tracking" ------------------------------------------------------------


@pytest.fixture
def tracking(driver: Driver, elsewhere: Driver, own_redis: RedisServer) -> Two:
    url = own_redis.url
    two = Two(driver, elsewhere, url, url, coherence="tracking")
    two.settle()
    return two


@pytest.mark.parametrize("fate", ["deleted", "overwritten", "expired", "flushed"])
def test_tracking_hears_of_strangers(
    tracking: Two, own_redis: RedisServer, fate: str
) -> None:
    key = tracking.ours.cached.key_for(1)
    tracking.row = 2
    if fate == "deleted":
        own_redis.call("DEL", key)
    elif fate == "overwritten":
        own_redis.call("SET", key, "something else")
    elif fate == "expired":
        own_redis.call("PEXPIRE", key, 20)
    else:
        own_redis.call("FLUSHALL")
    tracking.driver.wait_until(lambda: tracking.ours(1) == 2)


def test_tracking_hears_of_evictions(tracking: Two, own_redis: RedisServer) -> None:
    tracking.row = 2
    own_redis.cli("CONFIG SET maxmemory-policy allkeys-random")
    own_redis.cli("CONFIG SET maxmemory 1")
    own_redis.call("EXISTS", "anything")
    tracking.driver.wait_until(lambda: tracking.ours(1) == 2)


def test_tracking_hears_what_everybody_hears(tracking: Two) -> None:
    tracking.change()
    tracking.driver.wait_until(lambda: tracking.ours(1) == 2)
    tracking.settle()


def test_tracking_drops_what_we_fill_once(tracking: Two) -> None:
    """The server reports our own writes as well: from its second read on an entry is in
    memory."""
    for n in range(10, 20):
        tracking.ours(n)
    tracking.driver.rest(0.1)
    runs = tracking.ours.runs
    for n in range(10, 20):
        tracking.ours(n)
    assert sum(tracking.in_memory(n) for n in range(10, 20)) == 10
    assert tracking.ours.runs == runs


def test_without_tracking_strangers_are_not_heard_of(
    two: Two, redis_server: RedisServer
) -> None:
    redis_server.call("DEL", two.ours.cached.key_for(1))
    two.driver.rest(0.1)
    assert two.in_memory()


def test_memory_alone_needs_no_channel(driver: Driver) -> None:
    cache = driver.cache(None)
    work: Work = driver.work(cache, ttl=600)
    work(1)
    assert work(1)["run"] == 1
    work.invalidate(1)
    assert work(1)["run"] == 2
