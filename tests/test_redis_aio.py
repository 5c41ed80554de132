"""The asyncio transport, against a real server and against servers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from proxy import Proxy
from servers import RedisServer, free_port

from cachekit._core import ReplyError, RespReader, pack_commands
from cachekit._errors import (
    BackendAuthenticationError,
    BackendConnectionError,
    BackendError,
    BackendProtocolError,
    BackendReplyError,
    BackendTimeout,
)
from cachekit.backends._redis_aio import AsyncRedisTransport
from cachekit.backends._redis_connection import Connection
from cachekit.backends._redis_settings import RedisSettings

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def run_plain(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def run_uvloop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture(params=[run_plain, run_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


def transport_to(server: Any, **settings: Any) -> AsyncRedisTransport:
    return AsyncRedisTransport(
        RedisSettings(host="127.0.0.1", port=server.port, **settings)
    )


def connection_of(transport: AsyncRedisTransport) -> Connection:
    """The one connection of the running loop."""
    (connection,) = transport._loops[asyncio.get_running_loop()].all()
    return connection


class FakeServer:
    """Answers every connection's bytes with what `script` makes of them."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self.script = script
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.script(connection)
            except OSError:
                pass

    def close(self) -> None:
        # Wakes accept(), too.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


@contextmanager
def serving(script: Callable[[socket.socket], None]) -> Iterator[FakeServer]:
    server = FakeServer(script)
    try:
        yield server
    finally:
        server.close()


def answering(*replies: bytes) -> Callable[[socket.socket], None]:
    """Answers each piece of a connection with the next reply; then is silent."""

    def script(connection: socket.socket) -> None:
        for reply in replies:
            if not connection.recv(65536):
                return
            connection.sendall(reply)
        while connection.recv(65536):
            pass

    return script


#: Greets (a pipelined CLIENT SETNAME), then answers.
GREETED = b"+OK\r\n"


