"""Full backends on a Redis that fails them.

Scripts lost and refused, side keys that are somebody else's, refused writes, deadlines,
replies that make no sense; and the pipeline that carries it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxy import Proxy
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
    OnRedis,
    each_proxied,
    each_redis,
    every_operation,
    failure_of,
    operations,
)

from cachekit import (
    BackendProtocolError,
    BackendReplyError,
    BackendTimeout,
)
from cachekit._core import ReplyError, RespReader
from cachekit.backends import RedisBackend
from cachekit.backends._protocol import Fill, Release, Removal
from cachekit.backends._redis_scripts import RETRY_SECONDS, Talks

redis = each_redis
slow = each_proxied


# --- one trip each; scripts lost ---


@pytest.mark.parametrize("name", list(operations(None)))
def test_each_operation_is_one_round_trip(slow: Any, name: str) -> None:
    before = slow.server.round_trips
    operations(slow)[name]()
    assert slow.server.round_trips == before + 1


@pytest.mark.parametrize("name", list(operations(None)))
def test_a_lost_script_is_sent_again(slow: Any, name: str, redis_server: Any) -> None:
    redis_server.call("SCRIPT", "FLUSH")
    operations(slow)[name]()
    assert slow.fenced
    trips = slow.server.round_trips
    operations(slow)[name]()
    assert slow.server.round_trips == trips + 1


def test_scripts_may_be_lost_between_all_steps(redis: Any) -> None:
    for _ in range(2):
        redis.server.call("SCRIPT", "FLUSH")
        claimed = redis.claim_it(sides=SIDES, life_ms=1000, lock_ms=5000)
        redis.server.call("SCRIPT", "FLUSH")
        assert redis.renew(KEY, claimed.lock, 5000)
        redis.server.call("SCRIPT", "FLUSH")
        assert redis.fill_it(claimed, bytes(2_000_000), sides=SIDES)
        redis.server.call("SCRIPT", "FLUSH")
        redis.remove(Removal((KEY,), SIDES))
        assert redis.lookup(KEY, SIDES) == (None, -2, (None, None))


def test_many_removals_tell_the_script_once(slow: Any, redis_server: Any) -> None:
    redis_server.call("SCRIPT", "FLUSH")
    redis_server.call("CONFIG", "RESETSTAT")
    keys = tuple(f"key:{n}" for n in range(50))
    for key in keys:
        slow.write(key, b"x", 0)
    slow.remove(Removal(keys))
    assert slow.lookup(keys[0], keys[1:])[::2] == (None, (None,) * 49)
    stats = redis_server.call("INFO", "commandstats").decode()
    assert "cmdstat_eval:calls=1," in stats


def test_a_script_lost_while_it_is_told_is_told_again() -> None:
    """A server that forgets between two commands of one trip."""
    lost = RespReader().feed(b"-NOSCRIPT No matching script.\r\n")[0]
    talk = Talks("there").remove(Removal(("a", "b", "c")))
    names = [[command[0] for command in next(talk)]]
    for replies in ([1, lost, lost], [1, lost]):
        names.append([command[0] for command in talk.send(replies)])
    assert names == [["EVALSHA"] * 3, ["EVAL", "EVALSHA"], ["EVAL"]]
    with pytest.raises(StopIteration):
        talk.send([1])


def test_the_message_of_a_removal_follows_the_deed(redis: Any) -> None:
    """Who hears of it and looks finds nothing, also when no script was known."""
    redis.ping()
    redis.server.call("SCRIPT", "FLUSH")
    with redis.server.client() as client:
        client.call("MONITOR")
        redis.remove(Removal((KEY,), SIDES, ((CHANNEL, b"gone"),)))
        redis.server.call("ECHO", "the end")
        lines = []
        while "the end" not in (line := client.read()):
            lines.append(line)
    deeds = [at for at, line in enumerate(lines) if 'lua] "DEL"' in line]
    told = [at for at, line in enumerate(lines) if '"PUBLISH"' in line]
    assert len(deeds) == 4  # a fence, an entry and two versions
    assert max(deeds) < max(told)


def test_one_lost_script_among_known_ones(redis: Any) -> None:
    redis.server.call("SCRIPT", "FLUSH")
    redis.claim_it()  # known now; that of versions is not
    claimed = redis.claim_it(sides=SIDES, life_ms=1000, lock_ms=5000)
    assert (claimed.lock != "", claimed.busy) == (True, False)
    assert redis.lookup(KEY, SIDES)[2] == claimed.numbers


@FACES
def test_a_restarted_server_has_forgotten_the_fences(
    own_redis: RedisServer, is_async: bool
) -> None:
    store = OnRedis(own_redis, is_async)
    claimed = store.claim_it(sides=SIDES, lock_ms=5000)
    own_redis.restart()
    assert store.fill_it(claimed) is False
    again = store.claim_it(sides=SIDES, lock_ms=5000)
    assert again.numbers != claimed.numbers
    assert store.fill_it(again) is True
    store.close()


# --- scripts refused ---


NO_SCRIPTS = ("-eval", "-evalsha", "-script")
MAY = {
    "no scripts": NO_SCRIPTS,
    "no evalsha": ("-evalsha",),
    "no side keys": ("resetkeys", "~ns:*"),
    "no get within": ("-get",),
}


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def limited(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Any]:
    """A user whose rights the test decides; and the clock of the transport."""
    allow(redis_server)
    url = f"redis://limited:secret@127.0.0.1:{redis_server.port}"
    store = OnRedis(redis_server, request.param, url)
    store.now = 1000.0
    store.backend._talks._clock = lambda: store.now
    yield store
    store.close()
    redis_server.call("ACL", "DELUSER", "limited")


def allow(server: RedisServer, *rules: str) -> None:
    server.call(
        *("ACL", "SETUSER", "limited", "reset", "on", ">secret"),
        *("allkeys", "allchannels", "+@all", *rules),
    )


@pytest.mark.parametrize("rules", list(MAY.values())[:3], ids=list(MAY)[:3])
def test_refused_scripts_leave_the_plain_way(limited: Any, rules: Any) -> None:
    allow(limited.server, *rules)
    assert limited.fenced
    claimed = limited.claim_it(sides=SIDES, life_ms=10_000, lock_ms=5000, head=True)
    assert claimed[:3] == (None, "", False)
    assert limited.lookup(KEY, SIDES)[2] == claimed.numbers
    assert limited.ttl(SIDES[0]) > HOUR
    assert not limited.fenced
    with limited.hearing() as heard:
        assert limited.fill_it(claimed, sides=SIDES, channel=CHANNEL, message=b"new")
        assert limited.lookup(KEY, ())[0] == b"value"
        claimed = limited.claim_it(
            sides=SIDES, head=True, delete=True, channel=CHANNEL, message=b"gone"
        )
        assert limited.lookup(KEY, ())[0] is None
        limited.write(KEY, b"value", 0)
        assert limited.claim_it(head=True).head == b"value"
        limited.remove(Removal((KEY,), SIDES, ((CHANNEL, b"all gone"),)))
    assert heard == [b"new", b"gone", b"all gone"]
    assert limited.lookup(KEY, SIDES) == (None, -2, (None, None))
    assert limited.claim_it(sides=SIDES).numbers[0] not in (None, claimed.numbers[0])


def test_refusal_is_found_in_a_script_too(limited: Any) -> None:
    allow(limited.server, "-get")
    assert limited.claim_it().fence is None
    assert not limited.fenced


def test_the_plain_way_is_one_trip_until_scripts_are_tried_again(
    limited: Any, redis_server: RedisServer
) -> None:
    allow(limited.server, *NO_SCRIPTS)
    assert limited.claim_it().fence is None
    asked = scripts_asked(redis_server)
    assert limited.claim_it().fence is None
    assert scripts_asked(redis_server) == asked
    allow(limited.server)
    limited.now += RETRY_SECONDS - 1
    assert limited.claim_it().fence is None
    limited.now += 1
    assert not limited.fenced
    claimed = limited.claim_it()
    assert limited.fenced
    assert limited.fill_it(claimed) is True
    allow(limited.server, *NO_SCRIPTS)
    assert limited.claim_it().fence is None
    limited.now += RETRY_SECONDS
    assert limited.claim_it().fence is None  # refused again, for as long
    assert scripts_asked(redis_server) > asked
    assert not limited.fenced


def scripts_asked(server: RedisServer) -> int:
    """Scripts that were called, or refused."""
    stats = server.call("INFO", "commandstats").decode()
    return sum(
        int(part.partition("=")[2])
        for line in stats.splitlines()
        if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))
        for part in line.split(":")[1].split(",")
        if part.startswith(("calls=", "rejected_calls="))
    )


def test_a_fence_that_cannot_be_checked_any_more_stores_nothing(limited: Any) -> None:
    claimed = limited.claim_it(lock_ms=5000)
    allow(limited.server, *NO_SCRIPTS)
    assert limited.fill_it(claimed) is False
    assert limited.renew(KEY, claimed.lock, 5000) is False
    limited.release(Release(KEY, claimed.lock))
    assert limited.lookup(KEY, ()) == (None, -2, ())


def test_the_plain_way_never_shortens_a_version(limited: Any) -> None:
    allow(limited.server, *NO_SCRIPTS)
    limited.claim_it(sides=SIDES, life_ms=60_000, fence_ttl_ms=1000)
    limited.claim_it(sides=SIDES, life_ms=1000, fence_ttl_ms=1000)
    assert limited.ttl(SIDES[0]) > 50_000
    limited.claim_it(sides=SIDES, life_ms=90_000, fence_ttl_ms=1000)
    assert limited.ttl(SIDES[0]) > 80_000
    limited.claim_it(sides=SIDES, life_ms=0)
    assert limited.ttl(SIDES[0]) == -1


@pytest.mark.parametrize("rule", ["-publish", "resetchannels"])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_who_may_not_publish_stores_and_removes_all_the_same(
    limited: Any, rule: str, scripts: bool
) -> None:
    allow(limited.server, rule, *(() if scripts else NO_SCRIPTS))
    tell = {"channel": CHANNEL, "message": b"m"}
    claimed = limited.claim_it(sides=SIDES, lock_ms=5000, delete=True, **tell)
    limited.claim_it(lock_ms=5000)
    assert limited.fill_it(claimed, **tell, wake=b"w") is True
    assert limited.fenced is scripts
    assert limited.lookup(KEY, ())[0] == b"value"
    limited.remove(Removal((KEY,), SIDES, ((CHANNEL, b"m"),)))
    assert limited.lookup(KEY, SIDES) == (None, -2, (None, None))


def test_a_command_that_nobody_knows_is_a_refusal(slow: Any) -> None:
    unknown = b"-ERR unknown command 'EVALSHA', with args beginning with: 'x'\r\n"
    answers = [unknown, b":0\r\n"]
    slow.server.transform(lambda data: answers.pop(0) if answers else data)
    claimed = slow.claim_it(head=True)
    assert (claimed.fence, slow.fenced) == (None, False)


# --- somebody else's data ---


FOREIGN = {"list": ("RPUSH", "a"), "text": ("SET", "mine"), "long": ("SET", 17 * "a")}


@pytest.fixture(params=list(FOREIGN))
def foreign(request: pytest.FixtureRequest) -> tuple[str, str]:
    return FOREIGN[request.param]


def held(store: Any, key: str) -> Any:
    kind = store.server.call("TYPE", key)
    return store.server.call("LRANGE", key, 0, -1) if kind == "list" else store.raw(key)


def test_a_foreign_fence_is_left_alone(redis: Any, foreign: Any) -> None:
    redis.server.call(foreign[0], FENCE, foreign[1])
    before = held(redis, FENCE)
    for operation in (
        lambda: redis.claim_it(),
        lambda: redis.claim_it(replace=True),
        lambda: redis.claim_it(delete=True),
        lambda: redis.fill(Fill(KEY, b"x", 0, 16 * "a")),
    ):
        error = failure_of(operation)
        assert (type(error), error.kind) == (BackendReplyError, "wrongtype")
        assert error.counts is False
    assert redis.lookup(KEY, ()) == (None, -2, ())
    redis.write(KEY, b"value", 0)
    redis.remove(Removal((KEY,)))
    assert redis.lookup(KEY, ()) == (None, -2, ())
    assert held(redis, FENCE) == before
    assert redis.fenced


def test_a_foreign_lock_is_left_alone(redis: Any, foreign: Any) -> None:
    claimed = redis.claim_it()
    redis.server.call(foreign[0], LOCK, foreign[1])
    before = held(redis, LOCK)
    for operation in (
        lambda: redis.claim_it(lock_ms=5000),
        lambda: redis.fill_it(claimed, lock=16 * "a"),
        lambda: redis.renew(KEY, 16 * "a", 5000),
        lambda: redis.release(Release(KEY, 16 * "a")),
    ):
        error = failure_of(operation)
        assert (error.kind, error.counts) == ("wrongtype", False)
    assert held(redis, LOCK) == before
    assert redis.ttl(LOCK) == -1
    assert redis.fill_it(claimed) is True  # who wants no lock is not concerned


def test_a_foreign_version_is_left_alone(redis: Any, foreign: Any) -> None:
    redis.server.call(foreign[0], SIDES[1], foreign[1])
    redis.server.call("EXPIRE", SIDES[1], 10)
    before = held(redis, SIDES[1])
    error = failure_of(lambda: redis.claim_it(sides=SIDES, life_ms=60_000))
    assert (error.kind, error.counts) == ("wrongtype", False)
    assert redis.fill_it(redis.claim_it(), sides=SIDES) is True
    redis.remove(Removal(versions=SIDES))
    assert held(redis, SIDES[1]) == before
    assert 0 < redis.ttl(SIDES[1]) <= 10_000


def test_a_foreign_version_is_told_without_scripts_too(
    limited: Any, foreign: Any
) -> None:
    allow(limited.server, *NO_SCRIPTS)
    limited.server.call(foreign[0], SIDES[1], foreign[1])
    before = held(limited, SIDES[1])
    error = failure_of(lambda: limited.claim_it(sides=SIDES))
    assert (error.kind, error.counts) == ("wrongtype", False)
    assert held(limited, SIDES[1]) == before


def test_an_entry_of_another_type_is_replaced(redis: Any) -> None:
    redis.server.call("RPUSH", KEY, "a")
    claimed = redis.claim_it(head=True)
    assert claimed.head is None
    assert redis.fill_it(claimed) is True
    assert redis.lookup(KEY, ())[0] == b"value"


def test_foreign_data_is_no_failure_of_the_plain_kind(redis: Any) -> None:
    """No key is in the message."""
    redis.server.call("RPUSH", FENCE, "a")
    assert KEY not in str(failure_of(redis.claim_it))


# --- a server that refuses writes ---


@contextlib.contextmanager
def configured(server: RedisServer, name: str, value: str) -> Iterator[None]:
    before = server.call("CONFIG", "GET", name)[1]
    server.call("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        server.call("CONFIG", "SET", name, before)


def refused_writes(store: Any, kind: str) -> None:
    """All operations that write fail with that kind, in both ways of doing them."""
    for name in ("claim", "plain fill"):
        error = failure_of(operations(store)[name])
        assert (name, error.kind, error.counts) == (name, kind, False)
    assert store.fenced
    store.backend._talks._refused_at = time.monotonic()
    error = failure_of(operations(store)["claim"])
    assert (error.kind, error.counts) == (kind, False)
    store.backend._talks._refused_at = None


def test_a_full_server_takes_removals_and_nothing_else(redis: Any) -> None:
    held = redis.claim_it(sides=SIDES, life_ms=1000, lock_ms=5000)
    redis.claim_it(lock_ms=5000)
    redis.write(KEY, b"old", 0)
    with configured(redis.server, "maxmemory", "1"):
        with redis.hearing() as heard:
            error = failure_of(
                lambda: redis.fill_it(held, channel=CHANNEL, message=b"m", wake=b"w")
            )
        assert (error.kind, error.counts) == ("oom", False)
        assert heard == [b"w"]  # the lock is free, whoever waits may try
        assert redis.raw(LOCK) is None
        assert redis.raw(FENCE) == held.fence.encode()
        redis.server.call("SCRIPT", "FLUSH")
        redis.remove(Removal((KEY,), SIDES))
        assert redis.lookup(KEY, SIDES) == (None, -2, (None, None))
        assert redis.raw(FENCE) is None
        refused_writes(redis, "oom")
        redis.server.call("CONFIG", "SET", "maxmemory", "0")
        redis.write(KEY, b"old", 0)
        redis.server.call("CONFIG", "SET", "maxmemory", "1")
        redis.claim_it(delete=True)  # removing makes room for the fence
        assert redis.lookup(KEY, ()) == (None, -2, ())
    assert redis.fill_it(redis.claim_it()) is True


def test_a_read_only_replica_refuses(redis: Any) -> None:
    redis.write(KEY, b"value", 0)
    redis.claim_it(lock_ms=5000)
    redis.server.call("REPLICAOF", "127.0.0.1", 1)
    try:
        refused_writes(redis, "readonly")
        for name in ("remove", "claim"):
            assert failure_of(operations(redis)[name]).kind == "readonly"
        assert redis.lookup(KEY, ())[0] == b"value"
    finally:
        redis.server.call("REPLICAOF", "NO", "ONE")
    assert redis.fill_it(redis.claim_it()) is True


def test_a_server_without_its_replicas_refuses(redis: Any) -> None:
    claimed = redis.claim_it(lock_ms=5000)
    with configured(redis.server, "min-replicas-to-write", "1"):
        refused_writes(redis, "noreplicas")
        error = failure_of(lambda: redis.fill_it(claimed))
        assert (error.kind, error.counts) == ("noreplicas", False)
        error = failure_of(operations(redis)["remove"])
        assert error.kind == "noreplicas"
    assert redis.fill_it(claimed) is True


WRAPPED = "ERR Error running script (call to f_01): @user_script:3: @user_script: 3: -"
FULL = "OOM command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (WRAPPED + FULL, "oom"),
        ("-" + FULL, "oom"),
        (FULL + " script: 01, on @user_script:25.", "oom"),
        (WRAPPED + "READONLY You can't write against a read only replica.", "readonly"),
        (WRAPPED + "NOREPLICAS Not enough good replicas to write.", "noreplicas"),
        ("-WRONGTYPE Operation against a key holding the wrong kind", "wrongtype"),
        ("ERR Error running script (call to f_01): something else", "server"),
    ],
)
def test_errors_of_scripts_are_told_by_the_word_inside(
    slow: Any, words: str, kind: str
) -> None:
    slow.server.transform(lambda data: f"-{words}\r\n".encode())
    assert failure_of(lambda: slow.claim_it()).kind == kind
    assert slow.fenced


# --- deadlines ---


@pytest.mark.parametrize("name", list(operations(None)))
def test_the_deadline_of_each_operation_holds(slow: Any, name: str) -> None:
    slow.server.stall()
    start = time.monotonic()
    assert isinstance(failure_of(operations(slow, 0.1)[name]), BackendTimeout)
    assert 0.09 < time.monotonic() - start < 0.6


@pytest.mark.parametrize("name", ["claim", "fill", "remove", "renew", "release"])
def test_a_script_that_is_sent_again_shares_the_deadline(
    slow: Any, name: str, redis_server: RedisServer
) -> None:
    redis_server.call("SCRIPT", "FLUSH")
    slow.server.delay(0.15)
    start = time.monotonic()
    assert isinstance(failure_of(operations(slow, 0.25)[name]), BackendTimeout)
    assert 0.2 < time.monotonic() - start < 0.8


@FACES
def test_a_large_fill_keeps_its_deadline(proxy: Proxy, is_async: bool) -> None:
    store = OnRedis(proxy, is_async, connection_retries=0)
    claimed = store.claim_it()
    proxy.stall()
    start = time.monotonic()
    error = failure_of(
        lambda: store.fill(Fill(KEY, bytes(20_000_000), 0, claimed.fence), timeout=0.2)
    )
    assert isinstance(error, BackendTimeout)
    assert time.monotonic() - start < 1.0
    store.close()


@pytest.mark.parametrize("name", list(operations(None)))
def test_a_connection_that_was_reset_is_tried_again(proxy: Proxy, name: str) -> None:
    for is_async in (False, True):
        store = OnRedis(proxy, is_async)
        every_operation(store)
        proxy.reset()
        operations(store)[name]()
        store.close()


# --- nonsense ---


def claim_reply(fence: bytes = 16 * b"a", lock: bytes = b"", busy: bytes = b":0",
                head: bytes = b"$-1") -> bytes:  # fmt: skip
    return b"*4\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n%s\r\n%s\r\n" % (
        len(fence), fence, len(lock), lock, busy, head)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("claim", b"+OK\r\n"),
        ("claim", b"*0\r\n"),
        ("claim", b"*-1\r\n"),
        ("claim", claim_reply(fence=b"short")),
        ("claim", claim_reply(fence=16 * b"G")),
        ("claim", claim_reply(lock=16 * b"b")),
        ("claim", claim_reply(busy=b"$1\r\n1")),
        ("claim", claim_reply(head=b":1")),
        ("fill", b"+OK\r\n"),
        ("fill", b":2\r\n"),
        ("fill", b"$1\r\n1\r\n"),
        ("plain fill", b":1\r\n"),
        ("remove", b"+OK\r\n"),
        ("renew", b"*0\r\n"),
        ("release", b"+OK\r\n"),
        ("lookup", b":1\r\n:1\r\n"),
        ("lookup", b":1\r\n*0\r\n"),
        ("lookup", b":1\r\n*2\r\n$1\r\na\r\n$1\r\na\r\n"),
        ("lookup", b":1\r\n*1\r\n:1\r\n"),
        ("lookup", b"+OK\r\n*1\r\n$1\r\na\r\n"),
    ],
)
def test_a_reply_that_does_not_fit_is_a_protocol_error(
    slow: Any, name: str, reply: bytes
) -> None:
    token = 16 * "a"
    slow.server.transform(lambda data: reply)
    operation = {
        "claim": lambda: slow.claim_it(head=True, lock_ms=1000),
        "fill": lambda: slow.fill(Fill(KEY, b"", 0, token)),
        "plain fill": lambda: slow.fill(Fill(KEY, b"", 0, None)),
        "remove": lambda: slow.remove(Removal((KEY,))),
        "renew": lambda: slow.renew(KEY, token, 1000),
        "release": lambda: slow.release(Release(KEY, token)),
        "lookup": lambda: slow.lookup(KEY, ()),
    }[name]
    assert type(failure_of(operation)) is BackendProtocolError


@pytest.mark.parametrize("number", [b"$-1\r\n", b":1\r\n", b"$2\r\nab\r\n"])
def test_a_version_that_is_none_is_a_protocol_error(slow: Any, number: bytes) -> None:
    slow.server.transform(lambda data: claim_reply() + number)
    error = failure_of(lambda: slow.claim_it(sides=SIDES[:1]))
    assert type(error) is BackendProtocolError


# --- the pipeline of the blocking client ---


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    backend = RedisBackend(redis_server.url)
    yield backend._client
    backend.close()


def test_a_pipeline_has_errors_in_the_place_of_replies(client: Any) -> None:
    big = bytes(3_000_000)
    replies = client.pipeline(
        [
            ("SET", "a", big, "PX", 1000),
            ["INCR", "n"],
            ("INCR", "a"),
            ("MGET", "a", bytearray(b"n"), "none"),
            ("SET", memoryview(bytes(9000)), b"", "NX"),
        ],
        TIMEOUT,
    )
    error = replies.pop(2)
    assert type(error) is ReplyError
    assert replies == [b"OK", 1, [big, b"1", None], b"OK"]
    assert client.pipeline((), TIMEOUT) == []


def test_a_long_pipeline(client: Any) -> None:
    commands = [("ECHO", str(n)) for n in range(5000)]
    replies = client.pipeline(commands, TIMEOUT, True)
    assert replies == [b"%d" % n for n in range(5000)]


@pytest.mark.parametrize(
    "commands", [[()], [("GET", None)], [1], None, [("GET", 1.5)], [("GET", 1 << 70)]]
)
def test_a_pipeline_refuses_what_is_no_command(client: Any, commands: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        client.pipeline(commands, TIMEOUT)


def test_a_pipeline_that_must_not_be_repeated_is_not(proxy: Proxy) -> None:
    store = OnRedis(proxy, False, connection_retries=3)
    store.ping()
    proxy.cut()
    error = failure_of(lambda: store.backend._client.pipeline([("INCR", "n")], TIMEOUT))
    assert error.kind == "reset"
    proxy.heal()
    assert store.backend._client.pipeline([("GET", "n")], TIMEOUT) == [b"1"]
    store.close()


def test_a_pipeline_is_tried_again_while_the_server_loads(proxy: Proxy) -> None:
    store = OnRedis(proxy, False, connection_retries=2)
    pipeline = store.backend._client.pipeline
    pipeline([("PING",)], TIMEOUT)
    loading = b"-ERR other\r\n-LOADING the dataset\r\n"
    answers = [loading]
    proxy.transform(lambda data: answers.pop() if answers else data)
    assert pipeline([("PING",), ("PING",)], TIMEOUT, True) == [b"PONG", b"PONG"]
    proxy.transform(lambda data: loading)
    error = failure_of(lambda: pipeline([("PING",), ("PING",)], TIMEOUT, True))
    assert error.kind == "loading"
    # What must not be repeated is not; then its errors are told where they happened.
    replies = pipeline([("PING",), ("PING",)], TIMEOUT)
    assert [reply.kind for reply in replies] == ["server", "loading"]
    store.close()
