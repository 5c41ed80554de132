"""Forks, spawned processes, loops, interpreters and signals, with a real store."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from driver import Driver, each_driver
from processes import MAX, Child, Shared, forked
from proxy import Proxy
from servers import RedisServer
from together import background, followed_by, wait_until

from cachekit import Cache, CacheConfig, Invalidation

driver = each_driver

ISOLATED = Path(__file__).parent / "isolated"
HEARD = 7.0  # seconds until an invalidation has arrived everywhere
AT_ONCE = 0.2  # seconds in which Ctrl-C must have an effect

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def shared(redis_server: RedisServer) -> Iterator[Shared]:
    shared = Shared(redis_server.url)
    yield shared
    shared.close()


# A server that loads the application, then forks its workers


def test_workers_forked_from_a_warm_process_find_what_it_made(shared):
    shared.read(range(20))

    def work() -> tuple[list[int], int]:
        return shared.read(range(20)), shared.runs

    children = [Child(work) for _ in range(4)]
    for made_by, runs in [child.result() for child in children]:
        assert set(made_by) == {os.getpid()}
        assert runs == 40, "what the parent ran, and nothing more"


def test_the_parent_finds_what_its_workers_made(shared):
    shared.read([0])

    def work(first: int) -> int:
        shared.read(range(first, first + 5))
        return os.getpid()

    children = [Child(lambda first=first: work(first)) for first in (10, 20, 30)]
    pids = [child.result() for child in children]
    for first, pid in zip((10, 20, 30), pids, strict=True):
        assert set(shared.read(range(first, first + 5))) == {pid}
    assert shared.runs == 2


def test_a_worker_forked_from_a_worker_finds_all_of_it(shared):
    shared.read([0])

    def grandchild() -> tuple[list[int], int]:
        return shared.read([0, 1]), shared.runs

    def child() -> Any:
        shared.read([1])
        return os.getpid(), forked(grandchild)

    pid, (made_by, runs) = forked(child)
    assert made_by == [os.getpid(), pid, os.getpid(), pid]
    assert runs == 4


def test_what_a_worker_invalidates_is_gone_in_all(shared):
    shared.read(range(3))
    together = [Child(lambda: _until_not(shared, os.getppid())) for _ in range(3)]
    try:
        assert forked(lambda: shared.blocking.invalidate(1)) is Invalidation.DELIVERED
        maker = _until_not(shared, os.getpid())
    finally:
        makers = {child.result() for child in together}
    assert None not in makers | {maker}


def _until_not(shared: Shared, former: int) -> int | None:
    """Who made the value of 1 when that is no longer `former`."""
    deadline = time.monotonic() + HEARD
    while time.monotonic() < deadline:
        made_by = shared.blocking(1)["made by"]
        if made_by != former:
            return made_by
        time.sleep(0.005)
    return None


def test_a_worker_does_not_serve_what_was_invalidated_before_it_asked(shared):
    """Its copy of the parent's memory heard nothing while it was forked."""
    shared.read([1])
    go_reading, go_writing = os.pipe()

    def work() -> int:
        os.read(go_reading, 1)
        return shared.blocking(1)["made by"]

    child = Child(work)
    assert shared.blocking.invalidate(1) is Invalidation.DELIVERED
    os.write(go_writing, b"!")
    assert child.result() == child.pid
    os.close(go_reading), os.close(go_writing)


def test_forking_leaves_no_descriptors_or_connections_behind(shared, redis_server):
    shared.read(range(3))

    def open_now() -> tuple[int, int]:
        clients = redis_server.call("CLIENT", "LIST").decode().splitlines()
        return len(os.listdir("/proc/self/fd")), len(clients)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    before = open_now()
    for _ in range(5):
        forked(lambda: shared.read(range(5)))
    deadline = time.monotonic() + MAX
    while open_now() != before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server notices
    assert open_now() == before


