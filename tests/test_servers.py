"""The servers that the other tests rely on."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import MemcachedServer, RedisServer, RespClient, ServerError

TESTS = Path(__file__).parent


def test_redis_answers_and_is_emptied_between_tests(redis_server):
    assert redis_server.call("DBSIZE") == 0
    assert redis_server.call("SET", "key", b"\x00\xff") == "OK"
    assert redis_server.call("MGET", "key", "other") == [b"\x00\xff", None]


def test_redis_was_emptied(redis_server):
    assert redis_server.call("DBSIZE") == 0


def test_an_error_reply_is_raised(redis_server):
    with pytest.raises(ServerError, match="unknown command"):
        redis_server.call("NONSENSE")


def test_killed_redis_comes_back_empty_on_the_same_port(own_redis):
    port = own_redis.port
    own_redis.call("SET", "key", "value")
    own_redis.kill()
    assert not own_redis.alive
    with pytest.raises(ConnectionRefusedError):
        own_redis.client()
    own_redis.restart()
    assert own_redis.port == port
    assert own_redis.call("GET", "key") is None


def test_stopped_redis_accepts_and_says_nothing_until_it_goes_on(own_redis):
    own_redis.stop()
    with RespClient(own_redis.connect(timeout=0.1)) as client:
        client.send("PING")
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        own_redis.cont()
        client.sock.settimeout(5)
        assert client.sock.recv(7) == b"+PONG\r\n"


def test_redis_asks_for_its_password():
    with RedisServer(password="secret") as server:
        with RespClient(server.connect()) as client, pytest.raises(ServerError):
            client.call("PING")
        assert server.call("PING") == "PONG"
        assert server.url == f"redis://:secret@127.0.0.1:{server.port}"


def test_redis_on_a_unix_socket():
    with RedisServer(unixsocket=True) as server:
        assert server.call("PING") == "PONG"
        assert server.url == f"unix://{server.socket_path}"


def test_redis_over_tls():
    with RedisServer(tls=True) as server:
        assert server.call("PING") == "PONG"
        assert server.url.startswith("rediss://")


def test_arguments_reach_redis():
    with RedisServer("--maxmemory", "2mb") as server:
        assert server.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"2097152"]


def test_memcached_answers_and_restarts(memcached_server):
    assert memcached_server.ask("version").startswith("VERSION")
    with MemcachedServer() as server:
        server.restart()
        assert server.ask("mn") == "MN"


def test_a_server_that_cannot_start_says_why():
    server = RedisServer("--no-such-option", "yes")
    try:
        with pytest.raises(RuntimeError, match="no-such-option"):
            server.start()
    finally:
        server.close()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_killed_test_process_leaves_no_server():
    script = (
        "import os, sys; from servers import RedisServer\n"
        "server = RedisServer(); server.start(); print(server.pid, flush=True)\n"
        "print(server.folder, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    pid, folder = done.stdout.split("\n")[:2]
    shutil.rmtree(folder)
    deadline = time.monotonic() + 5
    while _runs(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not _runs(int(pid))


def _runs(pid):
    """Whether the process is there and no mere remainder that nobody waited for."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


def test_redis_can_be_begun_with_more_options_for_once(own_redis):
    def answer() -> bytes | None:
        try:
            return own_redis.call("CONFIG", "GET", "maxclients")[1]
        except OSError:
            return None

    usual = answer()
    own_redis.kill()
    own_redis.begin("--maxclients", "77")
    deadline = time.monotonic() + 5
    while answer() != b"77":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    own_redis.restart()
    assert answer() == usual