async def failure_of(operation: Awaitable[Any]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await operation
    return caught.value


# --- reading, writing, deleting ---


def test_what_was_written_is_read_with_its_remaining_lifetime(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server)
        assert await transport.read("key", 1.0) is None
        await transport.write("key", b"\0value\r\n", 60_000, 1.0)
        data, remaining = await transport.read("key", 1.0)
        assert data == b"\0value\r\n"
        assert 59_000 < remaining <= 60_000
        await transport.write("ever", b"", 0, 1.0)
        assert await transport.read("ever", 1.0) == (b"", -1)
        assert await transport.delete(["key", "ever", "absent"], 1.0) == 2
        assert await transport.delete([], 1.0) == 0
        assert await transport.read("key", 1.0) is None
        await transport.ping(1.0)
        await transport.close()

    run(main())


def test_an_entry_that_is_no_string_is_a_miss(redis_server, run):
    redis_server.call("LPUSH", "list", "x")

    async def main() -> None:
        transport = transport_to(redis_server)
        assert await transport.read("list", 1.0) is None
        await transport.close()

    run(main())


def test_an_entry_that_appears_between_the_two_commands_is_a_miss(run):
    # Nothing is known of its age.
    with serving(answering(GREETED, b":-2\r\n*1\r\n$1\r\nv\r\n")) as server:

        async def main() -> None:
            transport = transport_to(server)
            assert await transport.read("key", 1.0) is None
            await transport.close()

        run(main())


def test_writing_goes_on_when_the_server_takes_bytes_again(own_redis, run):
    async def main() -> None:
        transport = transport_to(own_redis)
        await transport.ping(1.0)
        own_redis.stop()
        writes = [
            asyncio.ensure_future(transport.write(f"k{i}", b"x" * 1_000_000, 0, 10.0))
            for i in range(20)
        ]
        await asyncio.sleep(0.02)
        last = asyncio.ensure_future(transport.write("last", b"x", 0, 10.0))
        await asyncio.sleep(0.02)
        assert connection_of(transport)._paused
        own_redis.cont()
        await asyncio.gather(*writes, last)
        assert own_redis.call("DBSIZE") == 21
        await transport.close()

    run(main())


@pytest.mark.parametrize("size", [65_536, 65_537, 3_000_000])
def test_values_of_every_size_arrive_whole(redis_server, run, size):
    async def main() -> None:
        transport = transport_to(redis_server)
        value = os.urandom(size)
        await asyncio.gather(
            transport.write("large", value, 60_000, 5.0),
            transport.write("large too", value, 0, 5.0),
            transport.write("small", b"s", 60_000, 5.0),
        )
        assert (await transport.read("large", 5.0))[0] == value
        assert (await transport.read("large too", 5.0)) == (value, -1)
        assert (await transport.read("small", 5.0))[0] == b"s"
        await transport.close()

    run(main())


def test_many_operations_share_one_connection_and_get_their_own_replies(
    redis_server, run
):
    async def main() -> None:
        transport = transport_to(redis_server)
        for number in range(500):
            await transport.write(f"key:{number}", b"%d" % number, 60_000, 1.0)

        async def read(number: int) -> None:
            for _ in range(3):
                data, _ = await transport.read(f"key:{number}", 5.0)
                assert data == b"%d" % number

        await asyncio.gather(*[read(number) for number in range(500)])
        figures = transport.figures()
        assert figures == {"size": 1, "created": 1, "waiting": 0}
        await transport.close()

    run(main())


def test_operations_of_one_turn_leave_in_one_write(redis_server, run):
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            transport = transport_to(proxy)
            await transport.ping(1.0)
            before = proxy.round_trips
            await asyncio.gather(*[transport.read(f"k{i}", 1.0) for i in range(50)])
            assert proxy.round_trips - before == 1
            await transport.close()

        run(main())


def test_async_connections_are_used_in_turn(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server, async_connections=3)
        await asyncio.gather(*[transport.read(f"k{i}", 1.0) for i in range(30)])
        assert transport.figures()["size"] == 3
        await transport.close()

    run(main())


# --- greeting ---


def test_password_database_and_name_are_announced(run):
    with RedisServer(password="secret word") as server:

        async def main() -> None:
            transport = transport_to(
                server, password="secret word", database=3, client_name="testing"
            )
            await transport.write("key", b"v", 60_000, 1.0)
            with server.client() as client:
                assert client.call("GET", "key") is None
                client.call("SELECT", 3)
                assert client.call("GET", "key") == b"v"
                assert b"name=testing" in client.call("CLIENT", "LIST")
            await transport.close()

        run(main())


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_is_an_authentication_error(run, password):
    with RedisServer(password="secret") as server:

        async def main() -> None:
            transport = transport_to(server, password=password)
            error = await failure_of(transport.read("key", 1.0))
            assert type(error) is BackendAuthenticationError
            assert (error.kind, error.counts) == ("auth", True)
            assert "secret" not in str(error) and "wrong" not in str(error)
            await transport.close()

        run(main())


def test_a_database_that_does_not_exist_is_never_read_around(redis_server, run):
    redis_server.call("SET", "key", "in database 0")

    async def main() -> None:
        transport = transport_to(redis_server, database=99)
        assert type(await failure_of(transport.read("key", 1.0))) is BackendReplyError
        await transport.close()

    run(main())


def test_a_server_without_names_for_clients_is_served(run):
    script = answering(b"-ERR unknown subcommand\r\n", b":-1\r\n*1\r\n$1\r\nv\r\n")
    with serving(script) as server:

        async def main() -> None:
            transport = transport_to(server)
            assert await transport.read("key", 1.0) == (b"v", -1)
            await transport.close()

        run(main())


def test_unix_sockets(run):
    with RedisServer(unixsocket=True) as server:

        async def main() -> None:
            transport = AsyncRedisTransport(RedisSettings(path=str(server.socket_path)))
            await transport.write("key", b"v", 0, 1.0)
            assert await transport.read("key", 1.0) == (b"v", -1)
            await transport.close()

        run(main())


def test_tls_is_verified_and_can_be_told_not_to(run):
    with RedisServer(tls=True) as server:

        async def main() -> None:
            good = transport_to(server, tls={"ca_certs": str(server.ca)})
            await good.write("key", b"v" * 300_000, 0, 5.0)
            assert (await good.read("key", 5.0))[0] == b"v" * 300_000
            await good.close()

            strict = transport_to(server, tls={})
            error = await failure_of(strict.read("key", 5.0))
            assert type(error) is BackendConnectionError and error.kind == "tls"
            await strict.close()

            other = {"ca_certs": str(server.ca), "server_hostname": "elsewhere.test"}
            named = transport_to(server, tls=other)
            assert (await failure_of(named.ping(5.0))).kind == "tls"
            await named.close()

            careless = transport_to(server, tls={"verify": False})
            await careless.ping(5.0)
            await careless.close()

        run(main())


def test_keepalive_is_set_on_the_socket(redis_server, run):
    async def main(keepalive: bool) -> bool:
        transport = transport_to(redis_server, keepalive=keepalive)
        await transport.ping(1.0)
        descriptor = os.dup(connection_of(transport).fileno())
        with socket.socket(fileno=descriptor) as copy:
            found = copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await transport.close()
        return bool(found)

    assert run(main(True)) is True
    assert run(main(False)) is False


def test_a_connection_idle_for_long_is_pinged_before_use(redis_server, run):
    def pings() -> int:
        return redis_server.call("INFO", "commandstats").count(b"cmdstat_ping:calls")

    async def main(interval: float) -> int:
        redis_server.call("CONFIG", "RESETSTAT")
        transport = transport_to(redis_server, health_check_interval=interval)
        assert await transport.read("key", 1.0) is None
        await asyncio.sleep(0.02)
        assert await transport.read("key", 1.0) is None
        await transport.close()
        return pings()

    assert run(main(0.01)) == 1
    assert run(main(30.0)) == 0
    assert run(main(0.0)) == 0


# --- failures ---


def test_a_refused_connect_is_told_at_once_and_not_tried_again(run):
    async def main() -> None:
        port = free_port()
        transport = AsyncRedisTransport(RedisSettings(host="127.0.0.1", port=port))
        began = time.monotonic()
        errors = await asyncio.gather(
            *[failure_of(transport.read("key", 5.0)) for _ in range(20)]
        )
        assert time.monotonic() - began < 1.0
        assert {type(error) for error in errors} == {BackendConnectionError}
        assert {error.kind for error in errors} == {"refused"}
        assert len({id(error) for error in errors}) == 20  # none shared: no tracebacks
        assert transport.figures()["created"] == 1
        await transport.close()

    run(main())


def test_a_host_without_an_address_is_a_connection_error(run):
    async def main() -> None:
        transport = AsyncRedisTransport(RedisSettings(host="no.such.host.invalid"))
        error = await failure_of(transport.read("key", 5.0))
        assert isinstance(error, (BackendConnectionError, BackendTimeout))
        await transport.close()

    run(main())


def test_a_reset_on_a_pooled_connection_is_tried_again_on_a_new_one(redis_server, run):
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            transport = transport_to(proxy)
            await transport.write("key", b"v", 0, 1.0)
            proxy.drop()
            reads = [
                asyncio.ensure_future(transport.read("key", 2.0)) for _ in range(9)
            ]
            await asyncio.sleep(0.05)
            proxy.reset()
            proxy.heal()
            assert await asyncio.gather(*reads) == [(b"v", -1)] * 9
            assert transport.figures()["created"] == 2
            await transport.close()

        run(main())


def test_a_dead_connection_is_replaced_before_use(own_redis, run):
    async def main() -> None:
        transport = transport_to(own_redis)
        await transport.write("key", b"v", 0, 1.0)
        own_redis.restart()
        await asyncio.sleep(0.05)
        assert transport.figures()["size"] == 0
        assert await transport.read("key", 1.0) is None
        await transport.close()

    run(main())


def test_a_killed_server_is_a_quick_failure_and_a_restarted_one_is_used(own_redis, run):
    async def main() -> None:
        transport = transport_to(own_redis)
        await transport.write("key", b"v", 0, 1.0)
        own_redis.kill()
        began = time.monotonic()
        error = await failure_of(transport.read("key", 5.0))
        assert time.monotonic() - began < 1.0
        assert type(error) is BackendConnectionError and error.counts
        own_redis.start()
        await transport.write("key", b"w", 0, 1.0)
        assert await transport.read("key", 1.0) == (b"w", -1)
        await transport.close()

    run(main())


def test_a_connection_that_breaks_while_greeting_is_not_tried_again(run):
    with serving(lambda connection: connection.recv(100) and None) as server:

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.read("key", 1.0))
            assert type(error) is BackendConnectionError and error.kind == "reset"
            await transport.close()

        run(main())
        assert server.accepted == 1


