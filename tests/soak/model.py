"""The rules: finds in the records what may not be.

The model never asks what the cache did, only whether what callers saw is allowed. It
judges a read by what was over before the read began, and where it cannot know an order
it takes the one that allows more. A value is as old as the moment its run *began*
(`read_at`): a run that began before an invalidation began must not be seen after it.

- In the process that invalidated: never, from the moment `invalidate` returned,
  whether it was delivered or queued.
- In other processes, once it was delivered (a queued one is delivered when its process
  is in reach of the store again): not from the store; from memory not once
  the store has been in reach for 5 seconds and a deadline at a stretch. A process whose
  store is out of reach may serve its memory for as long as the entries live.
- A value that was put is as old as the end of the `put`: until then it may take its
  place after an invalidation that ran beside it.
- No value is served longer than its lifetime, counted from the latest moment when
  the server may have stored it: one that was frozen takes what was sent to it later.
- Callers are answered within their bound, and nothing but the allowed exceptions
  reaches them. FRESH runs nothing; no call runs the function twice.
- A store that is in reach again is used again, and the cache is of use.
- Processes do not grow once they are warm.

Records come in any order within what one reporter has not told yet; a read is judged
when everybody has told everything from before its begin.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from soak.plan import KEYS, NAMED, Kind, Limits, Record, tag_of

FOREVER = float("inf")
KEPT = 120.0  # seconds of history: more than any entry lives
LOOKED_BACK = 400  # records of a key that are kept for the report
NO_RUN = {"fresh", "peek", "entry", "get", "get-many"}
OWN_RUN = {"bypass", "replace", "refresh"}
STORES = {"get", "set", "get-many", "set-many", "put"}
ANSWER_LIMIT = 30.0  # seconds after which a caller is lost


class Violation(NamedTuple):
    text: str
    when: float
    kind: str
    key: Any


class _Invalidation(NamedTuple):
    begin: float
    end: float
    worker: str
    delivered: bool


class Troubles:
    """When the server was out of reach, on each route."""

    def __init__(self) -> None:
        self._troubles: dict[int, tuple[float, float, str, str]] = {}

    def note(self, number: int, name: str, route: str, begin: float, end: Any) -> None:
        until = FOREVER if end is None else end
        self._troubles[number] = (begin, until, route, name)

    def on(self, route: str) -> Iterator[tuple[float, float]]:
        """Begin and end of each on the route, the earliest first."""
        for begin, end, where, _ in sorted(self._troubles.values()):
            if where in ("all", route):
                yield begin, end

    def calm_from(self, when: float, seconds: float, route: str) -> float:
        """The end of the first `seconds` without trouble since `when`."""
        for begin, end in self.on(route):
            if end <= when:
                continue
            if begin - when >= seconds:
                break
            when = end
        return when + seconds

    def applied_by(self, when: float, deadline: float) -> float:
        """The latest moment at which what was sent at `when` reaches the store."""
        latest = when + deadline
        for begin, end, _, _ in sorted(self._troubles.values()):
            if begin < latest and end > when:
                latest = max(latest, end + deadline)
        return latest

    def count(self, begin: float, end: float, route: str = "") -> int:
        """How many there were; without a route, of any kind."""
        return sum(
            start < end and until > begin and (not route or where in ("all", route))
            for start, until, where, _ in self._troubles.values()
        )

    def between(self, begin: float, end: float) -> list[tuple[float, str]]:
        """When which one began or ended, for the report."""
        found = []
        for start, until, route, name in self._troubles.values():
            if start < end and until > begin:
                found.append((start, f"TROUBLE ({route}): {name}"))
                if until != FOREVER:
                    found.append((until, f"trouble over: {name}"))
        return found

    def forget(self, before: float) -> None:
        for number, (_, end, _, _) in list(self._troubles.items()):
            if end < before:
                del self._troubles[number]


class _Spans:
    """Intervals of time, and how much of a time they cover."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=5000)

    def add(self, begin: float, end: float) -> None:
        self._spans.append((begin, end))

    def within(self, begin: float, end: float) -> float:
        covered = 0.0
        for start, until in self._spans:
            covered += max(0.0, min(until, end) - max(start, begin))
        return covered


