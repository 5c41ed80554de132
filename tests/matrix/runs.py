"""Plays a row and names what was observed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from driver import Driver, Work

from cachekit import BackendError, CacheMiss
from matrix.scene import STRATEGIES, Failure, Scene
from matrix.states import BACKEND, CACHED, FUNCTION, MISS, RAISES, STALE, State
from matrix.world import World

QUIET = 0.03  # seconds in which a refresh that must not start would have
RECOVERY = 10.0  # seconds from the end of a state to hits of the store
SLACK = 1.0  # seconds that a busy machine may add to all calls of a row

#: What a command does to the store that was carried out and never heard of.
UNHEARD = {"INVALIDATE": "nothing", "BYPASS": "the new value"}


class TooSlow(Exception):
    """The state was over before the calls were: it has to last longer."""


@dataclass
class Cell:
    """One strategy in one state: what the caller got, what the store held then."""

    gets: str = ""
    leaves: str = ""


@dataclass
class Row:
    """One state under one driver.

    cells     one for each strategy
    seconds   what each of the calls cost the caller, the crowd's last
    crowd     what the calls got that followed, each kind once
    memory    what a call gets, FRESH and REFRESH, whose entry memory holds
    strict    what a call gets with fallback_enabled=False
    events    what was logged while it lasted
    after     what was logged afterwards
    old       strategies for which an old value came back although it was invalidated
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    crowd: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    strict: str = ""
    events: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    old: list[str] = field(default_factory=list)


def outcome(call: Callable[[], Any], work: Work, error: Exception) -> tuple[str, int]:
    """What came of a call, and how often the function ran."""
    before = work.runs
    try:
        value = call()
    except CacheMiss:
        gets = MISS
    except BackendError:
        gets = BACKEND
    except Failure as raised:
        assert raised is error, "the function's exception, the same object"
        assert raised.__cause__ is None and raised.__context__ is None
        gets = RAISES
    else:
        gets = {"old": CACHED, "new": FUNCTION}[value]
    return gets, work.runs - before


class Play:
    """One row under one driver, from its beginning to its end."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.state = scene.state
        self.driver = scene.driver
        self.row = Row({strategy: Cell() for strategy in STRATEGIES})

    def run(self) -> Row:
        scene, state, row = self.scene, self.state, self.row
        scene.open()
        if state.harm is not None:
            state.harm(scene)
        for strategy in STRATEGIES:
            self.call(strategy)
            if state.again is not None:
                state.again(scene)
        if state.is_outage:
            self.call_strict()
            if not state.down_before:
                self.call_memory()
        self.call_crowd()
        if time.monotonic() > scene.until:
            raise TooSlow
        row.events = list(scene.records.events)
        scene.undo.close()
        for strategy in STRATEGIES:
            row.cells[strategy].leaves = self.leaves(strategy)
        self.watch_invalidated()
        self.watch_recovery()
        row.after = scene.records.events[len(row.events) :]
        return row

    def timed(self, call: Callable[[], Any], work: Work) -> tuple[str, int]:
        began = time.monotonic()
        gets, runs = outcome(call, work, self.scene.error)
        self.row.seconds.append(time.monotonic() - began)
        return gets, runs

    def call(self, strategy: str) -> None:
        work, state = self.scene.works[strategy], self.state
        before = work.runs
        gets, runs = self.timed(lambda: work.using(strategy)(1), work)
        if gets == CACHED and state.raises and runs == 1:
            gets = STALE
        if gets == CACHED and state.stale:
            gets += ", " + self.refreshes(strategy, before)
        else:
            assert runs == (gets in (FUNCTION, RAISES, STALE)), f"{runs} runs"
        self.row.cells[strategy].gets = gets

    def refreshes(self, strategy: str, before: int) -> str:
        """Name how often the function ran in the background."""
        scene = self.scene
        if strategy == "REFRESH":
            self.driver.wait_until(
                lambda: scene.contents(strategy) != scene.before[strategy]
            )
        self.driver.rest(QUIET)
        count = scene.works[strategy].runs - before
        return {0: "no refresh", 1: "one refresh"}.get(count, f"{count} refreshes")

    def call_strict(self) -> None:
        strict = self.scene.strict
        gets, runs = self.timed(lambda: strict(1), strict)
        assert runs == (gets == FUNCTION), f"{runs} runs"
        self.row.strict = gets

    def call_memory(self) -> None:
        kept = self.scene.kept
        for strategy in ("FRESH", "REFRESH"):
            gets, runs = self.timed(lambda s=strategy: kept.using(s)(1), kept)
            assert runs == (gets == FUNCTION), f"{runs} runs"
            self.row.memory.append(gets)

    def call_crowd(self) -> None:
        """Calls for other entries, and what all of them cost."""
        work = self.scene.works["REFRESH"]
        began, got = time.monotonic(), []
        for n in range(100, 100 + self.state.crowd):
            gets, runs = outcome(lambda n=n: work(n), work, self.scene.error)
            assert runs == 1, f"{runs} runs"
            got.append(gets)
            if self.state.again is not None:
                self.state.again(self.scene)
        self.row.seconds.append(time.monotonic() - began)
        self.row.crowd = sorted(set(got))

    # Afterwards.

    def leaves(self, strategy: str) -> str:
        """Name what the store holds after the call."""
        scene, before = self.scene, self.scene.before[strategy]
        after = scene.contents(strategy)
        if after is None:
            left = "nothing"
        elif after == before:
            left = "what it held"
        else:
            name = f"work.{strategy.lower()}"
            source = self.driver.cache(scene.source.url)
            reader = scene._work(source, name, **self.state.options)
            assert reader.using("FRESH")(1) == "new"
            left = "the new value"
        if self.state.unheard and strategy in UNHEARD:
            assert left in ("what it held", UNHEARD[strategy])
            left = f"what it held, or {UNHEARD[strategy]}"
        return left

    def watch_invalidated(self) -> None:
        """What INVALIDATE removed must not come back, taken by the store or not."""
        work = self.scene.works["INVALIDATE"]
        gets, _ = outcome(lambda: work.using("FRESH")(1), work, self.scene.error)
        if gets == CACHED:
            self.row.old.append("INVALIDATE")

    def watch_recovery(self) -> None:
        """Each function gets what was stored after the end, without being told."""
        for work in self.scene.works.values():
            work.error = work.before = None
            self.wait_for_hits(work)

    def wait_for_hits(self, work: Work) -> None:
        hits, began = work.info.l2_hits, time.monotonic()
        while work.info.l2_hits == hits:
            assert work.using("REFRESH")(999) == "new"
            spent = time.monotonic() - began
            assert spent < RECOVERY, "the store works and is not used"
            if spent > 0.02:
                self.driver.rest(0.01)


def play(state: State, kind: type[Driver], world: World) -> Row:
    """The row of a state, for ``def`` or ``async def`` functions."""
    for attempt in range(1, 4):
        with closing(kind()) as driver:
            scene = Scene(driver, world, state)
            scene.lasts *= attempt * attempt
            with closing(scene):
                try:
                    return Play(scene).run()
                except TooSlow:
                    continue
    raise AssertionError("the machine is too slow for a state that ends by itself")
