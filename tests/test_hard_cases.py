# SPDX-License-Identifier: MIT
"""What must hold where parts meet: clearing, names, foreign code, other forms."""

from __future__ import annotations

import dataclasses
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from basic_store import BasicStore
from faces import FACES, Face

from cachekit import Cache, CacheConfig
from cachekit.backends import MemoryBackend

LONG = 20.0


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with Face(request.param) as face:
        yield face


class Counted:
    """A function that returns how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, *args: Any) -> int:
        self.runs += 1
        return self.runs


def counted(face: Face, decorate: Any) -> tuple[Any, Counted]:
    count = Counted()

    def function(*args: Any) -> int:
        return count(*args)

    return face.function(decorate, function), count


# ---- clearing ------------------------------------------------------------------------


def test_clear_forgets_tables_of_their_own(face: Face) -> None:
    cache = Cache(backend=None)
    cached, _ = counted(face, cache.local(max_entries=10))
    assert [face.call(cached, 1), face.call(cached, 1)] == [1, 1]
    face.do(cache, "clear")
    assert face.call(cached, 1) == 2


def test_a_run_from_before_a_clear_fills_nothing() -> None:
    cache = Cache(backend=None)
    inside, leave = threading.Event(), threading.Event()
    runs: list[int] = []

    @cache
    def slow() -> int:
        runs.append(1)
        inside.set()
        leave.wait(LONG)
        return len(runs)

    thread = threading.Thread(target=slow)
    thread.start()
    inside.wait(LONG)
    cache.clear()
    leave.set()
    thread.join()
    assert slow() == 2


def test_clear_keeps_no_function_alive() -> None:
    import gc
    import weakref

    cache = Cache(backend=None)

    @cache
    def function() -> int:
        return 1

    function()
    alive = weakref.ref(function)
    del function
    gc.collect()
    assert alive() is None
    cache.clear()


# ---- local ---------------------------------------------------------------------------


def test_local_caches_where_the_configuration_has_no_memory(face: Face) -> None:
    cached, count = counted(face, Cache(CacheConfig(l1_enabled=False)).local)
    assert face.call(cached, 1) == face.call(cached, 1) == 1
    assert count.runs == 1


def test_entries_of_local_know_no_cap(face: Face) -> None:
    cached, _ = counted(face, Cache(CacheConfig(l1_ttl=0.01)).local)
    face.call(cached)
    assert face.call(cached.entry).remaining_ttl is None


# ---- foreign code that is stopped ----------------------------------------------------


class Stopped(BaseException):
    """As KeyboardInterrupt and SystemExit are; those end an event loop."""


def stop(*args: Any) -> Any:
    raise Stopped


class StoppedSerializer:
    name = "stopped"

    def __init__(self, stopped: bool = True) -> None:
        self.stopped = stopped

    def serialize(self, value: Any) -> bytes:
        return stop() if self.stopped else b"%d" % value

    def deserialize(self, data: memoryview) -> Any:
        return stop() if self.stopped else int(bytes(data))


@pytest.mark.parametrize(
    "options",
    [{"cache_if": stop}, {"ttl": stop}, {"serializer": StoppedSerializer()}],
    ids=["cache_if", "ttl", "serializer"],
)
def test_who_is_stopped_while_storing_is_stopped(
    face: Face, options: dict[str, Any]
) -> None:
    cached, count = counted(face, Cache(backend=None)(**options))
    for runs in (1, 2):  # the flight of the first has ended
        with pytest.raises(Stopped):
            face.call(cached)
        assert count.runs == runs
    assert cached.cache_info().unencodable == 0


def test_who_is_stopped_while_reading_is_stopped(face: Face) -> None:
    store = MemoryBackend()
    serializer = StoppedSerializer(stopped=False)
    options = {"name": "f", "serializer": serializer, "l1_enabled": False}
    cached, count = counted(face, Cache(backend=store)(**options))
    assert face.call(cached) == face.call(cached) == 1
    serializer.stopped = True
    with pytest.raises(Stopped):
        face.call(cached)
    assert (count.runs, len(store)) == (1, 1)


# ---- time, as a hostile store tells it -----------------------------------------------


class Telling(BasicStore):
    """Says of every entry that it has `remaining` ms to live."""

    remaining: int | None = None

    def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        found = super().read(key, timeout)
        if found is None:
            return None
        data, remaining = found
        return data, remaining if self.remaining is None else self.remaining

    asyncio = None  # type: ignore[assignment]


@pytest.mark.parametrize("remaining", [2**63 - 1, 2**53, 10**16])
def test_more_life_than_an_entry_was_given_counts_as_all_of_it(
    face: Face, remaining: int
) -> None:
    store = Telling()
    cached, count = counted(face, Cache(backend=store)(name="f", ttl=60))
    face.call(cached)
    cached.cache_clear()
    store.remaining = remaining
    assert face.call(cached) == 1
    assert 59 < face.call(cached.entry).remaining_ttl <= 60
    assert (count.runs, cached.cache_info().currsize) == (1, 1)


@pytest.mark.parametrize("remaining", [-(2**63), -3, 0])
def test_no_life_left_is_a_miss(face: Face, remaining: int) -> None:
    store = Telling()
    cached, count = counted(face, Cache(backend=store)(name="f", ttl=60))
    face.call(cached)
    cached.cache_clear()
    store.remaining = remaining
    assert face.call(cached) == 2


@pytest.mark.parametrize("created", [0, 2**63, 2**64 - 1])
def test_an_entry_without_end_is_served_whenever_it_says_it_was_made(
    face: Face, created: int
) -> None:
    from cachekit import NEVER

    class Dated(BasicStore):
        def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
            at = data.index(struct.pack("<Q", wall(data)))
            forged = data[:at] + struct.pack("<Q", created) + data[at + 8 :]
            super().write(key, checked(forged), ttl_ms, timeout)

        asyncio = None  # type: ignore[assignment]

    store = Dated()
    cached, count = counted(face, Cache(backend=store)(name="f", ttl=NEVER))
    face.call(cached)
    cached.cache_clear()
    assert face.call(cached) == 1
    assert face.call(cached.entry).remaining_ttl is None


def wall(data: bytes) -> int:
    """The time in a frame: the one field that is the present in ms."""
    import time

    now = int(time.time() * 1000)
    for at in range(len(data) - 8):
        (number,) = struct.unpack_from("<Q", data, at)
        if abs(number - now) < 60_000:
            return number
    raise AssertionError("no time in the frame")


def checked(data: bytes) -> bytes:
    """The frame with the check that fits its bytes."""
    xxhash = pytest.importorskip("xxhash")
    return data[:-8] + struct.pack("<Q", xxhash.xxh3_64_intdigest(data[:-8]))


# ---- one name, several functions -----------------------------------------------------


class Upper:
    name = "upper"

    def serialize(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def deserialize(self, data: memoryview) -> Any:
        return bytes(data).decode()


class Lower(Upper):
    name = "lower"

    def serialize(self, value: Any) -> bytes:
        return str(value).lower().encode()


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "store"])
def test_functions_of_one_name_do_not_read_each_others_form(
    face: Face, shared: bool
) -> None:
    cache = Cache(backend=MemoryBackend() if shared else None)
    names = []
    for serializer in (Upper(), Lower(), None):
        options: dict[str, Any] = {"full_key": lambda: "k"}
        if serializer is not None:
            options["serializer"] = serializer
        names.append(face.function(cache(**options), lambda: "Text"))
    assert face.do(cache, "get", "k") is None
    for _ in range(2):
        values = [face.call(cached) for cached in names]
        assert all(value in ("Text", "TEXT", "text") for value in values)
        assert values[0] != "text"
        assert values[1] != "TEXT"
        assert values[2] == "Text"
    assert face.do(cache, "get", "k") == "Text"


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "store"])
def test_deleting_a_name_reaches_functions_with_a_form_of_their_own(
    face: Face, shared: bool
) -> None:
    cache = Cache(backend=MemoryBackend() if shared else None)
    options = {"full_key": lambda: "k", "serializer": Upper()}
    count = Counted()
    cached = face.function(cache(**options), lambda: f"t{count()}")
    face.call(cached)
    assert face.call(cached) == "T1"
    face.do(cache, "delete", "k")
    assert face.call(cached) == "t2"


@dataclasses.dataclass
class Point:
    x: int


class _NoFuture:
    """Annotations that are objects, as without ``from __future__``."""

    of_one = Point
    of_many = list[Point]
    by_name = dict[str, Point]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (_NoFuture.of_one, Point(1)),
        (_NoFuture.of_many, [Point(1)]),
        (_NoFuture.by_name, {"a": Point(1)}),
    ],
)
def test_annotation_with_arguments_names_the_class(annotation: Any, value: Any) -> None:
    count = Counted()

    def function() -> Any:
        count()
        return value

    function.__annotations__["return"] = annotation
    cached = Cache(backend=None)(function)
    assert cached() == cached() == value
    assert count.runs == 1


def test_names_may_be_set_while_functions_come_to_share_them() -> None:
    cache = Cache(backend=None)
    cache.set("k", 0)
    failures: list[BaseException] = []
    ended = threading.Event()

    def write() -> None:
        try:
            while not ended.is_set():
                cache.set("k", 1)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(300):
        cache(full_key=lambda: "k")(lambda: 1)()
    ended.set()
    writer.join()
    assert not failures


# ---- bounds --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 65536])
def test_every_pool_size_that_is_accepted_makes_a_pool(size: int) -> None:
    from cachekit.backends import RedisBackend

    config = CacheConfig(connection_pool_size=size)
    backend = RedisBackend("redis://127.0.0.1:1", config)
    assert backend.pool_stats()["max_size"] == size
    backend.close()


# ---- places of max_concurrent_requests -----------------------------------------------


def test_a_place_survives_an_exception_between_taking_and_using_it() -> None:
    """A signal handler may raise as `take` returns: a tracer does it on purpose."""
    import sys

    from cachekit._limit import Limit, Limited

    limit = Limit(1)
    limited = Limited(MemoryBackend(), limit)

    def local(frame: Any, event: str, arg: Any) -> Any:
        if event == "return":
            raise Stopped
        return local

    def trace(frame: Any, event: str, arg: Any) -> Any:
        return local if frame.f_code is Limit.take.__code__ else None

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(Stopped):
            limited.lookup("key", (), 1.0)
    finally:
        sys.settrace(former)
    assert limit.figures["in_use"] == 0
    assert limited.lookup("key", (), 0.1) == (None, -2, ())


def test_leaving_twice_makes_no_second_place() -> None:
    from cachekit import PoolTimeout
    from cachekit._limit import Limit, Limited

    limit = Limit(1)
    held = limit.take(1.0)
    for _ in range(3):
        with pytest.raises(PoolTimeout):
            Limited(MemoryBackend(), limit).lookup("key", (), 0.001)
    limit.give_back(held)
    assert limit.figures == {"limit": 1, "in_use": 0, "waiting": 0, "skipped": 3}


def test_a_disabled_block_that_ends_in_another_context_slows_nobody_down() -> None:
    from contextvars import copy_context

    cache = Cache(backend=None)
    block = cache.disabled()
    copy_context().run(block.__enter__)
    assert cache._off.value == 1
    with pytest.raises(ValueError, match="Context"):
        block.__exit__(None, None, None)
    assert cache._off.value == 0


@pytest.mark.parametrize("method", ["get", "peek", "entry"])
@pytest.mark.parametrize("shared", [False, True], ids=["memory", "store"])
def test_looking_at_what_cannot_be_read_finds_nothing(
    face: Face, shared: bool, method: str
) -> None:
    from cachekit import CacheMiss

    cache = Cache(backend=MemoryBackend() if shared else None)
    options = {"full_key": lambda: "k"}
    typed = face.function(cache(**options, returns=Point), lambda: Point(1))
    plain = face.function(cache(**options), lambda: 1)
    assert face.call(typed) == face.call(typed) == Point(1)
    if method == "get":
        assert face.do(cache, "get", "k", "none") == "none"
    elif method == "entry":
        assert face.call(plain.entry) is None
    else:
        with pytest.raises(CacheMiss):
            face.call(plain.peek)
    assert face.call(typed) == Point(1)


# ---- one store, treated in two ways --------------------------------------------------


def test_names_are_shared_with_functions_of_every_preset(face: Face) -> None:
    cache = Cache(backend=MemoryBackend())
    count = Counted()
    for decorate in (cache.minimal, cache):
        cached = face.function(decorate(full_key=lambda: "k"), lambda: count())
        before = face.call(cached)
        face.do(cache, "delete", "k")
        assert face.call(cached) == before + 1
        face.do(cache, "set", "k", 77)
        assert face.call(cached) == 77
        face.do(cache, "delete", "k")


def test_kept_invalidations_hold_for_functions_of_every_preset(face: Face) -> None:
    from cachekit import Invalidation
    from cachekit._errors import BackendReplyError

    class Refusing(BasicStore):
        refuses = False

        def delete(self, keys: Any, timeout: float) -> int:
            if self.refuses:
                raise BackendReplyError("READONLY", kind="readonly", counts=False)
            return super().delete(keys, timeout)

        asyncio = None  # type: ignore[assignment]

    store = Refusing()
    cache = Cache(backend=store)
    count = Counted()
    options: dict[str, Any] = {"full_key": lambda: "k", "l1_enabled": False}
    cached = face.function(cache.minimal(**options), lambda: count())
    assert face.call(cached) == face.call(cached) == 1
    store.refuses = True
    assert face.do(cache, "delete", "k") is Invalidation.QUEUED
    assert face.call(cached) == 2
    store.refuses = False


def test_requests_of_every_preset_are_counted_together() -> None:
    cache = Cache(CacheConfig(max_concurrent_requests=1), backend=MemoryBackend())
    plain, minimal = cache(name="a")(lambda: 1), cache.minimal(name="b")(lambda: 1)
    assert plain() == minimal() == 1
    assert plain._plan.store is not minimal._plan.store
    assert plain._plan.store.limit is minimal._plan.store.limit
