# SPDX-License-Identifier: MIT
"""How the benchmarks measure, and the rows of their table.

The contestants of a race run in one process, one after another, in rounds whose order
is shuffled, so that a slow minute of the machine is everybody's. A ratio is given
twice: of the best rounds, and as the median of the ratios within each round. A target
is reached when both reach it.

The garbage collector is off while the clock runs. Where a hit takes nanoseconds, the
time of an empty loop, a contestant of the same race, is subtracted.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

__all__ = [
    "Row",
    "Settings",
    "Times",
    "best_of",
    "compare",
    "duration",
    "loop",
    "print_table",
    "race",
    "rounds_of",
    "skipped",
    "verdict",
    "within",
]


class Settings(NamedTuple):
    """How long to measure."""

    quick: bool

    @property
    def rounds(self) -> int:
        return 7 if self.quick else 15

    @property
    def seconds(self) -> float:
        """About how long one contestant runs in one round, where that can be chosen."""
        return 0.01 if self.quick else 0.05


# -- measuring ------------------------------------------------------------------------


class Times(NamedTuple):
    """Seconds for one piece of work, a figure for each round."""

    rounds: tuple[float, ...]

    @property
    def min(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def less(self, other: Times) -> Times:
        """Without what `other` took: the lowest of it, so that noise adds nothing."""
        return Times(tuple(max(value - other.min, 1e-12) for value in self.rounds))


#: Runs its work this many times; returns the seconds that took.
Timed = Callable[[int], float]


def loop(statement: str, **names: Any) -> Timed:
    """A loop over `statement`, compiled; `names` are its local variables."""
    keywords = "".join(f", {name}={name}" for name in names)
    source = (
        f"def timed(_count, *, _clock=_clock, _repeat=_repeat{keywords}):\n"
        f"    _times = _repeat(None, _count)\n"
        f"    _start = _clock()\n"
        f"    for _ in _times:\n"
        f"        {statement}\n"
        f"    return _clock() - _start\n"
    )
    space: dict[str, Any] = {"_clock": time.perf_counter, "_repeat": repeat, **names}
    exec(source, space)
    return space["timed"]


def rounds_of(timed: Timed, seconds: float, at_least: int = 1) -> Callable[[], float]:
    """A round of about `seconds`, `at_least` so often; returns the time of one."""
    timed(at_least)  # misses, imports, connections: no measure of what follows
    count = at_least
    while (took := timed(count)) < seconds / 4 and count < 1 << 30:
        count *= 2 if took > seconds / 64 else 8
    count = max(at_least, int(count * seconds / max(took, 1e-9)))
    return lambda: timed(count) / count


def race(
    contestants: dict[str, Callable[[], float]], rounds: int, seed: int = 1
) -> dict[str, Times]:
    """Run everyone once a round, in shuffled order; the first round does not count."""
    order = list(contestants)
    shuffle = random.Random(seed).shuffle
    times: dict[str, list[float]] = {name: [] for name in order}
    for number in range(rounds + 1):
        shuffle(order)
        for name in order:
            gc.collect()
            gc.disable()
            try:
                took = contestants[name]()
            finally:
                gc.enable()
            if number > 0:
                times[name].append(took)
    return {name: Times(tuple(values)) for name, values in times.items()}


def best_of(times: dict[str, Times], names: Iterable[str]) -> str:
    """Who among `names` has the lowest median."""
    return min(names, key=lambda name: times[name].median)


# -- rows -----------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of the table; `figures` goes into the JSON with it."""

    line: str
    work: str
    against: str
    target: str
    measured: str
    verdict: str
    figures: dict[str, Any] = {}


def verdict(holds: bool) -> str:
    return "holds" if holds else "misses"


def compare(
    line: str,
    work: str,
    ours: Times,
    against: str,
    theirs: Times,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    show: Callable[[float], str] | None = None,
) -> Row:
    """Ours beside theirs: `at_most` x its time, or `at_least` x faster.

    Without a bound the row is for orientation and has no verdict.
    """
    pairs = list(zip(ours.rounds, theirs.rounds, strict=True))
    if at_least is None:
        best = ours.min / theirs.min
        middle = statistics.median(mine / other for mine, other in pairs)
        target = "-" if at_most is None else f"<= {at_most:g} x"
        word = "x its time"
    else:
        best = theirs.min / ours.min
        middle = statistics.median(other / mine for mine, other in pairs)
        target = f">= {at_least:g} x faster"
        word = "x faster"
    if at_most is not None:
        outcome = verdict(max(best, middle) <= at_most)
    elif at_least is not None:
        outcome = verdict(min(best, middle) >= at_least)
    else:
        outcome = "-"
    show = show or duration
    measured = (
        f"{_ratio(best)} {word}, median {_ratio(middle)} "
        f"({show(ours.min)} : {show(theirs.min)})"
    )
    figures = {
        "ratio_of_minima": best,
        "median_of_ratios": middle,
        "at_most": at_most,
        "at_least": at_least,
        "seconds": {
            "ours": {"min": ours.min, "median": ours.median, "rounds": ours.rounds},
            against: {
                "min": theirs.min,
                "median": theirs.median,
                "rounds": theirs.rounds,
            },
        },
    }
    return Row(line, work, against, target, measured, outcome, figures)


def within(
    line: str,
    work: str,
    against: str,
    value: float,
    bound: float,
    show: Callable[[float], str],
    note: str = "",
    **figures: Any,
) -> Row:
    """An absolute figure beside the highest that it may have."""
    measured = show(value) + (f" ({note})" if note else "")
    return Row(
        line,
        work,
        against,
        f"<= {show(bound)}",
        measured,
        verdict(value <= bound),
        {"value": value, "bound": bound, **figures},
    )


def skipped(line: str, work: str, why: str, against: str = "-") -> Row:
    return Row(line, work, against, "-", why, "not measured")


def _ratio(value: float) -> str:
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


# -- the table ------------------------------------------------------------------------

COLUMNS = ("line", "work", "measured against", "target", "measured", "verdict")


def print_table(rows: Sequence[Row]) -> None:
    cells = [COLUMNS, *(row[: len(COLUMNS)] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    print("\n".join(lines))
    sys.stdout.flush()
