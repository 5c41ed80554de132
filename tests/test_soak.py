"""The soak in seconds, and tests of its model: it must find what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from soak.model import Model
from soak.plan import Database, Kind, Limits, Settings, kinds
from soak.program import Soak
from soak.worker import Worker

KINDS = {
    "plain": Kind("plain", {"ttl": 30.0}),
    "bare": Kind("bare", {"ttl": 30.0, "l1_enabled": False}),
    "brief": Kind("brief", {"ttl": 1.0}),
    "stale": Kind("stale", {"ttl": 1.0, "stale_ttl": 4.0}),
    "locked": Kind("locked", {"ttl": 30.0, "distributed_lock": True}),
    "tagged": Kind("tagged", {"ttl": 30.0}, tagged=True),
}
LIMITS = Limits(deadline=0.5, run=0.05, hearing=5.0, slack=0.5, warm_up=1.0)
HEARD = 6.0  # hearing, deadline and slack
OWN, OTHER = "w0.0", "w1.0"


class History:
    """Records, as two processes and a conductor would tell them."""

    def __init__(self) -> None:
        self.model = Model(KINDS, {"w0": "direct", "w1": "proxy"}, LIMITS)
        self._troubles = 0

    def op(
        self,
        worker: str,
        verb: str,
        begin: float,
        took: float = 0.0,
        *,
        kind: str = "plain",
        key: Any = 0,
        outcome: str = "done",
        run: str | None = None,
        read_at: float | None = None,
    ) -> None:
        details = (kind, key, begin, begin + took, outcome, run, read_at, 1)
        self.model.feed([("op", worker, "thread0", verb, *details)])

    def run(self, name: str, begin: float, took: float = 0.0, **of: Any) -> None:
        kind, verb = of.get("kind", "plain"), of.get("verb", "read")
        worker = name.rpartition(".")[0]
        details = (worker, name, kind, 0, begin, begin + took, verb)
        self.model.feed([("run", *details, of.get("ordinal", 1), False)])

    def read(
        self, worker: str, at: float, run: str, read_at: float, **more: Any
    ) -> None:
        verb = more.pop("verb", "read")
        self.op(worker, verb, at, outcome="value", run=run, read_at=read_at, **more)

    def invalidated(self, worker: str, begin: float, end: float, **more: Any) -> None:
        outcome = more.pop("outcome", "delivered")
        verb = more.pop("verb", "change")
        self.op(worker, verb, begin, end - begin, outcome=outcome, **more)

    def put(self, worker: str, run: str, begin: float, end: float, **more: Any) -> None:
        self.op(worker, "put", begin, end - begin, run=run, read_at=begin, **more)

    def trouble(self, begin: float, end: float | None, route: str = "all") -> None:
        self._troubles += 1
        self.model.feed([("trouble", self._troubles, "kill", route, begin, end)])

    @property
    def found(self) -> list[str]:
        """What the model finds, without the name of the process."""
        self.model.finish()
        return [one.text for one in self.model.violations]


@pytest.fixture
def history() -> History:
    return History()


def found_one(history: History, words: str) -> None:
    (text,) = history.found
    assert words in text


# What is older than allowed


@pytest.mark.parametrize("outcome", ["delivered", "queued"])
def test_the_process_that_invalidated_never_sees_what_was_before(history, outcome):
    history.run("w1.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2, outcome=outcome)
    history.read(OWN, 10.21, "w1.0.1", 10.0)
    found_one(history, "before an invalidation by the same process")


def test_what_began_after_the_invalidation_began_may_be_seen(history):
    history.run("w1.0.1", 10.15)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.3, "w1.0.1", 10.15)
    assert history.found == []


def test_a_read_beside_the_invalidation_may_see_either(history):
    history.run("w1.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.15, "w1.0.1", 10.0)
    assert history.found == []


def test_an_invalidation_that_is_told_late_counts(history):
    history.model.joined(OWN, 0.0)
    history.model.joined(OTHER, 0.0)
    history.read(OWN, 10.3, "w1.0.1", 10.0)
    history.model.feed([("mark", OWN, 11.0, None)])
    assert history.model.violations == []
    history.invalidated(OWN, 10.1, 10.2)
    history.model.feed([("mark", OTHER, 11.0, None)])
    assert len(history.model.violations) == 1


def test_a_lane_that_was_killed_holds_nothing_up(history):
    history.model.joined(OWN, 0.0)
    history.model.joined(OTHER, 0.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.3, "w1.0.1", 10.0)
    history.model.feed([("mark", OWN, 11.0, None)])
    history.model.left(OTHER)
    history.model.feed([])
    assert len(history.model.violations) == 1


def test_memory_elsewhere_may_miss_it_for_the_time_of_hearing(history):
    history.run("w0.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OTHER, 10.2 + HEARD - 0.1, "w0.0.1", 10.0)
    assert history.found == []


def test_memory_elsewhere_may_not_miss_it_for_longer(history):
    history.run("w0.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OTHER, 10.2 + HEARD + 0.1, "w0.0.1", 10.0)
    found_one(history, "before an invalidation by w0.0")


def test_no_memory_may_not_miss_it_for_longer_than_a_flight(history):
    history.run("w0.0.1", 10.0, kind="bare")
    history.invalidated(OWN, 10.1, 10.2, kind="bare")
    history.read(OTHER, 10.9, "w0.0.1", 10.0, kind="bare")
    history.read(OTHER, 11.3, "w0.0.1", 10.0, kind="bare")
    found_one(history, "delivered 1.1")


def test_what_is_queued_elsewhere_binds_nobody_else(history):
    history.run("w0.0.1", 10.0)
    history.trouble(9.0, 25.0)
    history.invalidated(OWN, 10.1, 10.2, outcome="queued")
    history.read(OTHER, 24.9 + 2 * HEARD, "w0.0.1", 10.0)
    assert history.found == []


def test_what_was_queued_is_delivered_when_the_store_is_back(history):
    history.run("w0.0.1", 10.0)
    history.trouble(9.0, 25.0)
    history.invalidated(OWN, 10.1, 10.2, outcome="queued")
    history.read(OTHER, 25.1 + 2 * HEARD, "w0.0.1", 10.0)
    found_one(history, "which was queued")


def test_what_was_queued_is_sent_before_the_next_read_of_the_store(history):
    history.run("w0.0.1", 10.0, kind="bare")
    history.trouble(9.0, 11.0)
    history.invalidated(OWN, 10.1, 10.2, kind="bare", outcome="queued")
    history.op(OWN, "fresh", 13.0, kind="bare", key=1, outcome="miss")
    history.read(OTHER, 13.9, "w0.0.1", 10.0, kind="bare")
    history.read(OTHER, 14.3, "w0.0.1", 10.0, kind="bare")
    found_one(history, "which was queued 4.1")


def test_who_died_delivers_nothing_any_more(history):
    history.model.joined(OWN, 0.0)
    history.run("w0.0.1", 10.0)
    history.trouble(9.0, 25.0)
    history.invalidated(OWN, 10.1, 10.2, outcome="queued")
    history.model.feed([("mark", OWN, 20.0, None)])
    history.model.left(OWN)
    history.read(OTHER, 26.0 + 2 * HEARD, "w0.0.1", 10.0)
    assert history.found == []


def test_who_cannot_reach_the_store_may_serve_memory(history):
    history.run("w0.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.trouble(12.0, 20.0)
    history.read(OTHER, 20.0 + HEARD - 0.1, "w0.0.1", 10.0)
    assert history.found == []


def test_who_reaches_it_again_may_not(history):
    history.run("w0.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    history.trouble(12.0, 20.0)
    history.read(OTHER, 20.0 + HEARD + 0.1, "w0.0.1", 10.0)
    found_one(history, "before an invalidation by w0.0")


def test_trouble_on_another_line_excuses_nobody(history):
    history.run("w1.0.1", 10.0)
    history.invalidated(OTHER, 10.1, 10.2)
    history.trouble(10.3, None, route="proxy")
    history.read(OWN, 10.2 + HEARD + 0.1, "w1.0.1", 10.0)
    found_one(history, "before an invalidation by w1.0")


def test_troubles_too_close_for_hearing_are_one(history):
    history.run("w0.0.1", 10.0)
    history.invalidated(OWN, 10.1, 10.2)
    for begin in (12, 16, 20, 24):
        history.trouble(begin, begin + 1)
    history.read(OTHER, 28.0, "w0.0.1", 10.0)
    assert history.found == []


def test_a_value_that_was_put_is_as_old_as_the_end_of_the_put(history):
    history.put(OTHER, "w1.0.p1", 10.0, 10.15)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.3, "w1.0.p1", 10.0)
    assert history.found == []


def test_a_put_that_was_over_before_is_gone(history):
    history.put(OTHER, "w1.0.p1", 10.0, 10.05)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.3, "w1.0.p1", 10.0)
    found_one(history, "before an invalidation")


@pytest.mark.parametrize(
    ("verb", "key", "kind", "found"),
    [
        ("change-all", -1, "plain", 1),
        ("change-all", -1, "bare", 0),
        ("change-tag", "tag:even", "tagged", 1),
        ("change-tag", "tag:odd", "tagged", 0),
    ],
)
def test_whole_functions_and_tags_cover_what_is_theirs(history, verb, key, kind, found):
    of = "tagged" if kind == "tagged" else "plain"
    history.run("w0.0.1", 10.0, kind=of)
    history.invalidated(OWN, 10.1, 10.2, verb=verb, key=key, kind=kind)
    history.read(OWN, 10.3, "w0.0.1", 10.0, kind=of)
    assert len(history.found) == found


# Lifetimes


def test_nothing_is_served_after_its_life(history):
    history.run("w0.0.1", 10.0, kind="brief")
    history.read(OWN, 11.9, "w0.0.1", 10.0, kind="brief")
    history.read(OWN, 12.1, "w0.0.1", 10.0, kind="brief")
    found_one(history, "to live 1.0 s")


def test_the_stale_period_is_part_of_it(history):
    history.run("w0.0.1", 10.0, kind="stale")
    history.read(OWN, 15.5, "w0.0.1", 10.0, kind="stale")
    assert history.found == []


def test_a_frozen_server_stores_late(history):
    history.run("w0.0.1", 10.0, kind="brief")
    history.trouble(10.1, 13.0)
    history.read(OWN, 14.5, "w0.0.1", 10.0, kind="brief")
    assert history.found == []


# What calls do


@pytest.mark.parametrize("verb", ["bypass", "replace", "refresh"])
def test_what_does_not_ask_the_cache_is_answered_by_a_run(history, verb):
    history.run("w0.0.1", 10.0)
    history.read(OWN, 11.5, "w0.0.1", 10.0, verb=verb)
    found_one(history, f"{verb} gave a value that was 1.50 s old")


@pytest.mark.parametrize("verb", ["fresh", "peek", "entry", "get"])
def test_what_only_looks_runs_nothing(history, verb):
    history.run("w0.0.1", 10.0, verb=verb)
    found_one(history, "ran the function")


def test_one_call_runs_the_function_once(history):
    history.run("w0.0.1", 10.0, ordinal=2)
    found_one(history, "twice")


def test_what_is_wrong_with_a_value_is_passed_on(history):
    history.op(OWN, "read", 10.0, outcome="! belongs to plain:1")
    found_one(history, "belongs to plain:1")


@pytest.mark.parametrize(
    ("kind", "verb", "bound"),
    [("plain", "read", 1.6), ("plain", "fresh", 1.0), ("locked", "read", 1.6)],
)
def test_callers_are_answered_in_time(history, kind, verb, bound):
    history.op(OWN, verb, 10.0, bound - 0.1, kind=kind)
    history.op(OWN, verb, 20.0, bound + 0.1, kind=kind)
    found_one(history, "took")


def test_a_lock_that_was_left_behind_holds_callers_up(history):
    history.trouble(8.0, 8.1)
    history.op(OWN, "read", 10.0, 6.5, kind="locked")
    assert history.found == []


def test_a_machine_that_stood_still_is_no_fault_of_ours(history):
    history.model.feed([("stall", OWN, 10.5, 12.0)])
    history.op(OWN, "read", 10.0, 2.5)
    assert history.found == []


def test_a_caller_who_waits_for_ever_is_found_while_he_waits(history):
    history.model.feed([("mark", OWN, 50.0, 10.0)])
    found_one(history, "waits for 40 s")


def test_a_store_in_reach_is_used(history):
    history.model.joined(OWN, 0.0)
    history.trouble(1.0, 10.0)
    for turn in range(20):
        history.op(OWN, "fresh", 10.0 + HEARD + 0.1 * turn, outcome="unavailable")
    found_one(history, "20 times the store was in reach and not used")


def test_a_store_that_came_back_may_need_a_moment(history):
    history.model.joined(OWN, 0.0)
    history.trouble(1.0, 10.0)
    for turn in range(50):
        history.op(OWN, "change", 10.0 + 0.1 * turn, outcome="queued")
    assert history.found == []


def test_a_cache_that_never_hits_is_of_no_use(history):
    counts = {"l1_hits": 3, "l2_hits": 4}
    history.model.feed([("counts", OWN, counts)])
    for turn in range(1001):
        history.op(OWN, "read", 10.0 + turn, outcome="boom")
    found_one(history, "of little use: 7 hits")


# Growth


@pytest.mark.parametrize(
    ("place", "step", "what"),
    [(0, 1 << 20, "memory"), (1, 1, "descriptors"), (2, 1, "threads")],
)
def test_growth_is_found(history, place, step, what):
    for turn in range(60):
        figures = [40 << 20, 20, 8]
        figures[place] += turn * step
        history.model.feed([("usage", OWN, 10.0 + turn, *figures)])
    found_one(history, f"{what} grew")


def test_steady_figures_are_no_growth(history):
    for turn in range(60):
        figures = (40 << 20, 20 + turn % 3, 8)
        history.model.feed([("usage", OWN, 10.0 + turn, *figures)])
    assert history.found == []


# The report


def test_the_history_names_what_happened_to_the_key(history):
    history.trouble(9.0, 9.5)
    history.run("w1.0.1", 10.0, 0.01)
    history.invalidated(OWN, 10.1, 10.2)
    history.read(OWN, 10.3, "w1.0.1", 10.0)
    history.read(OWN, 10.2, "w1.0.2", 10.15, key=1)
    history.model.finish()
    lines = history.model.history(history.model.violations[0])
    told = "\n".join(lines)
    assert len(lines) == 5
    for words in (
        "TROUBLE (all): kill",
        "run w1.0.1",
        "change delivered",
        "read value",
    ):
        assert words in told


def test_a_seed_chooses_the_same_operations(tmp_path: Path):
    def choices(seed: int) -> list[Any]:
        settings = Settings(seed, str(tmp_path), "redis://127.0.0.1:1", "direct", 0)
        Database(settings.folder, list(kinds()), make=True).close()
        worker = Worker(settings, None)  # type: ignore[arg-type]
        worker.database.close()
        return [lane.choose() for lane in worker.lanes for _ in range(50)]

    assert choices(7) == choices(7)
    assert choices(7) != choices(8)


# With real processes


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("forgets_invalidations", "before an invalidation by the same process"),
        ("serves_another_key", "belongs to"),
        ("leaks_an_exception", "raised ConnectionResetError"),
        ("keeps_callers_waiting", "took 2."),
        ("hands_out_its_own", "shows in another"),
        ("runs_twice", "twice"),
        ("dies", "ended with 3"),
    ],
)
def test_a_fault_is_found(fault, words):
    soak = Soak(5, 8.0, workers=1, quiet=True, fault=fault)
    assert not soak.run()
    assert words in "\n".join(soak.report())
    assert "make soak SEED=5 SECONDS=8" in soak.report()[-1]


@pytest.mark.no_sanitizer
def test_a_short_soak_finds_nothing():
    """In a process of its own, as `make soak` runs it."""
    folder = Path(__file__).parent
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, sys.path)])
    result = subprocess.run(
        [sys.executable, "-m", "soak", "--seconds", "12", "--seed", "20"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "kill" in result.stdout
    assert result.stdout.endswith("nothing found\n")