def test_connections_that_always_break_are_tried_as_often_as_configured(run):
    def greet_then_hang_up(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(GREETED)
        connection.recv(65536)

    with serving(greet_then_hang_up) as server:

        async def main() -> None:
            transport = transport_to(server, connection_retries=2)
            error = await failure_of(transport.read("key", 2.0))
            assert type(error) is BackendConnectionError and error.kind == "reset"
            await transport.close()

        run(main())
        assert server.accepted == 3


def test_loading_is_tried_again_within_the_deadline(run):
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    script = answering(GREETED, loading * 2, loading * 2, b":5\r\n*1\r\n$1\r\nv\r\n")
    with serving(script) as server:

        async def main() -> None:
            transport = transport_to(server, retry_delay=0.01)
            assert await transport.read("key", 2.0) == (b"v", 5)
            await transport.close()

        run(main())


def test_loading_that_does_not_end_is_a_reply_error_that_counts(run):
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    script = answering(GREETED, *[loading * 2] * 10)
    with serving(script) as server:

        async def main() -> None:
            transport = transport_to(server, retry_delay=0.001, connection_retries=3)
            error = await failure_of(transport.read("key", 2.0))
            assert type(error) is BackendReplyError
            assert (error.kind, error.counts) == ("loading", True)
            slow = transport_to(server, retry_delay=100.0)
            began = time.monotonic()
            assert (await failure_of(slow.read("key", 0.3))).kind == "loading"
            assert time.monotonic() - began < 1.0
            await transport.close()
            await slow.close()

        run(main())


@pytest.mark.parametrize(
    ("reply", "kind", "counts"),
    [
        (
            b"-READONLY You can't write against a read only replica.\r\n",
            "readonly",
            False,
        ),
        (b"-OOM command not allowed when used memory\r\n", "oom", False),
        (b"-MISCONF Redis is configured to save\r\n", "misconf", False),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "noreplicas", False),
        (b"-ERR max number of clients reached\r\n", "maxclients", True),
        (b"-ERR something else\r\n", "server", True),
    ],
)
def test_refusals_are_told_apart_and_not_tried_again(run, reply, kind, counts):
    with serving(answering(GREETED, reply, b"+OK\r\n")) as server:

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.write("key", b"v", 0, 1.0))
            assert type(error) is BackendReplyError
            assert (error.kind, error.counts) == (kind, counts)
            await transport.close()

        run(main())


