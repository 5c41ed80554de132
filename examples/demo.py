# SPDX-License-Identifier: MIT
"""See cachekit work: on real input, through a real outage. ``make demo`` runs it.

1. Analyses every module of the Python standard library on this machine: without a
   cache, with a cold one, with a warm one; as ``def`` and as ``async def``.
2. Where ``redis-server`` is installed: starts one of its own, lets a second process
   find everything in the store and then invalidate one package by its tag, which the
   first process hears of; kills the server in the middle of a loop of calls, starts it
   again, and shows that no call failed and what each of them cost.
3. Prints one table and draws one picture.

It uses the standard library and cachekit, takes less than a minute, and leaves nothing
behind but the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import outage
import picture
import survey
from screen import Bar, duration, prepare, say, table
from throwaway import Redis

from cachekit import Cache, CacheConfig, __version__

HERE = Path(__file__).resolve().parent
#: The first run stops here, so that a slow machine is done within a minute too: what it
#: did not reach is left out of all others.
MOST_SECONDS = 10.0
#: Modules that the outage is played with: short ones, so that calls are many.
OUTAGE_MODULES = 60

Values = dict[str, dict[str, int]]


@dataclass
class Row:
    """One line of the table."""

    name: str
    seconds: list[float]
    failed: int = 0
    memory: int = 0
    store: int = 0
    ran: int = 0

    def cells(self) -> list[str]:
        counts = (self.failed, self.memory, self.store, self.ran)
        return [
            self.name,
            f"{len(self.seconds):,}",
            *(f"{count:,}" if count else "-" for count in counts),
            duration(statistics.median(self.seconds)) if self.seconds else "-",
            duration(max(self.seconds)) if self.seconds else "-",
            duration(sum(self.seconds)) if self.seconds else "-",
        ]


HEAD = ["", "calls", "failed", "memory", "store", "ran", "median", "max", "total"]


def run(
    name: str,
    function: Callable[[str], Any],
    modules: Sequence[str],
    most: float = float("inf"),
) -> tuple[Row, Values]:
    """Call ``function`` for each module, and time each call."""
    seconds: list[float] = []
    values: Values = {}
    end = time.perf_counter() + most
    with Bar(name, len(modules)) as bar:
        for module in modules:
            began = time.perf_counter()
            values[module] = function(module)
            ended = time.perf_counter()
            seconds.append(ended - began)
            bar.show(len(seconds))
            if ended > end:
                break
        bar.result = _summary(seconds)
    return Row(name, seconds, ran=len(seconds)), values


async def run_async(
    name: str, function: Callable[[str], Awaitable[Any]], modules: Sequence[str]
) -> tuple[Row, Values]:
    """The same for a coroutine function."""
    seconds: list[float] = []
    values: Values = {}
    with Bar(name, len(modules)) as bar:
        for module in modules:
            began = time.perf_counter()
            values[module] = await function(module)
            seconds.append(time.perf_counter() - began)
            bar.show(len(seconds))
        bar.result = _summary(seconds)
    return Row(name, seconds, ran=len(seconds)), values


def _summary(seconds: list[float]) -> str:
    each = duration(statistics.median(seconds)) if seconds else "-"
    return f"{len(seconds):,} calls in {duration(sum(seconds))}, median {each}"


class Ledger:
    """Whose hits and runs happened since it was last asked."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._last = function.cache_info()

    def enter(self, row: Row) -> None:
        last, info = self._last, self._function.cache_info()
        row.memory = info.l1_hits - last.l1_hits
        row.store = info.l2_hits - last.l2_hits
        row.ran = info.loads - last.loads
        self._last = info


