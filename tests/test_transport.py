"""Fences, locks, versions: what a full backend promises, blocking and asyncio alike."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from servers import RedisServer
from stores import (
    CHANNEL,
    FACES,
    FENCE,
    HOUR,
    KEY,
    LOCK,
    SIDES,
    TIMEOUT,
    OnMemory,
    Store,
    each_proxied,
    each_redis,
    each_store,
    in_threads,
)

from cachekit import (
    BackendUnavailable,
    CacheConfig,
)
from cachekit.backends import MemoryBackend, RedisBackend
from cachekit.backends._protocol import Claim, Fill, Release, Removal
from cachekit.backends._redis_scripts import Talks
from cachekit.backends._simple import AsyncSimple, Simple
from cachekit.backends._threads import InThreads

store = each_store
redis = each_redis
slow = each_proxied


# --- lookup ---


def test_lookup_returns_the_entry_and_what_the_side_keys_hold(store: Any) -> None:
    assert store.lookup(KEY, ()) == (None, -2, ())
    assert store.lookup(KEY, SIDES) == (None, -2, (None, None))
    numbers = store.claim_it(sides=SIDES, life_ms=1000).numbers
    store.write(KEY, b"value", 60_000)
    data, left, held = store.lookup(KEY, (*SIDES, "missing"))
    assert data == b"value"
    assert 59_000 < left <= 60_000
    assert held == (*numbers, None)
    store.write(KEY, b"value", 0)
    assert store.lookup(KEY, ()) == (b"value", -1, ())


def test_lookup_is_one_round_trip(slow: Any) -> None:
    before = slow.server.round_trips
    slow.lookup(KEY, SIDES)
    assert slow.server.round_trips == before + 1


def test_lookup_takes_many_side_keys(redis: Any) -> None:
    sides = tuple(f"side:{n}" for n in range(100))
    redis.server.call("MSET", *(word for side in sides for word in (side, side)))
    assert redis.lookup(KEY, sides)[2] == tuple(side.encode() for side in sides)


def test_a_side_key_of_another_type_looks_missing(redis: Any) -> None:
    redis.server.call("RPUSH", SIDES[0], "a")
    redis.server.call("SET", SIDES[1], "something else")
    redis.server.call("RPUSH", KEY, "a")
    assert redis.lookup(KEY, SIDES) == (None, -2, (None, b"something else"))


@pytest.mark.parametrize(
    "sides", [["a"], "a", (1,), None, ("\ud800",)], ids=["list", "str", "int", "", "u"]
)
def test_lookup_refuses_side_keys_that_are_none(
    redis_server: RedisServer, sides: Any
) -> None:
    backend = RedisBackend(redis_server.url)
    with pytest.raises((TypeError, UnicodeEncodeError)):
        backend.lookup(KEY, sides, TIMEOUT)
    backend.close()


def test_threads_look_up_together(redis_server: RedisServer) -> None:
    """Requests that travel together get their own answers."""
    backend = RedisBackend(redis_server.url, CacheConfig(connection_pool_size=2))
    for n in range(8):
        backend.write(f"key:{n}", b"%d" % n, 0, TIMEOUT)
        backend.write(f"side:{n}", b"side %d" % n, 0, TIMEOUT)
    wrong: list[Any] = []

    def run(n: int) -> None:
        sides = tuple(f"side:{m}" for m in range(n))
        expected = (b"%d" % n, -1, tuple(b"side %d" % m for m in range(n)))
        for _ in range(200):
            if (found := backend.lookup(f"key:{n}", sides, TIMEOUT)) != expected:
                wrong.append(found)

    in_threads(*(lambda n=n: run(n) for n in range(8)))
    assert wrong == []
    assert backend.pool_stats()["shared"] > 0
    backend.close()


def test_threads_claim_together(redis_server: RedisServer) -> None:
    """Short pipelines of several threads do not mix either."""
    backend = RedisBackend(redis_server.url, CacheConfig(connection_pool_size=2))
    sides = [tuple(f"{n}:v:{m}" for m in range(n)) for n in range(6)]
    numbers = [backend.claim(Claim(str(n), sides[n]), TIMEOUT) for n in range(6)]
    wrong: list[Any] = []

    def run(n: int) -> None:
        for _ in range(100):
            found = backend.claim(Claim(str(n), sides[n]), TIMEOUT)
            if found != numbers[n]:
                wrong.append(found)

    in_threads(*(lambda n=n: run(n) for n in range(6)))
    assert wrong == []
    backend.close()


# --- fences ---


def test_a_claimed_fill_is_stored(store: Any) -> None:
    claimed = store.claim_it()
    assert store.raw(FENCE) == claimed.fence.encode()
    assert claimed[1:] == ("", False, (), None)
    assert store.fill_it(claimed) is True
    data, left, _ = store.lookup(KEY, ())
    assert (data, left > 59_000) == (b"value", True)


def test_a_fence_is_shared_by_those_who_come_later(store: Any) -> None:
    assert store.claim_it().fence == store.claim_it().fence


def test_a_fence_is_replaced_when_asked_for(store: Any) -> None:
    first = store.claim_it()
    second = store.claim_it(replace=True)
    assert first.fence != second.fence == store.raw(FENCE).decode()
    assert store.fill_it(first, b"old") is False
    assert store.fill_it(second, b"new") is True
    assert store.lookup(KEY, ())[0] == b"new"


def test_a_fence_is_kept_for_its_time_and_not_longer_when_shared(store: Any) -> None:
    store.claim_it(fence_ttl_ms=HOUR)
    assert HOUR - 5000 < store.ttl(FENCE) <= HOUR
    store.age(FENCE, 30_000)
    store.claim_it(fence_ttl_ms=HOUR)
    assert store.ttl(FENCE) <= 30_000


def test_a_run_that_outlives_its_fence_stores_nothing(store: Any) -> None:
    claimed = store.claim_it()
    store.lose(FENCE)  # as its expiry does
    assert store.fill_it(claimed) is False
    assert store.lookup(KEY, ()) == (None, -2, ())


def test_a_removal_fences_off_what_was_claimed_before(store: Any) -> None:
    claimed = store.claim_it()
    store.remove(Removal((KEY,)))
    assert store.raw(FENCE) is None
    assert store.fill_it(claimed) is False
    assert store.lookup(KEY, ()) == (None, -2, ())
    again = store.claim_it()
    assert store.fill_it(claimed) is False  # also when another has claimed since
    assert store.fill_it(again) is True


def test_a_fill_that_stores_takes_the_fence_with_it(store: Any) -> None:
    claimed = store.claim_it()
    assert store.fill_it(claimed, b"first") is True
    assert store.raw(FENCE) is None
    assert store.fill_it(claimed, b"second") is False
    assert store.lookup(KEY, ())[0] == b"first"


def test_a_fill_without_a_fence_is_a_plain_write(store: Any) -> None:
    store.claim_it()
    assert store.fill(Fill(KEY, b"value", 0, None)) is True
    assert store.lookup(KEY, ()) == (b"value", -1, ())


def test_a_claim_may_delete(store: Any) -> None:
    store.write(KEY, b"old", 0)
    earlier = store.claim_it()
    claimed = store.claim_it(delete=True, head=True)
    assert store.lookup(KEY, ())[0] is None
    assert claimed.head is None
    assert store.fill_it(earlier, b"old") is False
    assert store.fill_it(claimed, b"new") is True


def test_a_claim_returns_the_head_of_the_entry(store: Any) -> None:
    assert store.claim_it(head=True).head is None
    store.write(KEY, bytes(range(200)), 0)
    assert store.claim_it(head=True).head == bytes(range(96))
    assert store.claim_it().head is None
    store.write(KEY, b"short", 0)
    assert store.claim_it(head=True).head == b"short"


@pytest.mark.parametrize("size", [0, 1, 9 * 1024, 100_000, 10_000_000])
@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "plain"])
def test_values_of_every_size_are_stored(store: Any, size: int, fenced: bool) -> None:
    data = random.Random(size).randbytes(size)
    claimed = store.claim_it(lock_ms=5000, sides=SIDES)
    if not fenced:
        claimed = claimed._replace(fence=None)
    fields = {"sides": SIDES, "channel": CHANNEL, "message": b"m"}
    assert store.fill_it(claimed, data, **fields, timeout=10.0) is True
    assert store.lookup(KEY, (), timeout=10.0)[0] == data


# --- versions ---


def test_missing_versions_are_created_and_shared(store: Any) -> None:
    first = store.claim_it(sides=SIDES, life_ms=1000).numbers
    assert len(set(first)) == 2
    assert all(len(n) == 16 and set(n) <= set(b"0123456789abcdef") for n in first)
    assert store.claim_it(sides=SIDES, life_ms=1000).numbers == first
    assert store.claim_it(sides=SIDES[::-1], life_ms=1000).numbers == first[::-1]
    assert store.claim_it(sides=SIDES, replace=True, delete=True).numbers == first
    assert store.lookup(KEY, SIDES)[2] == first


def test_a_version_outlives_the_entries_made_under_it(store: Any) -> None:
    store.claim_it(sides=SIDES[:1], life_ms=10_000, fence_ttl_ms=20_000)
    assert 29_000 < store.ttl(SIDES[0]) <= 30_000
    store.claim_it(sides=SIDES[:1], life_ms=60_000, fence_ttl_ms=20_000)
    assert 79_000 < store.ttl(SIDES[0]) <= 80_000
    store.claim_it(sides=SIDES[:1], life_ms=1000, fence_ttl_ms=1000)
    assert 79_000 < store.ttl(SIDES[0]) <= 80_000  # never shortened
    store.claim_it(sides=SIDES[:1], life_ms=0)
    assert store.ttl(SIDES[0]) == -1
    store.claim_it(sides=SIDES[:1], life_ms=1000)
    assert store.ttl(SIDES[0]) == -1


def test_a_version_for_ever_is_created_so(store: Any) -> None:
    store.claim_it(sides=SIDES, life_ms=0)
    assert store.ttl(SIDES[0]) == -1


def test_a_fill_extends_its_versions_and_creates_none(store: Any) -> None:
    claimed = store.claim_it(sides=SIDES[:1], life_ms=1000, fence_ttl_ms=1000)
    assert store.fill_it(claimed, sides=SIDES) is True
    assert 59_000 < store.ttl(SIDES[0]) <= 60_000
    assert store.raw(SIDES[1]) is None


def test_a_removed_version_gets_another_number(store: Any) -> None:
    old = store.claim_it(sides=SIDES, life_ms=1000).numbers
    store.remove(Removal(versions=SIDES[:1]))
    assert store.lookup(KEY, SIDES)[2] == (None, old[1])
    new = store.claim_it(sides=SIDES, life_ms=1000).numbers
    assert new[0] != old[0]
    assert new[1] == old[1]


# --- locks ---


def test_a_lock_is_held_by_one(store: Any) -> None:
    first = store.claim_it(lock_ms=5000)
    second = store.claim_it(lock_ms=5000)
    assert (first.busy, second.busy, second.lock) == (False, True, "")
    assert store.raw(LOCK) == first.lock.encode() + b"w"
    assert 4000 < store.ttl(LOCK) <= 5000
    third = store.claim_it(lock_ms=5000)
    assert (third.busy, third.fence) == (True, first.fence)
    assert store.raw(LOCK) == first.lock.encode() + b"w"  # marked once


def test_a_claim_without_a_lock_does_not_look_at_it(store: Any) -> None:
    first = store.claim_it(lock_ms=5000)
    assert store.claim_it().busy is False
    assert store.raw(LOCK) == first.lock.encode()


def test_a_lock_expires_and_is_taken_by_another(store: Any) -> None:
    dead = store.claim_it(lock_ms=5000)
    store.lose(LOCK)
    heir = store.claim_it(lock_ms=5000)
    assert heir.lock not in ("", dead.lock)
    assert store.renew(KEY, dead.lock, 5000) is False
    store.release(Release(KEY, dead.lock))
    assert store.raw(LOCK) == heir.lock.encode()
    assert store.fill_it(dead) is True  # nothing was invalidated
    assert store.raw(LOCK) == heir.lock.encode()


def test_a_lock_is_renewed_by_its_holder(store: Any) -> None:
    held = store.claim_it(lock_ms=5000)
    store.claim_it(lock_ms=5000)  # somebody waits: it is ours all the same
    store.age(LOCK, 1000)
    assert store.renew(KEY, held.lock, 5000) is True
    assert 4000 < store.ttl(LOCK) <= 5000
    assert store.raw(LOCK) == held.lock.encode() + b"w"
    assert store.renew(KEY, 16 * "0", 5000) is False
    store.lose(LOCK)
    assert store.renew(KEY, held.lock, 5000) is False


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_a_fill_releases_its_lock(store: Any, stored: bool, awaited: bool) -> None:
    held = store.claim_it(lock_ms=5000)
    if awaited:
        assert store.claim_it(lock_ms=5000).busy
    if not stored:
        store.remove(Removal((KEY,)))
    with store.hearing() as heard:
        assert store.fill_it(held, channel=CHANNEL, wake=b"wake") is stored
    assert heard == ([b"wake"] if awaited else [])
    assert store.raw(LOCK) is None


@pytest.mark.parametrize("awaited", [False, True])
def test_a_release_wakes_those_who_wait(store: Any, awaited: bool) -> None:
    held = store.claim_it(lock_ms=5000)
    if awaited:
        assert store.claim_it(lock_ms=5000).busy
    with store.hearing() as heard:
        store.release(Release(KEY, 16 * "0", CHANNEL, b"not ours"))
        store.release(Release(KEY, held.lock, CHANNEL, b"wake"))
        store.release(Release(KEY, held.lock, CHANNEL, b"again"))
        store.release(Release(KEY, "", CHANNEL, b"no lock"))
    assert heard == ([b"wake"] if awaited else [])
    assert store.claim_it(lock_ms=5000).busy is False


# --- messages ---


def test_a_fill_tells_when_it_stored(store: Any) -> None:
    claimed = store.claim_it(lock_ms=5000)
    store.claim_it(lock_ms=5000)
    fields = {"channel": CHANNEL, "message": b"\0new\xff", "wake": b"wake"}
    with store.hearing() as heard:
        assert store.fill_it(claimed, **fields)
    assert heard == [b"\0new\xff", b"wake"]  # who wakes is not told to forget
    with store.hearing() as heard:
        assert not store.fill_it(claimed, **fields)
        assert store.fill_it(store.claim_it(), channel=CHANNEL)
        assert store.fill(Fill(KEY, b"", 0, None, channel=CHANNEL, message=b""))
    assert heard == [b""]


def test_a_removal_tells(store: Any) -> None:
    messages = ((CHANNEL, b"one"), ("elsewhere", b"two"), (CHANNEL, b"three"))
    with store.hearing() as heard:
        store.remove(Removal((KEY,), (), messages))
        store.remove(Removal(messages=messages[:1]))
        store.remove(Removal())
    assert heard == [b"one", b"three", b"one"]


def test_a_claim_tells_when_it_deletes(store: Any) -> None:
    with store.hearing() as heard:
        store.claim_it(channel=CHANNEL, message=b"kept")
        store.claim_it(delete=True, channel=CHANNEL, message=b"gone")
        store.claim_it(delete=True)
    assert heard == [b"gone"]


# --- under load ---


class Row:
    """A row of a database, whose changes are followed by a removal."""

    def __init__(self) -> None:
        self.value = 0
        self.stored = self.refused = 0

    def count(self, stored: bool) -> None:
        self.stored += stored
        self.refused += not stored


SECONDS = 0.7


@pytest.mark.parametrize("kind", ["redis", "memory"])
def test_threads_never_leave_an_old_value(kind: str, request: Any) -> None:
    backend: Any = MemoryBackend()
    if kind == "redis":
        backend = RedisBackend(request.getfixturevalue("redis_server").url)
    row, end = Row(), time.monotonic() + SECONDS
    old: list[Any] = []

    def fill() -> None:
        while time.monotonic() < end:
            claimed = backend.claim(Claim(KEY), TIMEOUT)
            value = row.value
            time.sleep(random.random() * 0.0005)
            data = b"%d" % value
            row.count(backend.fill(Fill(KEY, data, 1000, claimed.fence), TIMEOUT))

    def change() -> None:
        while time.monotonic() < end:
            row.value += 1
            backend.remove(Removal((KEY,)), TIMEOUT)
            for _ in range(2):
                data = backend.lookup(KEY, (), TIMEOUT)[0]
                if data is not None and int(data) < row.value:
                    old.append((int(data), row.value))
                time.sleep(random.random() * 0.001)

    in_threads(fill, change, fill)
    assert old == []
    assert row.stored > 10
    assert row.refused > 10
    backend.close()


def test_tasks_never_leave_an_old_value(redis_server: RedisServer) -> None:
    row = Row()
    old: list[Any] = []

    async def fill(store: Any, end: float) -> None:
        while time.monotonic() < end:
            claimed = await store.claim(Claim(KEY), TIMEOUT)
            value = row.value
            await asyncio.sleep(random.random() * 0.0005)
            filled = Fill(KEY, b"%d" % value, 1000, claimed.fence)
            row.count(await store.fill(filled, TIMEOUT))

    async def change(store: Any, end: float) -> None:
        while time.monotonic() < end:
            row.value += 1
            await store.remove(Removal((KEY,)), TIMEOUT)
            for _ in range(2):
                data = (await store.lookup(KEY, (), TIMEOUT))[0]
                if data is not None and int(data) < row.value:
                    old.append((int(data), row.value))
                await asyncio.sleep(random.random() * 0.001)

    async def main() -> None:
        first = RedisBackend(redis_server.url).asyncio()
        second = RedisBackend(redis_server.url).asyncio()
        end = time.monotonic() + SECONDS
        await asyncio.gather(fill(first, end), change(second, end), fill(second, end))
        await first.close()
        await second.close()

    asyncio.run(main())
    assert old == []
    assert row.stored > 10
    assert row.refused > 10


def test_one_of_many_gets_the_lock(store: Any) -> None:
    claims = [store.claim_it(lock_ms=5000) for _ in range(20)]
    assert sum(not claimed.busy for claimed in claims) == 1
    assert len({claimed.fence for claimed in claims}) == 1


# --- memory ---


def test_side_keys_in_memory_do_not_pile_up() -> None:
    store = OnMemory(False)
    for n in range(5000):
        store.claim(Claim(f"key:{n}", fence_ttl_ms=1000))
        store.now += 0.1
    assert len(store.backend._sides) <= 1001
    assert len(store.backend) == 0


# --- basic backends ---


class Basic:
    """The least that a backend can be."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.entries: dict[str, bytes] = {}

    def read(self, key: str, timeout: float) -> Any:
        data = self.entries.get(key)
        return None if data is None else (data, -2)

    def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        self.calls.append(("write", ttl_ms))
        self.entries[key] = data

    def delete(self, keys: Any, timeout: float) -> int:
        self.calls.append(("delete", tuple(keys)))
        return sum(self.entries.pop(key, None) is not None for key in keys)