def test_a_full_server_says_so(run):
    with RedisServer("--maxclients", "1") as server, server.client():

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.read("key", 1.0))
            assert error.kind in ("maxclients", "reset") and error.counts
            await transport.close()

        run(main())


def test_an_error_never_repeats_what_was_sent(run):
    reply = b"-ERR unknown command `MGET`, with args beginning with: `secret`\r\n"
    with serving(answering(GREETED, reply * 2)) as server:

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.read("secret", 1.0))
            assert "secret" not in str(error) and "unknown command" in str(error)
            await transport.close()

        run(main())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":1\r\n$2147483648\r\n",
        b":1\r\n*2147483647\r\n",
        b":1\r\n:1\r\n",
        b":1\r\n*0\r\n",
        b":1\r\n*1\r\n:7\r\n",
        b"+OK\r\n*1\r\n$1\r\nv\r\n",
        b":1\r\n*1\r\n$1\r\nv\r\n+more\r\n:1\r\n",
    ],
)
def test_nonsense_is_a_protocol_error_or_a_miss_and_never_a_value(run, reply):
    with serving(answering(GREETED, reply)) as server:

        async def main() -> None:
            transport = transport_to(server, max_reply=4096)
            try:
                read = await transport.read("key", 5.0)
            except BackendProtocolError as error:
                assert error.kind == "protocol" and error.counts
            else:
                assert read == (b"v", 1) and reply.endswith(b"+more\r\n:1\r\n")
            await transport.close()

        began = time.monotonic()
        run(main())
        assert time.monotonic() - began < 1.0


def test_a_value_over_the_limit_says_nothing_of_the_store(run):
    with serving(answering(GREETED, b":1\r\n*1\r\n$5000\r\n")) as server:

        async def main() -> None:
            transport = transport_to(server, max_reply=4096)
            error = await failure_of(transport.read("key", 5.0))
            assert isinstance(error, BackendProtocolError)
            assert error.kind == "oversized" and not error.counts
            await transport.close()

        run(main())


