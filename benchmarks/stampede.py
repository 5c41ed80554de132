# SPDX-License-Identifier: MIT
"""P17: one cold key, wanted by everybody at once, and a function of 0.2 s.

What counts is how often the function runs in all, and how long the slowest caller
waits, from its own call to its answer. The crowd is 200 threads, 200 tasks, or 8
processes of 25 callers. Everybody has been warm before, on another key: connections
stand. Each round has a key of its own. The quick table leaves the rivals out.

A lock across processes is an option, here as elsewhere: without it, every process runs
the function once, and the line is shown without a verdict.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import redis_server
from crowd import SECONDS
from harness import Row, Settings, duration, skipped, verdict
from rivals import Unavailable, namesake, search_path
from workers import Worker

SCRIPT = str(Path(__file__).resolve().parent / "crowd.py")
BOUND = 0.25
CALLERS, PROCESSES = 200, 8
NAMESAKE = "the PyPI cachekit"

keys = itertools.count(1)


class Contest(NamedTuple):
    name: str
    contestant: str  #: as crowd.py calls it
    judged: bool = False
    modules: tuple[str, ...] = ()


_DOGPILE = ("dogpile", "redis", "hiredis")
_CASHEWS = ("cashews", "redis", "hiredis")

THREADS = (
    Contest("ours, Redis", "ours", True),
    Contest("ours, Redis, distributed_lock", "ours, lock", True),
    Contest("ours, memory alone", "ours, memory", True),
    Contest("dogpile, Redis", "dogpile", False, _DOGPILE),
    Contest(NAMESAKE, "namesake"),
)
TASKS = (
    Contest("ours, Redis", "ours, async", True),
    Contest("ours, Redis, distributed_lock", "ours, async, lock", True),
    Contest("cashews, Redis", "cashews", False, _CASHEWS),
    Contest("aiocache cached_stampede", "aiocache", False, ("aiocache", "redis")),
    Contest(NAMESAKE, "namesake, async"),
)
ACROSS = (
    Contest("ours, threads, distributed_lock", "ours, lock", True),
    Contest("ours, tasks, distributed_lock", "ours, async, lock", True),
    Contest("ours, threads, no lock", "ours"),
    Contest("dogpile, threads, distributed_lock", "dogpile, lock", False, _DOGPILE),
    Contest("cashews, tasks, lock", "cashews, lock", False, _CASHEWS),
    Contest(f"{NAMESAKE}, threads", "namesake"),
    Contest(f"{NAMESAKE}, tasks", "namesake, async"),
)


def measure(settings: Settings) -> Iterator[Row]:
    """P17."""
    with redis_server.running() as server:
        for crowd, contests, processes in (
            (f"{CALLERS} threads", THREADS, 1),
            (f"{CALLERS} tasks", TASKS, 1),
            (f"{PROCESSES} processes x {CALLERS // PROCESSES}", ACROSS, PROCESSES),
        ):
            for contest in contests:
                if settings.quick and not contest.judged:
                    continue  # rivals, in their seconds of time-outs
                yield _row(server.url, crowd, contest, processes, settings)


def _row(
    url: str, crowd: str, contest: Contest, processes: int, settings: Settings
) -> Row:
    work = f"stampede, {crowd}, {contest.name}"
    rounds = 2 if settings.quick else 5
    try:
        with ExitStack() as stack:
            workers = [
                stack.enter_context(_worker(url, contest)) for _ in range(processes)
            ]
            _together(workers, lead=0.2)
            seen = [_together(workers) for _ in range(rounds)]
    except Unavailable as why:
        return skipped("P17", work, str(why))
    most_runs = max(one["runs"] for one in seen)
    slowest = [one["slowest"] for one in seen]
    wrong = sum(one["wrong"] for one in seen)
    middle = statistics.median(slowest)
    holds = most_runs == 1 and wrong == 0 and middle <= BOUND
    return Row(
        "P17",
        work,
        f"ideal: 1 run, {duration(SECONDS)}",
        f"1 run, <= {duration(BOUND)}" if contest.judged else "-",
        f"{most_runs} run{'s' * (most_runs != 1)}, slowest caller {duration(middle)} "
        f"(min {duration(min(slowest))})"
        + (f", {wrong} of {rounds * CALLERS} callers failed" if wrong else ""),
        verdict(holds) if contest.judged else "-",
        {"rounds": seen},
    )


def _worker(url: str, contest: Contest) -> Worker:
    command = [sys.executable, SCRIPT, contest.contestant, url]
    path = None
    if contest.contestant.startswith("namesake"):
        command[1:1] = ["-I", "-S"]
        command.append(str(namesake()))
    elif contest.modules:
        path = search_path(*contest.modules)
    return Worker(command, path)


def _together(workers: Sequence[Worker], lead: float = 0.1) -> dict[str, Any]:
    """One round of all: `lead` seconds are for the callers to line up."""
    key = next(keys)
    at = time.monotonic() + lead
    for worker in workers:
        worker.say(key, CALLERS // len(workers), at)
    answers = [json.loads(worker.answer()) for worker in workers]
    return {
        "runs": sum(answer["runs"] for answer in answers),
        "slowest": max(answer["slowest"] for answer in answers),
        "wrong": sum(answer["wrong"] for answer in answers),
    }