class Demo:
    def __init__(self, options: argparse.Namespace, url: str | None) -> None:
        self.options = options
        self.url = url
        self.rows: list[Row] = []
        self.right: Values = {}
        self.wrong = 0
        self.cache = self.make_cache()

    def make_cache(self) -> Cache:
        return Cache(CacheConfig(namespace="demo"), backend=self.url)

    def keep(self, row: Row, values: Values, ledger: Ledger | None = None) -> None:
        """Note what a run gave, and compare it with what the plain function gives."""
        row.failed = sum(self.right[name] != value for name, value in values.items())
        self.wrong += row.failed
        if ledger is not None:
            ledger.enter(row)
        self.rows.append(row)

    def blocking(self, modules: list[str]) -> list[str]:
        """Without, cold, warm; the modules that the first run reached."""
        row, self.right = run("def, no cache", survey.measure, modules, MOST_SECONDS)
        self.keep(row, self.right)
        modules = list(self.right)
        tagged = self.cache(tags=lambda module: [survey.package(module)])
        self.measure = measure = tagged(survey.measure)
        self.ledger = ledger = Ledger(measure)
        self.keep(*run("def, cold cache", measure, modules), ledger)
        self.keep(*run("def, warm cache", measure, modules), ledger)
        return modules

    async def awaiting(self, modules: list[str]) -> None:
        self.keep(
            *await run_async("async def, no cache", survey.measure_async, modules)
        )
        cache = self.make_cache()
        measure = cache(survey.measure_async)
        ledger = Ledger(measure)
        self.keep(*await run_async("async def, cold cache", measure, modules), ledger)
        self.keep(*await run_async("async def, warm cache", measure, modules), ledger)
        await cache.aclose()

    def neighbour(self, modules: list[str], tag: str) -> None:
        """A second process asks for the same, then invalidates one package."""
        assert self.url is not None
        name = "second process"
        with Bar(name, 1) as bar:
            done = subprocess.run(
                [sys.executable, str(HERE / "neighbour.py"), self.url, tag],
                input="\n".join(modules),
                capture_output=True,
                text=True,
                check=True,
            )
            heard = json.loads(done.stdout)
            bar.result = (
                f"{heard['store']:,} of {len(modules):,} found in the store, "
                f"function run {heard['ran']:,} times"
            )
        seconds = heard.pop("seconds")
        self.rows.append(Row(name, seconds, **heard))

    def invalidated(self, modules: list[str]) -> None:
        """The largest package is invalidated by its tag; then all are asked for again.

        Where there is a store a second process does it, and ours hears of it.
        """
        [(tag, _)] = Counter(map(survey.package, modules)).most_common(1)
        if self.url is None:
            self.cache.invalidate_tags(tag)
        else:
            self.neighbour(modules, tag)
        one = next(name for name in modules if survey.package(name) == tag)
        until = time.monotonic() + 1.0
        while self.measure.entry(one) is not None and time.monotonic() < until:
            time.sleep(0.001)  # the message is on its way
        row, values = run(f"def, {tag} invalidated", self.measure, modules)
        self.keep(row, values, self.ledger)

    def outage(self, redis: Redis) -> outage.Story:
        """Kill the store under a loop of calls."""
        short = sorted(self.right, key=lambda module: self.right[module]["lines"])
        # From the middle of the list: not empty, and not long.
        middle = short[len(short) // 3 :][:OUTAGE_MODULES] or short
        times = outage.Times()
        if self.options.quick:
            times = outage.Times(up=0.3, down=0.4, again=0.3)
        with Bar("outage", 100) as bar:
            story = outage.play(
                redis, middle, times, lambda part: bar.show(int(100 * part))
            )
            back = "no hit from the store came back"
            if story.first_hit:
                pause = duration(story.first_hit - story.restarted)
                back = f"hits again {pause} after the restart"
            bar.result = f"{len(story.calls):,} calls, {story.failed:,} failed; {back}"
        for name, calls in (
            ("loop, store up", story.before()),
            ("loop, store killed", story.without()),
            ("loop, store restarted", story.after()),
        ):
            hits = sum(call.source == outage.STORE for call in calls)
            row = Row(name, [call.seconds for call in calls], store=hits)
            row.ran = len(calls) - hits
            self.rows.append(row)
        self.wrong += story.failed
        return story

    def close(self) -> None:
        self.cache.close()


def show_findings(values: Values) -> None:
    """What the survey found: it was real work."""
    lines, functions, branches = (
        sum(value[what] for value in values.values())
        for what in ("lines", "functions", "branches")
    )
    deepest = max(values, key=lambda module: values[module]["depth"])
    say(
        f"  Found {lines:,} lines, {functions:,} functions and {branches:,} branches; "
        f"the deepest nesting,\n  {values[deepest]['depth']} levels, is in {deepest}."
    )


def show_outage(story: outage.Story) -> None:
    """What a call cost beyond the function while the store was dead."""
    added = [call.added for call in story.without()]
    if not added:
        return
    say(
        f"  While the store was dead caching added {duration(statistics.median(added))}"
        f" to a call (median), {duration(max(added))} at most."
    )
    for at, what in story.said:
        say(f"    {at:5.2f} s  {what}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of 1 or more")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See cachekit work.")
    parser.add_argument("--modules", type=_count, metavar="N", help="only the first N")
    parser.add_argument("--quick", action="store_true", help="a shorter outage")
    parser.add_argument("--no-redis", action="store_true", help="memory only")
    parser.add_argument("--out", type=Path, default=HERE.parent / "out", metavar="DIR")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    prepare()
    # The demo brings its own settings; a SIGTERM is an orderly end.
    for name in [*os.environ]:
        if name.startswith("CACHEKIT_") or name == "REDIS_URL":
            del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.perf_counter()
    modules = survey.modules()[: options.modules]
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"cachekit {__version__} on Python {version}")
    say(f"Analysing the standard library: {len(modules):,} modules in {survey.FOLDER}")
    with contextlib.ExitStack() as stack:
        redis = None
        if Redis.is_installed() and not options.no_redis:
            redis = stack.enter_context(Redis())
            say(f"A Redis server of our own listens on 127.0.0.1:{redis.port}")
        else:
            say("No redis-server here: memory alone, without the outage")
        say()
        demo = Demo(options, redis.url if redis else None)
        stack.callback(demo.close)
        reached = demo.blocking(modules)
        if len(reached) < len(modules):
            say(f"  (the first {len(reached):,} of them, to stay within a minute)")
        asyncio.run(demo.awaiting(reached))
        story = None
        demo.invalidated(reached)
        if redis is not None:
            story = demo.outage(redis)
    say()
    rows = [row.cells() for row in demo.rows]
    table(HEAD, [*rows[:3], [], *rows[3:6], *([[], *rows[6:]] if rows[6:] else [])])
    say()
    show_findings(demo.right)
    if story is not None:
        show_outage(story)
    path = options.out / "demo.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture.draw(demo.rows, story), encoding="utf-8")
    say(f"  The picture: {os.path.relpath(path)}")
    say(f"  {time.perf_counter() - began:.0f} s in all.")
    if demo.wrong:
        say(f"  {demo.wrong:,} calls failed or gave a wrong value!")
    return 1 if demo.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the server is gone")