def test_a_worker_starts_with_its_parent_in_the_middle_of_calls(shared):
    """Threads of the parent are in the store at the moment of each fork."""
    over = threading.Event()
    wrong: list[Any] = []

    def call(offset: int) -> None:
        n = offset
        while not over.is_set():
            n += 1
            value = shared.blocking(n)
            if value["n"] != n:
                wrong.append((n, value))

    threads = [threading.Thread(target=call, args=(k * 10**6,)) for k in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            children = [Child(lambda: shared.read(range(20))) for _ in range(2)]
            for child in children:
                child.result()
    finally:
        over.set()
        for thread in threads:
            thread.join(MAX)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


# multiprocessing


@pytest.fixture
def inherited(shared: Shared) -> Iterator[Shared]:
    processes.inherited = shared
    yield shared
    processes.inherited = None


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_of_multiprocessing_share_both_ways(method, inherited, redis_server):
    inherited.read(range(5))
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(
        target=processes.child_of_multiprocessing, args=(redis_server.url, theirs)
    )
    child.start()
    theirs.close()
    assert ours.poll(MAX)
    pid, made_by, runs = ours.recv()
    child.join(MAX)
    assert child.exitcode == 0
    child.close()
    ours.close()
    assert set(made_by) == {os.getpid()}
    assert runs == 0
    assert set(inherited.read(range(5, 10))) == {pid}
    assert inherited.runs == 10


# Loops


def test_a_new_loop_takes_over_from_a_closed_one(shared, redis_server):
    def clients() -> int:
        return len(redis_server.call("CLIENT", "LIST").decode().splitlines())

    shared.read([1])
    before = clients()
    for _ in range(10):
        assert shared.read([1]) == [os.getpid(), os.getpid()]
    deadline = time.monotonic() + MAX
    while clients() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert clients() <= before
    assert shared.runs == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_may_close_in_the_middle_of_reads(proxy):
    """Whatever the next loop is told, it is about its own questions."""
    shared = Shared(proxy.url, l1_enabled=False)
    shared.read(range(20))
    proxy.delay(0.02)

    async def leave(first: int) -> None:
        tasks = [asyncio.ensure_future(shared.coroutine(first + n)) for n in range(10)]
        await asyncio.wait(tasks, timeout=0.005)

    for first in range(10):
        asyncio.run(leave(first))
        values = asyncio.run(shared._read(list(range(20))))
        assert [value["n"] for value in values] == list(range(20))
    shared.close()
    gc.collect()  # asyncio complains about connections that nobody closed


# The end of an interpreter


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("idle", 2.0),
        ("background_refresh", 3.0),
        ("blocked_read", 3.0),
        ("blocked_refresh", 8.0),  # it is waited for, 5 seconds
        ("held_lock", 3.0),
        ("loop_left_open", 2.0),
    ],
)
def test_the_interpreter_ends_whatever_goes_on_with_the_store(own_redis, what, seconds):
    program = [str(ISOLATED / "leaves.py"), own_redis.url, what, str(own_redis.pid)]
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", *program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    took = time.monotonic() - began
    own_redis.cont()
    assert (result.returncode, result.stderr) == (0, "")
    assert took < seconds + 2.0 * ("CACHEKIT_SANITIZED" in os.environ)


has_interpreters = pytest.mark.skipif(
    importlib.util.find_spec(
        "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    )
    is None,
    reason="no further interpreters",
)


@has_interpreters
def test_further_interpreters_share_the_store(redis_server):
    result = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            str(ISOLATED / "interpreters_store.py"),
            redis_server.url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")


# Ctrl-C


class Interrupt:
    """SIGINT once `ready()` holds, from another thread; `after` is how long it took to
    have an effect."""

    def __init__(self, ready: Callable[[], Any] = lambda: True) -> None:
        self._ready = ready
        self.sent = 0.0
        self.after = 0.0

    def _send(self) -> None:
        wait_until(self._ready)
        time.sleep(0.05)  # so that the caller waits in the system
        self.sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self) -> Interrupt:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.after = time.monotonic() - self.sent
        self._thread.join()


def quickly(call: Callable[[], Any], ready: Callable[[], Any] = lambda: True) -> None:
    """Ctrl-C ends the call, and does so at once."""
    with Interrupt(ready) as interrupt:
        with pytest.raises(KeyboardInterrupt):
            call()
    assert interrupt.after < AT_ONCE