# --- deadlines ---


def test_a_silent_server_is_a_failure_within_the_deadline(own_redis, run):
    async def main() -> None:
        transport = transport_to(own_redis)
        await transport.ping(1.0)
        own_redis.stop()
        began = time.monotonic()
        errors = await asyncio.gather(
            *[failure_of(transport.read(f"k{i}", 0.2)) for i in range(100)]
        )
        assert 0.19 <= time.monotonic() - began < 1.0
        assert {type(error) for error in errors} == {BackendTimeout}
        assert all(error.counts for error in errors)
        assert transport.figures()["size"] == 0
        own_redis.cont()
        assert await transport.read("key", 1.0) is None
        await transport.close()

    run(main())


def test_a_server_that_accepts_and_never_greets_costs_the_deadline_and_no_more(run):
    with serving(answering()) as server:

        async def main() -> None:
            transport = transport_to(server, connect_timeout=5.0)
            began = time.monotonic()
            error = await failure_of(transport.read("key", 0.15))
            assert type(error) is BackendTimeout and error.counts
            assert time.monotonic() - began < 1.0
            await transport.close()

        run(main())


def test_the_connect_timeout_fires_within_a_longer_deadline(run):
    with serving(answering()) as server:

        async def main() -> None:
            transport = transport_to(server, connect_timeout=0.1)
            began = time.monotonic()
            error = await failure_of(transport.read("key", 5.0))
            assert type(error) is BackendTimeout and error.counts
            assert time.monotonic() - began < 1.0
            await transport.close()

        run(main())
        assert server.accepted == 1


def test_a_connect_that_timed_out_is_tried_again_when_asked_for(run):
    with serving(answering()) as server:

        async def main() -> None:
            transport = transport_to(
                server,
                connect_timeout=0.05,
                retry_on_timeout=True,
                connection_retries=2,
            )
            assert type(await failure_of(transport.read("key", 5.0))) is BackendTimeout
            await transport.close()

        run(main())
        assert server.accepted == 3


def test_a_read_given_up_while_connecting_is_never_sent(run):
    received = []

    def greet_late(connection: socket.socket) -> None:
        connection.recv(65536)
        time.sleep(0.2)
        connection.sendall(GREETED)
        while piece := connection.recv(65536):
            received.append(piece)
            connection.sendall(b"+PONG\r\n")

    with serving(greet_late) as server:

        async def main() -> None:
            transport = transport_to(server)
            await failure_of(transport.read("given up", 0.05))
            await transport.ping(1.0)
            await transport.close()

        run(main())
    assert received == [pack_commands([["PING"]])]


