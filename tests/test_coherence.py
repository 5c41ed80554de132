"""What a process hears of others, and what it makes of its memory."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from together import MAX, background, in_threads

from cachekit import _coherence, _logging
from cachekit._coherence import LOST, REFUSED, STANDING, Coherence
from cachekit._messages import entry_message, version_message, wake_message
from cachekit._versions import function_id, function_key, namespace_key, tag_key

CHANNEL = "shop:invalidate"
ELSEWHERE = b"elsewher"
TRACKED = b"__redis__:invalidate"


class Function:
    """A cached function that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def _forget(self, key: bytes) -> None:
        self.told.append(("forget", key))

    def _expire(self) -> None:
        self.told.append("expire")

    def _distrust(self) -> None:
        self.told.append("distrust")

    def _expire_tag(self, slot: int, name: str) -> None:
        self.told.append(("expire_tag", slot, name))

    def heard(self) -> list[Any]:
        told, self.told = self.told, []
        return told


class Subscriber:
    """A subscriber whose state the test decides."""

    def __init__(self, on_messages: Any, on_state: Any, on_answer: Any) -> None:
        self.on_messages, self.on_state = on_messages, on_state
        self.state = LOST
        self.channels: list[str] = []
        self.prefixes: list[str] = []
        self.starts = self.stops = 0
        self.waits: list[float] = []
        self.deaf: set[str] = set()
        self.on_wait: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    def subscribe(self, channels: Any) -> None:
        self.channels += channels

    def track(self, prefixes: Any) -> None:
        self.prefixes += prefixes

    def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.starts += 1

    def stop(self, timeout: float) -> None:
        self.stops += 1
        self.becomes(LOST)

    def wait(self, seconds: float) -> int:
        self.waits.append(seconds)
        self.on_wait()
        return self.state

    def confirmed(self, channel: str) -> bool:
        return self.state == STANDING and channel not in self.deaf

    def becomes(self, state: int) -> None:
        self.state = state
        self.on_state(state)


class Setup:
    """A coherence with its subscriber; the subscription stands at once by default."""

    def __init__(self, first: int | None = STANDING) -> None:
        self.subscribers: list[Subscriber] = []
        self.first = first
        self.coherence = Coherence("redis://test", self._make)

    def _make(self, **callbacks: Any) -> Subscriber:
        subscriber = Subscriber(**callbacks)
        self.subscribers.append(subscriber)

        def first() -> None:
            if self.first is not None:
                subscriber.becomes(self.first)

        subscriber.on_wait = first
        return subscriber

    @property
    def subscriber(self) -> Subscriber:
        return self.subscribers[-1]

    @property
    def flag(self) -> int:
        return self.coherence.flag.value

    def join(
        self,
        name: str = "load",
        *,
        space: str = "shop",
        tags: tuple[str, ...] = (),
        computed: bool = False,
        tracking: bool = False,
    ) -> Function:
        function = Function()
        self.rejoin(function, name, space, tags, computed, tracking)
        return function

    def rejoin(
        self,
        function: Function,
        name: str = "load",
        space: str = "shop",
        tags: tuple[str, ...] = (),
        computed: bool = False,
        tracking: bool = False,
    ) -> None:
        prefix = f"{space}:{name}:"
        own = function_key(prefix, name.encode())
        keys = (own, namespace_key(space), *(tag_key(space, tag) for tag in tags))
        self.coherence.join(
            function,  # type: ignore[arg-type]
            channel=f"{space}:invalidate",
            version_keys=keys,
            function_id=function_id(own),
            store_prefix=prefix,
            computed_tags=computed,
            tracking=tracking,
        )

    def hear(self, *messages: bytes, channel: str = CHANNEL) -> None:
        self.subscriber.on_messages([(channel.encode(), data) for data in messages])


def id_of(name: str, space: str = "shop") -> bytes:
    return function_id(function_key(f"{space}:{name}:", name.encode()))


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.fixture(autouse=True)
def own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_logging, "_DEFAULT", _logging.Log())


# -- joining --------------------------------------------------------------------------


def test_the_first_function_starts_to_listen_and_waits_for_it(setup: Setup) -> None:
    assert setup.flag == -1 and not setup.subscribers
    function = setup.join()
    assert setup.flag == 1
    assert setup.subscriber.starts == 1
    assert setup.subscriber.waits == [_coherence.FIRST_WAIT]
    assert setup.subscriber.channels == [CHANNEL]
    assert function.heard() == []  # there was nothing to drop


