"""The proxy that the other tests rely on."""

import socket
import time

import pytest
from proxy import Proxy, reply_size
from servers import RespClient, free_port


@pytest.fixture
def client(proxy):
    with connect(proxy) as client:
        yield client


def connect(proxy, timeout=5.0):
    return RespClient(socket.create_connection((proxy.host, proxy.port), timeout))


def test_bytes_pass_both_ways(client, proxy):
    value = bytes(range(256)) * 2000
    assert client.call("SET", "key", value) == "OK"
    assert client.call("GET", "key") == value
    assert proxy.connections == 1


def test_round_trips_are_counted_not_commands(client, proxy):
    client.call("PING")
    before = proxy.round_trips
    client.sock.sendall(b"PING\r\n" * 3)
    assert [client.read() for _ in range(3)] == ["PONG"] * 3
    assert proxy.round_trips == before + 1


def test_delay_holds_each_reply_back(client, proxy):
    proxy.delay(0.05)
    started = time.monotonic()
    client.call("PING")
    assert 0.045 < time.monotonic() - started < 1
    proxy.heal()
    started = time.monotonic()
    client.call("PING")
    assert time.monotonic() - started < 0.045


def test_held_replies_arrive_after_healing(client, proxy):
    proxy.hold()
    client.send("PING")
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    proxy.heal()
    client.sock.settimeout(5)
    assert client.sock.recv(7) == b"+PONG\r\n"


def test_cut_closes_in_the_middle_of_a_reply(client, proxy):
    client.call("SET", "key", "x" * 100)
    proxy.cut(after=20)
    client.send("GET", "key")
    assert read_all(client) == b"$100\r\n" + b"x" * 14
    proxy.heal()
    with connect(proxy) as other:
        assert other.call("PING") == "PONG"


def test_cut_at_once_gives_nothing(client, proxy):
    proxy.cut()
    client.send("PING")
    assert read_all(client) == b""


def test_a_stalled_proxy_accepts_and_keeps_the_request(client, proxy, redis_server):
    proxy.stall()
    with connect(proxy, timeout=0.1) as other:
        other.send("SET", "key", "value")
        with pytest.raises(TimeoutError):
            other.sock.recv(1)
    assert redis_server.call("GET", "key") is None


def test_dropped_replies_leave_the_request_done(client, proxy, redis_server):
    proxy.drop()
    client.send("SET", "key", "value")
    client.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    assert redis_server.call("GET", "key") == b"value"
    proxy.heal()
    client.send("PING")
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    with connect(proxy) as other:
        assert other.call("PING") == "PONG"


def test_trickled_replies_arrive_piece_by_piece(client, proxy):
    proxy.trickle(size=1, seconds=0.01)
    client.send("PING")
    pieces = [client.sock.recv(100) for _ in range(7)]
    assert b"".join(pieces) == b"+PONG\r\n"
    assert max(map(len, pieces)) < 7


def test_reordered_replies_come_last_one_first(client, proxy):
    client.call("SET", "key", "value")
    proxy.reorder(2)
    client.sock.sendall(b"GET key\r\nPING\r\n")
    assert [client.read(), client.read()] == ["PONG", b"value"]


def test_transformed_replies_are_what_the_function_says(client, proxy):
    proxy.transform(lambda data: data.replace(b"PONG", b"GONE"))
    assert client.call("PING") == "GONE"


def test_refused_connections_come_back_after_healing(client, proxy):
    proxy.refuse()
    with pytest.raises(ConnectionError):
        client.call("PING")
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    port = proxy.port
    proxy.heal()
    assert proxy.port == port
    with connect(proxy) as other:
        assert other.call("PING") == "PONG"


def test_reset_is_felt_as_a_reset(client, proxy):
    client.call("PING")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.sock.recv(1)


def test_disconnect_is_felt_as_an_end(client, proxy):
    client.call("PING")
    proxy.disconnect()
    assert client.sock.recv(1) == b""
    assert proxy.open_connections == 0


def test_a_target_that_is_not_there_resets():
    with Proxy(free_port()) as proxy, pytest.raises(ConnectionError):
        with connect(proxy) as client:
            client.call("PING")


def test_a_client_that_leaves_is_forgotten(proxy):
    with connect(proxy) as client:
        client.call("PING")
        assert proxy.open_connections == 1
    deadline = time.monotonic() + 5
    while proxy.open_connections and time.monotonic() < deadline:
        time.sleep(0.002)
    assert proxy.open_connections == 0


@pytest.mark.parametrize(
    "reply",
    [b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$2\r\n\r\n\r\n", b"*2\r\n$1\r\na\r\n*0\r\n"],
)
def test_reply_size_sees_whole_replies_only(reply):
    assert reply_size(reply + b"+more") == len(reply)
    assert all(reply_size(reply[:cut]) == 0 for cut in range(len(reply)))


def read_all(client):
    data = b""
    while piece := client.sock.recv(4096):
        data += piece
    return data


def test_a_half_closed_connection_takes_requests_and_answers_no_more(
    client, proxy, redis_server
):
    client.call("PING")
    proxy.shut_replies()
    assert client.sock.recv(1) == b""
    client.send("SET", "key", "heard")
    deadline = time.monotonic() + 5
    while redis_server.call("GET", "key") != b"heard":
        assert time.monotonic() < deadline
        time.sleep(0.002)
    with connect(proxy) as another:
        assert another.sock.recv(1) == b""
    proxy.heal()
    with connect(proxy) as another:
        assert another.call("PING") == "PONG"


def test_a_forgotten_connection_is_silent_and_new_ones_work(client, proxy):
    client.call("PING")
    proxy.forget()
    client.send("PING")
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    with connect(proxy) as another:
        assert another.call("PING") == "PONG"
