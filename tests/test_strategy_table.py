"""The matrix of strategies and states, from real runs; docs/strategy-table.md shows it.

Each cell is one call of a function under one strategy, with a Redis that has really
been put into the state of its row (behind a proxy where the network is what fails),
once as ``def`` and once as ``async def``. EXPECTED in the rows below is what the caller
must get; the page shows what was observed, what the store holds afterwards included.

    python tests/test_strategy_table.py    writes the page anew
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from driver import DRIVERS, Driver
from proxy import Proxy
from servers import RedisServer, ServerError, free_port

from cachekit import BackendError, CacheMiss

PAGE = Path(__file__).parent.parent / "docs" / "strategy-table.md"
STRATEGIES = ("FRESH", "REFRESH", "INVALIDATE", "BYPASS")
QUIET = 0.03  # seconds in which a refresh that must not start would have

MISS, BACKEND = "`CacheMiss`", "`BackendError`"
CACHED, STALE = "cached", "cached (stale)"
FUNCTION, RAISES = "function", "the exception"


class Failure(Exception):
    """What the function raises."""


class Scene:
    """A function `work` on a server behind a proxy, and what it takes to harm them.

    `undo` is unwound after the call and before the store is looked at.
    """

    def __init__(self, driver: Driver, server: RedisServer, undo: ExitStack) -> None:
        self.driver = driver
        self.server = server
        self.undo = undo
        self.proxy = Proxy(server.port)
        self.error = Failure("the function failed")
        self.before: bytes | None = None  # what the store held before the call
        with server.client() as client:
            client.call("FLUSHALL")

    def build(self, state: State) -> None:
        """The function, with an entry where the state has one."""
        options = {"ttl": 60, "name": "work", **state.options}
        options["l1_enabled"] = state.memory
        url = state.url(self) if state.url else self.proxy.url
        self.cache = self.driver.cache(url, socket_timeout=state.timeout)
        self.work = self.driver.work(self.cache, **options)
        if state.entry:
            source = self.driver.cache(self.server.url)
            filler = self.work if state.memory else self.driver.work(source, **options)
            filler.answer = lambda n: "old"
            filler(1)
        self.work.answer = lambda n: "new"
        if state.warm:
            self.work(0)  # so that there is a connection to lose
        if state.raises:
            self.work.error = self.error

    @property
    def key(self) -> str:
        return self.work.key_for(1)

    def config(self, name: str, value: object) -> None:
        """Set a server's option until the call is over."""
        client = self.undo.enter_context(self.server.client())
        before = client.call("CONFIG", "GET", name)[1]
        client.call("CONFIG", "SET", name, value)
        self.undo.callback(client.call, "CONFIG", "SET", name, before)

    def age(self, seconds: float) -> None:
        """Make the entry that much older, as the server's clock tells it."""
        left = self.server.call("PTTL", self.key)
        self.server.call("PEXPIRE", self.key, left - int(seconds * 1000))

    def change(self, change: Callable[[bytes], bytes]) -> None:
        data = self.server.call("GET", self.key)
        self.server.call("SET", self.key, change(data), "KEEPTTL")

    def load(self) -> None:
        """Make the server load its data, slowly; it answers LOADING meanwhile."""
        self.config("key-load-delay", 20_000)  # microseconds, for each key
        self.config("loading-process-events-interval-bytes", 1024)
        for n in range(15):
            self.server.call("SET", f"ballast {n}", os.urandom(2048))
        loader = threading.Thread(target=self.server.call, args=("DEBUG", "RELOAD"))
        loader.start()
        self.undo.callback(loader.join)
        while not self.is_loading():
            time.sleep(0.001)

    def is_loading(self) -> bool:
        try:
            self.server.call("GET", self.key)
        except ServerError as error:
            return "LOADING" in str(error)
        return False

    def reset_connections(self) -> None:
        """Every command is answered with a reset."""

        def reset(data: bytes) -> bytes:
            self.proxy.reset()
            return b""

        self.proxy.transform(reset)

    def freeze(self) -> None:
        self.server.stop()
        self.undo.callback(self.server.cont)

    def follow_nobody(self) -> None:
        """Make the server a replica, of a master that is not there."""
        self.server.call("REPLICAOF", "127.0.0.1", free_port())
        self.undo.callback(self.server.call, "REPLICAOF", "NO", "ONE")


