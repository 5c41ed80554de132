"""Locks that are ours: renewed while they are, released without a wait."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import RedisServer
from together import MAX, in_threads, wait_until

from cachekit import CacheConfig, _locks, _logging
from cachekit._errors import BackendTimeout, BackendUnavailable
from cachekit._locks import Held, Keeper, pause_before
from cachekit._store import SharedStore
from cachekit.backends import RedisBackend
from cachekit.backends._protocol import Claim, Release

# -- looking again --------------------------------------------------------------------


@pytest.mark.parametrize(
    "elapsed, longest",
    [(0, 0.005), (0.04, 0.005), (0.08, 0.01), (0.8, 0.1), (2, 0.25), (60, 0.25)],
)
def test_the_pause_grows_with_the_wait(elapsed: float, longest: float) -> None:
    assert pause_before(elapsed, lambda: 1.0) == pytest.approx(longest)
    assert pause_before(elapsed, lambda: 0.0) == pytest.approx(longest / 2)


@given(st.floats(0, 1e6))
def test_the_pause_is_bounded(elapsed: float) -> None:
    assert 0.0025 <= pause_before(elapsed) <= 0.25


def test_those_who_wait_do_not_look_at_once() -> None:
    assert len({pause_before(1.0) for _ in range(100)}) > 50


# -- what is done, without a thread ---------------------------------------------------


class Store:
    """A store that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.ours: Any = True

    def use(self, method: str, *args: Any) -> Any:
        self.asked.append((method, *args))
        if isinstance(self.ours, BaseException):
            raise self.ours
        return self.ours

    def heard(self) -> list[tuple[Any, ...]]:
        asked, self.asked = self.asked, []
        return asked