def give_up(driver: Driver) -> None:
    """What asyncio.run does after Ctrl-C: nothing that was begun goes on."""
    if driver.is_async:
        tasks = asyncio.all_tasks(driver.loop)
        for task in tasks:
            task.cancel()
        driver.finish(asyncio.gather(*tasks, return_exceptions=True))


def test_ctrl_c_ends_a_read(driver, own_redis):
    work = driver.work(driver.cache(own_redis.url, socket_timeout=20), l1_enabled=False)
    work(1)
    own_redis.stop()
    quickly(lambda: work(2))
    own_redis.cont()
    assert work(2) == {"n": 2, "run": 2}
    assert work(1) == {"n": 1, "run": 1}
    assert work.info.errors == 0


def test_ctrl_c_ends_a_fill(driver, proxy):
    work = driver.work(driver.cache(proxy.url, socket_timeout=20), l1_enabled=False)
    work(0)
    began = threading.Event()

    def freeze() -> None:
        proxy.hold()
        began.set()

    work.before = freeze
    quickly(lambda: work(1), began.is_set)
    proxy.heal()
    work.before = None
    assert work(1)["n"] == 1
    assert work(0) == {"n": 0, "run": 1}


def test_ctrl_c_ends_the_function_and_nothing_else(driver, redis_server):
    work = driver.work(driver.cache(redis_server.url, socket_timeout=20))
    began = threading.Event()

    def wait() -> None:
        began.set()
        time.sleep(MAX)

    work.before = wait
    quickly(lambda: work(1), began.is_set)
    work.before = None
    assert work(1) == {"n": 1, "run": 2}
    assert work(1) == {"n": 1, "run": 2}


@pytest.mark.parametrize("store", [False, True], ids=["memory", "store"])
def test_ctrl_c_ends_a_followers_wait(redis_server, store):
    driver = Driver()
    work = driver.work(driver.cache(redis_server.url if store else None), ttl=60)
    began, go = threading.Event(), threading.Event()
    followed: list[Callable[[], bool]] = []

    def wait() -> None:
        followed.append(followed_by(1))
        began.set()
        assert go.wait(MAX)

    work.before = wait
    with background(lambda: work(1)) as leader:
        wait_until(began.is_set)
        quickly(lambda: work(1), lambda: followed[0]())
        go.set()
        assert leader.result(MAX) == {"n": 1, "run": 1}
    assert work(1) == {"n": 1, "run": 1}
    driver.close()


def test_ctrl_c_ends_an_invalidation_which_is_not_lost(driver, own_redis):
    work = driver.work(driver.cache(own_redis.url, socket_timeout=20))
    work(1)
    own_redis.stop()
    quickly(lambda: work.invalidate(1))
    give_up(driver)
    own_redis.cont()
    assert work(1) == {"n": 1, "run": 2}


def test_ctrl_c_leaves_no_lock_that_others_wait_for(driver, redis_server):
    """Ten times, on ten keys; afterwards callers are served at once."""
    work = driver.work(driver.cache(redis_server.url, socket_timeout=20))
    began = threading.Event()

    def wait() -> None:
        began.set()
        time.sleep(MAX)

    for n in range(10):
        began.clear()
        work.before = wait
        quickly(lambda n=n: work(n), began.is_set)
    work.before = None
    start = time.monotonic()
    assert [work(n)["n"] for n in range(10)] == list(range(10))
    assert time.monotonic() - start < 1.0


# Whose reply it is