def test_later_ones_of_the_same_channel_wait_for_nothing(setup: Setup) -> None:
    setup.join()
    setup.join("other")
    assert len(setup.subscribers) == setup.subscriber.starts == 1
    assert len(setup.subscriber.waits) == 1
    assert setup.subscriber.channels == [CHANNEL]


def test_a_store_without_a_channel_has_nothing_to_hear() -> None:
    coherence = Coherence("mine", None)
    setup = Setup()
    setup.coherence = coherence
    function = setup.join()
    assert coherence.flag.value == 1
    coherence.wake(), coherence.missed(), coherence.suspect(), coherence.close()
    assert coherence.flag.value == 1
    coherence.local_entry(id_of("load"), b"key")
    assert function.heard() == [("forget", b"key")]


def test_a_store_that_is_down_is_waited_for_once() -> None:
    setup = Setup(first=None)
    setup.join()
    setup.join("other", space="blog")
    assert setup.flag == -1
    assert len(setup.subscriber.waits) == 1


def test_functions_are_not_kept_alive(setup: Setup) -> None:
    function = setup.join(tags=("a",), computed=True, tracking=True)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
    setup.hear(b"garbage")
    keep = setup.join("other")
    members = setup.coherence._members
    assert len(members) == len(members._all) == len(members._by_reference) == 1
    assert {kind for kind, _ in members._index} == {"version", "entry", "channel"}
    assert keep.heard() == []


def test_many_that_come_and_go_leave_nothing(setup: Setup) -> None:
    for number in range(200):
        setup.join(f"made_{number}")
    gc.collect()
    keep = setup.join()
    members = setup.coherence._members
    assert len(members._all) == 1 and len(members._index) <= 4
    setup.hear(entry_message(ELSEWHERE, id_of("load"), b"key"))
    assert keep.heard() == [("forget", b"key")]


def test_a_function_that_joins_again_is_known_as_it_is_now(setup: Setup) -> None:
    function = setup.join("load", tags=("a",))
    setup.rejoin(function, "load", tags=("b",))
    for tag in ("a", "b"):
        setup.hear(version_message(ELSEWHERE, tag_key("shop", tag)))
    assert function.heard() == ["expire"]


def test_it_does_not_outlive_its_store(setup: Setup) -> None:
    setup.join()
    subscriber, gone = setup.subscriber, weakref.ref(setup.coherence)
    del setup.coherence
    gc.collect()
    assert gone() is None
    subscriber.on_messages([(b"x", b"y")])
    subscriber.on_state(STANDING)


def test_functions_join_from_many_threads(setup: Setup) -> None:
    setup.subscriber_waits = 0
    names = iter(range(1000))
    kept: list[Function] = []

    def join() -> None:
        for _ in range(20):
            kept.append(setup.join(f"f{next(names)}", tags=("all",)))

    assert in_threads(8, join) == [None] * 8
    assert setup.subscriber.starts == 1
    setup.hear(version_message(ELSEWHERE, tag_key("shop", "all")))
    assert all(function.heard() == ["expire"] for function in kept)


# -- a channel that comes late --------------------------------------------------------


def test_a_channel_that_comes_late_is_waited_for(setup: Setup) -> None:
    setup.join()
    setup.subscriber.deaf.add("blog:invalidate")
    threading.Timer(0.01, setup.subscriber.deaf.clear).start()
    setup.join(space="blog")
    assert setup.flag == 1
    assert setup.subscriber.channels == [CHANNEL, "blog:invalidate"]


def test_without_its_channel_nothing_is_trusted(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_coherence, "FIRST_WAIT", 0.001)
    shop = setup.join()
    setup.subscriber.deaf.add("blog:invalidate")
    blog = setup.join(space="blog")
    assert setup.flag == 0
    setup.coherence.suspect()
    setup.coherence.suspect()
    assert setup.flag == 0
    assert shop.heard() == blog.heard() == ["distrust", "distrust"]
    setup.subscriber.deaf.clear()
    setup.coherence.suspect()
    assert setup.flag == 1
    assert (shop.heard(), blog.heard()) == ([], ["distrust"])


def test_a_subscription_that_stands_without_a_channel_is_not_trusted() -> None:
    setup = Setup(first=None)
    setup.join()
    setup.subscriber.deaf.add(CHANNEL)
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 0


# -- what is heard --------------------------------------------------------------------


def test_an_entry_is_forgotten(setup: Setup) -> None:
    load, other = setup.join("load"), setup.join("other")
    twin = setup.join("load")
    setup.hear(entry_message(ELSEWHERE, id_of("load"), b"key"))
    assert load.heard() == twin.heard() == [("forget", b"key")]
    assert other.heard() == []


