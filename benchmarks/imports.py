# SPDX-License-Identifier: MIT
"""P13: how long ``import cachekit`` takes, beside a bare interpreter and other imports.

Every contestant is a process of its own, started in the rounds of one race; byte code
is there from the round that does not count. What counts is the time over the bare
interpreter's, the lowest of each: a disturbance only ever adds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from harness import Row, Settings, duration, race, skipped, verdict, within
from rivals import Unavailable, search_path

BOUND = 0.020
FASTER = 10
ORIENTATION = ("asyncio", "msgspec")


def starts(statement: str, path: str) -> Callable[[], float]:
    environment = {
        name: value for name, value in os.environ.items() if name[:6] != "PYTHON"
    }
    environment["PYTHONPATH"] = path
    command = [sys.executable, "-c", statement]

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment, cwd="/")
        return time.perf_counter() - start

    return once


def measure(settings: Settings) -> Iterator[Row]:
    """P13."""
    modules = ["cachekit", "asyncio"]
    missing = {}
    for module in ("redis", "msgspec"):
        try:
            search_path(module)
        except Unavailable as why:
            missing[module] = str(why)
        else:
            modules.append(module)
    path = search_path()
    contestants = {"bare": starts("pass", path)}
    for module in modules:
        contestants[module] = starts(f"import {module}", path)
    times = race(contestants, 11 if settings.quick else 21)
    bare = times["bare"]
    over = {name: taken.less(bare) for name, taken in times.items()}
    ours = over["cachekit"]
    yield within(
        "P13",
        "import cachekit",
        "a bare interpreter",
        ours.min,
        BOUND,
        duration,
        f"median {duration(ours.median)}; bare {duration(bare.min)}",
        rounds=ours.rounds,
    )
    if "redis" in over:
        yield _beside_redis(ours.min, over["redis"].min)
    for module in ORIENTATION:
        if module in over:
            measured = f"{duration(over[module].min)} over bare"
            figures = {"rounds": over[module].rounds}
            yield Row("P13", f"import {module}", "-", "-", measured, "-", figures)
    for module, why in missing.items():
        yield skipped("P13", "import cachekit", why, f"import {module}")


def _beside_redis(ours: float, theirs: float) -> Row:
    ratio = theirs / ours
    return Row(
        "P13",
        "import cachekit",
        "import redis",
        f">= {FASTER} x faster",
        f"{ratio:.1f} x faster ({duration(ours)} : {duration(theirs)} over bare)",
        verdict(ratio >= FASTER),
        {"ratio_of_minima": ratio, "ours": ours, "redis": theirs},
    )
