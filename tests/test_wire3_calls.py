# SPDX-License-Identifier: MIT
"""Decorated functions whose entries are version 3, or interop, on a real Redis."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from basic_store import BasicStore
from faces import FACES, Face
from servers import RedisServer
from wire3_entries import RECORDED, library, value_of

from cachekit import (
    Cache,
    CacheConfig,
    ConfigurationError,
    DecryptionError,
    UncacheableArgument,
    _core,
)
from cachekit._events import CHANNEL, decode_event, encode_event
from cachekit._pending import Gone, Pending
from cachekit._wire3 import (
    Bond,
    EntryForm,
    call_names,
    dialect_of,
    read_entry,
    read_interop,
    serializer_code,
    write_entry,
    write_interop,
)
from cachekit.backends import MemoryBackend

OLD, NEW = "0123456789abcdef" * 4, "fedcba9876543210" * 4
LONG = 5.0


class Lab:
    """Caches on one server, closed at the end."""

    def __init__(self, face: Face, redis: RedisServer, store: Any) -> None:
        self.face = face
        self.redis = redis
        self.store = store
        self.runs: list[Any] = []
        self._caches: list[Cache] = []

    def cache(self, *, backend: Any = None, **config: Any) -> Cache:
        settings = {"wire": "3", **config}
        if backend is None:
            cache = Cache(CacheConfig(redis_url=self.redis.url, **settings))
        else:
            cache = Cache(CacheConfig(**settings), backend=backend)
        self._caches.append(cache)
        return cache

    def function(
        self,
        cache: Any,
        function: Callable[..., Any] | None = None,
        name: str = "get_user",
        **options: Any,
    ) -> Any:
        """A cached ``app.get_user``, of which there may be several."""

        def get_user(number: Any, flag: Any = False) -> Any:
            self.runs.append(number)
            return {"id": number, "run": len(self.runs)}

        made = get_user if function is None else function
        # Ours are closures: their name vouches for them.
        decorate = cache(name=f"app.{name}", **options)

        def named(function: Any) -> Any:
            function.__module__ = "app"
            function.__qualname__ = function.__name__ = name
            return decorate(function)

        return self.face.function(named, made)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.face.call(function, *args, **kwargs)

    def entries(self) -> dict[str, bytes]:
        found = {}
        for key in self.store.call("KEYS", "*"):
            if self.store.call("TYPE", key) == "string" and not key.startswith(b"{"):
                found[key.decode()] = self.store.call("GET", key)
        return found

    def close(self) -> None:
        for cache in self._caches:
            self.face.do(cache, "close")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=FACES)
def lab(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Lab]:
    with Face(request.param) as face, redis.client() as client:
        client.call("FLUSHALL")
        lab = Lab(face, redis, client)
        yield lab
        lab.close()


def names_of(args: Any, wire: str = "3", **options: Any) -> Any:
    options = {"tenant": "default", **options}
    return call_names("app.get_user", args, {}, dialect=dialect_of(wire), **options)


def eventually(check: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# ---- plain entries -------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["3", "3:0.24", "3:0.23", "3:0.20", "3:0.17"])
def test_entries_are_those_of_the_release(lab, wire):
    cached = lab.function(lab.cache(wire=wire, namespace="users"), ttl=60)
    value = lab.call(cached, 42)
    (name,) = names_of((42,), wire, namespace="users")
    ((key, data),) = lab.entries().items()
    assert key == name.stored == cached.key_for(42)
    assert data == write_entry(value, EntryForm())
    assert 58_000 < lab.store.call("PTTL", key) <= 60_000


def test_a_given_backend_has_keys_without_tenant(lab):
    cached = lab.function(lab.cache(backend=lab.redis.url))
    lab.call(cached, 1)
    ((key, _),) = lab.entries().items()
    assert key == names_of((1,), tenant=None)[0].stored


def test_entries_of_others_are_hits(lab):
    cached = lab.function(lab.cache())
    lab.store.call(
        "SET", names_of((1,))[0].stored, write_entry("theirs", EntryForm()), "PX", 9000
    )
    assert [lab.call(cached, 1), lab.call(cached, 1)] == ["theirs", "theirs"]
    assert lab.runs == []
    info = cached.cache_info()
    assert (info.l2_hits, info.l1_hits) == (1, 1)
    entry = lab.call(cached.entry, 1)
    assert 0 < entry.remaining_ttl <= 9


def test_what_remains_in_the_store_bounds_memory(lab):
    cached = lab.function(lab.cache(), ttl=100)
    key = names_of((1,))[0].stored
    lab.store.call("SET", key, write_entry("short", EntryForm()), "PX", 40)
    assert lab.call(cached, 1) == "short"
    time.sleep(0.05)
    assert lab.call(cached, 1) != "short"


def test_damaged_entry_is_removed_and_made_anew(lab):
    cached = lab.function(lab.cache(l1_enabled=False))
    key = names_of((1,))[0].stored
    good = write_entry({"id": 1}, EntryForm())
    for data in (good[:-1], good[:-9] + b"\x00" + good[-8:], b"CK\x03"):
        lab.store.call("SET", key, data, "PX", 9000)
        runs = len(lab.runs)
        assert lab.call(cached, 1)["id"] == 1
        assert len(lab.runs) == runs + 1
        assert lab.store.call("GET", key) not in (data, None)


def test_entry_of_another_serializer_or_form_is_a_miss(lab):
    cached = lab.function(lab.cache(l1_enabled=False))
    key = names_of((1,))[0].stored
    for data in (
        write_entry(1, EntryForm("auto")),
        write_interop(1),
        b"CK\x04whatever",
    ):
        lab.store.call("SET", key, data, "PX", 9000)
        runs = len(lab.runs)
        lab.call(cached, 1)
        assert len(lab.runs) == runs + 1


def test_key_functions(lab):
    library("blake3")
    for wire, first in (("3:0.24", "-users:u1"), ("3:0.23", "t:default:users:u1")):
        lab.store.call("FLUSHALL")
        cached = lab.function(
            lab.cache(wire=wire, namespace="users"), key=lambda n, **_: f"u{n}"
        )
        lab.call(cached, 1)
        ((key, data),) = lab.entries().items()
        assert key.endswith(first)
        # Under the other releases' name it is found as well, and not kept in memory:
        # nobody asked how long it remains.
        other = lab.function(
            lab.cache(
                wire="3:0.23" if wire == "3:0.24" else "3:0.24", namespace="users"
            ),
            key=lambda n, **_: f"u{n}",
        )
        runs = len(lab.runs)
        lab.call(other, 1)
        lab.call(other, 1)
        assert len(lab.runs) == runs
        assert other.cache_info().l2_hits == 2
        assert lab.call(other.invalidate, 1).value == "delivered"
        assert lab.entries() == {}


def test_serializer_code_is_part_of_the_key_and_s_is_read(lab):
    class Reversing:
        name = "reversing"

        def serialize(self, value):
            return json.dumps(value).encode()[::-1]

        def deserialize(self, data):
            return json.loads(bytes(data)[::-1])

    serializer = Reversing()
    cached = lab.function(lab.cache(l1_enabled=False), serializer=serializer)
    names = names_of((1,), code=serializer_code(serializer))
    value = lab.call(cached, 1)
    assert lab.call(cached, 1) == value
    ((key, data),) = lab.entries().items()
    assert key == names[0].stored
    lab.store.call("DEL", key)
    lab.store.call("SET", names[1].stored, data, "PX", 9000)
    assert lab.call(cached, 1) == value
    lab.call(cached.refresh, 1)
    assert list(lab.entries()) == [names[0].stored]  # the newer one, alone


def test_orjson(lab):
    library("orjson")
    from cachekit.serializers import OrjsonSerializer

    cached = lab.function(lab.cache(l1_enabled=False), serializer=OrjsonSerializer())
    value = lab.call(cached, 1)
    assert lab.call(cached, 1) == value
    ((key, data),) = lab.entries().items()
    assert key.endswith(":1o")
    assert read_entry(data, EntryForm("orjson")) == (value,)


def test_minimal_has_no_check_as_in_that_package(lab):
    cache = lab.cache(l1_enabled=False)
    cached = lab.function(cache.minimal)
    value = lab.call(cached, 1)
    assert lab.call(cached, 1) == value
    ((key, data),) = lab.entries().items()
    assert key.endswith(":0s")
    assert read_entry(data, EntryForm(integrity=False)) == (value,)


def test_value_without_a_place_stays_in_memory(lab):
    for value in ({1: 2}, {1, 2}, 2**70):
        cached = lab.function(lab.cache(), counted(lab, value), "unlike")
        runs = len(lab.runs)
        assert lab.call(cached) == value
        assert lab.call(cached) == value
        assert len(lab.runs) == runs + 1
        assert cached.cache_info().unencodable == 1
        assert lab.entries() == {}


def counted(lab, value):
    def unlike():
        lab.runs.append(1)
        return value

    return unlike


def test_argument_without_a_place(lab):
    cached = lab.function(lab.cache())
    with pytest.raises(UncacheableArgument):
        lab.call(cached, {1, 2})
    through = lab.function(lab.cache(), on_uncacheable="call")
    assert lab.call(through, {1, 2})["id"] == {1, 2}
    assert lab.call(through, {1, 2})["id"] == {1, 2}
    assert lab.entries() == {}


def test_arguments_that_the_function_changes(lab):
    def get_user(items: list[int]) -> int:
        lab.runs.append(1)
        items.append(len(items))
        return len(items)

    cached = lab.function(lab.cache(), get_user)
    assert lab.call(cached, [1]) == 2
    assert lab.call(cached, [1]) == 2
    assert list(lab.entries()) == [names_of(([1],))[0].stored]


def test_named_entries_stay_version_4(lab):
    cache = lab.cache()
    lab.face.do(cache, "set", "a", 1)
    shared = lab.function(cache, full_key=lambda number: f"n:{number}")
    lab.call(shared, 5)
    assert lab.face.do(cache, "get", "n:5")["id"] == 5
    assert all(data.startswith(b"CK\x04") for data in values_only(lab))


def values_only(lab):
    return [data for key, data in lab.entries().items() if ":v:" not in key]


# ---- strategies and operations -------------------------------------------------------


def test_operations(lab):
    cached = lab.function(lab.cache())
    key = names_of((1,))[0].stored
    lab.call(cached.put, "put", 1)
    assert lab.store.call("GET", key) == write_entry("put", EntryForm())
    assert lab.call(cached, 1) == "put" and lab.runs == []
    assert lab.call(cached.peek, 1) == "put"
    assert lab.call(cached.refresh, 1)["run"] == 1
    assert read_entry(lab.store.call("GET", key), EntryForm()) == ({"id": 1, "run": 1},)
    assert lab.call(cached.invalidate, 1).value == "delivered"
    assert lab.entries() == {}
    assert lab.call(cached, 1)["run"] == 2


@pytest.mark.parametrize("strategy", ["FRESH", "REFRESH", "INVALIDATE", "BYPASS"])
def test_strategies(lab, strategy):
    cached = lab.function(lab.cache())
    key = names_of((1,))[0].stored
    lab.store.call("SET", key, write_entry("old", EntryForm()), "PX", 9000)
    value = lab.call(cached.using(strategy), 1)
    stored = lab.store.call("GET", key)
    if strategy in ("FRESH", "REFRESH"):
        assert value == "old" and stored is not None
    elif strategy == "INVALIDATE":
        assert value["run"] == 1
        assert stored is None or read_entry(stored, EntryForm()) == (value,)
    else:
        assert value["run"] == 1 and read_entry(stored, EntryForm()) == (value,)


def test_every_way_to_write_a_call_is_invalidated(lab):
    cached = lab.function(lab.cache(l1_enabled=False))
    for call in (
        lambda: lab.call(cached, 1),
        lambda: lab.call(cached, number=1),
        lambda: lab.call(cached, 1, False),
        lambda: lab.call(cached, 1, flag=False),
    ):
        call()
    assert len(lab.entries()) >= 3
    lab.call(cached.invalidate, 1)
    remaining = set(lab.entries())
    assert remaining <= {  # a mixture that nobody else writes so
        call_names(
            "app.get_user",
            (1,),
            {"flag": False},
            dialect=dialect_of("3"),
            tenant="default",
        )[0].stored
    }
    lab.call(cached.invalidate, 1, flag=False)
    assert lab.entries() == {}


def test_old_value_on_error_comes_from_memory(lab):
    state = {"fails": False}

    def get_user(number: int) -> str:
        if state["fails"]:
            raise ValueError
        return "old"

    cached = lab.function(
        lab.cache(),
        get_user,
        ttl=0.05,
        serve_stale_on_error=True,
        stale_if_error_ttl=60,
    )
    lab.call(cached, 1)
    key = names_of((1,))[0].stored
    assert lab.store.call("PTTL", key) <= 50  # nobody takes it for fresh
    time.sleep(0.06)
    state["fails"] = True
    assert lab.call(cached, 1) == "old"


def test_a_fill_does_not_overtake_an_invalidation(lab):
    cache, other = lab.cache(l1_enabled=False), lab.cache(l1_enabled=False)
    invalidator = other(name="app.get_user")(lambda number: number)

    def get_user(number: int) -> str:
        invalidator.invalidate(1)
        return "computed before"

    cached = lab.function(cache, get_user)
    assert lab.call(cached, 1) == "computed before"
    assert lab.entries() == {}


def test_locks_across_processes_are_taken(lab):
    held = []

    def get_user(number: int) -> int:
        held.extend(lab.store.call("KEYS", "{*}:l"))
        return 1

    cached = lab.function(lab.cache(), get_user, distributed_lock=True)
    lab.call(cached, 1)
    assert len(held) == 1


def test_an_invalidation_reaches_the_memory_of_others_of_ours(lab):
    one, two = lab.function(lab.cache()), lab.function(lab.cache())
    lab.call(one, 1)
    assert lab.call(two, 1)["run"] == 1
    lab.call(one.invalidate, 1)
    assert eventually(lambda: lab.call(two, 1)["run"] > 1)


@pytest.mark.parametrize(
    "options",
    [
        {"stale_ttl": 5},
        {"tags": ["a"]},
        {"version": 1},
        {"schema": int},
        {"ignore": "flag"},
        {"coherence": "tracking"},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("interop", [False, True])
def test_what_has_no_place_is_refused(lab, options, interop):
    if interop:
        options = {**options, "interop": "get", "namespace": "users"}
    cached = lab.function(lab.cache(wire=4 if interop else "3"), **options)
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        lab.call(cached, 1)


def test_memory_only_has_no_such_limits():
    cache = Cache(CacheConfig(wire="3"), backend=None)
    runs = []
    cached = cache(tags=["t"], stale_ttl=5)(lambda n: runs.append(n))
    cached(1), cached(1)
    assert runs == [1]


# ---- all entries of a function -------------------------------------------------------


def listed(lab):
    return {
        key.decode(): lab.store.call("SMEMBERS", key)
        for key in lab.store.call("KEYS", "*ck:reg:*")
    }


@pytest.mark.parametrize("wire", ["3", "3:0.23", "3:0.20"])
def test_invalidate_all_reaches_what_is_listed(lab, wire):
    library("blake3")
    cache = lab.cache(wire=wire, namespace="users")
    cached, kept = lab.function(cache), lab.function(cache, name="other")
    for number in range(5):
        lab.call(cached, number)
    lab.call(kept, 1)
    name = "t:default:ck:reg:users:5407d2bc85936a3a"
    assert len(listed(lab)[name]) == 5
    assert 604_000 < lab.store.call("TTL", name) <= 604_800
    # one that a program of that package wrote
    theirs = names_of((77,), wire, namespace="users")[0]
    lab.store.call("SET", theirs.stored, write_entry(1, EntryForm()))
    lab.store.call("SADD", name, theirs.bare)
    assert lab.call(cached.invalidate_all).value == "delivered"
    assert list(lab.entries()) == [kept.key_for(1)]
    assert name not in listed(lab)
    runs = len(lab.runs)
    lab.call(cached, 1)
    assert len(lab.runs) == runs + 1
    lab.face.do(cache, "clear", namespace="users")
    assert values_only(lab) == []
    lab.call(kept, 1)
    assert len(lab.runs) == runs + 2


def test_what_is_not_listed_is_not_invalidated_as_a_whole(lab):
    for cache in (lab.cache(wire="3:0.17"), lab.cache(backend=lab.redis.url)):
        cached = lab.function(cache)
        lab.call(cached, 1)
        with pytest.raises(ConfigurationError, match="as a whole"):
            lab.call(cached.invalidate_all)
        with pytest.raises(ConfigurationError, match="as a whole"):
            lab.face.do(cache, "clear")
        assert lab.entries() != {}


def test_invalidation_of_all_that_the_store_did_not_take_is_kept(lab):
    library("blake3")
    cached = lab.function(lab.cache(connection_retries=0, l1_enabled=False))
    lab.call(cached, 1)
    before = lab.entries()
    lab.store.call("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        assert lab.call(cached.invalidate_all).value == "queued"
        assert lab.call(cached, 1)["run"] == 2  # what it covers is a miss
        assert lab.entries() == before
    finally:
        lab.store.call("CONFIG", "SET", "min-replicas-to-write", "0")
    time.sleep(1.05)
    assert lab.call(cached, 1)["run"] == 3
    assert lab.entries() != before


def test_kept_invalidations_of_what_is_not_listed_are_all_kept():
    pending = Pending(limit=3)
    for number in range(10):
        pending.keep(Gone(f"func:f:args:{number}:1s", False, "c", b"m", None))
    assert len(pending) == 10
    sent = next(pending.deliveries())
    assert len(sent.keys) == 10 and sent.listed == ()


def test_kept_invalidations_of_what_is_listed_become_one():
    pending = Pending(limit=3)
    whole = Gone(
        "t:default:func:f:args:v:00",
        True,
        "c",
        b"whole",
        None,
        (("e", b"event"),),
        ("t:default:ck:reg::00", "t:default:"),
    )
    for number in range(10):
        key = f"t:default:func:f:args:{number}:1s"
        pending.keep(Gone(key, False, "c", b"m", whole))
    assert len(pending) == 1
    assert pending.covers("t:default:func:f:args:77:1s", ())
    assert pending.covers("t:default:func:f:args:77:1x", ("t:default:other:1s",))
    assert not pending.covers("t:default:func:g:args:77:1s", ())
    sent = next(pending.deliveries())
    assert sent.listed == (("t:default:ck:reg::00", "t:default:"),)
    assert sent.messages == (("c", b"whole"), ("e", b"event"))


# ---- what programs of that package say and are told ----------------------------------


@contextlib.contextmanager
def overheard(lab):
    with lab.redis.client() as listener:
        listener.call("SUBSCRIBE", CHANNEL)
        yield listener


def test_they_are_told(lab):
    library("blake3")
    import redis as redis_py

    cached = lab.function(lab.cache(namespace="users"))
    lab.call(cached, 1)
    client = redis_py.Redis.from_url(lab.redis.url)
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(CHANNEL)
    listener.get_message(timeout=LONG)

    def said() -> bytes | None:
        for _ in range(50):
            message = listener.get_message(timeout=0.1)
            if message is not None:
                return message["data"]
        return None

    registry = "ck:reg:users:5407d2bc85936a3a"
    bare = names_of((1,), namespace="users")[0].bare
    lab.call(cached.put, 5, 1)
    assert said() == encode_event(registry, bare)
    lab.call(cached.using("INVALIDATE"), 1)
    assert said() == encode_event(registry, bare)
    lab.call(cached.invalidate_all)
    assert said() == encode_event(registry, None)
    listener.close()
    client.close()


@pytest.mark.parametrize(
    "event",
    [
        encode_event("ck:reg::5407d2bc85936a3a", "func:whatever"),
        encode_event("ck:reg::5407d2bc85936a3a", None),
        b"garbage that nobody understands",
        b"\x81\xa1r\xc0",
        b"",
        b"x" * 2000,
    ],
    ids=["key", "whole", "garbage", "nil", "empty", "long"],
)
def test_they_are_heard(lab, event):
    library("blake3")
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    key = names_of((1,))[0].stored
    lab.store.call("SET", key, write_entry("theirs", EntryForm()), "PX", 9000)
    assert lab.call(cached, 1) != "theirs"
    lab.store.call("PUBLISH", CHANNEL, event)
    assert eventually(lambda: lab.call(cached, 1) == "theirs")


def test_events_of_other_functions_are_not_ours(lab):
    library("blake3")
    cached = lab.function(lab.cache())
    lab.call(cached, 1)
    lab.store.call("PUBLISH", CHANNEL, encode_event("ck:reg::0000000000000000", None))
    lab.store.call("PUBLISH", "cachekit:invalidate", b"CKI\x01" + b"12345678w" + b"x")
    time.sleep(0.1)
    lab.store.call("FLUSHALL")
    lab.call(cached, 1)
    assert len(lab.runs) == 1


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81", b"\x91\x01", b"\x80" * 1025])
def test_what_is_no_event(data):
    assert decode_event(data) is None


def test_events_that_would_be_too_long():
    assert decode_event(encode_event("ck:reg:a:b", "k" * 2000)) == "ck:reg:a:b"
    assert encode_event("r" * 2000, "k") is None


# ---- secrets -------------------------------------------------------------------------


def sealed(lab, **config):
    options = {"encryption": True, **config.pop("options", {})}
    cache = lab.cache(master_key=OLD, **config)
    return lab.function(cache, **options)


@pytest.mark.parametrize("wire", ["3:0.24", "3:0.23", "3:0.20", "3:0.17"])
def test_encrypted_entries_are_those_of_the_release(lab, wire):
    cached = sealed(lab, wire=wire)
    value = lab.call(cached, 1)
    assert lab.call(cached, 1) == value and len(lab.runs) == 1
    ((key, data),) = lab.entries().items()
    (name,) = names_of((1,), wire)
    assert key == name.stored
    assert b"run" not in data
    bound = name.bound(dialect_of(wire))
    assert bound == (name.stored if wire in ("3:0.24", "3:0.23") else name.bare)
    bond = Bond(_core.Keyring(OLD, (), wire=3), ("default",), (bound,))
    assert read_entry(data, EntryForm(), bond) == (value,)
    again = sealed(lab, wire="3:0.24" if wire == "3:0.17" else "3:0.17")
    assert lab.call(again, 1) == value


def test_tampered_and_plain_entries_are_not_used(lab):
    cached = sealed(lab, l1_enabled=False)
    strict = sealed(lab, l1_enabled=False, options={"fail_closed": True})
    lab.call(cached, 1)
    ((key, data),) = lab.entries().items()
    plain = write_entry("planted", EntryForm())
    for bad in (data[:-1] + bytes([data[-1] ^ 1]), plain):
        lab.store.call("SET", key, bad, "PX", 9000)
        with pytest.raises(DecryptionError):
            lab.call(strict, 1)
        lab.store.call("SET", key, bad, "PX", 9000)
        assert lab.call(cached, 1)["id"] == 1
        assert lab.store.call("GET", key) != bad


def test_former_master_keys_are_read_and_the_current_one_written(lab):
    before = lab.function(lab.cache(master_key=OLD), encryption=True)
    value = lab.call(before, 1)
    after = lab.function(
        lab.cache(master_key=NEW, previous_master_keys=[OLD]), encryption=True
    )
    assert lab.call(after, 1) == value
    lab.call(after.refresh, 1)
    assert len(lab.entries()) == 1
    new = lab.function(lab.cache(master_key=NEW), encryption=True)
    assert lab.call(new, 1) == {"id": 1, "run": 2}
    assert len(lab.runs) == 2
    lab.call(after.invalidate, 1)
    assert lab.entries() == {}
    # the former key alone does not read what the new one wrote
    lab.call(after, 1)
    lone = lab.function(lab.cache(master_key=OLD), encryption=True)
    runs = len(lab.runs)
    lab.call(lone, 1)
    assert len(lab.runs) == runs + 1


def test_tenants_are_kept_apart(lab):
    tenant: ContextVar[str] = ContextVar("tenant", default="blue")
    for options in ({"encryption": True}, {"encryption": False}):
        lab.store.call("FLUSHALL")
        cache = lab.cache(master_key=OLD)
        cached = lab.function(cache, tenant=tenant, **options)
        runs = len(lab.runs)
        blue = lab.call(cached, 1)
        token = tenant.set("red:team")
        red = lab.call(cached, 1)
        assert len(lab.runs) == runs + 2 and red != blue
        assert lab.call(cached, 1) == red
        assert {key.split(":")[1] for key in lab.entries()} == {"blue", "red%3Ateam"}
        lab.call(cached.invalidate, 1)
        tenant.reset(token)
        assert [key.split(":")[1] for key in lab.entries()] == ["blue"]
        # moved to the other tenant's name, it is worth nothing
        ((key, data),) = lab.entries().items()
        if options["encryption"]:
            lab.store.call("SET", key.replace("blue", "red%3Ateam"), data, "PX", 9000)
            token = tenant.set("red:team")
            runs = len(lab.runs)
            assert lab.call(cached, 1) != blue
            assert len(lab.runs) == runs + 1
            tenant.reset(token)


def test_one_tenant_of_encrypted_entries(lab):
    mine = sealed(lab, tenant="6f1c-uuid")
    lab.call(mine, 1)
    ((key, data),) = lab.entries().items()
    assert key == names_of((1,))[0].stored
    assert b'"tenant_id": "6f1c-uuid"' in data
    other = sealed(lab, tenant="another")
    lab.call(other, 1)
    assert len(lab.runs) == 2


def test_tenants_need_a_place_in_keys_that_have_none(lab):
    plain = lab.function(lab.cache(backend=lab.redis.url, tenant="blue"))
    with pytest.raises(ConfigurationError, match="tenant"):
        lab.call(plain, 1)
    interop = {"interop": "get", "namespace": "users"}
    shared = lab.function(lab.cache(tenant="blue"), **interop)
    with pytest.raises(ConfigurationError, match="tenant"):
        lab.call(shared, 1)


# ---- interop -------------------------------------------------------------------------

INTEROP = {"interop": "get_user", "namespace": "users"}


@pytest.mark.parametrize("wire", [4, "3", "3:0.17"])
def test_interop_entries(lab, wire):
    cached = lab.function(lab.cache(wire=wire), **INTEROP)
    value = lab.call(cached, 42.0, flag=True)
    ((key, data),) = lab.entries().items()
    assert key == cached.key_for(42, True)
    assert key.startswith("users:get_user:") and len(key) == 15 + 64
    assert data == write_interop(value)
    assert listed(lab) == {}
    lab.store.call("SET", key, write_interop("theirs"), "PX", 9000)
    other = lab.function(lab.cache(wire=wire, l1_enabled=False), **INTEROP)
    assert lab.call(other, 42, True) == "theirs"
    assert lab.call(other.invalidate, number=42, flag=True).value == "delivered"
    assert lab.entries() == {}


def test_recorded_interop_entries_are_hits(lab):
    """What our own arguments have no place for is not cached, whatever theirs do."""
    cases = [c for c in RECORDED["interop"] if "raised" not in c]
    hits = 0
    for case in cases:
        secrets = {}
        if "master_key_hex" in case:
            secrets = {
                "master_key": case["master_key_hex"],
                "tenant": case["tenant_id"],
            }
        function = value_of(f"lambda {case['signature'][1:-1]}: 'it ran'")
        cached = lab.function(
            lab.cache(wire=4, **secrets),
            function,
            interop=case["operation"],
            namespace=case["namespace"],
        )
        args, kwargs = value_of(case["args"]), value_of(case["kwargs"])
        stored = bytes.fromhex(case["stored_hex"])
        lab.store.call("SET", case["store_key"], stored, "PX", 9000)
        try:
            value = lab.call(cached, *args, **kwargs)
        except UncacheableArgument:
            continue
        assert repr(value)[:200].startswith(case["read_back_repr"][:200]), case
        hits += 1
    assert hits > len(cases) * 3 / 4


def test_interop_with_secrets(lab):
    cached = lab.function(lab.cache(wire=4, master_key=OLD), **INTEROP)
    value = lab.call(cached, 1)
    ((key, data),) = lab.entries().items()
    bond = Bond(_core.Keyring(OLD, (), wire=3), ("default",), (key,))
    assert read_interop(data, bond) == value
    again = lab.function(lab.cache(wire=4, master_key=OLD), **INTEROP)
    assert lab.call(again, 1) == value and len(lab.runs) == 1
    lab.store.call("SET", key, write_interop("planted"), "PX", 9000)
    third = lab.function(lab.cache(wire=4, master_key=OLD), **INTEROP)
    assert lab.call(third, 1) != "planted"


def test_interop_on_a_store_of_ones_own(lab):
    backend = MemoryBackend()
    cached = lab.function(
        lab.cache(backend=backend, wire=4, l1_enabled=False), **INTEROP
    )
    value = lab.call(cached, 1)
    assert lab.call(cached, 1) == value and len(lab.runs) == 1


def test_further_names_on_a_basic_backend(lab):
    library("blake3")
    shelf = BasicStore()

    def cached(wire):
        cache = lab.cache(backend=shelf, wire=wire, l1_enabled=False)
        return lab.function(cache, key=lambda number: f"u{number}")

    value = lab.call(cached("3:0.23"), 1)
    newer = cached("3:0.24")
    assert lab.call(newer, 1) == value and len(lab.runs) == 1
    lab.call(newer.refresh, 1)
    assert lab.call(cached("3:0.23"), 1)["run"] == 2
    lab.call(newer.invalidate, 1)
    assert lab.call(newer, 1)["run"] == 3


@pytest.mark.parametrize(
    "options, words",
    [
        ({"interop": "get_user"}, "namespace"),
        ({"interop": "get_user", "namespace": "Users"}, "namespace"),
        ({"interop": "get_user", "namespace": "ck"}, "reserved"),
        ({**INTEROP, "key": lambda number: 1}, "key="),
        ({**INTEROP, "full_key": lambda number: "a"}, "full_key="),
    ],
)
def test_interop_that_makes_no_sense(lab, options, words):
    cached = lab.function(lab.cache(), **options)
    with pytest.raises(ConfigurationError, match=words):
        lab.call(cached, 1)


@pytest.mark.parametrize("name", ["Get", "", "a:b", "a..b", ".a", "x" * 65])
def test_interop_that_is_no_name(name):
    with pytest.raises(ValueError, match="interop"):
        Cache(backend=None)(interop=name)


def test_clear_leaves_interop_entries_to_others(lab):
    cache = lab.cache(wire=4)
    cached = lab.function(cache, **INTEROP)
    lab.call(cached, 1)
    lab.face.do(cache, "clear")
    assert len(values_only(lab)) == 1
    with pytest.raises(ConfigurationError, match="as a whole"):
        lab.call(cached.invalidate_all)