def test_a_function_is_expired(setup: Setup) -> None:
    load, other = setup.join("load"), setup.join("other")
    setup.hear(version_message(ELSEWHERE, function_key("shop:load:", b"load")))
    assert (load.heard(), other.heard()) == (["expire"], [])


def test_a_namespace_is_expired(setup: Setup) -> None:
    shop, blog = setup.join("load"), setup.join("load", space="blog")
    setup.hear(version_message(ELSEWHERE, namespace_key("shop")))
    assert (shop.heard(), blog.heard()) == (["expire"], [])


def test_a_tag_is_expired(setup: Setup) -> None:
    static, none = setup.join("a", tags=("x", "y")), setup.join("b")
    computed = setup.join("c", computed=True)
    both = setup.join("d", tags=("x",), computed=True)
    name = tag_key("shop", "x")
    setup.hear(version_message(ELSEWHERE, name))
    assert static.heard() == both.heard() == ["expire"]
    assert computed.heard() == [("expire_tag", int(name[-4:], 16), name)]
    assert none.heard() == []


def test_what_nobody_here_depends_on_is_passed_over(setup: Setup) -> None:
    function = setup.join(computed=True)
    setup.hear(
        entry_message(ELSEWHERE, bytes(16), b"key"),
        version_message(ELSEWHERE, "shop:somebody:v:" + "0" * 32),
        wake_message(ELSEWHERE, "shop:load:1"),
    )
    assert function.heard() == []


def test_our_own_messages_are_skipped(setup: Setup) -> None:
    function = setup.join()
    origin = setup.coherence.origin
    setup.hear(
        entry_message(origin, id_of("load"), b"key"),
        version_message(origin, namespace_key("shop")),
    )
    assert function.heard() == []


def test_messages_are_carried_out_in_order(setup: Setup) -> None:
    function = setup.join()
    setup.hear(
        entry_message(ELSEWHERE, id_of("load"), b"1"),
        version_message(ELSEWHERE, namespace_key("shop")),
        entry_message(ELSEWHERE, id_of("load"), b"2"),
    )
    assert function.heard() == [("forget", b"1"), "expire", ("forget", b"2")]


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"CKI\x01", b"CKI\x02" + bytes(30), b"CKI\x01" + bytes(8) + b"v"],
)
def test_garbage_costs_a_flush(
    setup: Setup, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    functions = [setup.join(), setup.join(space="blog")]
    with caplog.at_level(logging.WARNING, "cachekit"):
        for _ in range(3):
            setup.hear(data, data)
    assert [function.heard() for function in functions] == [["distrust"] * 3] * 2
    assert setup.flag == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "garbage" not in caplog.text.replace("coherence_garbage", "")


def test_a_channel_that_is_not_ours_costs_a_flush(setup: Setup) -> None:
    function = setup.join()
    message = entry_message(ELSEWHERE, bytes(16), b"")
    setup.hear(message, channel="elsewhere:invalidate")
    setup.subscriber.on_messages([(b"\xff\xfe", message)])
    assert function.heard() == ["distrust", "distrust"]


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=300))))
def test_nothing_that_is_heard_raises(messages: list[tuple[bytes, bytes]]) -> None:
    setup = Setup()
    function = setup.join(computed=True, tracking=True)
    head = b"CKI\x01" + ELSEWHERE
    for channel, data in messages:
        for place in (channel, CHANNEL.encode(), TRACKED):
            for word in (data, head + data, b"shop:load:" + data):
                setup.coherence.apply([(place, word)])
    assert set(map(type, function.told)) <= {str, tuple}


def test_what_fails_half_way_costs_a_flush(setup: Setup) -> None:
    function, other = setup.join(), setup.join("other")
    function._forget = lambda key: 1 / 0  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        setup.hear(entry_message(ELSEWHERE, id_of("load"), b"key"))
    assert function.heard() == other.heard() == ["distrust"]


def test_local_invalidations_have_the_same_effect(setup: Setup) -> None:
    function = setup.join(tags=("x",), computed=True)
    setup.coherence.local_entry(id_of("load"), b"key")
    setup.coherence.local_version(tag_key("shop", "x"))
    setup.coherence.local_version(tag_key("shop", "y"))
    told = function.heard()
    assert told[:2] == [("forget", b"key"), "expire"]
    assert told[2][0] == "expire_tag"


# -- what the server reports ----------------------------------------------------------


def report(setup: Setup, *keys: bytes) -> None:
    setup.subscriber.on_messages([(TRACKED, key) for key in keys])


