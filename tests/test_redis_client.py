"""`_core.RedisClient`: the blocking transport, against real and scripted servers."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from proxy import Proxy
from servers import RedisServer, free_port, make_certificate

import cachekit
from cachekit._core import RedisClient
from cachekit.backends._redis_settings import RedisSettings

MAX = 5.0  # seconds: enough for everything that is not meant to time out


def client_of(
    port: int, *, pool_size: int = 0, pool_timeout: float = MAX, **settings: Any
) -> RedisClient:
    settings.setdefault("host", "127.0.0.1")
    settings.setdefault("client_name", "")
    settings.setdefault("retry_delay", 0.01)
    return RedisClient(
        RedisSettings(port=port, **settings),
        pool_size=pool_size,
        pool_timeout=pool_timeout,
    )


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[RedisClient]:
    client = client_of(redis_server.port)
    yield client
    client.close()


class Scripted:
    """A server that runs `serve(sock, index)` for each of its connections, in turn.

    `serve` gets what asks() and sends on the socket; the socket is closed after it.
    """

    def __init__(self, serve: Callable[[socket.socket, int], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = False
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                if self._stopping:
                    return
                index, self.connections = self.connections, self.connections + 1
                with contextlib.suppress(OSError):
                    self._serve(sock, index)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._thread.join(2)
        self._listener.close()


def answering(*answers: bytes | None) -> Callable[[socket.socket, int], None]:
    """Connection n gets answers[n] (the last one for all later ones) to everything it
    asks, and is closed then; None resets it instead."""

    def serve(sock: socket.socket, index: int) -> None:
        sock.settimeout(MAX)
        answer = answers[min(index, len(answers) - 1)]
        if not sock.recv(65536):
            return
        if answer is None:
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            return
        sock.sendall(answer)
        while sock.recv(65536):
            pass

    return serve


def failure_of(answer: bytes | None, timeout: float = MAX) -> cachekit.BackendError:
    """What read() raises when the server answers so."""
    with Scripted(answering(answer)) as server:
        client = client_of(server.port)
        with pytest.raises(cachekit.BackendError) as caught:
            client.read("key", timeout)
        assert client.pool_stats()["size"] in (0, 1)
        client.close()
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    return caught.value


# --- the protocol of transports ---


def test_what_was_written_is_read_with_its_lifetime(client: RedisClient) -> None:
    assert client.read("key", MAX) is None
    assert client.write("key", b"value", 60_000, MAX) is None
    data, remaining = client.read("key", MAX)
    assert data == b"value"
    assert 59_000 < remaining <= 60_000


def test_an_entry_without_expiry_has_no_remaining_time(client: RedisClient) -> None:
    client.write("key", b"", 0, MAX)
    assert client.read("key", MAX) == (b"", -1)


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 100_000, 5_000_000])
def test_values_of_every_size_survive(client: RedisClient, size: int) -> None:
    value = os.urandom(size)
    client.write("key", value, 1000_000, MAX)
    assert client.read("key", MAX)[0] == value
    client.write("key", bytearray(value), 0, MAX)
    assert client.read("key", MAX) == (value, -1)


def test_keys_may_hold_any_text(client: RedisClient) -> None:
    for key in ("", "a b\r\nc", "ключ", "x" * 10_000):
        client.write(key, b"1", 0, MAX)
        assert client.read(key, MAX) == (b"1", -1)


def test_delete_counts_what_was_there(client: RedisClient) -> None:
    client.write("a", b"1", 0, MAX)
    client.write("b", b"1", 0, MAX)
    assert client.delete(["a", "b", "c"], MAX) == 2
    assert client.delete((), MAX) == 0


def test_ping_returns_nothing(client: RedisClient) -> None:
    assert client.ping(MAX) is None


def test_a_read_is_one_round_trip(proxy: Proxy) -> None:
    client = client_of(proxy.port)
    client.write("key", b"x" * 1024, 0, MAX)
    before = proxy.round_trips
    client.read("key", MAX)
    assert proxy.round_trips == before + 1
    client.close()


def test_a_key_of_another_type_is_a_miss(client: RedisClient) -> None:
    client.execute("RPUSH", "list", "x", timeout=MAX)
    assert client.read("list", MAX) is None


def test_execute_returns_python_objects(client: RedisClient) -> None:
    run = lambda *args: client.execute(*args, timeout=MAX)  # noqa: E731
    assert run("SET", "n", 41) == "OK"
    assert run("INCRBYFLOAT", b"n", 0.5) == b"41.5"
    assert run("DEL", "n") == 1
    assert run("GET", "n") is None
    assert run("EVAL", "return {1, 'two', {3}, false}", 0) == [1, b"two", [3], None]
    items = run("EVAL", "return {redis.error_reply('READONLY secret')}", 0)
    assert isinstance(items[0], cachekit.BackendReplyError)
    assert items[0].kind == "readonly"


def test_an_error_is_raised_with_its_kind_and_without_its_text(
    client: RedisClient,
) -> None:
    client.write("key", b"x", 0, MAX)
    with pytest.raises(cachekit.BackendReplyError) as caught:
        client.execute("LPUSH", "key", "secret", timeout=MAX)
    assert caught.value.kind == "wrongtype"
    with pytest.raises(cachekit.BackendReplyError) as caught:
        client.execute("NOSUCHCOMMAND", "secret", timeout=MAX)
    assert caught.value.kind == "server"
    assert "secret" not in str(caught.value)
    assert client.pool_stats()["created"] == 1  # an error does not cost a connection


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.read(b"key", 1),
        lambda c: c.read("key"),
        lambda c: c.read("key", "1"),
        lambda c: c.write("key", "text", 0, 1),
        lambda c: c.write("key", b"", 0.5, 1),
        lambda c: c.delete("key", 1),
        lambda c: c.delete([b"key"], 1),
        lambda c: c.delete(None, 1),
        lambda c: c.ping(None),
        lambda c: c.execute("PING"),
        lambda c: c.execute(timeout=1),
        lambda c: c.execute("SET", "key", True, timeout=1),
        lambda c: c.execute("SET", "key", None, timeout=1),
        lambda c: c.execute("PING", timeout=1, more=1),
    ],
)
def test_wrong_arguments_are_type_errors(client: RedisClient, call: Any) -> None:
    with pytest.raises(TypeError):
        call(client)


def test_values_out_of_range_are_value_errors(client: RedisClient) -> None:
    with pytest.raises(ValueError):
        client.read("key", float("nan"))
    with pytest.raises(ValueError):
        client.write("key", b"", -1, MAX)
    with pytest.raises(ValueError):
        client.read("\ud800", MAX)


def test_no_time_at_all_is_no_failure_of_the_store(client: RedisClient) -> None:
    for timeout in (0, -1.5):
        with pytest.raises(cachekit.BackendTimeout) as caught:
            client.read("key", timeout)
        assert caught.value.counts is False


# --- settings ---


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 0},
        {"port": 65536},
        {"database": -1},
        {"connect_timeout": -1.0},
        {"connection_retries": -1},
        {"tls": {"verfy": False}},
        {"max_reply": 0},
    ],
)
def test_settings_out_of_range_are_value_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RedisClient(RedisSettings(**settings))


def test_unusable_files_are_configuration_errors() -> None:
    with pytest.raises(cachekit.ConfigurationError, match=r"/nowhere/ca\.pem"):
        RedisClient(RedisSettings(tls={"ca_certs": "/nowhere/ca.pem"}))
    with pytest.raises(cachekit.ConfigurationError, match="path"):
        RedisClient(RedisSettings(path="/" + "x" * 300))


@pytest.mark.parametrize("arguments", [{"pool_size": -1}, {"pool_timeout": -1.0}])
def test_pool_arguments_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RedisClient(RedisSettings(), **arguments)


def test_the_default_pool_has_two_connections_per_core_and_one() -> None:
    client = RedisClient(RedisSettings())
    assert client.pool_stats()["max_size"] == 2 * (os.cpu_count() or 1) + 1


def test_database_and_name_are_used(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, database=3, client_name="somebody")
    client.write("key", b"3", 0, MAX)
    assert b"name=somebody " in client.execute("CLIENT", "INFO", timeout=MAX)
    assert redis_server.call("GET", "key") is None
    assert client.execute("SELECT", 0, timeout=MAX) == "OK"
    client.close()


def test_a_database_that_is_not_there_is_a_reply_error(
    redis_server: RedisServer,
) -> None:
    client = client_of(redis_server.port, database=99)
    with pytest.raises(cachekit.BackendReplyError, match="database"):
        client.ping(MAX)


def test_max_reply_bounds_what_is_accepted(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, max_reply=1000)
    client.write("key", b"x" * 1001, 0, MAX)
    with pytest.raises(cachekit.BackendProtocolError):
        client.read("key", MAX)
    client.write("key", b"x" * 1000, 0, MAX)
    assert client.read("key", MAX) is not None


def sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
    return found


def test_keepalive_is_set_on_the_socket(redis_server: RedisServer) -> None:
    for keepalive in (False, True):
        before = sockets()
        client = client_of(redis_server.port, keepalive=keepalive)
        client.ping(MAX)
        (fd,) = sockets() - before
        assert not os.get_inheritable(fd)
        with socket.socket(fileno=os.dup(fd)) as sock:
            option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert bool(option) is keepalive
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()


def test_passwords_and_users(own_redis: RedisServer) -> None:
    own_redis.call("ACL", "SETUSER", "joe", "on", ">joepw", "~*", "+@all")
    own_redis.call("CONFIG", "SET", "requirepass", "sesame")
    good = [
        {"password": "sesame"},
        {"username": "joe", "password": "joepw"},
        {"username": "default", "password": "sesame", "database": 2},
    ]
    for settings in good:
        client = client_of(own_redis.port, **settings)
        client.ping(MAX)
        client.close()
    bad = [
        {},
        {"client_name": "somebody"},
        {"password": "wrong-pw"},
        {"username": "joe", "password": "sesame"},
    ]
    for settings in bad:
        client = client_of(own_redis.port, **settings)
        with pytest.raises(cachekit.BackendAuthenticationError) as caught:
            client.ping(MAX)
        assert caught.value.kind == "auth"
        assert caught.value.counts is True
        assert client.pool_stats()["size"] == 0
        text = str(caught.value) + repr(caught.value) + repr(client)
        assert "sesame" not in text and "wrong-pw" not in text and "joe" not in text
        client.close()


def test_a_password_for_a_server_without_one_is_an_authentication_error(
    redis_server: RedisServer,
) -> None:
    client = client_of(redis_server.port, password="sesame")
    with pytest.raises(cachekit.BackendAuthenticationError):
        client.ping(MAX)


def test_a_unix_socket() -> None:
    with RedisServer(unixsocket=True) as server:
        client = RedisClient(RedisSettings(path=str(server.socket_path)))
        client.write("key", b"value", 0, MAX)
        assert client.read("key", MAX) == (b"value", -1)
        server.kill()
        with pytest.raises(cachekit.BackendConnectionError):
            client.ping(MAX)


def test_a_unix_socket_that_is_not_there_is_refused() -> None:
    client = RedisClient(RedisSettings(path="/nowhere/redis.sock"))
    with pytest.raises(cachekit.BackendConnectionError) as caught:
        client.ping(MAX)
    assert caught.value.kind == "refused"


# --- TLS ---


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    with RedisServer(tls=True) as server:
        yield server


def test_tls_verifies_the_certificate_and_the_name(tls_server: RedisServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        client = client_of(
            tls_server.port, host=host, tls={"ca_certs": str(tls_server.ca)}
        )
        value = os.urandom(300_000)
        client.write("key", value, 0, MAX)
        assert client.read("key", MAX) == (value, -1)
        for _ in range(50):
            client.ping(MAX)
        assert client.pool_stats()["created"] == 1
        client.close()


@pytest.mark.parametrize("options", [{}, {"server_hostname": "elsewhere.example"}])
def test_tls_refuses_a_stranger(
    tls_server: RedisServer, options: dict[str, Any]
) -> None:
    if options:
        options = {**options, "ca_certs": str(tls_server.ca)}
    client = client_of(tls_server.port, tls=options)
    with pytest.raises(cachekit.BackendConnectionError, match="certificate") as caught:
        client.ping(MAX)
    assert caught.value.kind == "tls"
    assert client.pool_stats()["size"] == 0


def test_tls_checks_can_be_switched_off(tls_server: RedisServer) -> None:
    client_of(tls_server.port, tls={"verify": False}).ping(MAX)
    options = {"ca_certs": str(tls_server.ca), "server_hostname": "elsewhere.example"}
    client_of(tls_server.port, tls={**options, "check_hostname": False}).ping(MAX)


def test_tls_shows_the_certificate_that_the_server_asks_for(tmp_path: Any) -> None:
    with RedisServer(tls=True) as server:
        server.call("CONFIG", "SET", "tls-auth-clients", "yes")
        options = {"ca_certs": str(server.ca)}
        with pytest.raises(cachekit.BackendConnectionError):
            client_of(server.port, tls=options).ping(MAX)
        options["certfile"] = str(server.ca)
        options["keyfile"] = str(server.folder / "key.pem")
        client_of(server.port, tls=options).ping(MAX)
        make_certificate(tmp_path / "other.pem", tmp_path / "other-key.pem")
        options["keyfile"] = str(tmp_path / "other-key.pem")
        with pytest.raises(cachekit.ConfigurationError):
            client_of(server.port, tls=options)


def test_tls_to_a_plain_server_and_plain_to_a_tls_server_fail(
    redis_server: RedisServer, tls_server: RedisServer
) -> None:
    with pytest.raises(cachekit.BackendError):
        client_of(redis_server.port, tls={"verify": False}).ping(0.3)
    with pytest.raises(cachekit.BackendError):
        client_of(tls_server.port).ping(0.3)


def test_tls_to_a_frozen_server_times_out() -> None:
    with RedisServer(tls=True) as server:
        client = client_of(server.port, tls={"ca_certs": str(server.ca)})
        client.ping(MAX)
        server.stop()
        for _ in range(2):  # on the pooled connection, then in the handshake
            start = time.monotonic()
            with pytest.raises(cachekit.BackendTimeout):
                client.ping(0.1)
            assert time.monotonic() - start < 0.6
        server.cont()
        client.ping(MAX)


# --- failures ---


def test_nobody_listens() -> None:
    client = client_of(free_port())
    start = time.monotonic()
    with pytest.raises(cachekit.BackendConnectionError) as caught:
        client.read("key", MAX)
    assert time.monotonic() - start < 1  # a refusal is not retried
    assert caught.value.kind == "refused"
    assert caught.value.counts is True


def test_a_name_that_does_not_resolve() -> None:
    client = client_of(6379, host="nobody.invalid")
    start = time.monotonic()
    with pytest.raises(cachekit.BackendError) as caught:
        client.read("key", 1.0)
    assert time.monotonic() - start < 1.5
    assert caught.value.kind in ("refused", "timeout")


@pytest.mark.parametrize("answer", [b"", b":1", b":1\r\n", b":1\r\n*1\r\n$5\r\nab"])
def test_an_answer_that_does_not_end_times_out(answer: bytes) -> None:
    start = time.monotonic()
    failure = failure_of(answer, timeout=0.15)
    assert 0.15 <= time.monotonic() - start < 0.8
    assert isinstance(failure, cachekit.BackendTimeout)
    assert isinstance(failure, TimeoutError)
    assert failure.counts is True


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 100,
        b":1\r\n$2147483647\r\n",
        b":1\r\n*2147483647\r\n",
        b":1\r\n*1\r\n$2000000000\r\nx",
        b":-3\r\n*1\r\n$1\r\nx\r\n",
        b"+OK\r\n*1\r\n$1\r\nx\r\n",
        b":1\r\n$1\r\nx\r\n",
        b":1\r\n*2\r\n$1\r\nx\r\n$1\r\nx\r\n",
        b":1\r\n*0\r\n",
        b":1\r\n*-1\r\n",
        b":1\r\n*1\r\n:5\r\n",
        b":1\r\n*1\r\n$1\r\nx\r\n+MORE\r\n",
        b":1\r\n*1\r\n$1\r\nxyz",
    ],
)
def test_an_answer_that_makes_no_sense_is_a_protocol_error(answer: bytes) -> None:
    failure = failure_of(answer)
    assert isinstance(failure, cachekit.BackendProtocolError)
    assert failure.kind == "protocol"
    assert failure.counts is True


def test_a_value_over_the_limit_says_nothing_of_the_store() -> None:
    failure = failure_of(b":1\r\n*1\r\n$300000000\r\nx")
    assert isinstance(failure, cachekit.BackendProtocolError)
    assert failure.kind == "oversized"
    assert failure.counts is False


def test_a_reset_on_a_new_connection_is_not_retried() -> None:
    with Scripted(answering(None)) as server:
        client = client_of(server.port)
        with pytest.raises(cachekit.BackendConnectionError) as caught:
            client.read("key", MAX)
        assert caught.value.kind == "reset"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("error", "kind", "counts"),
    [
        ("READONLY You can't write against a read only replica.", "readonly", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "oom", False),
        ("NOREPLICAS Not enough good replicas to write.", "noreplicas", False),
        ("MISCONF Redis is configured to save RDB snapshots", "misconf", False),
        ("MASTERDOWN Link with MASTER is down", "masterdown", True),
        ("BUSY Redis is busy running a script.", "busy", True),
        ("ERR max number of clients reached", "maxclients", True),
        ("ERR something", "server", True),
    ],
)
def test_errors_of_the_server_have_kinds(error: str, kind: str, counts: bool) -> None:
    with Scripted(answering(f"-{error}\r\n".encode())) as server:
        client = client_of(server.port)
        with pytest.raises(cachekit.BackendReplyError) as caught:
            client.write("key", b"value", 0, MAX)
        client.close()
    assert (caught.value.kind, caught.value.counts) == (kind, counts)
    assert server.connections == 1


def test_a_full_server_is_told_from_a_reset() -> None:
    def serve(sock: socket.socket, index: int) -> None:
        sock.sendall(b"-ERR max number of clients reached\r\n")

    for name in ("", "somebody"):
        with Scripted(serve) as server:
            for _ in range(10):
                client = client_of(server.port, client_name=name)
                with pytest.raises(cachekit.BackendReplyError) as caught:
                    client.read("key", MAX)
                assert caught.value.kind == "maxclients"


def test_a_real_server_without_room(own_redis: RedisServer) -> None:
    own_redis.call("CONFIG", "SET", "maxclients", 1)
    with own_redis.client() as only:
        only.call("PING")
        with pytest.raises(cachekit.BackendReplyError) as caught:
            client_of(own_redis.port).read("key", MAX)
        assert caught.value.kind == "maxclients"


def test_replies_may_come_byte_by_byte(proxy: Proxy) -> None:
    client = client_of(proxy.port)
    client.write("key", b"value", 0, MAX)
    proxy.trickle(1, 0.002)
    assert client.read("key", MAX) == (b"value", -1)
    client.close()


def test_a_trickle_does_not_outlast_the_deadline(proxy: Proxy) -> None:
    client = client_of(proxy.port)
    client.write("key", b"x" * 1000, 0, MAX)
    proxy.trickle(1, 0.02)
    start = time.monotonic()
    with pytest.raises(cachekit.BackendTimeout):
        client.read("key", 0.2)
    assert time.monotonic() - start < 0.7
    client.close()


# --- timeouts, each with a server that makes it fire ---


def test_a_frozen_server_costs_one_deadline(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port)
    client.ping(MAX)
    own_redis.stop()
    for _ in range(2):  # on the pooled connection, then on a new one
        start = time.monotonic()
        with pytest.raises(cachekit.BackendTimeout):
            client.read("key", 0.2)
        assert 0.2 <= time.monotonic() - start < 0.7
    own_redis.cont()
    assert client.read("key", MAX) is None


def test_a_connect_has_its_own_timeout(own_redis: RedisServer) -> None:
    own_redis.stop()
    client = client_of(own_redis.port, connect_timeout=0.1, client_name="somebody")
    start = time.monotonic()
    with pytest.raises(cachekit.BackendTimeout):
        client.read("key", MAX)
    assert 0.1 <= time.monotonic() - start < 0.6


def test_retry_on_timeout_connects_again_within_the_deadline() -> None:
    def serve(sock: socket.socket, index: int) -> None:
        sock.settimeout(MAX)
        sock.recv(65536)
        if index > 0:
            sock.sendall(b"+OK\r\n")  # the greeting of the second connection
            sock.recv(65536)
            sock.sendall(b"+PONG\r\n")
        sock.recv(65536)

    settings = {"connect_timeout": 0.1, "client_name": "somebody"}
    with Scripted(serve) as server:
        with pytest.raises(cachekit.BackendTimeout):
            client_of(server.port, **settings).ping(MAX)
    with Scripted(serve) as server:
        client = client_of(server.port, retry_on_timeout=True, **settings)
        client.ping(MAX)
        client.close()


def test_a_full_pool_times_out_and_does_not_count(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=1, pool_timeout=0.1)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(client.execute, "BLPOP", "nothing", 0.5, timeout=MAX)
        while client.pool_stats()["in_use"] == 0:
            time.sleep(0.001)
        start = time.monotonic()
        with pytest.raises(cachekit.PoolTimeout) as caught:
            client.read("key", MAX)
        assert 0.1 <= time.monotonic() - start < 0.6
        assert caught.value.counts is False
        assert caught.value.kind == "pool"
        busy.result()
    stats = client.pool_stats()
    assert (stats["timeouts"], stats["waiting"], stats["idle"]) == (1, 0, 1)
    client.ping(MAX)
    client.close()


# --- retries ---


def test_a_killed_and_restarted_server_costs_no_error(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port)
    client.write("key", b"value", 0, MAX)
    own_redis.restart()
    assert client.read("key", MAX) is None
    stats = client.pool_stats()
    assert (stats["created"], stats["replaced"]) == (2, 1)


def test_a_reset_on_a_pooled_connection_is_repeated_on_a_new_one() -> None:
    asked: list[int] = []

    def serve(sock: socket.socket, index: int) -> None:
        sock.settimeout(MAX)
        for turn in range(2):
            if not sock.recv(65536):
                return
            asked.append(index)
            if (index, turn) == (0, 1):
                return  # the second request on the first connection is lost
            sock.sendall(b"+PONG\r\n")

    with Scripted(serve) as server:
        client = client_of(server.port)
        client.ping(MAX)
        client.ping(MAX)
        assert asked == [0, 0, 1]
        client.close()
    asked.clear()
    with Scripted(serve) as server:
        client = client_of(server.port, connection_retries=0)
        client.ping(MAX)
        with pytest.raises(cachekit.BackendConnectionError):
            client.ping(MAX)
    asked.clear()
    with Scripted(serve) as server:  # a raw command may have been carried out
        client = client_of(server.port)
        client.ping(MAX)
        with pytest.raises(cachekit.BackendConnectionError):
            client.execute("INCR", "n", timeout=MAX)


@pytest.mark.parametrize("word", ["LOADING", "TRYAGAIN", "CLUSTERDOWN"])
def test_a_passing_error_is_asked_again_after_a_pause(word: str) -> None:
    turns: list[int] = []

    def serve(sock: socket.socket, index: int) -> None:
        sock.settimeout(MAX)
        while sock.recv(65536):
            turns.append(index)
            late = len(turns) > 2
            sock.sendall(b"+PONG\r\n" if late else f"-{word} later\r\n".encode())

    with Scripted(serve) as server:
        client = client_of(server.port)
        client.ping(MAX)
        assert turns == [0, 0, 0]  # on the same connection
        client.close()
    turns.clear()
    with Scripted(serve) as server:
        client = client_of(server.port, connection_retries=1)
        with pytest.raises(cachekit.BackendReplyError) as caught:
            client.ping(MAX)
        assert caught.value.kind == word.lower()
        assert caught.value.counts is True
        client.close()


def test_retries_end_with_the_deadline() -> None:
    def serve(sock: socket.socket, index: int) -> None:
        while sock.recv(65536):
            sock.sendall(b"-LOADING later\r\n")

    with Scripted(serve) as server:
        client = client_of(server.port, connection_retries=1000, retry_delay=0.02)
        start = time.monotonic()
        with pytest.raises(cachekit.BackendReplyError):
            client.ping(0.3)
        assert time.monotonic() - start < 0.6
        client.close()


def test_a_connection_with_replies_outstanding_is_never_used_again(
    proxy: Proxy,
) -> None:
    client = client_of(proxy.port, pool_size=1)
    client.write("a", b"A", 0, MAX)
    client.write("b", b"B", 0, MAX)
    proxy.delay(0.2)
    with pytest.raises(cachekit.BackendTimeout):
        client.read("a", 0.05)
    proxy.heal()
    time.sleep(0.25)
    assert client.read("b", MAX) == (b"B", -1)
    assert client.pool_stats()["created"] == 2
    client.close()


def test_a_connection_with_bytes_that_nobody_asked_for_is_replaced() -> None:
    served = threading.Event()

    def serve(sock: socket.socket, index: int) -> None:
        sock.settimeout(MAX)
        sock.recv(65536)
        sock.sendall(b"+PONG\r\n")
        if index == 0:
            time.sleep(0.05)
            sock.sendall(b"+INTRUDER\r\n")
            served.set()
        sock.recv(65536)

    with Scripted(serve) as server:
        client = client_of(server.port)
        client.ping(MAX)
        served.wait(MAX)
        client.ping(MAX)
        assert client.pool_stats()["replaced"] == 1
        client.close()


def test_an_idle_connection_is_pinged_after_the_interval(
    redis_server: RedisServer,
) -> None:
    def pings() -> int:
        info = redis_server.call("INFO", "commandstats").decode()
        line = next((x for x in info.split() if x.startswith("cmdstat_ping:")), "")
        return int(line.partition("calls=")[2].partition(",")[0] or 0)

    client = client_of(redis_server.port, health_check_interval=0.05)
    client.read("key", MAX)
    client.read("key", MAX)
    assert pings() == 0
    time.sleep(0.06)
    client.read("key", MAX)
    assert pings() == 1
    client.close()


# --- threads, signals, forks ---


def test_many_threads_share_the_pool(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=3)
    for i in range(16):
        client.write(f"key{i}", f"value{i}".encode(), 0, MAX)

    def work(i: int) -> int:
        expected = (f"value{i}".encode(), -1)
        return sum(client.read(f"key{i}", MAX) == expected for _ in range(200))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [200] * 16
    stats = client.pool_stats()
    assert stats["size"] == stats["idle"] <= 3
    assert stats["timeouts"] == stats["waiting"] == stats["in_use"] == 0
    client.close()


def read_all(client: RedisClient, threads: int, times: int) -> list[Any]:
    """What `threads` threads get that read a key of their own `times` times."""
    start = threading.Barrier(threads)

    def work(i: int) -> list[Any]:
        start.wait()
        got: list[Any] = []
        for _ in range(times):
            try:
                got.append(client.read(f"key{i}", MAX))
            except cachekit.BackendError as error:
                got.append(error)
        return got

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))


def test_requests_of_many_threads_travel_together(proxy: Proxy) -> None:
    client = client_of(proxy.port, pool_size=1)
    for i in range(8):
        client.write(f"key{i}", b"%d" % i, 0, MAX)
    before = proxy.round_trips
    proxy.delay(0.01)
    got = read_all(client, 8, 5)
    assert got == [[(b"%d" % i, -1)] * 5 for i in range(8)]
    assert proxy.round_trips - before <= 20  # instead of 40
    assert client.pool_stats()["shared"] >= 20
    client.close()


def test_big_values_do_not_hold_up_small_ones(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port)
    values = [os.urandom(200_000 if i % 2 else 20) for i in range(8)]
    for i, value in enumerate(values):
        client.write(f"key{i}", value, 0, MAX)
    assert read_all(client, 8, 20) == [[(value, -1)] * 20 for value in values]
    client.close()


def test_a_server_that_is_killed_under_load(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port, pool_timeout=0.1)
    timer = threading.Timer(0.05, own_redis.kill)
    for i in range(8):
        client.write(f"key{i}", b"%d" % i, 0, MAX)
    timer.start()
    start = time.monotonic()
    got = read_all(client, 8, 1000)
    assert time.monotonic() - start < 10
    timer.join()
    for i, answers in enumerate(got):
        last = [x for x in answers if isinstance(x, cachekit.BackendError)]
        assert last and all(x.kind in ("reset", "refused") for x in last)
        assert all(x == (b"%d" % i, -1) for x in answers[: -len(last)])
    own_redis.start()
    assert read_all(client, 8, 2) == [[None, None]] * 8
    stats = client.pool_stats()
    assert stats["size"] == stats["idle"]
    client.close()


def test_other_threads_run_while_one_waits(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port)
    client.ping(MAX)
    own_redis.stop()
    ticks = 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: pytest.raises(TimeoutError, client.ping, 0.3))
        while not waiting.done():
            ticks += 1
            time.sleep(0.001)
        waiting.result()
    assert ticks > 50


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_ctrl_c_ends_a_read_at_once(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port)
    client.ping(MAX)
    own_redis.stop()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.1):
        client.read("key", 30)
    assert time.monotonic() - start < 2
    assert client.pool_stats()["size"] == 0  # the reply may still come
    own_redis.cont()
    client.ping(MAX)


def test_ctrl_c_ends_a_read_among_many(own_redis: RedisServer) -> None:
    client = client_of(own_redis.port, pool_size=2, pool_timeout=20)
    client.ping(MAX)
    own_redis.stop()
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(client.read, "key", 20) for _ in range(8)]
        with pytest.raises(KeyboardInterrupt), interrupted_after(0.1):
            client.read("key", 20)
        own_redis.cont()
        assert [other.result() for other in others] == [None] * 8
    client.close()


def test_ctrl_c_ends_a_wait_for_the_pool(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=1, pool_timeout=30)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(client.execute, "BLPOP", "nothing", 0.5, timeout=MAX)
        while client.pool_stats()["in_use"] == 0:
            time.sleep(0.001)
        with pytest.raises(KeyboardInterrupt), interrupted_after(0.1):
            client.read("key", 30)
        assert not busy.done()
        busy.result()
    client.ping(MAX)
    client.close()


def test_ctrl_c_ends_a_pause_before_a_retry() -> None:
    with Scripted(answering(b"-LOADING later\r\n")) as server:
        client = client_of(server.port, retry_delay=1000.0, connection_retries=5)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
            client.ping(100_000)
        assert time.monotonic() - start < 3
        client.close()


def test_a_signal_whose_handler_returns_costs_nothing(proxy: Proxy) -> None:
    client = client_of(proxy.port)
    client.write("key", b"value", 0, MAX)
    proxy.delay(0.2)
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        assert client.read("key", MAX) == (b"value", -1)
        assert len(seen) >= 3
        with pytest.raises(cachekit.BackendTimeout):
            client.read("key", 0.1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.close()


forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child, which must not raise."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@forks
def test_a_forked_child_starts_with_an_empty_pool(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=2)
    client.write("key", b"value", 0, MAX)

    def work() -> None:
        assert client.pool_stats()["size"] == 0
        assert client.read("key", MAX) == (b"value", -1)
        client.write("child", b"here", 0, MAX)
        client.close()

    in_child(work)
    assert client.read("child", MAX) == (b"here", -1)
    assert client.pool_stats()["created"] == 1
    client.close()


@forks
def test_a_fork_while_threads_are_at_work(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=2)
    client.write("key", b"value", 0, MAX)
    stop = threading.Event()
    wrong: list[Any] = []

    def hammer() -> None:
        while not stop.is_set():
            got = client.read("key", MAX)
            if got != (b"value", -1):
                wrong.append(got)

    def work() -> None:
        for _ in range(20):
            assert client.read("key", MAX) == (b"value", -1)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    client.close()


@forks
def test_a_fork_in_a_signal_handler_within_a_read(proxy: Proxy) -> None:
    client = client_of(proxy.port, pool_size=1)
    client.write("key", b"value", 0, MAX)
    children: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
    proxy.delay(0.3)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        got: Any = client.read("key", MAX)
    except cachekit.BackendConnectionError as error:
        got = error
    if children == [0]:  # the child: the exchange was the parent's
        status = 1
        try:
            ok = isinstance(got, cachekit.BackendConnectionError) and not got.counts
            ok = ok and client.read("key", MAX) == (b"value", -1)
            status = 0 if ok else 1
        finally:
            os._exit(status)
    signal.signal(signal.SIGALRM, before)
    assert got == (b"value", -1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    client.close()


# --- life ---


def test_a_closed_client_is_closed_for_good(client: RedisClient) -> None:
    client.ping(MAX)
    client.close()
    client.close()
    assert client.pool_stats()["size"] == 0
    with pytest.raises(cachekit.BackendConnectionError) as caught:
        client.ping(MAX)
    assert caught.value.counts is False


def test_closing_lets_work_under_way_end(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port, pool_size=1)
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(client.execute, "BLPOP", "nothing", 0.3, timeout=MAX)
        while client.pool_stats()["in_use"] == 0:
            time.sleep(0.001)
        waiting = pool.submit(client.ping, MAX)
        while client.pool_stats()["waiting"] == 0:
            time.sleep(0.001)
        client.close()
        with pytest.raises(cachekit.BackendConnectionError):
            waiting.result()
        assert busy.result() is None
    assert client.pool_stats()["size"] == 0


def test_a_dropped_client_closes_its_connections(redis_server: RedisServer) -> None:
    gc.collect()
    before = sockets()
    for _ in range(20):
        client_of(redis_server.port).ping(MAX)
    assert sockets() == before


def test_a_client_shows_its_address_and_no_secret() -> None:
    client = RedisClient(RedisSettings(username="joe", password="sesame", port=1))
    assert client.address == "localhost:1"
    assert repr(client) == f"<RedisClient localhost:1 pool 0/{2 * os.cpu_count() + 1}>"


def test_no_reference_is_lost(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port)
    key, value = "key" * 5, b"value" * 300
    settings = RedisSettings(port=redis_server.port)
    counts = lambda: [  # noqa: E731
        sys.getrefcount(x) for x in (key, value, settings, client, RedisClient)
    ]
    before = counts()
    for _ in range(50):
        client.write(key, value, 0, MAX)
        client.read(key, MAX)
        client.delete([key], MAX)
        client.execute("SET", key, value, timeout=MAX)
        RedisClient(settings)
        for call in (
            lambda: client.execute("NO", key, timeout=MAX),
            lambda: client.read(key, 0),
            lambda: client.write(key, key, 0, MAX),
        ):
            with contextlib.suppress(cachekit.BackendError, TypeError):
                call()
    gc.collect()
    assert counts() == before