@dataclass
class State:
    """A row.

    title    how the page calls it
    expect   what the caller must get, one for each strategy
    entry_is changes the entry, or puts another in its place
    harm     brings the server or the network into the state
    entry    whether there is one
    raises   whether the function raises
    memory   whether the memory tier is on
    warm     whether there is a connection from before
    timeout  socket_timeout, seconds
    options  decorator options
    url      where the store is said to be, in place of the proxy
    stale    whether a background refresh is to be looked for
    open     whether the server may carry out a command without the caller's knowing
    """

    title: str
    expect: tuple[str, str, str, str]
    harm: Callable[[Scene], object] = lambda scene: None
    entry_is: Callable[[Scene], object] = lambda scene: None
    entry: bool = True
    raises: bool = False
    memory: bool = False
    warm: bool = True
    timeout: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    url: Callable[[Scene], str] | None = None
    stale: bool = False
    open: bool = False


UP_PRESENT = (CACHED, CACHED, FUNCTION, FUNCTION)
UP_ABSENT = (MISS, FUNCTION, FUNCTION, FUNCTION)
DOWN = (BACKEND, FUNCTION, FUNCTION, FUNCTION)
TWO_STALE = {"stale_ttl": 30, "serve_stale_on_error": True, "stale_if_error_ttl": 300}
SHORT = 0.05


def unreadable(title: str, harm: Callable[[Scene], object], **more: Any) -> State:
    return State(f"reads fail: {title}", DOWN, harm, **more)


def unwritable(title: str, harm: Callable[[Scene], object]) -> list[State]:
    return [
        State(f"only writes fail: {title}; entry fresh", UP_PRESENT, harm),
        State(f"only writes fail: {title}; no entry", UP_ABSENT, harm, entry=False),
    ]


