"""Pickles in a shared store are signed, and verified before they are unpickled."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import xxhash

from cachekit import (
    Cache,
    CacheConfig,
    CacheMiss,
    ConfigurationError,
    DecodeError,
    _core,
)
from cachekit._secrets import _rings, keyring_of
from cachekit.backends import MemoryBackend
from cachekit.serializers import PickleSerializer

KEY, OTHER = "ab" * 32, "cd" * 32
SCOPE = b"shop:get_user"
unpickled: list[str] = []


class Trap:
    """Tells when it is unpickled."""

    def __reduce__(self):
        return unpickled.append, ("sprung",)


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x


@pytest.fixture(autouse=True)
def no_trap_is_sprung():
    unpickled.clear()
    yield
    assert unpickled == []


def bound(key=KEY, previous=(), tenant="default", scope=SCOPE):
    ring = _core.Keyring(key, previous)
    return PickleSerializer().bind(ring, tenant, scope)


# -- as an object ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, 1, {"a": Point(3)}, [Point(1)] * 2, b"\0" * 99]
)
def test_what_is_signed_comes_back(value):
    serializer = bound()
    data = serializer.serialize(value)
    assert serializer.deserialize(memoryview(data)) == value
    assert bound().deserialize(data) == value


def test_every_flip_truncation_and_extension_is_refused_unread():
    serializer = bound()
    data = bytearray(serializer.serialize({"trap": b"x" * 20}))
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            with pytest.raises(DecodeError, match="not signed"):
                serializer.deserialize(memoryview(bytes(data)))
            data[at] ^= 1 << bit
    for end in range(len(data)):
        with pytest.raises(DecodeError, match="not signed"):
            serializer.deserialize(bytes(data[:end]))
    with pytest.raises(DecodeError, match="not signed"):
        serializer.deserialize(bytes(data) + b"\0")


def test_nothing_is_unpickled_before_its_signature_holds():
    trap = pickle.dumps(Trap())
    good = bound().serialize(1)
    for data in (trap, good[:36] + trap, b"CKP\x01" + bytes(32) + trap):
        with pytest.raises(DecodeError, match="not signed"):
            bound().deserialize(memoryview(data))


@pytest.mark.parametrize(
    "other",
    [
        {"key": OTHER},
        {"tenant": "blue"},
        {"scope": b"shop:get_order"},
        {"key": OTHER, "previous": ("ef" * 32,)},
    ],
)
def test_another_key_tenant_or_function_does_not_verify(other):
    data = bound().serialize(Trap())
    with pytest.raises(DecodeError, match="not signed"):
        bound(**other).deserialize(data)


def test_previous_keys_verify_and_the_current_one_signs():
    old, new = bound(OTHER), bound(KEY, (OTHER,))
    assert new.deserialize(old.serialize("old")) == "old"
    with pytest.raises(DecodeError):
        old.deserialize(new.serialize(Trap()))
    assert bound(KEY).deserialize(new.serialize("new")) == "new"


def test_an_unsigned_reader_does_not_take_a_signed_pickle():
    with pytest.raises(DecodeError):
        PickleSerializer(allow_unsigned=True).deserialize(bound().serialize(1))


def test_binding_makes_a_copy_and_tells_no_key():
    plain = PickleSerializer()
    made = plain.bind(_core.Keyring(KEY), "default", SCOPE)
    assert plain.serialize(1) == pickle.dumps(1, protocol=5)
    assert made.serialize(1) != plain.serialize(1)
    assert repr(made) == "PickleSerializer()" and made.name == "pickle"
    for leak in (lambda: pickle.dumps(made), lambda: copy.deepcopy(made)):
        with pytest.raises(TypeError):
            leak()


# -- the keyring of a configuration ---------------------------------------------------


def test_one_keyring_for_the_same_keys_and_none_when_nobody_uses_it():
    config = CacheConfig(master_key=KEY, previous_master_keys=[OTHER])
    ring = keyring_of(config)
    assert ring is not None and ring.count == 2
    again = CacheConfig(master_key=KEY, previous_master_keys=[OTHER])
    assert keyring_of(again) is ring
    assert keyring_of(CacheConfig(master_key=KEY)) is not ring
    assert keyring_of(CacheConfig(), master_key=OTHER).count == 1
    assert keyring_of(CacheConfig()) is None
    del ring
    gc.collect()
    assert not list(_rings)


def test_text_that_is_no_key_is_e002_and_not_repeated():
    with pytest.raises(ConfigurationError) as caught:
        keyring_of(CacheConfig(), master_key="hunter2")
    assert caught.value.code == "E002"
    assert "hunter2" not in str(caught.value)


# -- as the serializer of a function --------------------------------------------------


def test_a_shared_store_needs_a_master_key():
    @Cache(backend=MemoryBackend())(name="unsigned", serializer=PickleSerializer())
    def point(x: int):
        return Point(x)

    with pytest.raises(ConfigurationError, match="without signing") as caught:
        point(1)
    assert "CACHEKIT_MASTER_KEY" in caught.value.hint
    assert "allow_unsigned=True" in caught.value.hint


@pytest.mark.parametrize(
    "backend, serializer",
    [
        (None, PickleSerializer()),
        (MemoryBackend(), PickleSerializer(allow_unsigned=True)),
    ],
)
def test_memory_alone_and_allow_unsigned_need_none(backend, serializer):
    @Cache(backend=backend)(name="no key", serializer=serializer)
    def point(x: int):
        return Point(x)

    assert point(1) == point(1) == Point(1)
    assert point.cache_info().hits == 1


def test_a_serializer_that_asks_for_signing_and_cannot_sign_is_refused():
    class Asks:
        name = "asks"
        requires_signing = True

        def serialize(self, value):
            return pickle.dumps(value)

        def deserialize(self, data):
            return pickle.loads(data)

    config = CacheConfig(master_key=KEY)

    @Cache(config, backend=MemoryBackend())(name="asks", serializer=Asks())
    def number(x: int):
        return x

    with pytest.raises(ConfigurationError, match="without signing"):
        number(1)


def cached(server, function, *, config=None, **options):
    """`function`, cached in Redis alone, with everything but the signature in clear."""
    config = {"master_key": KEY, **(config or {})}
    cache = Cache(CacheConfig(redis_url=server.url, l1_enabled=False, **config))
    options = {
        "name": "signed",
        "serializer": PickleSerializer(),
        "encryption": False,
        **options,
    }
    return cache(**options)(function)


def is_stored(function, *args) -> bool:
    try:
        function.using("fresh")(*args)
    except CacheMiss:
        return False
    return True


def entry_of(client, function, *args) -> tuple[str, bytes]:
    key = function.key_for(*args)
    return key, client.call("GET", key)


def reframed(data: bytes, payload: bytes) -> bytes:
    """The entry with another payload, and a check that holds."""
    body = data[: data.index(b"CKP\x01")] + payload
    return body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")


def put(client, key: str, data: bytes) -> None:
    client.call("SET", key, data, "KEEPTTL")


def test_signed_entries_go_through_redis(redis_server):
    def make(x: int):
        return Point(x)

    writer = cached(redis_server, make)
    assert writer(1) == Point(1)
    reader = cached(redis_server, make)
    assert reader.using("fresh")(1) == Point(1)
    with redis_server.client() as client:
        _, data = entry_of(client, writer, 1)
    assert b"CKP\x01" in data


def test_what_was_put_into_redis_is_never_unpickled(redis_server):
    function = cached(redis_server, lambda x: x)
    function(1)
    trap = pickle.dumps(Trap())
    with redis_server.client() as client:
        key, data = entry_of(client, function, 1)
        signed = data[data.index(b"CKP\x01") : -8]
        for payload in (
            trap,
            b"CKP\x01" + bytes(32) + trap,
            signed[:36] + trap,
            bound().serialize(Trap()),  # a key and a tenant that are right
        ):
            put(client, key, reframed(data, payload))
            assert not is_stored(function, 1)
        put(client, key, reframed(data, signed))
        assert is_stored(function, 1)


def test_every_flip_of_an_entry_in_redis_is_a_miss(redis_server):
    function = cached(redis_server, lambda x: {"of": x})
    function(1)
    with redis_server.client() as client:
        key, data = entry_of(client, function, 1)
        start = data.index(b"CKP\x01")
        for at in range(start, len(data) - 8):
            changed = bytearray(data[start:-8])
            changed[at - start] ^= 0x10
            put(client, key, reframed(data, bytes(changed)))
            assert not is_stored(function, 1), at
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0x10
            put(client, key, bytes(changed))
            assert not is_stored(function, 1), at


def test_a_pickle_of_one_function_is_not_read_by_another(redis_server):
    one = cached(redis_server, lambda x: "one", name="one")
    other = cached(redis_server, lambda x: "other", name="other")
    one(1)
    other(1)
    with redis_server.client() as client:
        _, foreign = entry_of(client, one, 1)
        key, own = entry_of(client, other, 1)
        payload = foreign[foreign.index(b"CKP\x01") : -8]
        put(client, key, reframed(own, payload))
        assert not is_stored(other, 1)


def test_rotation_reads_the_former_key(redis_server):
    old = cached(redis_server, lambda x: Point(x), config={"master_key": OTHER})
    old(1)
    rotated = {"master_key": KEY, "previous_master_keys": [OTHER]}
    new = cached(redis_server, lambda x: Point(x), config=rotated)
    assert new.using("fresh")(1) == Point(1)
    assert not is_stored(cached(redis_server, lambda x: Point(x)), 1)


def test_an_entry_of_another_serializer_is_a_miss_and_they_stay_apart(redis_server):
    pickled = cached(redis_server, lambda x: {"of": x})
    plain = cached(redis_server, lambda x: {"of": x}, serializer=None)
    assert pickled.key_for(1) == plain.key_for(1)
    pickled(1)
    assert is_stored(pickled, 1) and not is_stored(plain, 1)
    plain(1)
    assert is_stored(plain, 1) and not is_stored(pickled, 1)


def test_a_signed_reader_does_not_take_what_an_unsigned_writer_left(redis_server):
    unsigned = PickleSerializer(allow_unsigned=True)
    writer = cached(redis_server, lambda x: Trap(), serializer=unsigned)
    reader = cached(redis_server, lambda x: x)
    with redis_server.client() as client:
        reader(1)
        key, data = entry_of(client, reader, 1)
        put(client, key, reframed(data, pickle.dumps(Trap())))
    assert not is_stored(reader, 1)
    assert writer.key_for(1) == key


def test_a_signed_pickle_may_be_encrypted_too(redis_server):
    function = cached(redis_server, lambda x: Point(x), encryption=None)
    assert function(1) == Point(1)
    assert function.using("fresh")(1) == Point(1)
    with redis_server.client() as client:
        _, data = entry_of(client, function, 1)
    assert data is None or b"CKP\x01" not in data