def test_a_touched_key_is_forgotten(setup: Setup) -> None:
    function, other = setup.join(tracking=True), setup.join("other")
    assert setup.subscriber.prefixes == ["shop:load:"]
    digest = bytes(range(32))
    report(setup, b"shop:load:" + digest.hex().encode())
    report(setup, b"shop:other:" + digest.hex().encode())
    assert function.heard() == [("forget", digest)]
    assert other.heard() == []


def test_no_key_at_all_means_every_key(setup: Setup) -> None:
    function, other = setup.join(tracking=True), setup.join("other")
    report(setup, b"")
    assert function.heard() == other.heard() == ["distrust"]


def test_other_keys_mean_nothing(setup: Setup) -> None:
    function = setup.join(tracking=True)
    own = function_key("shop:load:", b"load").encode()
    report(
        setup,
        own,
        b"shop:load:",
        b"shop:load:" + b"g" * 64,
        b"shop:load:" + b"\xff" * 64,
        b"shop:load:" + b"0" * 63,
        b"shop:load:" + b"0" * 65,
        b"{shop:load:" + b"0" * 64 + b"}:f",
    )
    assert function.heard() == []


# -- how far memory is trusted --------------------------------------------------------


def test_lost_and_found_again(setup: Setup) -> None:
    function = setup.join()
    setup.subscriber.becomes(LOST)
    assert setup.flag == 0 and function.heard() == []
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 1 and function.heard() == ["distrust"]


def test_the_store_answers_while_nothing_is_heard(setup: Setup) -> None:
    function = setup.join()
    setup.subscriber.becomes(LOST)
    setup.coherence.suspect()
    setup.coherence.suspect()
    assert setup.flag == -1 and function.heard() == ["distrust"]
    setup.coherence.missed()
    assert setup.flag == 0
    setup.coherence.suspect()
    assert setup.flag == -1 and function.heard() == ["distrust"]
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 1 and function.heard() == ["distrust"]


def test_what_was_taken_in_before_the_first_subscription_is_dropped() -> None:
    setup = Setup(first=None)
    function = setup.join()
    setup.coherence.missed()
    assert setup.flag == 0
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 1 and function.heard() == ["distrust"]


def test_a_late_first_subscription_marks_the_calls_under_way() -> None:
    setup = Setup(first=None)
    function = setup.join()
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 1 and function.heard() == ["distrust"]


def test_memory_is_dropped_before_it_is_trusted(setup: Setup) -> None:
    flags: list[int] = []
    function = setup.join()
    setup.subscriber.becomes(LOST)
    function._distrust = lambda: flags.append(setup.flag)  # type: ignore[method-assign]
    setup.subscriber.becomes(STANDING)
    assert flags == [0]


def test_a_first_attempt_that_fails_changes_nothing() -> None:
    setup = Setup(first=LOST)
    setup.join()
    assert setup.flag == -1


def test_trust_is_not_taken_back_by_those_who_come_late(setup: Setup) -> None:
    setup.join()
    setup.coherence.suspect()
    setup.coherence.missed()
    setup.coherence.wake()
    assert setup.flag == 1
    assert setup.subscriber.starts == 1


def test_a_suspicion_during_recovery_does_not_stick(setup: Setup) -> None:
    """Threads that saw the flag before it changed report at any moment."""
    function = setup.join()
    stop = threading.Event()
    numbers = random.Random(5)

    def report() -> None:
        while not stop.is_set():
            setup.coherence.suspect()
            if setup.flag == -1 and numbers.random() < 0.5:
                setup.coherence.missed()

    with background(report):
        for _ in range(300):
            setup.subscriber.becomes(LOST)
            setup.subscriber.becomes(STANDING)
            assert setup.flag == 1
        stop.set()
    assert function.heard().count("distrust") >= 300


# -- refused, and what is said --------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.event  # type: ignore[attr-defined]
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def test_a_server_that_refuses_caps_memory_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup(first=REFUSED)
    with caplog.at_level(logging.INFO, "cachekit"):
        function = setup.join()
        assert setup.flag == 2
        setup.subscriber.becomes(LOST)
        assert setup.flag == 0
        setup.subscriber.becomes(REFUSED)
        assert setup.flag == 2
        assert function.heard() == ["distrust"]
        assert warnings(caplog) == ["coherence_refused"]
        setup.subscriber.becomes(STANDING)
        assert setup.flag == 1
    assert warnings(caplog) == ["coherence_refused", "coherence_recovered"]
    assert "redis://test" in caplog.text and "5 s" in caplog.text