STATES = [
    State("all up, entry fresh", UP_PRESENT),
    State("all up, no entry", UP_ABSENT, entry=False),
    State(
        "entry stale, within `stale_ttl`",
        (f"{CACHED}, no refresh", f"{CACHED}, one refresh", FUNCTION, FUNCTION),
        entry_is=lambda scene: scene.age(65),
        options=TWO_STALE,
        stale=True,
    ),
    State(
        "entry stale, within `stale_if_error_ttl` only",
        UP_ABSENT,
        entry_is=lambda scene: scene.age(120),
        options=TWO_STALE,
    ),
    State(
        "the same, and the function raises",
        (MISS, STALE, RAISES, RAISES),
        entry_is=lambda scene: scene.age(120),
        options=TWO_STALE,
        raises=True,
    ),
    unreadable("connection refused", lambda scene: scene.proxy.refuse()),
    unreadable("connection reset", Scene.reset_connections, open=True),
    unreadable("connection closed", lambda scene: scene.proxy.cut(), open=True),
    unreadable(
        "timed out", lambda scene: scene.proxy.delay(30), timeout=SHORT, open=True
    ),
    unreadable(
        "replies lost", lambda scene: scene.proxy.drop(), timeout=SHORT, open=True
    ),
    unreadable("stalled (`SIGSTOP`)", Scene.freeze, timeout=SHORT, open=True),
    unreadable(
        "stalled (`CLIENT PAUSE`)",
        lambda scene: scene.server.call("CLIENT", "PAUSE", 300),
        timeout=SHORT,
        open=True,
    ),
    unreadable("loading", Scene.load, timeout=SHORT),
    unreadable(
        "out of clients", lambda scene: scene.config("maxclients", 1), warm=False
    ),
    unreadable(
        "wrong password",
        lambda scene: scene.config("requirepass", "right"),
        warm=False,
        url=lambda scene: f"redis://:wrong@127.0.0.1:{scene.proxy.port}",
    ),
    unreadable(
        "no RESP at all",
        lambda scene: scene.proxy.transform(lambda data: b"?!"),
        open=True,
    ),
    State(
        "the same (refused), and memory has the entry fresh",
        UP_PRESENT,
        lambda scene: scene.proxy.refuse(),
        memory=True,
    ),
    *unwritable("read-only replica", Scene.follow_nobody),
    *unwritable("out of memory", lambda scene: scene.config("maxmemory", 1)),
    *unwritable(
        "`min-replicas-to-write`",
        lambda scene: scene.config("min-replicas-to-write", 1),
    ),
    State(
        "function raises, entry fresh", (CACHED, CACHED, RAISES, RAISES), raises=True
    ),
    State(
        "function raises, no entry",
        (MISS, RAISES, RAISES, RAISES),
        entry=False,
        raises=True,
    ),
    State(
        "both down: refused, and the function raises",
        (BACKEND, RAISES, RAISES, RAISES),
        lambda scene: scene.proxy.refuse(),
        raises=True,
    ),
    State(
        "entry corrupt",
        UP_ABSENT,
        entry_is=lambda scene: scene.change(
            lambda data: data[:-9] + b"\x00" + data[-8:]
        ),
    ),
    State(
        "entry truncated",
        UP_ABSENT,
        entry_is=lambda scene: scene.change(lambda data: data[:-3]),
    ),
    State(
        "entry foreign: not our magic",
        UP_ABSENT,
        entry_is=lambda scene: scene.change(lambda data: b"somebody else's"),
    ),
    State(
        "entry foreign: of another version",
        UP_ABSENT,
        entry_is=lambda scene: scene.change(lambda data: data[:2] + b"\x05" + data[3:]),
    ),
    State(
        "entry foreign: not a string",
        UP_ABSENT,
        entry_is=lambda scene: [
            scene.server.call("DEL", scene.key),
            scene.server.call("RPUSH", scene.key, "item"),
        ],
    ),
]


# Running one cell

#: What a command does to the store that was carried out and never heard of.
DONE_UNHEARD = {"INVALIDATE": "nothing", "BYPASS": "the new value"}


def contents(server: RedisServer, key: str) -> bytes | None:
    """What the store holds, whatever its type."""
    return server.call("DUMP", key)


def caller_gets(scene: Scene, strategy: str, state: State) -> str:
    """Make the call and name what came of it."""
    work, before = scene.work, scene.work.runs
    try:
        value = work.using(strategy)(1)
    except CacheMiss:
        outcome = MISS
    except BackendError:
        outcome = BACKEND
    except Failure as error:
        assert error is scene.error, "the function's exception, the same object"
        outcome = RAISES
    else:
        outcome = {"old": CACHED, "new": FUNCTION}[value]
    runs = work.runs - before
    if outcome == CACHED and state.raises and runs == 1:
        outcome = STALE
    if not (outcome == CACHED and state.stale):  # a refresh may have begun already
        assert runs == (outcome in (FUNCTION, RAISES, STALE)), f"{runs} runs"
    return outcome


def refreshes(scene: Scene, strategy: str, before: int) -> str:
    """Name how often the function ran in the background."""
    if strategy == "REFRESH":
        scene.driver.wait_until(
            lambda: contents(scene.server, scene.key) != scene.before
        )
    scene.driver.rest(QUIET)
    count = scene.work.runs - before
    return {0: "no refresh", 1: "one refresh"}.get(count, f"{count} refreshes")