class Setup:
    """A keeper whose time and thread are the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.started: list[Callable[[], None]] = []
        self.keeper = Keeper(lambda: self.now, self.started.append)
        self.store = Store()

    def hold(self, key: str = "key", lock_ms: int = 3000) -> Held:
        return self.keeper.hold(self.store, key, "token", lock_ms, "channel", b"wake")

    def pass_time(self, seconds: float) -> float | None:
        self.now += seconds
        return self.keeper.step()


@pytest.fixture
def setup() -> Setup:
    return Setup()


RENEWAL = ("renew", "key", "token", 3000)
RELEASE = ("release", Release("key", "token", "channel", b"wake"))


def test_a_lock_is_renewed_every_third_of_its_life(setup: Setup) -> None:
    setup.hold()
    assert len(setup.started) == 1
    assert setup.pass_time(0) == pytest.approx(1.0)
    assert setup.pass_time(0.9) == pytest.approx(0.1)
    assert setup.store.heard() == []
    for _ in range(5):
        assert setup.pass_time(1.0) == pytest.approx(1.0, abs=0.2)
        assert setup.store.heard() == [RENEWAL]


def test_locks_are_renewed_each_in_its_time(setup: Setup) -> None:
    setup.hold("slow", 30_000)
    setup.hold("fast", 3000)
    setup.pass_time(1.0)
    assert [key for _, key, *_ in setup.store.heard()] == ["fast"]
    setup.pass_time(9.0)
    assert sorted(key for _, key, *_ in setup.store.heard()) == ["fast", "slow"]


def test_one_that_is_no_longer_ours_is_left_alone(setup: Setup) -> None:
    held = setup.hold()
    setup.store.ours = False
    setup.pass_time(1.0)
    assert setup.store.heard() == [RENEWAL]
    assert setup.pass_time(5.0) is None
    held.release()
    setup.keeper.step()
    assert setup.store.heard() == []


def test_one_that_the_fill_released_is_left_alone(setup: Setup) -> None:
    held = setup.hold()
    held.done()
    held.done()
    assert setup.pass_time(0) is None
    held.release()
    assert setup.pass_time(5.0) is None
    assert setup.store.heard() == []


def test_a_release_is_sent_once_and_ends_the_renewals(setup: Setup) -> None:
    held = setup.hold()
    held.release()
    held.release()
    held.done()
    assert setup.pass_time(0) is None
    assert setup.store.heard() == [RELEASE]
    assert setup.pass_time(5.0) is None
    assert setup.store.heard() == []


@pytest.mark.parametrize(
    "error, said",
    [
        (BackendTimeout(), 0),
        (BackendUnavailable(), 0),
        (AttributeError(), 2),
        (SystemExit(), 2),
    ],
)
def test_failures_are_tried_again_and_those_of_the_store_are_silent(
    setup: Setup,
    error: BaseException,
    said: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_logging, "_DEFAULT", _logging.Log())
    held = setup.hold()
    setup.store.ours = error
    assert setup.pass_time(1.0) == pytest.approx(1.0)
    setup.pass_time(1.0)
    assert setup.store.heard() == [RENEWAL, RENEWAL]
    held.release()
    setup.keeper.step()
    assert setup.store.heard() == [RELEASE]
    assert len(caplog.records) == said  # once for each operation


def test_releases_come_before_renewals(setup: Setup) -> None:
    setup.hold("one"), setup.hold("two")
    last = setup.hold()
    last.release()
    setup.pass_time(1.0)
    assert [method for method, *_ in setup.store.heard()] == [
        "release",
        "renew",
        "renew",
    ]


def test_a_lock_that_has_ended_keeps_nothing(setup: Setup) -> None:
    setup.hold().done()
    gone = weakref.ref(setup.store)
    setup.store = Store()
    gc.collect()
    assert gone() is None


def test_a_lock_of_the_parent_is_not_released_by_a_child(setup: Setup) -> None:
    held = setup.hold()
    setup.keeper._renew()  # as in a child
    held.release()
    assert setup.pass_time(5.0) is None
    assert setup.store.heard() == []


def test_where_no_thread_can_start_the_lock_expires(setup: Setup) -> None:
    def refuse(target: Any) -> None:
        raise RuntimeError("can't start new thread")

    keeper = Keeper(lambda: setup.now, refuse)
    keeper.hold(setup.store, "key", "token", 3000).release()
    assert not keeper._running
    keeper._start = setup.started.append
    keeper.hold(setup.store, "key", "token", 3000)
    assert keeper._running


def test_after_the_end_nothing_is_started(setup: Setup) -> None:
    setup.keeper.close()
    held = setup.hold()
    held.release()
    assert setup.started == []


# -- with a thread --------------------------------------------------------------------


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(_locks, "IDLE", 0.02)
    keeper = Keeper()
    yield keeper
    keeper.close()


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "cachekit-locks"]


def test_a_thread_renews_releases_and_ends_when_idle(keeper: Keeper) -> None:
    for _ in range(2):
        store = Store()
        held = keeper.hold(store, "key", "token", 15, "channel", b"wake")
        asked = store.asked
        wait_until(lambda asked=asked: len(asked) >= 3)
        assert all(thread.daemon for thread in threads())
        held.release()
        wait_until(lambda asked=asked: asked[-1] == RELEASE)
        wait_until(lambda: not keeper._running)
        wait_until(lambda: not threads())
        assert asked.count(RELEASE) == 1
        assert set(asked[:-1]) == {("renew", "key", "token", 15)}


def test_a_release_does_not_wait_for_a_store_that_hangs(keeper: Keeper) -> None:
    go = threading.Event()
    store = Store()
    store.use = lambda *args: go.wait(MAX)  # type: ignore[method-assign]
    began = time.monotonic()
    for number in range(100):
        keeper.hold(store, f"key{number}", "token", 5000).release()
    assert time.monotonic() - began < MAX / 2
    assert len(threads()) == 1
    go.set()


def test_many_threads_hold_and_release(keeper: Keeper) -> None:
    store = Store()

    def work() -> None:
        for number in range(200):
            held = keeper.hold(store, str(number), "token", 5000)
            held.done() if number % 2 else held.release()

    assert in_threads(8, work) == [None] * 8
    wait_until(lambda: len(store.asked) == 800)
    wait_until(lambda: not keeper._running)
    assert not keeper._due


def test_a_lock_in_a_real_store_outlives_its_lifetime_and_is_released(
    keeper: Keeper, redis_server: RedisServer
) -> None:
    store = SharedStore(RedisBackend(redis_server.url), CacheConfig())
    claimed = store.use("claim", Claim("test:load:1", lock_ms=150))
    place = "{test:load:1}:l"
    with redis_server.client() as client:
        held = keeper.hold(store, "test:load:1", claimed.lock, 150, "channel", b"wake")
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert client.call("GET", place) == claimed.lock.encode()
            time.sleep(0.01)
        held.release()
        wait_until(lambda: client.call("EXISTS", place) == 0)
    store.close()


def test_exit_sends_what_waits_and_does_not_wait_long() -> None:
    code = """if True:
        import sys, time
        from cachekit._locks import hold
        class Store:
            def use(self, method, *args):
                if args[0] == "hangs":
                    time.sleep(60)
                print(method, flush=True)
        if sys.argv[1] == "hangs":
            hold(Store(), "hangs", "token", 30)
            time.sleep(0.05)
        hold(Store(), "key", "token", 5000).release()
    """
    for mode, output in (("works", "release\n"), ("hangs", "")):
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-c", code, mode], capture_output=True, text=True
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, output, "")
        assert time.monotonic() - began < MAX


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_locks_of_its_own() -> None:
    store = Store()
    held = _locks.hold(store, "key", "token", 60_000, "channel", b"wake")
    wait_until(threads)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(8)
            held.release()
            assert store.asked == [] and not threads()
            _locks.hold(store, "mine", "token", 15)
            wait_until(lambda: store.asked)
            assert store.asked[0] == ("renew", "mine", "token", 15)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    held.release()
    wait_until(lambda: store.asked == [RELEASE])