class Model:
    def __init__(
        self,
        kinds: dict[str, Kind],
        routes: dict[str, str],
        limits: Limits | None = None,
    ) -> None:
        self.kinds = kinds
        self.limits = limits or Limits()
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.sources: dict[str, dict[str, int]] = {}
        self.slowest: dict[str, float] = {}
        # How long others served what was invalidated, in seconds, the latest.
        self.heard: deque[float] = deque(maxlen=10_000)
        self.troubles = Troubles()
        self._routes = routes  # of a worker's number
        self._invalidations: dict[tuple[str, int], list[_Invalidation]] = {}
        # Of each worker, those that were queued and not seen to be sent; when those
        # that were sent had been.
        self._kept: dict[str, list[_Invalidation]] = {}
        self._sent: dict[_Invalidation, float] = {}
        self._put_ends: dict[str, float] = {}
        self._run_ends: dict[str, float] = {}
        self._stalls: dict[str, _Spans] = {}
        self._usage: dict[str, list[tuple[float, int, int, int]]] = {}
        self._marks: dict[str, float] = {}
        self._marked_since: dict[str, float] = {}  # when it joined
        self._left: dict[str, float] = {}  # when it was last heard of
        self._waiting: list[tuple[float, int, Record]] = []
        self._order = itertools.count()
        self._recent: dict[tuple[str, int], deque[Record]] = {}  # -1: of all keys
        self._in_reach: Counter[bool] = Counter()  # was it used, when it had to be?
        self._forgotten = 0.0

    # -- what comes in ----------------------------------------------------------------

    def joined(self, who: str, when: float) -> None:
        """From now on nothing is judged that `who` may have something to say about."""
        self._marks[who] = self._marked_since[who] = when

    def left(self, who: str) -> None:
        self._left[who] = self._marks.pop(who, 0.0)

    def feed(self, records: Iterable[Record]) -> None:
        for record in records:
            getattr(self, "_take_" + record[0])(*record[1:])
        self._judge(min(self._marks.values(), default=FOREVER))

    def finish(self) -> None:
        """Nothing more comes: judge what is left."""
        self._judge(FOREVER)
        self._judge_growth()
        self._judge_use()

    def _take_mark(self, who: str, when: float, oldest: float | None) -> None:
        if who in self._marks:
            self._marks[who] = when
        if oldest is not None and when - oldest > ANSWER_LIMIT:
            self._blame(f"a caller in {who} waits for {when - oldest:.0f} s", when)

    def _take_stall(self, worker: str, begin: float, end: float) -> None:
        self._stalls.setdefault(worker, _Spans()).add(begin, end)

    def _take_counts(self, worker: str, counts: dict[str, int]) -> None:
        self.sources[worker] = counts

    def _take_usage(self, worker: str, *figures: Any) -> None:
        self._usage.setdefault(worker, []).append(figures)  # type: ignore[arg-type]

    def _take_trouble(
        self, number: int, name: str, route: str, begin: float, end: float | None
    ) -> None:
        self.troubles.note(number, name, route, begin, end)
        if end is None:
            self.counts["trouble " + name.partition(" ")[0]] += 1

    def _take_run(self, *run: Any) -> None:
        worker, name, kind, key, begin, end, verb, ordinal, _ = run
        self._remember((kind, key), ("run", *run))
        self.counts["runs"] += 1
        self._run_ends[name] = end
        if verb in NO_RUN:
            self._blame(f"{worker}: {verb} ran the function", end, kind, key)
        if ordinal > 1:
            self._blame(f"{worker}: one call ran the function twice", end, kind, key)

    def _take_op(self, *op: Any) -> None:
        worker, _, verb, kind, key, begin, end, outcome, run = op[:9]
        record = ("op", *op)
        for place in self._places(kind, key):
            self._remember(place, record)
        self.counts["operations"] += 1
        self.counts[verb] += 1
        self.counts["outcome " + outcome.partition(" ")[0]] += 1
        if outcome.startswith("! "):
            self._blame(f"{worker}: {verb}: {outcome[2:]}", end, kind, key)
        if outcome in ("delivered", "queued"):
            invalidation = _Invalidation(begin, end, worker, outcome == "delivered")
            if outcome == "queued":
                self._kept.setdefault(worker, []).append(invalidation)
            for place in self._covered(verb, kind, key):
                insort(self._invalidations.setdefault(place, []), invalidation)
        elif verb in ("put", "set", "set-many") and outcome == "done":
            self._put_ends[run] = end
        heapq.heappush(self._waiting, (end, next(self._order), record))

    def _places(self, kind: str, key: Any) -> Iterator[tuple[str, int]]:
        if isinstance(key, str):  # a tag
            yield from ((one.name, -1) for one in self.kinds.values() if one.tagged)
        else:
            yield kind, key

    def _covered(self, verb: str, kind: str, key: Any) -> Iterator[tuple[str, int]]:
        if verb == "change-all":
            yield from ((kind, one) for one in range(KEYS))
        elif verb == "change-tag":
            for one in range(KEYS):
                if f"tag:{tag_of(one)}" == key:
                    yield from ((k.name, one) for k in self.kinds.values() if k.tagged)
        else:
            yield kind, key

    # -- judging ----------------------------------------------------------------------

    def _judge(self, until: float) -> None:
        while self._waiting and self._waiting[0][0] <= until:
            _, _, record = heapq.heappop(self._waiting)
            _, worker, _, verb, kind, key, begin, end, outcome = record[:9]
            self._judge_time(worker, verb, kind, key, begin, end)
            if verb in ("fresh", "change"):
                self._judge_reach(worker, begin, end, outcome)
            if verb in ("fresh", "peek") and outcome in ("value", "miss"):
                self._note_read(worker, kind, begin, end)
            if outcome == "value":
                run, read_at = record[9:11]
                self._judge_age(worker, verb, kind, key, begin, run, read_at)
                if verb in OWN_RUN:
                    self._judge_own_run(worker, verb, kind, key, begin, read_at)
        if until != FOREVER and until - self._forgotten > 10:
            self._forget(until - KEPT)
            self._forgotten = until

    def _bound(self, verb: str, kind: str, begin: float, end: float) -> float:
        """Seconds in which a caller is answered."""
        limits = self.limits
        if verb in NO_RUN or verb in STORES or verb.startswith(("change", "health")):
            return limits.deadline
        # Its own try, or first that of the one whose flight it joined.
        bound = 2 * (limits.deadline + limits.run)
        if self.kinds[kind].locked:
            # A lock is left behind when its holder dies or cannot reach the store.
            left = self.troubles.count(begin - limits.lock - limits.deadline, end)
            bound += left * (limits.lock + limits.run)
        return bound

    def _judge_time(
        self, worker: str, verb: str, kind: str, key: Any, begin: float, end: float
    ) -> None:
        took = end - begin
        if took > self.slowest.get(verb, 0.0):
            self.slowest[verb] = took
        if took <= self.limits.deadline:
            return
        bound = self._bound(verb, kind, begin, end) + self.limits.slack
        if took > bound and took > bound + self._stalled(worker, begin, end):
            self._blame(f"{worker}: {verb} took {took:.2f} s", end, kind, key)

    def _judge_own_run(
        self, worker: str, verb: str, kind: str, key: int, begin: float, read_at: float
    ) -> None:
        """What may not come from the cache comes from a run that was under way."""
        longest = self.limits.run + self.limits.deadline + self.limits.slack
        if self.kinds[kind].locked:
            longest += self.limits.lock
        age = begin - read_at
        if age > longest and age > longest + self._stalled(worker, read_at, begin):
            self._blame(
                f"{worker}: {verb} gave a value that was {age:.2f} s old",
                begin,
                kind,
                key,
            )

    def _judge_age(
        self,
        worker: str,
        verb: str,
        kind: str,
        key: int,
        begin: float,
        run: str,
        read_at: float,
    ) -> None:
        born = read_at
        if ".p" in run:
            born = self._put_ends.get(run, FOREVER)
        self._judge_life(worker, verb, kind, key, begin, run, read_at)
        invalidations = self._invalidations.get((kind, key), ())
        first = bisect_right(invalidations, (born, FOREVER))  # type: ignore[type-var]
        for one in itertools.islice(invalidations, first, None):
            if one.begin > begin:
                break
            if one.end > begin:
                continue
            age = f"its run began {one.begin - born:.3f} s before an invalidation"
            if one.worker == worker:
                self._blame(
                    f"{worker}: {verb} gave run {run}: {age} by the same process, "
                    f"which had returned {begin - one.end:.3f} s before "
                    f"({'delivered' if one.delivered else 'queued'})",
                    begin,
                    kind,
                    key,
                )
                return
            taken = one.end if one.delivered else self._delivered_by(one)
            if begin > taken and begin > self._heard_by(worker, kind, taken, begin):
                self._blame(
                    f"{worker}: {verb} gave run {run}: {age} by {one.worker}, which "
                    f"{'had been delivered' if one.delivered else 'was queued'} "
                    f"{begin - one.end:.3f} s before",
                    begin,
                    kind,
                    key,
                )
                return
            if one.delivered:
                self.heard.append(begin - one.end)

    def _note_read(self, worker: str, kind: str, begin: float, end: float) -> None:
        """A read of the store sends what was kept, and then reads."""
        kept = self._kept.get(worker)
        if not kept or self.kinds[kind].memory:
            return
        limits = self.limits
        longest = limits.deadline + limits.run + limits.slack  # a flight it may join
        if self.troubles.count(begin - longest, end):
            return
        for one in kept:
            if one.end < begin - longest:
                self._sent[one] = end
        self._kept[worker] = [one for one in kept if one not in self._sent]

    def _delivered_by(self, one: _Invalidation) -> float:
        """When an invalidation that was kept must have been sent, if ever."""
        limits = self.limits
        if one in self._sent:
            return self._sent[one]
        calm = limits.hearing + limits.deadline + limits.slack
        route = self._routes[_number(one.worker)]
        taken = self.troubles.calm_from(one.end, calm, route)
        taken += self._stalled(one.worker, one.end, taken)
        return taken if taken < self._left.get(one.worker, FOREVER) else FOREVER

    def _heard_by(self, worker: str, kind: str, end: float, until: float) -> float:
        """When an invalidation that was delivered at `end` must show in `worker`."""
        limits = self.limits
        stalled = self._stalled(worker, end, until)
        if not self.kinds[kind].memory:
            # What a flight that was under way had read already goes to its followers.
            return end + limits.deadline + limits.run + limits.slack + stalled
        wanted = limits.hearing + limits.deadline + limits.slack
        route = self._routes[_number(worker)]
        return self.troubles.calm_from(end, wanted, route) + stalled

    def _judge_life(
        self,
        worker: str,
        verb: str,
        kind: str,
        key: int,
        begin: float,
        run: str,
        read_at: float,
    ) -> None:
        limits = self.limits
        made = self._put_ends if ".p" in run else self._run_ends
        made_at = made.get(run, read_at + limits.run + limits.deadline)
        if begin <= made_at + limits.deadline + self.kinds[kind].life:
            return
        maker = run.rpartition(".")[0]
        stored_by = self.troubles.applied_by(made_at, limits.deadline)
        end = stored_by + self.kinds[kind].life + limits.slack
        if begin > end and begin > end + self._stalled(maker, read_at, stored_by):
            self._blame(
                f"{worker}: {verb} gave run {run}, {begin - made_at:.2f} s after it "
                f"was made, to live {self.kinds[kind].life} s",
                begin,
                kind,
                key,
            )

    def _judge_reach(self, worker: str, begin: float, end: float, outcome: str) -> None:
        """Was the store used, when it had been in reach for long enough?"""
        limits = self.limits
        since = begin - limits.hearing - limits.deadline - limits.slack
        if self._marked_since.get(worker, begin) > since:
            return
        if not self.troubles.count(since, end, self._routes[_number(worker)]):
            self._in_reach[outcome not in ("unavailable", "queued")] += 1

    def _judge_use(self) -> None:
        used, unused = self._in_reach[True], self._in_reach[False]
        if unused > 10 and unused > 0.02 * used:
            self._blame(f"{unused} times the store was in reach and not used", 0.0)
        hits = sum(one["l1_hits"] + one["l2_hits"] for one in self.sources.values())
        if self.counts["operations"] > 1000 and hits < 0.1 * self.counts["operations"]:
            self._blame(f"the cache is of little use: {hits} hits", 0.0)

    def _judge_growth(self) -> None:
        limits = self.limits
        bounds = (limits.memory, limits.descriptors, limits.threads)
        for worker, samples in self._usage.items():
            start = samples[0][0] + limits.warm_up
            warm = [sample for sample in samples if sample[0] >= start]
            if len(warm) < 30 or warm[-1][0] - warm[0][0] < limits.warm_up:
                continue
            third = len(warm) // 3
            for place, what in enumerate(("memory", "descriptors", "threads"), 1):
                before = _median(sample[place] for sample in warm[:third])
                after = _median(sample[place] for sample in warm[-third:])
                if after - before > bounds[place - 1]:
                    self._blame(
                        f"{worker}: {what} grew from {before} to {after}", warm[-1][0]
                    )

    def growth(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """First and last figures of each process that lives: bytes, descriptors,
        threads."""
        return {
            worker: (samples[min(len(samples) - 1, 20)][1:], samples[-1][1:])
            for worker, samples in self._usage.items()
        }

    # -- parts ------------------------------------------------------------------------

    def _stalled(self, worker: str, begin: float, end: float) -> float:
        spans = self._stalls.get(worker)
        return 0.0 if spans is None else spans.within(begin, end)

    def _blame(self, text: str, when: float, kind: str = "", key: Any = -1) -> None:
        self.violations.append(Violation(text, when, kind, key))

    def _remember(self, place: tuple[str, int], record: Record) -> None:
        self._recent.setdefault(place, deque(maxlen=LOOKED_BACK)).append(record)

    def _forget(self, before: float) -> None:
        for places in (self._put_ends, self._run_ends):
            for name, end in list(places.items()):
                if end < before:
                    del places[name]
        for invalidations in self._invalidations.values():
            del invalidations[: bisect_right(invalidations, (before,))]  # type: ignore[type-var]
        for one in [one for one in self._sent if one.end < before]:
            del self._sent[one]
        self.troubles.forget(before)

    # -- telling ----------------------------------------------------------------------

    def history(self, violation: Violation, lines: int = 60) -> list[str]:
        """What happened to that key around that moment, in the order of its ends."""
        when, kind, key = violation.when, violation.kind, violation.key
        begin = when - 3 * (self.limits.hearing + self.limits.deadline)
        found = self.troubles.between(begin, when)
        places = [(kind, key)] if key == -1 else [(kind, key), (kind, -1)]
        for place in places:
            found += map(_told, self._recent.get(place, ()))
        found = sorted(one for one in found if one[0] <= when + 0.5)
        return [f"{at - when:+9.3f} s  {text}" for at, text in found[-lines:]]


def _told(record: Record) -> tuple[float, str]:
    if record[0] == "run":
        _, worker, run, _, _, begin, end, verb, _, raised = record
        text = f"run {run} for {verb or 'nobody'}{', raised' if raised else ''}"
        return end, f"{worker:5} {text} (began {end - begin:.3f} s before)"
    _, worker, lane, verb, _, of, begin, end, outcome, run, read_at, version = record
    text = f"{worker:5} {lane}: {verb} {outcome}"
    if isinstance(of, str):
        text += f" {of}"
    if run is not None:
        text += f" {run} version {version}, read {end - read_at:.3f} s before"
    return end, f"{text} (took {end - begin:.3f} s)"


def _number(worker: str) -> str:
    return worker.partition(".")[0]


def _median(values: Iterable[int]) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


__all__ = ["NAMED", "Model", "Troubles", "Violation"]
