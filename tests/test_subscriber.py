"""The thread that listens on a server's channels."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import RedisServer, ServerError, free_port

from cachekit._core import Subscriber
from cachekit.backends._redis_settings import RedisSettings

LOST, STANDING, REFUSED = Subscriber.LOST, Subscriber.STANDING, Subscriber.REFUSED
SANITIZED = os.environ.get("CACHEKIT_SANITIZED") == "1"
SOON = 20.0  # seconds; how long a test waits for what must come
TRACKED = b"__redis__:invalidate"


def until(condition: Callable[[], Any], seconds: float = SOON) -> bool:
    """Wait for a condition of another thread."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Listener:
    """A subscriber that keeps what it hears: messages, states, and both in order."""

    def __init__(
        self, settings: RedisSettings, *channels: str, **options: float
    ) -> None:
        self.heard: list[Any] = []
        self.batches = 0
        options = {"ping_interval": 0.05, "deadline": 0.5, **options}
        self.subscriber = Subscriber(
            settings, on_messages=self.take, on_state=self.heard.append, **options
        )
        self.subscriber.subscribe(channels)

    def take(self, messages: list[tuple[bytes, bytes]]) -> None:
        self.batches += 1
        self.heard.extend(messages)

    @property
    def states(self) -> list[int]:
        return [one for one in self.heard if isinstance(one, int)]

    @property
    def messages(self) -> list[tuple[bytes, bytes]]:
        return [one for one in self.heard if isinstance(one, tuple)]

    def start(self) -> Subscriber:
        self.subscriber.start()
        return self.subscriber

    def stands(self, seconds: float = SOON) -> bool:
        return until(lambda: self.subscriber.state == STANDING, seconds)


def settings_of(port: int, **options: Any) -> RedisSettings:
    return RedisSettings(host="127.0.0.1", port=port, **options)


@contextlib.contextmanager
def listening(
    where: RedisServer | Proxy | RedisSettings, *channels: str, **options: float
) -> Iterator[Listener]:
    """A listener that was started, and is stopped in the end."""
    if not isinstance(where, RedisSettings):
        where = settings_of(where.port)
    listener = Listener(where, *channels, **options)
    listener.subscriber.start()
    try:
        yield listener
    finally:
        assert listener.subscriber.stop(SOON)


def test_messages_arrive_after_the_state(redis_server: RedisServer) -> None:
    with listening(redis_server, "a", "b") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        assert listener.subscriber.standing_since is not None
        assert abs(listener.subscriber.standing_since - time.monotonic()) < 5
        assert listener.subscriber.reason == ""
        assert redis_server.call("PUBLISH", "a", "one") == 1
        assert redis_server.call("PUBLISH", "b", b"\x00\r\n\xff") == 1
        assert redis_server.call("PUBLISH", "c", "not for us") == 0
        assert until(lambda: len(listener.messages) == 2)
        assert listener.heard == [STANDING, (b"a", b"one"), (b"b", b"\x00\r\n\xff")]
    assert listener.states == [STANDING, LOST]
    assert listener.subscriber.standing_since is None
    assert listener.subscriber.figures()["messages"] == 2


def test_a_channel_can_be_added_while_it_stands(redis_server: RedisServer) -> None:
    with listening(redis_server, "a") as listener:
        one = listener.subscriber
        assert one.wait(SOON) == STANDING and one.confirmed("a")
        assert not one.confirmed("new")
        one.subscribe(["new", "a"])
        assert until(lambda: one.confirmed("new"))
        redis_server.call("PUBLISH", "new", "x")
        assert until(lambda: listener.messages == [(b"new", b"x")])
        assert listener.states == [STANDING]
        assert one.figures()["connects"] == 1


def test_it_waits_for_its_first_channel(redis_server: RedisServer) -> None:
    with listening(redis_server) as listener:
        assert listener.subscriber.wait(0.02) == LOST
        assert listener.subscriber.figures()["connects"] == 0
        listener.subscriber.subscribe(["a"])
        assert listener.subscriber.wait(SOON) == STANDING