def left_in(scene: Scene) -> str:
    """Name what the store holds after the call."""
    after = contents(scene.server, scene.key)
    if after is None:
        return "nothing"
    if after == scene.before:
        return "what it held"
    reader = scene.driver.work(
        scene.driver.cache(scene.server.url), name="work", l1_enabled=False
    )
    assert reader.using("FRESH")(1) == "new"
    return "the new value"


def run_cell(
    state: State, strategy: str, kind: type[Driver], server: RedisServer
) -> tuple[str, str]:
    """What the caller gets, and what the store holds afterwards."""
    with ExitStack() as closing, ExitStack() as undo:
        driver = kind()
        closing.callback(driver.close)
        scene = Scene(driver, server, undo)
        closing.callback(scene.proxy.close)
        scene.build(state)
        state.entry_is(scene)
        scene.before = contents(server, scene.key)
        before = scene.work.runs
        state.harm(scene)
        outcome = caller_gets(scene, strategy, state)
        if state.stale and outcome == CACHED:
            outcome += ", " + refreshes(scene, strategy, before)
        undo.close()
        left = left_in(scene)
        if state.open and strategy in DONE_UNHEARD:
            assert left in ("what it held", DONE_UNHEARD[strategy])
            left = f"what it held, or {DONE_UNHEARD[strategy]}"
        return outcome, left


# The runs, made once, and what is said of them

Row = dict[str, tuple[str, str]]  # strategy -> a cell
_rows: dict[tuple[str, str], Row] = {}


def run_row(state: State, kind: type[Driver], server: RedisServer) -> Row:
    at = (state.title, kind.name)
    if at not in _rows:
        _rows[at] = {
            strategy: run_cell(state, strategy, kind, server) for strategy in STRATEGIES
        }
    return _rows[at]


PREAMBLE = """\
# Every strategy in every state

What a call returns or raises, and what it leaves in the store, for each strategy and
each state of store, entry and function. This page is written by
`tests/test_strategy_table.py`: each cell was observed on a Redis server that had been
put into that state, once with a `def` and once with an `async def` function. Both do
the same. [Strategies](strategies.md) explains why.

"Function" means that the function ran once and its value was returned; "the exception"
is the function's own, the same object; "cached" is the value of the entry, without a
run. The memory tier is off, except where a row speaks of it. A removal that the store
did not take is kept, and sent before the store is read again.
"""


def page(server: RedisServer) -> str:
    """The text of docs/strategy-table.md."""
    rows = {state.title: run_row(state, DRIVERS[0], server) for state in STATES}
    parts = [PREAMBLE]
    titles = ("What the caller gets", "What the store holds then")
    for column, title in enumerate(titles):
        parts.append(f"\n## {title}\n\n")
        parts.append(f"| state | {' | '.join(STRATEGIES)} |\n")
        parts.append("|---" * (len(STRATEGIES) + 1) + "|\n")
        for name, row in rows.items():
            cells = [row[strategy][column] for strategy in STRATEGIES]
            parts.append(f"| {name} | {' | '.join(cells)} |\n")
    return "".join(parts)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.title)
def test_the_caller_gets_what_is_promised(state, kind, server):
    row = run_row(state, kind, server)
    observed = tuple(row[strategy][0] for strategy in STRATEGIES)
    assert observed == state.expect


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.title)
def test_sync_and_async_do_the_same(state, server):
    one, other = (run_row(state, kind, server) for kind in DRIVERS)
    assert one == other


def test_the_page_shows_what_the_runs_show(server):
    assert PAGE.read_text() == page(server), (
        f"run {Path(__file__).name} as a program to write the page anew"
    )


def main() -> None:
    for name in list(os.environ):
        if name == "REDIS_URL" or name.startswith("CACHEKIT_"):
            del os.environ[name]
    with RedisServer() as server:
        text = page(server)
    PAGE.write_text(text)
    print(f"{PAGE}: {len(STATES)} states")


if __name__ == "__main__":
    main()