def test_a_blocked_loop_drains_the_socket_before_it_judges(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server)
        for number in range(100):
            await transport.write(f"k{number}", b"x" * 10_000, 0, 1.0)
        reads = [
            asyncio.ensure_future(transport.read(f"k{number}", 0.2))
            for number in range(100)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # they are sent
        time.sleep(0.4)  # the loop is blocked for longer than the deadline
        assert await asyncio.gather(*reads) == [(b"x" * 10_000, -1)] * 100
        assert transport.figures() == {"size": 1, "created": 1, "waiting": 0}
        await transport.close()

    run(main())


def test_a_loop_blocked_while_connecting_connects_all_the_same(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server, connect_timeout=0.1)
        ping = asyncio.ensure_future(transport.ping(2.0))
        for _ in range(2):  # the operation begins, then its connection
            await asyncio.sleep(0)
        time.sleep(0.3)
        await ping
        await transport.close()

    run(main())


def test_a_slow_reply_on_a_living_connection_is_no_failure(run):
    half = b"x" * 400_000

    def slowly(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(GREETED)
        connection.recv(65536)
        connection.sendall(b":-1\r\n*1\r\n$%d\r\n" % (2 * len(half)) + half)
        connection.recv(65536)  # the second read: its deadline is far away
        connection.sendall(half + b"\r\n")
        connection.sendall(b":7\r\n*1\r\n$3\r\nown\r\n")
        connection.recv(65536)

    with serving(slowly) as server:

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.read("slow", 0.2))
            assert type(error) is BackendTimeout and not error.counts
            # On the same connection, and with its own reply.
            assert await transport.read("other", 2.0) == (b"own", 7)
            assert transport.figures()["created"] == 1
            await transport.close()

        run(main())


def test_less_than_that_is_a_failure_and_the_connection_is_dropped(run):
    def stops(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(GREETED)
        connection.recv(65536)
        connection.sendall(b":-1\r\n*1\r\n$800000\r\n" + b"x" * 200_000)
        connection.recv(65536)

    with serving(stops) as server:

        async def main() -> None:
            transport = transport_to(server)
            error = await failure_of(transport.read("slow", 0.2))
            assert type(error) is BackendTimeout and error.counts
            assert transport.figures()["size"] == 0
            await transport.close()

        run(main())


def test_others_on_a_dropped_connection_are_tried_again_on_a_new_one(run):
    dead = threading.Event()

    def first_hangs(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(GREETED)
        if not dead.is_set():
            dead.set()
            while connection.recv(65536):
                pass
            return
        connection.recv(65536)
        connection.sendall(b":7\r\n*1\r\n$3\r\nown\r\n")
        connection.recv(65536)

    with serving(first_hangs) as server:

        async def main() -> None:
            transport = transport_to(server)
            hasty = asyncio.ensure_future(failure_of(transport.read("a", 0.1)))
            patient = asyncio.ensure_future(transport.read("b", 2.0))
            assert type(await hasty) is BackendTimeout
            assert await patient == (b"own", 7)
            await transport.close()

        run(main())


# --- cancelling ---


def test_a_cancelled_read_never_gives_its_reply_to_another(redis_server, run):
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            transport = transport_to(proxy)
            for number in range(60):
                await transport.write(f"k{number}", b"%d" % number, 0, 1.0)
            for turn in range(5):
                proxy.hold()
                reads = [
                    asyncio.ensure_future(transport.read(f"k{number}", 2.0))
                    for number in range(60)
                ]
                await asyncio.sleep(0.01)
                for read in reads[turn::3]:
                    read.cancel()
                await asyncio.sleep(0)
                proxy.heal()
                done = await asyncio.gather(*reads, return_exceptions=True)
                for number, outcome in enumerate(done):
                    if reads[number] in reads[turn::3]:
                        assert isinstance(outcome, asyncio.CancelledError)
                    else:
                        assert outcome == (b"%d" % number, -1)
            assert transport.figures()["created"] == 1
            await transport.close()

        run(main())


def test_a_caller_cancelled_while_connecting_leaves_the_others_alone(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server)
        first = asyncio.ensure_future(transport.read("a", 1.0))
        second = asyncio.ensure_future(transport.read("b", 1.0))
        await asyncio.sleep(0)
        first.cancel()
        assert await second is None
        await transport.close()

    run(main())


# --- large replies ---


def test_a_function_with_large_values_moves_to_a_second_connection(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server)
        redis_server.call("SET", "ns:big:1", b"x" * 1_500_000)
        redis_server.call("SET", "ns:small:1", b"x")
        await transport.read("ns:small:1", 1.0)
        await transport.read("ns:big:1", 5.0)
        assert transport.figures()["size"] == 1  # it was not known yet
        await transport.read("ns:big:2", 5.0)
        assert transport.figures()["size"] == 2
        state = transport._loops[asyncio.get_running_loop()]
        first, second = state.all()
        before = second.received
        await transport.read("ns:small:1", 1.0)
        assert second.received == before
        await transport.read("ns:big:1", 5.0)
        assert second.received > before + 1_000_000
        assert first.received < 1_600_000
        await transport.close()

    run(main())


def test_a_large_write_takes_the_second_connection_at_once(redis_server, run):
    async def main() -> None:
        transport = transport_to(redis_server)
        await transport.write("ns:big:1", b"x" * 1_500_000, 0, 5.0)
        state = transport._loops[asyncio.get_running_loop()]
        assert state._connections == [None] and state._bulky is not None
        await transport.close()

    run(main())


# --- loops, threads, processes ---


def test_every_loop_has_its_own_connection_and_they_end_with_it(redis_server, run):
    transport = transport_to(redis_server)

    async def main() -> None:
        await transport.ping(1.0)
        assert transport.figures()["size"] == 1

    for _ in range(3):
        run(main())  # not closed by hand
        gc.collect()  # a warning about something left open would be an error here
        assert transport.figures()["size"] == 0
    assert len(transport._loops) <= 1


def test_one_transport_serves_loops_of_several_threads(redis_server):
    transport = transport_to(redis_server)
    redis_server.call("SET", "key", "v")
    failures = []

    async def main() -> None:
        for _ in range(50):
            assert await transport.read("key", 2.0) == (b"v", -1)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_close_ends_what_waits_and_a_later_operation_connects_anew(redis_server, run):
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            transport = transport_to(proxy)
            await transport.ping(1.0)
            proxy.hold()
            waiting = asyncio.ensure_future(failure_of(transport.read("key", 5.0)))
            await asyncio.sleep(0.02)
            await transport.close()
            error = await waiting
            assert error.kind == "closed" and not error.counts
            proxy.heal()
            await transport.ping(1.0)
            await transport.close()

        run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_anew_and_leaves_the_parents_connection_alone(
    redis_server, run
):
    transport = transport_to(redis_server)
    redis_server.call("SET", "key", "v")

    def in_child(descriptor: int) -> None:
        passed = []

        async def main() -> None:
            assert os.fstat(descriptor).st_rdev == os.stat(os.devnull).st_rdev
            assert transport.figures()["size"] == 0
            assert await transport.read("key", 2.0) == (b"v", -1)
            assert transport.figures()["created"] == 1
            passed.append(True)

        try:
            # The parent's loop is running in this thread.
            thread = threading.Thread(target=lambda: asyncio.run(main()))
            thread.start()
            thread.join()
        finally:
            os._exit(0 if passed else 1)

    async def main() -> None:
        await transport.ping(1.0)
        connection = connection_of(transport)
        pid = os.fork()
        if pid == 0:
            in_child(connection.fileno())
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await transport.read("key", 1.0) == (b"v", -1)
        assert connection_of(transport) is connection
        await transport.close()

    run(main())


# --- the reader and the packer ---


def test_a_reader_returns_all_replies_that_are_complete():
    reader = RespReader()
    assert reader.feed(b"+OK\r\n:-5\r\n$-1\r\n*2\r\n$1\r\na\r\n$2") == [b"OK", -5, None]
    assert reader.feed(bytearray(b"\r\nbc\r\n*-1\r\n")) == [[b"a", b"bc"], None]
    assert reader.feed(b"") == []


def test_an_error_reply_is_an_object_that_says_what_it_means():
    (error,) = RespReader().feed(b"-LOADING the dataset 'secret'\r\n")
    assert type(error) is ReplyError
    assert (error.kind, error.passing) == ("loading", True)
    assert error.text == "LOADING the dataset"
    assert repr(error) == "<ReplyError 'LOADING the dataset'>"
    with pytest.raises(TypeError):
        ReplyError()


def test_a_reader_refuses_what_is_over_its_limits_and_stays_failed():
    reader = RespReader(max_bulk=10, max_elements=3)
    assert reader.feed(b"$10\r\n0123456789\r\n") == [b"0123456789"]
    for data in (b"$11\r\n", b"+OK\r\n"):
        with pytest.raises(BackendProtocolError, match="limit of 10 bytes"):
            reader.feed(data)
    with pytest.raises(BackendProtocolError):
        RespReader(max_elements=3).feed(b"*4\r\n")
    with pytest.raises(ValueError):
        RespReader(max_bulk=-1)


def test_commands_are_packed_from_text_bytes_and_numbers():
    command = ("SET", "k\u00e9y", b"\0\r\n", "PX", 5)
    packed = pack_commands([command, [bytearray(b"PING")]])
    assert packed == (
        b"*5\r\n$3\r\nSET\r\n$4\r\nk\xc3\xa9y\r\n$3\r\n\0\r\n\r\n$2\r\nPX\r\n$1\r\n5\r\n"
        b"*1\r\n$4\r\nPING\r\n"
    )
    assert pack_commands([]) == b""
    for wrong in (5, [5], [["GET", None]], [["GET", 1.5]]):
        with pytest.raises(TypeError):
            pack_commands(wrong)
    with pytest.raises(UnicodeEncodeError):
        pack_commands([["GET", "\ud800"]])


def test_settings_hide_the_password():
    settings = RedisSettings(username="me", password="secret")
    assert "secret" not in repr(settings) and settings.address == "localhost:6379"
    assert RedisSettings(path="/run/redis").address == "unix:/run/redis"
    assert RedisSettings(host="::1").address == "[::1]:6379"
