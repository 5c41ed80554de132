"""An invalidation that the store did not take is kept, and delivered before its next
read; until then what it covers is a miss and is not filled there."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from basic_store import BasicStore
from faces import FACES, Face
from servers import RedisServer

import cachekit._pending as kept
from cachekit import (
    BackendConnectionError,
    BackendReplyError,
    BackendUnavailable,
    Cache,
    CacheConfig,
    Invalidation,
)
from cachekit._core import pack_commands
from cachekit._pending import AsyncCareful, Careful, Gone, Pending
from cachekit._versions import function_key
from cachekit.backends._protocol import Fill
from cachekit.backends._redis_sweep import Sweep
from cachekit.backends._simple import AsyncSimple, Simple

DELIVERED, QUEUED = Invalidation.DELIVERED, Invalidation.QUEUED


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


class Store(BasicStore):
    """A store that does as it is told, in both ways, and notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.refuses: Exception | None = None  # of deletions alone
        self.asked: list[tuple[Any, ...]] = []

    def _check(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure
        if self.refuses is not None and what[0].startswith("delete"):
            raise self.refuses

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        self._check("read", key)
        return super().read(key, timeout)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self._check("write", key)
        super().write(key, data, ttl_ms, timeout)

    def delete(self, keys: Sequence[str], timeout: float) -> int:
        self._check("delete", *keys)
        return super().delete(keys, timeout)

    def delete_prefix(self, prefix: str, timeout: float) -> int:
        self._check("delete_prefix", prefix)
        return super().delete_prefix(prefix, timeout)

    def methods(self) -> list[str]:
        asked, self.asked = self.asked, []
        return [what[0] for what in asked]


def down() -> BackendConnectionError:
    return BackendConnectionError("down", kind="refused")


def read_only() -> BackendReplyError:
    return BackendReplyError("READONLY", kind="readonly")


class Use:
    """A cached function on a store, which counts its runs."""

    def __init__(self, face: Face, store: Store, **options: Any) -> None:
        config = CacheConfig(
            namespace="test", circuit_breaker_failure_threshold=1000, l1_enabled=False
        )
        self.face = face
        self.cache = Cache(config, backend=store)
        self.runs = 0

        def work(number: int) -> tuple[int, int]:
            self.runs += 1
            return number, self.runs

        self.work = face.function(self.cache(name="work", **options), work)

    def __call__(self, number: int) -> Any:
        return self.face.call(self.work, number)

    def invalidate(self, number: int) -> Invalidation:
        result: Invalidation = self.face.call(self.work.invalidate, number)
        return result

    @property
    def pending(self) -> Pending:
        (store,) = self.cache._stores.values()
        return store.pending


# -- with a store that is told what to do ---------------------------------------------


def test_a_taken_invalidation_is_delivered(face: Face) -> None:
    store = Store()
    work = Use(face, store)
    work(1)
    assert work.invalidate(1) is DELIVERED
    assert len(store) == 0
    assert len(work.pending) == 0


def test_without_a_store_it_is_delivered(face: Face) -> None:
    cache = Cache(backend=None)
    work = face.function(cache(), lambda: 1)
    face.call(work)
    assert face.call(work.invalidate) is DELIVERED
    assert work.cache_info().currsize == 0


def test_what_the_store_did_not_take_is_queued_and_sent_before_the_next_read(
    face: Face,
) -> None:
    store = Store()
    work = Use(face, store)
    work(1)
    work(2)
    store.failure = down()
    assert work.invalidate(1) is QUEUED
    assert len(work.pending) == 1
    store.failure = None
    store.methods()
    assert work(2) == (2, 2)  # of another entry: it comes first all the same
    assert store.methods() == ["delete", "read"]
    assert len(work.pending) == 0
    assert work(1) == (1, 3)
    assert store.methods() == ["read", "write"]
    assert work(1) == (1, 3)


def test_it_is_a_miss_and_not_filled_until_the_store_took_it(face: Face) -> None:
    store = Store()
    work = Use(face, store)
    work(1)
    store.refuses = read_only()
    assert work.invalidate(1) is QUEUED
    store.methods()
    for run in (2, 3):
        assert work(1) == (1, run)
    assert len(store) == 1  # the old one, which nobody here sees
    assert "write" not in store.methods()
    assert work(2) == (2, 4)  # what is not covered is read and filled
    assert work(2) == (2, 4)
    store.refuses = None
    work.pending.asks_again = 0.0
    assert work(1) == (1, 5)
    assert work(1) == (1, 5)


def test_a_store_that_refuses_is_not_asked_each_time(face: Face) -> None:
    store = Store()
    work = Use(face, store)
    work(1)
    store.refuses = read_only()
    work.invalidate(1)
    work.pending.asks_again = 0.0
    store.methods()
    for _ in range(5):
        work(2)
    assert store.methods().count("delete") == 1


def test_an_invalidation_while_the_breaker_is_open_is_queued(face: Face) -> None:
    store = Store()
    config = CacheConfig(namespace="test", circuit_breaker_failure_threshold=1)
    cache = Cache(config, backend=store)
    store.failure = down()
    face.do(cache, "get", "key")
    store.failure = None
    store.methods()
    assert face.do(cache, "delete", "key") is QUEUED
    assert store.methods() == []


def test_the_strategy_invalidate_keeps_what_was_not_taken(face: Face) -> None:
    store = Store()
    work = Use(face, store)
    work(1)
    store.refuses = down()
    assert face.call(work.work.using("INVALIDATE"), 1) == (1, 2)
    assert len(work.pending) == 1
    store.refuses = None
    store.methods()
    assert work(1) == (1, 3)
    assert store.methods() == ["delete", "read", "write"]


def test_setting_a_name_that_waits_to_go_sends_that_first(face: Face) -> None:
    store = Store()
    cache = Cache(CacheConfig(namespace="test", l1_enabled=False), backend=store)
    face.do(cache, "set", "key", "old")
    store.refuses = down()
    assert face.do(cache, "delete", "key") is QUEUED
    store.refuses = None
    store.methods()
    face.do(cache, "set", "key", "new")
    assert store.methods() == ["delete", "write"]
    assert face.do(cache, "get", "key") == "new"


def test_memory_does_not_serve_it_either(face: Face) -> None:
    store = Store()
    cache = Cache(CacheConfig(namespace="test"), backend=store)
    face.do(cache, "set", "key", "old")
    store.failure = down()
    assert face.do(cache, "delete", "key") is QUEUED
    assert face.do(cache, "get", "key") is None


def test_a_cancelled_invalidation_is_kept() -> None:
    asked = asyncio.Event()

    class Stalled(Store):
        stalled = False

        def asyncio(self) -> Any:
            store, face = self, super().asyncio()

            class Face_:
                read, write = face.read, face.write

                async def delete(self, keys: Sequence[str], timeout: float) -> int:
                    if store.stalled:
                        asked.set()
                        await asyncio.sleep(60)
                    return await face.delete(keys, timeout)

            return Face_()

    store = Stalled()
    cache = Cache(CacheConfig(namespace="test", l1_enabled=False), backend=store)

    async def main() -> None:
        await cache.aset("key", "old")
        store.stalled = True
        task = asyncio.create_task(cache.adelete("key"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.stalled = False
        assert await cache.aget("key") is None
        assert len(store) == 0

    asyncio.run(main())


# -- the bound ------------------------------------------------------------------------


def test_past_the_bound_the_function_goes_as_a_whole(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pending.__init__, "__defaults__", (3,))
    store = Store()
    work = Use(face, store)
    other = Use(face, store)
    for number in range(6):
        work(number)
    face.do(work.cache, "set", "kept", "value")
    store.failure = down()
    for number in range(4):
        assert work.invalidate(number) is QUEUED
    assert len(work.pending) == 1
    store.failure = None
    store.methods()
    assert work(5) == (5, 7)  # never named, and gone with the others
    assert store.methods() == ["delete_prefix", "read", "write"]
    assert face.do(work.cache, "get", "kept") == "value"
    assert len(work.pending) == 0
    assert len(store) == 2
    del other


def entry(name: str, function: str = "f:") -> Gone:
    """An entry of a function whose keys begin so."""
    whole = Gone(f"{function}v:{32 * '0'}", True, "channel", b"all of it", None)
    return Gone(name, False, "channel", b"it", whole)


def look(careful: Careful, key: str = "other", timeout: float = 5.0) -> Any:
    return careful.lookup(key, (), timeout)


def test_the_bound_is_ten_thousand() -> None:
    pending = Pending()
    for number in range(kept.LIMIT):
        pending.keep(entry(f"n:f:{number}", "n:f:"))
    assert len(pending) == kept.LIMIT == 10_000
    pending.keep(entry("n:f:more", "n:f:"))
    assert len(pending) == 1
    assert pending.covers("n:f:anything", ())
    assert not pending.covers("n:g:1", ())
    assert pending.covers("whatever", ("n:v:1", entry("", "n:f:").whole.name))
    assert not pending.covers("n:f:anything", ("n:v:1",))


def test_the_function_with_most_of_the_names_is_merged() -> None:
    pending = Pending(limit=4)
    for number in range(4):
        pending.keep(entry(f"big:{number}", "big:"))
    pending.keep(entry("small:1", "small:"))
    assert pending.covers("big:99", ())
    assert pending.covers("small:1", ()) and not pending.covers("small:2", ())


def test_a_store_that_cannot_delete_functions_is_not_used_for_it(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pending.__init__, "__defaults__", (1,))

    class Plain:
        """No more than a backend must have."""

        def __init__(self) -> None:
            self.store = Store()
            self.read, self.write = self.store.read, self.store.write
            self.delete = self.store.delete

    plain = Plain()
    work = Use(face, plain)  # type: ignore[arg-type]
    for number in (1, 2):
        work(number)
    plain.store.failure = down()
    for number in (1, 2):
        work.invalidate(number)
    plain.store.failure = None
    assert work(1) == (1, 3)
    assert work(1) == (1, 4)  # never again: the old entries are still there
    face.do(work.cache, "set", "key", 1)
    assert face.do(work.cache, "get", "key") == 1


def test_what_is_kept_again_during_its_delivery_stays() -> None:
    pending = Pending()
    pending.keep(entry("a"))
    deliveries = pending.deliveries()
    assert next(deliveries).keys == ("a",)
    pending.keep(entry("a"))
    assert next(deliveries).keys == ("a",)
    assert pending.covers("a", ())
    assert pending.flag.value == 1


def test_many_are_sent_in_batches() -> None:
    store = Store()
    pending = Pending()
    for number in range(2 * kept.BATCH + 1):
        pending.keep(entry(str(number)))
    look(Careful(pending, Simple(store)))
    sizes = [len(what) - 1 for what in store.asked if what[0] == "delete"]
    assert sizes == [kept.BATCH, kept.BATCH, 1]
    assert pending.flag.value == 0


def test_delivering_keeps_to_the_deadline_of_the_read() -> None:
    class Slow(Store):
        def delete(self, keys: Sequence[str], timeout: float) -> int:
            time.sleep(0.03)
            return super().delete(keys, timeout)

    pending = Pending()
    for number in range(20 * kept.BATCH):
        pending._entries[str(number)] = (entry(str(number)), 0)
    pending.flag.value = 1
    with pytest.raises(TimeoutError):
        look(Careful(pending, Simple(Slow())), timeout=0.1)
    assert 0 < len(pending) < 20 * kept.BATCH


def test_a_write_that_is_covered_is_refused() -> None:
    store = Store()
    store.refuses = read_only()
    pending = Pending()
    pending.keep(entry("key"))
    fill = Fill("key", b"", 0, None)
    with pytest.raises(BackendUnavailable):
        Careful(pending, Simple(store)).fill(fill, 1.0)

    async def main() -> None:
        pending.asks_again = 0.0
        careful = AsyncCareful(pending, AsyncSimple(store.asyncio()))
        with pytest.raises(BackendUnavailable):
            await careful.fill(fill, 1.0)

    asyncio.run(main())
    assert len(store) == 0


def test_threads_keep_and_deliver_together() -> None:
    store = Store()
    pending = Pending(limit=100)
    careful = Careful(pending, Simple(store))
    failures: list[BaseException] = []

    def keep() -> None:
        try:
            for number in range(500):
                pending.keep(entry(f"f:{number}"))
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            for _ in range(200):
                look(careful)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=job) for job in (keep, keep, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    look(careful)
    assert not failures
    assert len(pending) == pending.flag.value == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_deliver() -> None:
    pending = Pending()
    pending.keep(entry("key"))
    with pending._lock:  # as if another thread held it
        child = os.fork()
        if child == 0:
            careful = Careful(pending, Simple(Store()))
            thread = threading.Thread(target=look, args=(careful,))
            thread.start()
            thread.join(5)
            os._exit(int(thread.is_alive() or len(pending) != 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- with a real server ---------------------------------------------------------------


def on(server: RedisServer, **config: Any) -> Cache:
    config.setdefault("namespace", "test")
    config.setdefault("socket_timeout", 0.3)
    return Cache(CacheConfig(redis_url=server.url, **config))


def entries(server: RedisServer) -> int:
    """How many there are, version keys aside."""
    return sum(b":v:" not in key for key in server.call("KEYS", "*"))


def test_killed_and_restarted(face: Face, own_redis: RedisServer) -> None:
    """The server dies with its entry saved, and comes back with it."""
    cache = on(own_redis)
    runs: list[int] = []

    def work(number: int) -> int:
        runs.append(number)
        return len(runs)

    cached = face.function(cache(name="work"), work)
    key = cached.key_for(1)
    assert face.call(cached, 1) == 1
    saved = own_redis.call("GET", key)
    assert saved is not None
    own_redis.kill()
    assert face.call(cached.invalidate, 1) is QUEUED
    assert face.call(cached, 1) == 2  # not what was invalidated
    own_redis.start()
    own_redis.call("SET", key, saved)  # as a server that keeps its data would have it
    face.call(cached.invalidate, 2)  # the first word to it
    assert own_redis.call("GET", key) is None
    assert face.call(cached.invalidate, 1) is DELIVERED
    face.do(cache, "close")


def test_delivered_before_the_next_read_of_a_real_server(
    face: Face, own_redis: RedisServer
) -> None:
    cache = on(own_redis, l1_enabled=False, circuit_breaker_failure_threshold=1000)
    face.do(cache, "set", "a", 1)
    face.do(cache, "set", "b", 2)
    own_redis.stop()
    assert face.do(cache, "delete", "a") is QUEUED
    own_redis.cont()
    deadline = time.monotonic() + 10
    while face.do(cache, "get", "b") != 2:
        assert time.monotonic() < deadline
    assert face.do(cache, "get", "a") is None
    assert entries(own_redis) == 1
    face.do(cache, "close")


def test_a_whole_function_is_invalidated_on_a_real_server(
    face: Face, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pending.__init__, "__defaults__", (3,))
    cache = on(own_redis, circuit_breaker_failure_threshold=1000, l1_enabled=False)
    runs: list[int] = []
    work = face.function(cache(name="we*[i]rd"), runs.append)
    near = face.function(cache(name="weXird"), runs.append)
    for number in range(30):
        face.call(work, number)
        face.call(near, number)
    assert entries(own_redis) == 60
    version = function_key(work._plan.prefix, work._plan.identity)
    own_redis.stop()
    for number in range(4):
        assert face.call(work.invalidate, number) is QUEUED
    own_redis.cont()
    deadline = time.monotonic() + 10
    while own_redis.call("EXISTS", version):
        face.do(cache, "get", "absent", 0)
        assert time.monotonic() < deadline
    runs.clear()
    for number in range(30):
        face.call(work, number)
        face.call(near, number)
    assert runs == list(range(30))
    face.do(cache, "close")


def test_a_read_only_replica_is_read(face: Face) -> None:
    quick = ("--repl-diskless-sync-delay", "0")
    with RedisServer(*quick) as primary, RedisServer() as replica:
        replica.call("REPLICAOF", primary.host, primary.port)
        writer, reader = on(primary), on(replica, l1_enabled=False)
        face.do(writer, "set", "a", 1)
        face.do(writer, "set", "b", 2)
        deadline = time.monotonic() + 10
        while entries(replica) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert face.do(reader, "get", "a") == 1
        assert face.do(reader, "delete", "a") is QUEUED
        assert face.do(reader, "get", "a") is None
        assert face.do(reader, "get", "b") == 2
        replica.call("REPLICAOF", "NO", "ONE")
        (store,) = reader._stores.values()
        store.pending.asks_again = 0.0
        assert face.do(reader, "get", "b") == 2
        assert entries(replica) == 1
        face.do(writer, "close")
        face.do(reader, "close")


# -- removing by prefix ---------------------------------------------------------------


def sweep_to_end(sweep: Sweep, server: RedisServer) -> None:
    while sweep.command is not None:
        sweep.take(server.call(*sweep.command))


def test_a_sweep_takes_what_begins_so_and_nothing_else(
    redis_server: RedisServer,
) -> None:
    names = [f"a*b:{i}" for i in range(2500)]
    with redis_server.client() as client:
        for name in [*names, "aXb:1", "a*", "za*b:1"]:
            client.call("SET", name, 1)
    sweep = Sweep("a*b:")
    sweep_to_end(sweep, redis_server)
    assert sweep.deleted == 2500
    assert sorted(redis_server.call("KEYS", "*")) == [b"a*", b"aXb:1", b"za*b:1"]


def test_a_sweep_out_of_time_goes_on_where_it_was(
    face: Face, redis_server: RedisServer
) -> None:
    from cachekit.backends import RedisBackend

    with redis_server.client() as client:
        for i in range(5000):
            client.call("SET", f"p:{i}", 1)
    backend = RedisBackend(redis_server.url)
    transport: Any = backend.asyncio() if face.is_async else backend
    for _ in range(10_000):
        try:
            face.call(transport.delete_prefix, "p:", 0.002)
            break
        except TimeoutError:
            pass
    assert redis_server.call("DBSIZE") == 0
    assert transport._sweeps == {}
    face.call(transport.close)
    backend.close()


def test_a_sweep_speaks_bytes() -> None:
    sweep = Sweep("p:")
    assert sweep.command is not None
    assert b"p:*" in pack_commands([sweep.command])