class Sweeping(Basic):
    def delete_prefix(self, prefix: str, timeout: float) -> int:
        self.calls.append(("delete_prefix", prefix))
        return 0


class Adapted(Store):
    def __init__(self, backend: Any, is_async: bool) -> None:
        self.backend = backend
        self.loop = asyncio.new_event_loop() if is_async else None
        self.face = AsyncSimple(InThreads(backend)) if is_async else Simple(backend)

    def close(self) -> None:
        if self.loop is not None:
            self.loop.close()


@FACES
def test_a_basic_backend_does_what_it_can(is_async: bool) -> None:
    store = Adapted(Basic(), is_async)
    assert (store.face.fenced, store.face.versioned) == (False, False)
    assert store.lookup(KEY, ()) == (None, -2, ())
    assert store.lookup(KEY, SIDES) == (None, -2, (None, None))
    claimed = store.claim_it(sides=SIDES, lock_ms=5000, head=True)
    assert claimed == (None, "", False, (), None)
    assert store.fill_it(claimed) is True
    assert store.lookup(KEY, SIDES) == (b"value", -2, ())
    assert store.renew(KEY, "", 5000) is True
    store.release(Release(KEY, ""))
    assert store.claim_it(delete=True) == claimed
    assert store.lookup(KEY, ()) == (None, -2, ())
    store.fill_it(claimed)
    store.remove(Removal((KEY,), (), ((CHANNEL, b"m"),)))
    assert store.backend.entries == {}
    store.close()