class Tagged:
    """Functions without memory whose values name their key; on a bad line."""

    KEYS = 40

    def __init__(self, url: str) -> None:
        config = CacheConfig(
            namespace="tagged", socket_timeout=0.05, enable_circuit_breaker=False
        )
        self.cache = Cache(config, backend=url)
        self.wrong: list[Any] = []
        self.calls = 0

        @self.cache(name="tagged", l1_enabled=False, ttl=600)
        def blocking(n: int) -> list[str]:
            return self.value(n)

        @self.cache(name="tagged_async", l1_enabled=False, ttl=600)
        async def coroutine(n: int) -> list[str]:
            await asyncio.sleep(0)
            return self.value(n)

        self.blocking = blocking
        self.coroutine = coroutine

    @staticmethod
    def value(n: int) -> list[str]:
        """Of very different sizes, so that replies break at many places."""
        return [f"key {n}"] * (1 if n % 3 else 50 * n)

    def check(self, n: int, value: Any) -> None:
        self.calls += 1
        if value != self.value(n):
            self.wrong.append((n, value[:2]))

    def hits(self) -> int:
        infos = (self.blocking.cache_info(), self.coroutine.cache_info())
        return sum(info.l2_hits for info in infos)

    def hammer(self, seed: Any, until: float) -> None:
        """With threads' calls: those that take too long are given up."""
        chance = random.Random(f"{seed}")
        while time.monotonic() < until:
            n = chance.randrange(self.KEYS)
            self.check(n, self.blocking(n))

    async def hammer_async(self, seed: Any, until: float) -> None:
        """With tasks that are cancelled at any moment."""
        chance = random.Random(f"{seed}")
        while time.monotonic() < until:
            n = chance.randrange(self.KEYS)
            seconds = chance.choice((0.0, 0.0005, 0.002, 0.01, 0.1))
            with contextlib.suppress(asyncio.TimeoutError):
                self.check(n, await asyncio.wait_for(self.coroutine(n), seconds))

    def tasks(self, seed: Any, until: float) -> None:
        async def main() -> None:
            await asyncio.gather(
                *[self.hammer_async(f"{seed}/{k}", until) for k in range(20)]
            )
            await self.cache.aclose()

        asyncio.run(main())


class Jitter:
    """A line that is sometimes slow, sometimes too slow, and sometimes cut."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        chance = random.Random("jitter")
        while not self._over.wait(0.01):
            turn = chance.randrange(10)
            if turn < 2:
                self.proxy.delay(chance.choice((0.001, 0.01, 0.1)))
            elif turn < 4:
                self.proxy.trickle(chance.choice((7, 100, 1000)), 0.001)
            elif turn < 5:
                self.proxy.reset()
            else:
                self.proxy.heal()

    def __enter__(self) -> Jitter:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self.proxy.heal()


@pytest.fixture
def tagged(proxy: Proxy) -> Iterator[Tagged]:
    tagged = Tagged(proxy.url)
    tagged.cache.config
    for n in range(Tagged.KEYS):
        tagged.blocking(n)
    yield tagged
    tagged.cache.close()


def test_no_reply_is_crossed_by_timeouts_and_cancellations(tagged, proxy):
    until = time.monotonic() + 1.5
    with Jitter(proxy):
        threads = [
            threading.Thread(target=tagged.hammer, args=(k, until)) for k in range(4)
        ]
        threads.append(threading.Thread(target=tagged.tasks, args=("tasks", until)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(MAX)
    assert not any(thread.is_alive() for thread in threads)
    assert tagged.wrong == []
    assert tagged.calls > 50
    assert tagged.hits() > 20


def test_no_reply_is_crossed_by_forks(tagged, proxy):
    until = time.monotonic() + 1.5

    def child(seed: int) -> tuple[list[Any], int]:
        tagged.calls = 0
        end = time.monotonic() + 0.3
        tasks = threading.Thread(target=tagged.tasks, args=(seed, end))
        tasks.start()
        tagged.hammer(f"child {seed}", end)
        tasks.join(MAX)
        return tagged.wrong, tagged.calls

    with Jitter(proxy):
        threads = [
            threading.Thread(target=tagged.hammer, args=(k, until)) for k in range(3)
        ]
        threads.append(threading.Thread(target=tagged.tasks, args=("tasks", until)))
        for thread in threads:
            thread.start()
        seed, results = 0, []
        while time.monotonic() < until:
            pair = [Child(lambda k=seed + k: child(k)) for k in range(2)]
            seed += 2
            results += [one.result() for one in pair]
        for thread in threads:
            thread.join(MAX)
    assert tagged.wrong == []
    assert [wrong for wrong, _ in results if wrong] == []
    assert all(calls > 0 for _, calls in results)
    assert tagged.hits() > 20
