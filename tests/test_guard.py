"""`_core.Guard`: breaker, deadline policy and recovery probe of one store."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import weakref

import pytest
import servers

from cachekit._core import Guard

PING = b"*1\r\n$4\r\nPING\r\n"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def call(guard: Guard, outcome: int) -> float | None:
    """One operation; the seconds it was allowed, or None when it was refused."""
    ticket = guard.enter()
    if ticket is None:
        return None
    guard.leave(ticket, outcome)
    return ticket[0]


def fail(guard: Guard, times: int) -> list[float | None]:
    return [call(guard, Guard.FAILURE) for _ in range(times)]


def state(guard: Guard) -> str:
    return guard.state()["state"]


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# The breaker


def test_five_consecutive_failures_open_it(clock):
    guard = Guard(clock=clock)
    fail(guard, 4)
    assert state(guard) == "closed"
    assert guard.state()["failure_count"] == 4
    fail(guard, 1)
    assert state(guard) == "open"
    assert guard.enter() is None
    picture = guard.state()
    assert picture["opened"] == 1
    assert picture["rejected"] == 1
    assert picture["retry_in"] == pytest.approx(60.0)


def test_a_success_starts_the_count_again(clock):
    guard = Guard(clock=clock)
    fail(guard, 4)
    call(guard, Guard.SUCCESS)
    fail(guard, 4)
    assert state(guard) == "closed"


def test_neutral_outcomes_do_not_count(clock):
    guard = Guard(threshold=1, clock=clock)
    for _ in range(10):
        call(guard, Guard.NEUTRAL)
    assert state(guard) == "closed"
    assert guard.state()["failure_count"] == 0


def test_after_the_timeout_one_call_is_the_probe(clock):
    guard = Guard(timeout=30.0, clock=clock)
    fail(guard, 5)
    clock.now += 29.9
    assert guard.enter() is None
    clock.now += 0.2
    ticket = guard.enter()
    assert ticket[0] == 1.0
    assert state(guard) == "half-open"
    assert guard.enter() is None
    guard.leave(ticket, Guard.SUCCESS)
    assert state(guard) == "closed"


def test_a_half_open_failure_opens_it_again(clock):
    guard = Guard(clock=clock)
    fail(guard, 5)
    clock.now += 60.1
    fail(guard, 1)
    assert state(guard) == "open"
    assert guard.state()["opened"] == 2
    clock.now += 59.0
    assert guard.enter() is None


def test_a_cancelled_probe_gives_its_place_to_the_next_call(clock):
    guard = Guard(clock=clock)
    fail(guard, 5)
    clock.now += 60.1
    call(guard, Guard.NEUTRAL)
    assert state(guard) == "half-open"
    call(guard, Guard.SUCCESS)
    assert state(guard) == "closed"


def test_success_threshold_and_half_open_requests_are_read(clock):
    guard = Guard(success_threshold=3, half_open_requests=2, clock=clock)
    fail(guard, 5)
    clock.now += 60.1
    first, second = guard.enter(), guard.enter()
    assert first and second
    assert guard.enter() is None
    guard.leave(first, Guard.SUCCESS)
    guard.leave(second, Guard.SUCCESS)
    assert state(guard) == "half-open"
    call(guard, Guard.SUCCESS)
    assert state(guard) == "closed"


def test_late_results_do_not_touch_a_newer_state(clock):
    guard = Guard(clock=clock)
    late_success, late_failure = guard.enter(), guard.enter()
    fail(guard, 5)
    guard.leave(late_success, Guard.SUCCESS)
    assert state(guard) == "open"
    clock.now += 60.1
    call(guard, Guard.SUCCESS)
    assert state(guard) == "closed"
    guard.leave(late_failure, Guard.FAILURE)
    assert guard.state()["failure_count"] == 0


def test_threads_find_exactly_one_half_open_place(clock):
    guard = Guard(threshold=1, clock=clock)
    fail(guard, 1)
    rounds, count = 30, 8
    barrier = threading.Barrier(count)
    admitted = []

    def hammer() -> None:
        for _ in range(rounds):
            if barrier.wait() == 0:
                clock.now += 60.1
            barrier.wait()
            ticket = None
            for _ in range(20):
                ticket = ticket or guard.enter()
            barrier.wait()
            if ticket:
                admitted.append(ticket)
                guard.leave(ticket, Guard.FAILURE)

    threads = [threading.Thread(target=hammer) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == rounds
    assert guard.state()["opened"] == rounds + 1


# The deadline policy


def test_five_failures_cost_less_than_two_deadlines(clock):
    allowed = fail(Guard(clock=clock), 5)
    assert allowed == [1.0, 0.5, 0.25, 0.125, 0.1]
    assert sum(allowed) < 2.0


def test_operation_timeout_is_the_full_deadline(clock):
    guard = Guard(operation_timeout=0.2, clock=clock)
    assert fail(guard, 3) == [0.2, 0.1, 0.05]


def test_a_success_restores_the_full_deadline(clock):
    guard = Guard(clock=clock)
    fail(guard, 3)
    assert call(guard, Guard.SUCCESS) == 0.125
    assert call(guard, Guard.SUCCESS) == 1.0


def test_an_answered_ping_restores_the_full_deadline(clock):
    guard = Guard(clock=clock)
    fail(guard, 3)
    guard.answered()
    assert call(guard, Guard.NEUTRAL) == 1.0


def test_an_answered_ping_makes_an_open_breaker_half_open(clock):
    guard = Guard(clock=clock)
    fail(guard, 5)
    guard.answered()
    assert state(guard) == "half-open"
    assert call(guard, Guard.SUCCESS) == 1.0
    assert state(guard) == "closed"


def test_without_a_breaker_nothing_is_refused(clock):
    guard = Guard(enabled=False, clock=clock)
    assert None not in fail(guard, 50)
    assert state(guard) == "disabled"
    assert guard.state()["rejected"] == 0


def test_without_a_breaker_the_full_deadline_returns_after_a_second(clock):
    guard = Guard(enabled=False, clock=clock)
    assert fail(guard, 5) == [1.0, 0.5, 0.25, 0.125, 0.1]
    clock.now += 0.9
    assert fail(guard, 1) == [0.1]
    clock.now += 0.2
    assert fail(guard, 2) == [1.0, 0.1]


# Reads and writes


def read(guard: Guard, outcome: int = Guard.SUCCESS) -> float | None:
    ticket = guard.enter(Guard.READ)
    if ticket is None:
        return None
    guard.leave(ticket, outcome)
    return ticket[0]


def write(guard: Guard, outcome: int) -> float | None:
    ticket = guard.enter(Guard.WRITE)
    if ticket is None:
        return None
    guard.leave(ticket, outcome)
    return ticket[0]


def skip_writes(guard: Guard) -> list[float | None]:
    """Five calls whose read is answered and whose write is not."""
    allowed = []
    for _ in range(5):
        assert read(guard) is not None
        allowed.append(write(guard, Guard.FAILURE))
    return allowed


def test_reads_that_are_answered_do_not_forgive_writes_that_hang(clock):
    guard = Guard(clock=clock)
    assert skip_writes(guard) == [1.0, 0.5, 0.25, 0.125, 0.1]
    assert [write(guard, Guard.FAILURE) for _ in range(35)] == [None] * 35
    read(guard)
    assert read(guard) == 1.0
    picture = guard.state()
    assert picture["state"] == "closed"
    assert picture["failure_count"] == 0
    assert picture["writes"] == "open"
    assert picture["writes_failure_count"] == 5
    assert picture["writes_probe_in"] == pytest.approx(0.25)
    assert picture["writes_skipped"] == 35
    assert picture["rejected"] == 0


def test_one_write_is_let_through_as_the_probe(clock):
    guard = Guard(clock=clock)
    skip_writes(guard)
    read(guard)
    clock.now += 0.3
    ticket = guard.enter(Guard.WRITE)
    assert ticket[0] == 0.1
    assert guard.enter(Guard.WRITE) is None
    assert read(guard) == 1.0
    guard.leave(ticket, Guard.FAILURE)
    assert guard.state()["writes_probe_in"] == pytest.approx(0.5)
    read(guard)
    clock.now += 0.6
    assert write(guard, Guard.SUCCESS) == 0.1
    assert guard.state()["writes"] == "closed"
    assert write(guard, Guard.SUCCESS) == 1.0


def test_a_write_that_succeeds_counts_for_both(clock):
    guard = Guard(clock=clock)
    read(guard, Guard.FAILURE)
    write(guard, Guard.FAILURE)
    assert write(guard, Guard.SUCCESS) == 0.25
    assert read(guard) == 1.0
    assert write(guard, Guard.SUCCESS) == 1.0
    assert guard.state()["failure_count"] == 0


def test_writes_alone_open_the_breaker_where_no_read_is_answered(clock):
    guard = Guard(clock=clock)
    assert [write(guard, Guard.FAILURE) for _ in range(5)] == [
        *(1.0, 0.5, 0.25, 0.125, 0.1)
    ]
    assert state(guard) == "open"
    assert guard.state()["writes"] == "closed", "the breaker decides for both"


def test_failed_writes_and_a_failed_read_open_the_breaker(clock):
    guard = Guard(clock=clock)
    read(guard)
    for _ in range(8):
        write(guard, Guard.FAILURE)
    assert state(guard) == "closed"
    assert read(guard, Guard.FAILURE) == 0.1
    assert state(guard) == "open"
    clock.now += 60.1
    assert read(guard) == 1.0
    assert write(guard, Guard.SUCCESS) == 1.0


def test_writes_that_began_together_skip_no_read(clock):
    guard = Guard(clock=clock)
    for _ in range(8):
        read(guard)
    for ticket in [guard.enter(Guard.WRITE) for _ in range(8)]:
        guard.leave(ticket, Guard.FAILURE)
    assert state(guard) == "closed"
    assert guard.state()["writes"] == "open"
    assert read(guard) == 0.1
    assert read(guard) == 1.0


def test_an_answered_ping_does_not_let_writes_through(clock):
    guard = Guard(clock=clock)
    skip_writes(guard)
    guard.answered()
    assert read(guard) == 1.0
    assert guard.enter(Guard.WRITE) is None


def test_the_only_place_of_a_half_open_breaker_is_good_for_a_write(clock):
    guard = Guard(clock=clock)
    for _ in range(5):
        write(guard, Guard.FAILURE)
    clock.now += 60.1
    assert write(guard, Guard.SUCCESS) == 1.0
    assert state(guard) == "closed"


def test_without_a_breaker_writes_are_not_skipped(clock):
    guard = Guard(enabled=False, clock=clock)
    assert skip_writes(guard) == [1.0, 0.5, 0.25, 0.125, 0.1]
    assert [write(guard, Guard.FAILURE) for _ in range(20)] == [0.1] * 20
    clock.now += 1.1
    read(guard)
    assert write(guard, Guard.FAILURE) == 1.0
    assert guard.state()["writes"] == "disabled"


def test_on_writes_hears_each_change(clock):
    heard, other = [], []
    guard = Guard(
        clock=clock,
        on_change=lambda *change: other.append(change),
        on_writes=lambda *change: heard.append(change),
    )
    skip_writes(guard)
    clock.now += 0.3
    write(guard, Guard.SUCCESS)
    assert heard == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
    assert other == []


def test_enter_judges_its_kind(clock):
    guard = Guard(clock=clock)
    with pytest.raises(ValueError, match=r"Guard\.READ"):
        guard.enter(2)
    with pytest.raises(TypeError):
        guard.enter("x")
    with pytest.raises(TypeError):
        guard.enter(0, 0)


# The probe


def open_guard(clock: Clock | None = None, **options) -> Guard:
    guard = Guard(**{"threshold": 1, "probe_bytes": PING, "clock": clock, **options})
    fail(guard, 1)
    assert state(guard) == "open"
    return guard


def call_until(guard: Guard, wanted: str, seconds: float) -> float:
    """Make calls, as a user would, until the state is there; the longest enter()."""
    deadline = time.monotonic() + seconds
    longest = 0.0
    while True:
        begin = time.perf_counter()
        ticket = guard.enter()
        longest = max(longest, time.perf_counter() - begin)
        if ticket is not None:
            guard.leave(ticket, Guard.NEUTRAL)
        if state(guard) == wanted:
            return longest
        assert time.monotonic() < deadline, guard.state()
        time.sleep(0.005)


def test_a_restarted_server_is_found_without_waiting():
    with servers.RedisServer() as redis:
        redis.kill()
        guard = open_guard(host=redis.host, port=redis.port)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert guard.enter() is None
            time.sleep(0.005)
        assert 1 <= guard.state()["probes"] <= 2
        redis.restart()
        longest = call_until(guard, "half-open", 6.0)
        assert longest < 0.2
        assert call(guard, Guard.SUCCESS) == 1.0
        assert state(guard) == "closed"


def test_a_long_outage_is_over_within_six_seconds_of_the_return(clock):
    with servers.RedisServer() as redis:
        redis.kill()
        guard = open_guard(clock, timeout=1e6, host=redis.host, port=redis.port)
        for _ in range(400):
            clock.now += 0.25
            guard.enter()
        assert guard.state()["probe_in"] <= 5.0
        assert 15 <= guard.state()["probes"] <= 30
        redis.restart()
        back = clock.now
        for _ in range(2000):
            clock.now += 0.01
            if guard.enter() is not None:
                break
            time.sleep(0.0005)
        assert clock.now - back < 6.0


def test_a_unix_socket_is_probed():
    with servers.RedisServer(unixsocket=True) as redis:
        guard = open_guard(path=redis.socket_path, probe_bytes=None)
        call_until(guard, "half-open", 6.0)


def test_a_name_is_resolved_for_the_probe():
    with servers.RedisServer() as redis:
        guard = open_guard(host="localhost", port=redis.port)
        call_until(guard, "half-open", 6.0)


def test_a_password_is_sent_by_the_probe():
    with servers.RedisServer(password="xyz") as redis:
        wrong = open_guard(host=redis.host, port=redis.port)
        auth = b"*2\r\n$4\r\nAUTH\r\n$3\r\nxyz\r\n"
        right = open_guard(host=redis.host, port=redis.port, probe_bytes=auth + PING)
        call_until(right, "half-open", 6.0)
        assert wrong.enter() is None
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert wrong.enter() is None
            time.sleep(0.005)
        assert wrong.state()["probes"] >= 1
        assert "xyz" not in repr(right)


def test_a_silent_server_is_not_taken_for_alive():
    with servers.RedisServer() as redis:
        redis.stop()
        guard = open_guard(host=redis.host, port=redis.port)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert guard.enter() is None
            time.sleep(0.005)
        redis.cont()
        call_until(guard, "half-open", 6.0)


def test_with_no_bytes_to_send_a_connection_is_enough(clock):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        guard = open_guard(clock, host="127.0.0.1", port=port, probe_bytes=b"")
        for _ in range(100):
            clock.now += 0.25
            if guard.enter() is not None:
                return
        pytest.fail("not found")


def test_no_descriptor_is_left_behind(clock):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        before = descriptors()
        guard = open_guard(clock, host="127.0.0.1", port=port)
        clock.now += 0.3
        guard.enter()
        assert descriptors() == before + 1
        clock.now += 60.0
        assert guard.enter() is not None  # the timeout: nobody looks at the probe now
        assert descriptors() == before
        guard = open_guard(clock, host="127.0.0.1", port=port)
        clock.now += 0.3
        guard.enter()
        del guard
        assert descriptors() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_drops_the_probe_and_the_slot(clock):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        probing = open_guard(clock, host="127.0.0.1", port=port)
        clock.now += 0.3
        probing.enter()
        busy = Guard(threshold=1, clock=clock)
        fail(busy, 1)
        clock.now += 60.1
        ticket = busy.enter()
        clock.now -= 59.0
        before = descriptors()
        child = os.fork()
        if child == 0:
            probing.state()
            good = descriptors() == before - 1
            busy.leave(ticket, Guard.FAILURE)
            good = good and state(busy) == "half-open" and busy.enter() is not None
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert busy.enter() is None


# What it tells


def test_on_change_hears_each_change(clock):
    heard = []
    guard = Guard(clock=clock, on_change=lambda old, new: heard.append((old, new)))
    fail(guard, 5)
    guard.enter()
    clock.now += 60.1
    fail(guard, 1)
    clock.now += 60.1
    call(guard, Guard.SUCCESS)
    assert heard == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]


def test_on_change_may_use_the_guard(clock):
    seen = []

    def on_change(old: str, new: str) -> None:
        seen.append((guard.state()["state"], guard.enter()))

    guard = Guard(threshold=1, clock=clock, on_change=on_change)
    fail(guard, 1)
    assert seen == [("open", None)]


def test_an_exception_in_on_change_reaches_no_caller(clock, monkeypatch):
    caught = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda args: caught.append(args.exc_value)
    )
    error = RuntimeError("no")

    def on_change(old: str, new: str) -> None:
        raise error

    guard = Guard(threshold=1, clock=clock, on_change=on_change)
    assert fail(guard, 1) == [1.0]
    assert caught == [error]
    assert guard.enter() is None


def test_the_picture_counts(clock):
    guard = Guard(clock=clock)
    call(guard, Guard.SUCCESS)
    fail(guard, 5)
    for _ in range(3):
        guard.enter()
    clock.now += 10.0
    assert guard.state() == {
        "state": "open",
        "failure_count": 5,
        "retry_in": pytest.approx(50.0),
        "probe_in": None,
        "seconds": pytest.approx(10.0),
        "in_flight": 0,
        "successes": 1,
        "failures": 5,
        "rejected": 3,
        "opened": 1,
        "probes": 0,
        "writes": "closed",
        "writes_failure_count": 0,
        "writes_probe_in": None,
        "writes_skipped": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"threshold": 0}, ValueError, "threshold must be an integer of at least 1"),
        ({"success_threshold": -1}, ValueError, "success_threshold must be"),
        ({"half_open_requests": 0}, ValueError, "half_open_requests must be"),
        ({"timeout": 0.0}, ValueError, "timeout must be a number of seconds"),
        ({"timeout": float("nan")}, ValueError, "timeout must be"),
        ({"operation_timeout": float("inf")}, ValueError, "operation_timeout must be"),
        ({"operation_timeout": -1.0}, ValueError, "operation_timeout must be"),
        ({"host": "127.0.0.1"}, ValueError, "port must be 1 to 65535, not 0"),
        ({"host": "x", "port": 65536}, ValueError, "port must be 1 to 65535"),
        ({"path": "/" + "x" * 300}, ValueError, "unix socket path"),
        ({"path": ""}, ValueError, "unix socket path"),
        ({"on_change": 3}, TypeError, "on_change must be callable or None, not int"),
        ({"on_writes": 3}, TypeError, "on_writes must be callable or None, not int"),
        ({"clock": 3}, TypeError, "clock must be callable or None"),
        (
            {"probe_bytes": "PING"},
            TypeError,
            "probe_bytes must be bytes or None, not str",
        ),
        ({"host": 3, "port": 1}, TypeError, "host must be a str or None, not int"),
        ({"host": "a\0b", "port": 1}, ValueError, "null"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Guard(**arguments)


def test_leave_judges_its_arguments(clock):
    guard = Guard(clock=clock)
    ticket = guard.enter()
    with pytest.raises(ValueError, match=r"Guard\.SUCCESS"):
        guard.leave(ticket, 3)
    with pytest.raises(TypeError):
        guard.leave(ticket)
    with pytest.raises(TypeError):
        guard.leave("x", 0)
    for wrong in (7, (), (1.0,), (1.0, 2), (1.0, 2, 3, 4), (1.0, "x", 0)):
        with pytest.raises(TypeError):
            guard.leave(wrong, 0)
    with pytest.raises(OverflowError):
        guard.leave((1.0, -1, 0), 0)
    with pytest.raises(OverflowError):
        guard.leave((1.0, 1, -1), 0)


def test_an_int_clock_and_a_failing_clock_are_survived(monkeypatch):
    caught = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: caught.append(args.exc_type))
    guard = Guard(threshold=1, clock=lambda: 7)
    fail(guard, 1)
    assert guard.state()["retry_in"] == 60.0
    guard = Guard(threshold=1, clock=lambda: None)
    fail(guard, 1)
    assert guard.enter() is None
    assert set(caught) == {TypeError}


def test_cycles_through_on_change_are_collected():
    class Owner:
        def changed(self, old: str, new: str) -> None: ...

    owner = Owner()
    owner.guard = Guard(on_change=owner.changed)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


@pytest.mark.no_sanitizer
def test_refusing_costs_little():
    guard = Guard(threshold=1, host="127.0.0.1", port=9, probe_bytes=PING)
    fail(guard, 1)
    rounds = 20_000
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(rounds):
            guard.enter()
        best = min(best, time.perf_counter() - begin)
    assert best / rounds < 1e-6