@FACES
def test_a_basic_backend_knows_further_names(is_async: bool) -> None:
    store = Adapted(Basic(), is_async)
    claimed = store.claim_it()
    store.backend.entries["former"] = b"old"
    assert store.lookup(KEY, ("former",)) == (None, -2, (b"old",))
    store.fill_it(claimed, others=(("former", b"m"),))
    assert list(store.backend.entries) == [KEY]
    store.backend.entries["former"] = b"old"
    store.claim_it(delete=True, others=(("former", b"m"),))
    assert store.backend.entries == {}
    store.close()


@FACES
def test_a_basic_backend_sweeps_for_versions(is_async: bool) -> None:
    store = Adapted(Sweeping(), is_async)
    store.remove(Removal((KEY,), SIDES))
    assert store.backend.calls == [
        ("delete", (KEY,)),
        ("delete_prefix", "ns:fn:"),
        ("delete_prefix", "ns:"),
    ]
    store.close()


@FACES
@pytest.mark.parametrize(
    ("backend", "version"),
    [(Basic, SIDES[0]), (Sweeping, "ns:tag:a:" + 32 * "0"), (Sweeping, "v:short")],
)
def test_what_a_basic_backend_cannot_do_is_said_first(
    is_async: bool, backend: Any, version: str
) -> None:
    store = Adapted(backend(), is_async)
    with pytest.raises(BackendUnavailable):
        store.remove(Removal((KEY,), (version,)))
    assert store.backend.calls == []
    store.close()


def test_an_adapted_backend_is_still_itself() -> None:
    backend = MemoryBackend()
    adapted = Simple(backend)
    assert adapted.address == "memory"
    adapted.write(KEY, b"value", 0, TIMEOUT)
    assert adapted.read(KEY, TIMEOUT) == (b"value", -1)
    assert not hasattr(adapted, "settings")
    assert not hasattr(Simple.__new__(Simple), "anything")


# --- without a server ---


def test_talks_are_plain_conversations() -> None:
    """What the transports do, done by hand."""
    talk = Talks("there").fill(Fill(KEY, b"data", 10, None))
    assert next(talk) == [("SET", KEY, b"data", "PX", 10)]
    with pytest.raises(StopIteration) as end:
        talk.send([b"OK"])
    assert end.value.value is True