def test_a_loss_is_told_at_info(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cachekit"):
        setup.join()
        for state in (LOST, LOST, STANDING):
            setup.subscriber.becomes(state)
    assert [record.message for record in caplog.records] == [
        "the subscription to redis://test is lost",
        "the subscription to redis://test stands again",
    ]
    assert not warnings(caplog)


def test_without_a_thread_memory_is_capped(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()

    def make(**callbacks: Any) -> Subscriber:
        subscriber = Setup._make(setup, **callbacks)
        subscriber.error = RuntimeError("no thread can be started")
        return subscriber

    setup.coherence = Coherence("redis://test", make)
    with caplog.at_level(logging.WARNING, "cachekit"):
        setup.join()
        setup.join("other")
    assert setup.flag == 2 and setup.subscriber.waits == []
    assert warnings(caplog) == ["coherence_refused"]
    setup.subscriber.error = None
    setup.join("third")
    assert setup.flag == 1


# -- waiting for locks ----------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_a_message_wakes_those_who_wait(setup: Setup, own: bool) -> None:
    setup.join()
    origin = setup.coherence.origin if own else ELSEWHERE
    with setup.coherence.waiters.register("shop:load:é") as waiter:
        setup.hear(wake_message(origin, "shop:load:1"))
        assert not waiter.wait(0)
        setup.hear(wake_message(origin, "shop:load:é"))
        assert waiter.wait(0)


# -- the end, and another beginning ---------------------------------------------------


def test_close_stops_and_drops_and_the_next_use_begins_anew(setup: Setup) -> None:
    function = setup.join()
    setup.coherence.close()
    assert setup.subscriber.stops == 1
    assert setup.flag == -2 and function.heard() == ["distrust"]
    setup.subscriber.on_state(STANDING)  # its last words
    assert setup.flag == -2
    setup.coherence.wake()
    setup.coherence.wake()
    assert setup.flag == -1 and setup.subscriber.starts == 2
    setup.subscriber.becomes(STANDING)
    assert setup.flag == 1 and function.heard() == ["distrust"]


def test_a_function_that_joins_after_close_begins_anew(setup: Setup) -> None:
    setup.join()
    setup.coherence.close()
    setup.join("other")
    assert setup.flag == 1 and len(setup.subscribers) == 1


def test_what_is_filled_while_asleep_is_missed(setup: Setup) -> None:
    setup.join()
    setup.coherence.close()
    setup.coherence.missed()
    assert setup.flag == 0 and setup.subscriber.starts == 2


def test_close_before_anything_is_nothing(setup: Setup) -> None:
    setup.coherence.close()
    assert setup.flag == -1 and not setup.subscribers


def forked(job: Callable[[], Any]) -> None:
    """Run `job` in a forked child, which must end well within a few seconds."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(8)
            job()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_sleeps_until_it_is_woken(setup: Setup) -> None:
    function = setup.join()
    silent, idle = Coherence("mine", None), Setup()
    origin = setup.coherence.origin
    waiter = setup.coherence.waiters.register("shop:load:1")

    def in_child() -> None:
        coherence = setup.coherence
        assert setup.flag == -2 and function.heard() == ["distrust"]
        assert coherence.origin != origin and len(coherence.origin) == 8
        assert (silent.flag.value, idle.flag) == (1, -1)
        assert len(coherence.waiters) == 0
        coherence.suspect()
        setup.subscriber.on_state(STANDING)  # nobody listens yet
        assert setup.flag == -2
        coherence.wake()
        assert setup.flag == -1 and setup.subscriber.starts == 2
        setup.subscriber.becomes(STANDING)
        assert setup.flag == 1
        setup.hear(entry_message(origin, id_of("load"), b"key"))
        assert function.heard()[-1] == ("forget", b"key")

    with setup.coherence._lock, setup.coherence._members._lock:
        forked(in_child)
    held = threading.Event()
    go = threading.Event()

    def hold() -> None:
        with setup.coherence._lock, setup.coherence._members._lock:
            with setup.coherence.waiters._lock:
                held.set()
                assert go.wait(MAX)

    with background(hold):
        assert held.wait(MAX)
        forked(in_child)
        go.set()
    assert setup.flag == 1 and setup.coherence.origin == origin
    assert function.heard() == []
    waiter.close()


def test_nothing_heavy_is_imported_for_it() -> None:
    import subprocess
    import sys

    code = """if True:
        import sys
        before = set(sys.modules)
        import cachekit._coherence
        heavy = {"asyncio", "threading", "hashlib", "logging", "random", "typing"}
        assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.monotonic() - began < MAX