def test_many_channels_and_many_threads(redis_server: RedisServer) -> None:
    with listening(redis_server, "0") as listener:
        threads = [
            threading.Thread(
                target=listener.subscriber.subscribe,
                args=([f"{n}:{i}" for i in range(50)],),
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = [f"{n}:{i}" for n in range(8) for i in range(50)]
        assert until(lambda: all(map(listener.subscriber.confirmed, names)))
        redis_server.call("PUBLISH", "7:49", "x")
        assert until(lambda: listener.messages == [(b"7:49", b"x")])


def test_it_is_stopped_within_milliseconds(redis_server: RedisServer) -> None:
    with listening(redis_server, "a", ping_interval=60.0) as listener:
        one = listener.subscriber
        for _ in range(3):
            one.start()
            assert one.wait(SOON) == STANDING
            began = time.monotonic()
            assert one.stop(5) is True
            assert time.monotonic() - began < 1.0
            assert one.state == LOST and not one.running
        assert one.stop() is True


def test_a_killed_connection_is_taken_anew_at_once(redis_server: RedisServer) -> None:
    with listening(redis_server, "a", ping_interval=60.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        began = time.monotonic()
        redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
        assert until(lambda: listener.states == [STANDING, LOST, STANDING])
        assert time.monotonic() - began < 2.0
        redis_server.call("PUBLISH", "a", "x")
        assert until(lambda: listener.heard[-1] == (b"a", b"x"))
        assert listener.subscriber.figures()["losses"] == 1


def test_a_server_that_dies_and_comes_back(own_redis: RedisServer) -> None:
    with listening(own_redis, "a") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        own_redis.kill()
        assert until(lambda: listener.states == [STANDING, LOST])
        assert until(lambda: "refused" in listener.subscriber.reason)
        time.sleep(0.3)
        assert listener.states == [STANDING, LOST]
        own_redis.start()
        assert until(lambda: listener.states == [STANDING, LOST, STANDING])
        own_redis.call("PUBLISH", "a", "x")
        assert until(lambda: listener.messages == [(b"a", b"x")])


def test_a_server_that_is_down_at_first() -> None:
    settings = settings_of(free_port())
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == LOST
        assert listener.heard == []
        assert listener.subscriber.figures()["connects"] == 0


def test_a_frozen_server_is_found_by_ping(own_redis: RedisServer) -> None:
    with listening(own_redis, "a", ping_interval=0.1, deadline=0.2) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        own_redis.stop()
        try:
            began = time.monotonic()
            assert until(lambda: listener.states == [STANDING, LOST])
            assert time.monotonic() - began < 2.0
        finally:
            own_redis.cont()
        assert listener.stands()


def test_client_pause_is_no_loss_when_it_is_short(own_redis: RedisServer) -> None:
    with listening(own_redis, "a", deadline=10.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        own_redis.call("CLIENT", "PAUSE", 300, "ALL")
        pings = listener.subscriber.figures()["pings"]
        assert until(lambda: listener.subscriber.figures()["pings"] > pings + 2)
        assert listener.states == [STANDING]


@pytest.mark.parametrize("how", ["stall", "drop"])
def test_a_half_open_connection_is_found(proxy: Proxy, how: str) -> None:
    with listening(proxy, "a", ping_interval=0.1, deadline=0.2) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        getattr(proxy, how)()
        began = time.monotonic()
        assert until(lambda: listener.states == [STANDING, LOST])
        assert time.monotonic() - began < 2.0
        assert "no answer" in listener.subscriber.reason
        proxy.heal()
        assert listener.stands()


def test_a_connection_cut_within_a_message(
    redis_server: RedisServer, proxy: Proxy
) -> None:
    with listening(proxy, "a", ping_interval=60.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        proxy.cut(after=20)
        redis_server.call("PUBLISH", "a", "x" * 1000)
        assert until(lambda: LOST in listener.states)
        proxy.heal()
        assert listener.stands()
        redis_server.call("PUBLISH", "a", "whole")
        assert until(lambda: listener.messages == [(b"a", b"whole")])


def test_a_trickle_is_assembled(redis_server: RedisServer, proxy: Proxy) -> None:
    with listening(proxy, "a", ping_interval=60.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        proxy.trickle(1, 0.001)
        redis_server.call("PUBLISH", "a", "slowly")
        assert until(lambda: listener.messages == [(b"a", b"slowly")])
        assert listener.states == [STANDING]


def test_a_trickle_that_delays_the_answer_is_a_loss(proxy: Proxy) -> None:
    with listening(proxy, "a", ping_interval=0.05, deadline=0.1) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        proxy.trickle(1, 0.05)
        assert until(lambda: listener.states[:2] == [STANDING, LOST])
        proxy.heal()
        assert listener.stands()


def test_confirmations_in_another_order_are_not_believed(proxy: Proxy) -> None:
    with listening(proxy, "a", ping_interval=60.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        proxy.reorder(2)
        listener.subscriber.subscribe(["b", "c"])
        assert until(lambda: listener.states == [STANDING, LOST])
        assert "confirmation" in listener.subscriber.reason
        proxy.heal()
        assert listener.stands()


def test_it_does_not_stand_while_the_server_cannot_serve(
    own_redis: RedisServer,
) -> None:
    """SUBSCRIBE would be carried out."""
    with own_redis.client() as client, own_redis.client() as other:

        def is_busy() -> bool:
            try:
                other.call("PING")
            except ServerError as error:
                return str(error).startswith("BUSY")
            return False

        other.call("CONFIG", "SET", "busy-reply-threshold", "1")
        client.send("EVAL", "while true do end", 0)
        assert until(is_busy)
        with listening(settings_of(own_redis.port, client_name=""), "a") as listener:
            assert listener.subscriber.wait(SOON) == LOST
            assert "BUSY" in listener.subscriber.reason
            other.call("SCRIPT", "KILL")
            assert listener.stands()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"message", b"massage"),
        lambda data: data.replace(b"$1\r\na", b"$1\r\nz"),
        lambda data: data.replace(b"*3", b"*9"),
        lambda data: b"\xff\xfe" + data,
        lambda data: data.replace(b"$4", b"$999999999"),
    ],
    ids=["word", "channel", "shape", "garbage", "length"],
)
def test_a_message_that_was_tampered_with_is_a_loss(
    redis_server: RedisServer, proxy: Proxy, change: Callable[[bytes], bytes]
) -> None:
    with listening(proxy, "a", ping_interval=1.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        proxy.transform(change)
        redis_server.call("PUBLISH", "a", "data")
        assert until(lambda: listener.states[:2] == [STANDING, LOST])
        proxy.heal()
        assert listener.stands()
        assert listener.messages == []


def test_messages_up_to_64_kib(redis_server: RedisServer) -> None:
    with listening(redis_server, "a") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        whole = b"x" * 65536
        redis_server.call("PUBLISH", "a", whole)
        assert until(lambda: listener.messages == [(b"a", whole)])
        redis_server.call("PUBLISH", "a", whole + b"x")
        assert until(lambda: listener.states == [STANDING, LOST, STANDING])
        assert len(listener.messages) == 1


def test_a_hundred_thousand_messages(redis_server: RedisServer) -> None:
    many = 10_000 if SANITIZED else 100_000
    with listening(redis_server, "a", deadline=10.0) as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        with redis_server.client() as client:
            for start in range(0, many, 1000):
                command = b"".join(
                    b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$%d\r\n%d\r\n"
                    % (len(str(i)), i)
                    for i in range(start, start + 1000)
                )
                client.sock.sendall(command)
                for _ in range(1000):
                    assert client.read() == 1
        assert until(lambda: len(listener.heard) == many + 1)
        assert [int(data) for _, data in listener.messages] == list(range(many))
        assert listener.states == [STANDING]
        assert listener.batches < many


# What the server refuses.


def restricted(redis_server: RedisServer, *rules: str) -> RedisSettings:
    redis_server.call("ACL", "SETUSER", "cachekit", "reset", "on", ">secret", *rules)
    return settings_of(redis_server.port, username="cachekit", password="secret")


def test_channels_that_the_rules_forbid_are_a_refusal(
    redis_server: RedisServer,
) -> None:
    settings = restricted(redis_server, "+@all", "~*", "&other")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == REFUSED
        assert listener.heard == [REFUSED]
        assert listener.subscriber.reason == "the server refused SUBSCRIBE: NOPERM"
        assert until(
            lambda: b"cachekit" not in redis_server.call("CLIENT", "LIST"), 5
        ), "the connection is closed"
        assert listener.subscriber.figures()["connects"] == 1
    assert listener.heard == [REFUSED, LOST]


def test_a_forbidden_command_is_a_refusal(redis_server: RedisServer) -> None:
    settings = restricted(redis_server, "+@all", "-subscribe", "~*", "&*")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == REFUSED


def test_a_forbidden_ping_is_a_sign_of_life(redis_server: RedisServer) -> None:
    settings = restricted(redis_server, "+subscribe", "&*")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        assert until(lambda: listener.subscriber.figures()["pings"] > 3)
        assert listener.states == [STANDING]


def test_rules_that_change_are_a_refusal_in_the_end(redis_server: RedisServer) -> None:
    settings = restricted(redis_server, "+@all", "~*", "&*")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        redis_server.call("ACL", "SETUSER", "cachekit", "resetchannels")
        assert until(lambda: listener.states == [STANDING, LOST, REFUSED])


def test_a_wrong_password_is_no_refusal(redis_server: RedisServer) -> None:
    settings = settings_of(redis_server.port, username="nobody", password="wrong")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == LOST
        assert "password" in listener.subscriber.reason
        assert listener.heard == []


def test_no_room_for_a_client_is_no_refusal(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.call("CONFIG", "SET", "maxclients", "1")
        with listening(own_redis, "a") as listener:
            assert listener.subscriber.wait(SOON) == LOST
            assert "room" in listener.subscriber.reason
            client.call("CONFIG", "SET", "maxclients", "100")
            assert listener.stands()


def test_an_unknown_command_is_a_refusal() -> None:
    with RedisServer("--rename-command", "SUBSCRIBE", "") as server:
        with listening(server, "a") as listener:
            assert listener.subscriber.wait(SOON) == REFUSED


# Ways to the server.


def test_over_tls() -> None:
    with RedisServer(tls=True) as server:
        settings = settings_of(server.port, tls={"ca_certs": str(server.ca)})
        with listening(settings, "a") as listener:
            assert listener.subscriber.wait(SOON) == STANDING
            listener.subscriber.subscribe(["b"])
            assert until(lambda: listener.subscriber.confirmed("b"))
            for n in range(200):
                server.call("PUBLISH", "a", b"%d " % n + b"x" * (100 * n))
            assert until(lambda: len(listener.messages) == 200)
            assert until(lambda: listener.subscriber.figures()["pings"] > 3)
            assert listener.states == [STANDING]
            server.restart()
            assert until(lambda: listener.states == [STANDING, LOST, STANDING])
        untrusting = settings_of(server.port, tls={})
        with listening(untrusting, "a") as listener:
            assert listener.subscriber.wait(SOON) == LOST
            assert "certificate" in listener.subscriber.reason


def test_tls_records_that_trickle_in(own_redis: RedisServer) -> None:
    with RedisServer(tls=True) as server, Proxy(server.port) as proxy:
        settings = settings_of(proxy.port, tls={"ca_certs": str(server.ca)})
        with listening(settings, "a", ping_interval=60.0, deadline=5.0) as listener:
            assert listener.subscriber.wait(SOON) == STANDING
            proxy.trickle(3, 0.002)
            server.call("PUBLISH", "a", "x" * 300)
            listener.subscriber.subscribe(["b"])  # wakes a read within a record
            assert until(lambda: listener.messages == [(b"a", b"x" * 300)])
            proxy.heal()
            assert until(lambda: listener.subscriber.confirmed("b"))
            assert listener.states == [STANDING]


def test_over_a_unix_socket() -> None:
    with RedisServer(unixsocket=True, password="secret") as server:
        settings = RedisSettings(path=str(server.socket_path), password="secret")
        with listening(settings, "a") as listener:
            assert listener.subscriber.wait(SOON) == STANDING
            server.call("PUBLISH", "a", "x")
            assert until(lambda: listener.messages == [(b"a", b"x")])


# Tracking.


def test_tracked_keys_arrive_one_by_one(redis_server: RedisServer) -> None:
    with listening(redis_server, "a") as listener:
        listener.subscriber.track(["ns:", "ns:fn:", "other:"])
        assert until(lambda: listener.subscriber.confirmed(TRACKED.decode()))
        assert listener.stands()
        redis_server.call("SET", "ns:1", "x")
        redis_server.call("MSET", "ns:fn:2", "x", "other:3", "y", "unrelated", "z")
        redis_server.call("PUBLISH", "a", "too")
        assert until(lambda: len(listener.messages) == 4)
        assert sorted(listener.messages) == [
            (TRACKED, b"ns:1"),
            (TRACKED, b"ns:fn:2"),
            (TRACKED, b"other:3"),
            (b"a", b"too"),
        ]
        redis_server.call("FLUSHALL")
        assert until(lambda: listener.messages[-1] == (TRACKED, b""))


def test_a_prefix_that_is_added_makes_a_new_connection(
    redis_server: RedisServer,
) -> None:
    with listening(redis_server) as listener:
        one = listener.subscriber
        one.track(["ns:"])
        assert one.wait(SOON) == STANDING
        one.track(["ns:covered"])
        time.sleep(0.05)
        assert listener.states == [STANDING]
        one.track(["o:"])
        assert until(lambda: listener.states == [STANDING, LOST, STANDING])
        assert one.figures()["losses"] == 0
        redis_server.call("MSET", "ns:1", "x", "o:2", "x")
        assert until(lambda: len(listener.messages) == 2)
        redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
        assert until(lambda: len(listener.states) == 5)
        redis_server.call("SET", "ns:3", "x")
        assert until(lambda: listener.messages[-1] == (TRACKED, b"ns:3"))


def test_an_expired_key_is_told(redis_server: RedisServer) -> None:
    with listening(redis_server) as listener:
        listener.subscriber.track(["ns:"])
        assert listener.subscriber.wait(SOON) == STANDING
        redis_server.call("SET", "ns:1", "x", "PX", "1")
        assert until(lambda: len(listener.messages) >= 2)


def test_refused_tracking_is_a_refusal(redis_server: RedisServer) -> None:
    settings = restricted(redis_server, "+@all", "-client|tracking", "~*", "&*")
    with listening(settings, "a") as listener:
        assert listener.subscriber.wait(SOON) == STANDING
        listener.subscriber.track(["ns:"])
        assert until(lambda: listener.states == [STANDING, LOST, REFUSED])
        assert "TRACKING" in listener.subscriber.reason


# Python around it.


def test_exceptions_of_the_functions_are_unraisable(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda event: seen.append(event.exc_type)
    )
    heard: list[object] = []

    def fail(what: object) -> None:
        heard.append(what)
        raise (ValueError if isinstance(what, list) else SystemExit)

    one = Subscriber(settings_of(redis_server.port), on_messages=fail, on_state=fail)
    one.subscribe(["a"])
    one.start()
    assert one.wait(SOON) == STANDING
    redis_server.call("PUBLISH", "a", "1")
    redis_server.call("PUBLISH", "a", "2")
    assert until(lambda: sum(len(it) for it in heard if isinstance(it, list)) == 2)
    assert one.stop(SOON)
    assert set(seen) == {ValueError, SystemExit}
    assert heard[0] == STANDING and heard[-1] == LOST


def test_it_can_be_stopped_from_its_own_thread(redis_server: RedisServer) -> None:
    results: list[object] = []

    def stop(messages: list[tuple[bytes, bytes]]) -> None:
        results.append(one.stop(5))
        results.append(one.wait(5))
        with pytest.raises(RuntimeError):
            one.start()
        results.append("done")

    one = Subscriber(
        settings_of(redis_server.port), on_messages=stop, on_state=lambda state: None
    )
    one.subscribe(["a"])
    one.start()
    assert one.wait(SOON) == STANDING
    redis_server.call("PUBLISH", "a", "1")
    assert until(lambda: results == [False, STANDING, "done"])
    assert one.stop(SOON) is True
    one.start()
    assert one.wait(SOON) == STANDING
    assert one.stop(SOON)


def test_stop_waits_no_longer_than_told(redis_server: RedisServer) -> None:
    held, go = threading.Event(), threading.Event()

    def hold(messages: list[tuple[bytes, bytes]]) -> None:
        held.set()
        go.wait(SOON)

    one = Subscriber(
        settings_of(redis_server.port),
        on_messages=hold,
        on_state=lambda state: None,
        deadline=0.05,
    )
    one.subscribe(["a"])
    one.start()
    redis_server_ready = one.wait(SOON)
    assert redis_server_ready == STANDING
    redis_server.call("PUBLISH", "a", "1")
    assert held.wait(SOON)
    assert one.stop(0.01) is False
    assert not one.running
    with pytest.raises(RuntimeError):
        one.start()
    go.set()
    assert one.stop(SOON) is True


def test_it_is_collected_while_it_runs(redis_server: RedisServer) -> None:
    class Owner:
        def __init__(self) -> None:
            self.subscriber = Subscriber(
                settings_of(redis_server.port, client_name="collected"),
                on_messages=self.take,
                on_state=self.tell,
            )
            self.subscriber.subscribe(["a"])
            self.subscriber.start()
            assert self.subscriber.wait(SOON) == STANDING

        def take(self, messages: list[tuple[bytes, bytes]]) -> None: ...

        def tell(self, state: int) -> None: ...

    owner = weakref.ref(Owner())
    one = Subscriber(
        settings_of(redis_server.port), on_messages=print, on_state=[].append
    )
    one.subscribe(["a"])
    one.start()
    assert one.wait(SOON) == STANDING
    gone = weakref.ref(one)
    del one
    assert gone() is None
    gc.collect()
    assert owner() is None
    assert until(lambda: b"collected" not in redis_server.call("CLIENT", "LIST"))


def test_it_may_go_on_its_own_thread(redis_server: RedisServer) -> None:
    box: list[Any] = []
    gone = threading.Event()

    def forget(messages: list[tuple[bytes, bytes]]) -> None:
        box.clear()
        gone.set()

    box.append(
        Subscriber(
            settings_of(redis_server.port, client_name="forgotten"),
            on_messages=forget,
            on_state=lambda state: None,
        )
    )
    box[0].subscribe(["a"])
    box[0].start()
    assert box[0].wait(SOON) == STANDING
    redis_server.call("PUBLISH", "a", "1")
    assert gone.wait(SOON)
    assert until(lambda: b"forgotten" not in redis_server.call("CLIENT", "LIST"))


def test_waiting_lets_signals_and_threads_through() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = settings_of(silent.getsockname()[1], client_name="")
        with listening(settings, "a", deadline=30.0) as listener:
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                listener.subscriber.wait(SOON)
            assert time.monotonic() - began < 5
            timer.join()


def test_arguments_are_checked() -> None:
    settings = RedisSettings()
    take: Any = lambda what: None  # noqa: E731
    with pytest.raises(TypeError):
        Subscriber(settings, on_messages=take)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Subscriber(settings, on_messages=take, on_state=None)  # type: ignore[arg-type]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError):
            Subscriber(settings, on_messages=take, on_state=take, ping_interval=wrong)
        with pytest.raises(ValueError):
            Subscriber(settings, on_messages=take, on_state=take, deadline=wrong)
    one = Subscriber(settings, on_messages=take, on_state=take)
    for method in (one.subscribe, one.track):
        with pytest.raises(TypeError):
            method("abc")
        with pytest.raises(TypeError):
            method([b"abc"])  # type: ignore[list-item]
        with pytest.raises(ValueError):
            method(["x" * 5000])
        with pytest.raises(UnicodeEncodeError):
            method(["\udc80"])
    with pytest.raises(ValueError):
        one.wait(float("nan"))
    assert one.wait(5) == LOST and not one.running and one.stop()
    assert repr(one) == "<Subscriber localhost:6379 stopped>"
    with pytest.raises(TypeError):
        Subscriber.LOST = 3  # type: ignore[misc]


# Forks and exits, in processes of their own.

PROGRAM = """if True:
    import atexit, gc, os, sys, threading, time
    from cachekit._core import Subscriber
    from cachekit.backends._redis_settings import RedisSettings

    heard = []
    one = Subscriber(
        RedisSettings(host="127.0.0.1", port=int(sys.argv[1])),
        on_messages=lambda messages: heard.extend(messages),
        on_state=heard.append,
        ping_interval=0.05,
    )
    one.subscribe(["a"])

    def until(condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    def exit_of(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def traffic():
        one.start()
        assert one.wait(20) == 1
        until(lambda: len(heard) > 100)
"""


@pytest.fixture
def flood(redis_server: RedisServer) -> Iterator[RedisServer]:
    """Messages pour in on channel "a"."""
    ended = threading.Event()

    def publish() -> None:
        piece = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$1\r\nx\r\n" * 50
        with redis_server.client() as client:
            while not ended.is_set():
                client.sock.sendall(piece)
                for _ in range(50):
                    client.read()
                time.sleep(0.001)

    thread = threading.Thread(target=publish)
    thread.start()
    yield redis_server
    ended.set()
    thread.join()


def run(
    server: RedisServer, code: str, expected: int = 0, program: str = PROGRAM
) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program + code, str(server.port)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent,
    )
    assert result.returncode == expected, result.stderr[-4000:]
    assert result.stderr == "", result.stderr[-4000:]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("sys.exit(one.stop())", 1),
        ("del one; gc.collect()", 0),
        ("atexit.register(one.stop)", 0),
        ("heard.clear(); atexit.register(lambda: (one.stop(), one.start()))", 0),
        ("threading.Thread(target=time.sleep, args=(0.1,)).start()", 0),
        ("two = [one, heard]; two.append(two); sys.keep = two", 0),
    ],
)
def test_exits_during_traffic(flood: RedisServer, end: str, code: int) -> None:
    run(flood, f"    traffic()\n    {end}\n", code)


def test_start_at_exit(flood: RedisServer) -> None:
    run(flood, "    atexit.register(traffic)\n")


def test_start_after_the_end_does_nothing(redis_server: RedisServer) -> None:
    code = """if True:
    import atexit, sys

    @atexit.register
    def late():
        one = Subscriber(
            RedisSettings(host="127.0.0.1", port=int(sys.argv[1])),
            on_messages=print, on_state=print,
        )
        one.subscribe(["a"])
        one.start()
        assert one.wait(20) == 0 and not one.running and one.stop()

    from cachekit._core import Subscriber
    from cachekit.backends._redis_settings import RedisSettings
"""
    run(redis_server, code, program="")


def test_exit_while_it_connects() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]

        class Silent:
            pass

        Silent.port = port  # type: ignore[attr-defined]
        run(Silent(), "    one.start(); one.wait(0.05)\n")  # type: ignore[arg-type]


def test_an_uncaught_exception_in_the_main_thread(flood: RedisServer) -> None:
    run(flood, "    traffic()\n    sys.stderr = None\n    raise ValueError\n", 1)


FORK = """
    traffic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert one.state == 0 and not one.running and one.figures()["messages"] == 0
            assert not one.confirmed("a") and one.standing_since is None
            heard.clear()
            time.sleep(0.1)
            assert heard == [], "no thread"
            one.start()
            assert one.wait(20) == 1 and one.confirmed("a")
            until(lambda: len(heard) > 100)
            assert one.stop(5)
            code = 0
        finally:
            os._exit(code)
    assert exit_of(child) == 0
    assert one.state == 1 and one.figures()["losses"] == 0
    before = len(heard)
    until(lambda: len(heard) > before + 100)
    assert [it for it in heard if it in (0, 1, 2)] == [1]
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_anew_and_the_parent_is_not_disturbed(
    flood: RedisServer,
) -> None:
    run(flood, "    import warnings; warnings.simplefilter('ignore')" + FORK)


def test_forks_at_any_moment(flood: RedisServer) -> None:
    code = """
    import warnings; warnings.simplefilter("ignore")
    traffic()
    for n in range(30):
        child = os.fork()
        if child == 0:
            if n % 3 == 0:
                one.start()
                os._exit(0 if one.wait(20) == 1 else 1)
            if n % 3 == 1:
                one.state
                os._exit(0)
            os._exit(0)
        assert exit_of(child) == 0
        time.sleep(0.003)
    assert one.state == 1 and one.figures()["losses"] == 0
"""
    run(flood, code)


def test_a_child_may_exit_as_usual(flood: RedisServer) -> None:
    code = """
    import warnings; warnings.simplefilter("ignore")
    traffic()
    child = os.fork()
    if child == 0:
        if len(sys.argv) > 5:
            one.start()
        sys.exit(5)
    assert exit_of(child) == 5
    child = os.fork()
    if child == 0:
        one.start()
        one.wait(20)
        sys.exit(6)
    assert exit_of(child) == 6
    assert one.state == 1 and one.figures()["losses"] == 0
"""
    run(flood, code)


def test_its_own_thread_may_fork(flood: RedisServer) -> None:
    code = """
    import warnings; warnings.simplefilter("ignore")
    children = []

    def fork(messages):
        heard.extend(messages)
        if len(children) < 3:
            child = os.fork()
            if child == 0:
                if len(children) == 1:
                    os._exit(7)
                if len(children) == 2:
                    two.start()
                    os._exit(8 if two.wait(20) == 1 else 1)
                heard.clear()
                return
            children.append(child)

    two = Subscriber(
        RedisSettings(host="127.0.0.1", port=int(sys.argv[1])),
        on_messages=fork, on_state=heard.append,
    )
    two.subscribe(["a"])
    two.start()
    until(lambda: len(children) == 3)
    assert [exit_of(child) for child in children] == [0, 7, 8]
    until(lambda: len(heard) > 100)
    assert two.state == 1 and two.figures()["losses"] == 0
"""
    run(flood, code)


INTERPRETER = """
    code = f'''if True:
        import sys, time
        sys.path[:] = {sys.path!r}
        from cachekit._core import Subscriber
        from cachekit.backends._redis_settings import RedisSettings
        heard = []
        one = Subscriber(
            RedisSettings(host="127.0.0.1", port={int(sys.argv[1])}),
            on_messages=lambda messages: heard.extend(messages),
            on_state=heard.append,
        )
        one.subscribe(["a"])
        one.start()
        assert one.wait(20) == 1
        while len(heard) < 100:
            time.sleep(0.001)
        '''
    if sys.version_info < (3, 12):
        # There an interpreter with a second thread cannot be ended by these functions.
        code += "one.stop(20)"
    if sys.version_info >= (3, 13):
        import _interpreters
        make = lambda: _interpreters.create("isolated")
        run = lambda one: _interpreters.exec(one, code)
        end = _interpreters.destroy
    else:
        import _xxsubinterpreters
        make = _xxsubinterpreters.create
        run = lambda one: _xxsubinterpreters.run_string(one, code)
        end = _xxsubinterpreters.destroy
    traffic()
    for _ in range(3):
        other = make()
        failure = run(other)
        assert failure is None, failure
        end(other)
    assert one.state == 1
"""


def test_further_interpreters(flood: RedisServer) -> None:
    run(flood, INTERPRETER)


def test_no_blocks_or_descriptors_are_left(redis_server: RedisServer) -> None:
    def round_trip() -> None:
        with listening(redis_server, "a", "b") as listener:
            assert listener.subscriber.wait(SOON) == STANDING

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    for _ in range(3):
        round_trip()
    gc.collect()
    before, types = descriptors(), sys.getrefcount(Subscriber)
    for _ in range(20):
        round_trip()
    gc.collect()
    assert descriptors() <= before
    assert sys.getrefcount(Subscriber) <= types + 2
