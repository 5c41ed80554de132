# SPDX-License-Identifier: MIT
"""Calls in a loop while the shared store is killed and comes back.

The memory tier is off, so that every call has to do with the store. Each call is timed
from outside, and the function's own run from inside: the rest is what caching cost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import survey
from throwaway import Redis

from cachekit import Cache, CacheConfig

STORE, FILLED, ALONE = "store", "filled", "alone"


@dataclass
class Call:
    """One call: when it began, how long it took, how long of that the function ran."""

    at: float
    seconds: float
    ran: float
    source: str  # STORE: a hit; FILLED: ran, store asked; ALONE: ran, store not there

    @property
    def added(self) -> float:
        return self.seconds - self.ran


@dataclass
class Story:
    """What happened. All times are seconds since the first call."""

    calls: list[Call] = field(default_factory=list)
    failed: int = 0
    killed: float = 0.0
    restarted: float = 0.0
    first_hit: float | None = None
    breaker: list[tuple[float, str]] = field(default_factory=list)
    said: list[tuple[float, str]] = field(default_factory=list)
    end: float = 0.0

    def before(self) -> list[Call]:
        return [call for call in self.calls if call.at < self.killed]

    def without(self) -> list[Call]:
        return [call for call in self.calls if self.killed <= call.at < self.restarted]

    def after(self) -> list[Call]:
        return [call for call in self.calls if call.at >= self.restarted]


class _Ear(logging.Handler):
    """Hears what cachekit says of the store and its breaker."""

    def __init__(self, story: Story, now: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._story, self._now = story, now

    def emit(self, record: logging.LogRecord) -> None:
        self._story.said.append((self._now(), record.getMessage()))
        if getattr(record, "event", None) == "breaker_changed":
            # "ok" stands for a closed breaker.
            state = str(record.__dict__.get("state"))
            self._story.breaker.append((self._now(), state.replace("ok", "closed")))


@dataclass
class Times:
    """How long, in seconds, each act of the play lasts."""

    up: float = 1.2
    down: float = 3.0
    again: float = 1.2
    patience: float = 8.0  # for hits to come back
    pause: float = 0.004  # between two calls


def play(
    redis: Redis,
    modules: Sequence[str],
    times: Times,
    show: Callable[[float], None],
) -> Story:
    """Kill the store, wait, restart it, go on; ``show(done)`` with done from 0 to 1."""
    story = Story()
    cache = Cache(CacheConfig(namespace="outage"), backend=redis.url)
    ran = 0.0

    @cache(name="measure", l1_enabled=False)
    def measure(module: str) -> dict[str, int]:
        nonlocal ran
        began = time.perf_counter()
        result = survey.measure(module)
        ran = time.perf_counter() - began
        return result

    right = {module: measure(module) for module in modules}  # the store is warm now
    began = time.perf_counter()

    def now() -> float:
        return time.perf_counter() - began

    def call(module: str) -> None:
        nonlocal ran
        before, ran = measure.cache_info(), 0.0
        start = now()
        try:
            value = measure(module)
        except Exception:
            value = None
        seconds = now() - start
        after = measure.cache_info()
        story.failed += value != right[module]
        source = FILLED
        if after.l2_hits > before.l2_hits:
            source = STORE
        elif after.errors > before.errors or _is_open(story):
            source = ALONE
        story.calls.append(Call(start, seconds, ran, source))
        if source == STORE and story.restarted and story.first_hit is None:
            story.first_hit = start

    def latest(story: Story) -> float:
        return story.restarted + times.patience

    total = times.up + times.down + times.again + 1.0
    logger = logging.getLogger("cachekit")
    ear = _Ear(story, now)
    logger.addHandler(ear)
    try:
        for module in cycle(modules):
            call(module)
            time.sleep(times.pause)
            at = now()
            show(min(1.0, at / total))
            if not story.killed:
                if at > times.up:
                    redis.kill()
                    story.killed = now()
            elif not story.restarted:
                if at > story.killed + times.down:
                    redis.start()
                    story.restarted = now()
            elif at > (story.first_hit or latest(story)) + times.again:
                break
    finally:
        logger.removeHandler(ear)
        cache.close()
    story.end = now()
    return story


def _is_open(story: Story) -> bool:
    return bool(story.breaker) and story.breaker[-1][1] != "closed"
