"""A process with threads and tasks that use the cache: what they do is seeded.

Each lane (a thread, or a task) chooses what to do from a generator of its own, so that
a seed always gives the same choices. What came of it is written down and sent to the
model five times a second; what is wrong with a value by itself is noticed here.
"""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import inspect
import itertools
import logging
import marshal
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cachekit import BackendError, Cache, CacheConfig, CacheMiss, Invalidation
from soak import faults
from soak.plan import (
    KEYS,
    NAMED,
    Database,
    Kind,
    Limits,
    Record,
    Settings,
    has_whole_invalidations,
    kinds,
    tag_of,
    text_of,
)

now = time.monotonic
# Operations of a task; then the loop is closed, with the cache, and another opened.
# Closing drops what memory holds, and must not hide what memory missed.
LOOP_LASTS = 2500
CALM_LOOP = 0.02  # seconds by which a watcher may be late without a word

Op = contextvars.ContextVar["Operation | None"]("operation", default=None)

# verb, weight
VERBS: dict[str, float] = {
    "read": 60,
    "fresh": 8,
    "peek": 3,
    "entry": 2,
    "bypass": 3,
    "replace": 3,  # Strategy.INVALIDATE
    "refresh": 3,
    "put": 5,
    "change": 10,  # the database, then invalidate
    "change-all": 1,
    "change-tag": 1,
    "forget": 1,  # cache_clear: memory alone
    "health": 0.3,
    "cancelled": 4,  # a read that is cancelled while it runs
}
NAMED_VERBS = {**VERBS, "get": 40, "set": 5, "delete": 5, "get-many": 3, "set-many": 2}
WATCHING = {"read": 80, "fresh": 15, "peek": 5}
CHANGING = {**WATCHING, "change": 0.7}  # of a kind that is watched, by the first worker
NO_RUN = {"fresh", "peek", "entry", "get", "get-many"}
STRATEGY = {"fresh": "FRESH", "bypass": "BYPASS", "replace": "INVALIDATE"}


class Boom(Exception):
    """What the functions raise."""

    def __init__(self, of: str) -> None:
        super().__init__(of)
        self.of = of


class Operation:
    """One thing that a lane does, from before to after."""

    def __init__(self, lane: Lane, verb: str, kind: str, key: int) -> None:
        self.lane, self.verb, self.kind, self.key = lane, verb, kind, key
        self.runs = 0
        self.begin = now()
        lane.operation = self

    def told(self, outcome: str, value: Any = None) -> None:
        """It is over; `value` is what the cache gave, if it gave one."""
        end = now()
        seen: tuple[Any, ...] = (None, None, None)
        if isinstance(value, dict) and "read_at" in value:
            seen = (value["run"], value["read_at"], value["version"])
        self.lane.worker.tell(
            "op",
            self.lane.name,
            self.verb,
            self.kind,
            self.key,
            self.begin,
            end,
            outcome,
            *seen,
        )
        self.lane.operation = None
        if isinstance(value, dict):  # whoever gets it next must not see this
            value["touched"] = True
            value["list"].append(self.lane.name)


class Lane:
    """One thread's, or one task's, row of operations."""

    def __init__(self, worker: Worker, number: int, is_async: bool) -> None:
        self.worker = worker
        self.is_async = is_async
        self.name = f"{'task' if is_async else 'thread'}{number}"
        self.chance = random.Random(f"{worker.settings.seed}/{worker.name}/{self.name}")
        self.operation: Operation | None = None

    def choose(self) -> tuple[str, Kind, int]:
        worker, chance = self.worker, self.chance
        twins = worker.twins[self.is_async]
        kind = worker.kinds[chance.choice(twins)]
        verbs = NAMED_VERBS if kind.name == NAMED else VERBS
        if kind.watched:
            verbs = WATCHING if worker.settings.number else CHANGING
        (verb,) = chance.choices(list(verbs), list(verbs.values()))
        return verb, kind, chance.randrange(KEYS)


class Worker:
    def __init__(self, settings: Settings, pipe: Connection) -> None:
        self.settings = settings
        self.name = settings.name
        self.pipe = pipe
        self.limits = Limits()
        self.kinds = kinds()
        self.whole = has_whole_invalidations()
        named = [NAMED] if NAMED in self.kinds else []
        plain = [one for one in self.kinds if one != NAMED]
        self.twins = {
            True: [one for one in plain if one.endswith("_async")] + named,
            False: [one for one in plain if not one.endswith("_async")] + named,
        }
        self.database = Database(settings.folder, list(self.kinds))
        self.records: list[Record] = []
        self._telling = threading.Lock()
        self._sources: Counter[str] = Counter()
        self.over = threading.Event()
        self._runs = itertools.count(1)
        self._chance = random.Random(f"{settings.seed}/{self.name}/runs")
        config = CacheConfig(
            namespace="soak", socket_timeout=self.limits.deadline, l1_max_size_mb=8
        )
        self.cache = Cache(config, backend=settings.url)
        self.functions = {
            (kind.name, is_async): self._function(kind, is_async)
            for is_async, names in self.twins.items()
            for kind in map(self.kinds.__getitem__, names)
        }
        self.lanes = [Lane(self, number, False) for number in range(settings.threads)]
        self.lanes += [Lane(self, number, True) for number in range(settings.tasks)]
        if settings.fault:
            faults.FAULTS[settings.fault](self)

    def tell(self, what: str, *details: Any) -> None:
        with self._telling:
            self.records.append((what, self.name, *details))

    # -- the functions ----------------------------------------------------------------

    def _function(self, kind: Kind, is_async: bool) -> Any:
        options = dict(kind.options)
        if kind.tagged:
            options["tags"] = lambda key: (tag_of(key),)
        if kind.name == NAMED:
            options["full_key"] = lambda key: f"{NAMED}:{key}"
        else:
            options["name"] = kind.name

        def function(key: int) -> dict[str, Any]:
            run = _Run(self, kind, key)
            time.sleep(run.pause)
            return run.end()

        async def coroutine(key: int) -> dict[str, Any]:
            run = _Run(self, kind, key)
            await asyncio.sleep(run.pause)
            return run.end()

        return self.cache(**options)(coroutine if is_async else function)

    def value(self, kind: str, key: int, run: str, read_at: float) -> dict[str, Any]:
        version = self.database.read(kind, key)
        return {
            "of": f"{kind}:{key}",
            "version": version,
            "run": run,
            "read_at": read_at,
            "text": text_of(kind, key, version),
            "list": [],
        }

    def pause_of_a_run(self) -> float:
        return self._chance.choice((0.0, 0.0, 0.002, 0.01, self.limits.run))

    def raises(self, kind: Kind) -> bool:
        return self._chance.random() < kind.failing

    # -- what lanes do ----------------------------------------------------------------

    def steps(self, lane: Lane) -> Iterator[Any]:
        """One operation. What must be awaited is yielded, and its result sent back."""
        verb, kind, key = lane.choose()
        function = self.functions[kind.name, lane.is_async]
        if verb in ("change-all", "change-tag"):
            if not self.whole or kind.name == NAMED:
                verb = "change"
            elif verb == "change-tag" and not kind.tagged:
                verb = "change-all"
        if verb == "cancelled" and not lane.is_async:
            verb = "read"
        if verb in ("change", "delete"):
            self.database.change(kind.name, key)
            if verb == "change":
                action = lambda: function.invalidate(key)  # noqa: E731
            else:
                action = lambda: self._named(lane, "delete")(f"{NAMED}:{key}")  # noqa: E731
            yield from self._invalidate(lane, "change", kind, key, action)
        elif verb == "change-all":
            for one in range(KEYS):
                self.database.change(kind.name, one)
            yield from self._invalidate(
                lane, verb, kind, -1, lambda: function.invalidate_all()
            )
        elif verb == "change-tag":
            for name in self.kinds:
                if self.kinds[name].tagged:
                    self.database.change(name, key)
            action = lambda: self._named(lane, "invalidate_tags")(tag_of(key))  # noqa: E731
            yield from self._invalidate(lane, verb, kind, f"tag:{tag_of(key)}", action)
        elif verb in ("put", "set", "set-many"):
            yield from self._put(lane, verb, kind, key, function)
        elif verb in ("forget", "health"):
            yield from self._other(lane, verb, kind, function)
        else:
            yield from self._read(lane, verb, kind, key, function)

    def _named(self, lane: Lane, method: str) -> Any:
        return getattr(self.cache, ("a" if lane.is_async else "") + method)

    def _invalidate(
        self, lane: Lane, verb: str, kind: Kind, key: Any, action: Callable[[], Any]
    ) -> Iterator[Any]:
        operation = Operation(lane, verb, kind.name, key)
        try:
            result = action()
            if inspect.isawaitable(result):
                result = yield result
        except Exception as error:
            operation.told(f"! raised {error!r}")
            return
        if isinstance(result, Invalidation):
            operation.told(result.name.lower())
        else:
            operation.told(f"! an invalidation returned {result!r}")

    def _put(
        self, lane: Lane, verb: str, kind: Kind, key: int, function: Any
    ) -> Iterator[Any]:
        value = self.value(kind.name, key, f"{self.name}.p{next(self._runs)}", now())
        operation = Operation(lane, verb, kind.name, key)
        name = f"{NAMED}:{key}"
        try:
            if verb == "put":
                result = function.put(value, key)
            elif verb == "set":
                result = self._named(lane, "set")(name, value, 20.0)
            else:
                result = self._named(lane, "set_many")({name: value}, 20.0)
            if inspect.isawaitable(result):
                yield result
        except Exception as error:
            operation.told(f"! raised {error!r}")
            return
        operation.told("done", value)

    def _other(self, lane: Lane, verb: str, kind: Kind, function: Any) -> Iterator[Any]:
        operation = Operation(lane, verb, kind.name, -1)
        try:
            if verb == "forget":
                self._count(function)  # it starts again from 0
                function.cache_clear()
            else:
                result = self._named(lane, "detailed_health_check")()
                if inspect.isawaitable(result):
                    result = yield result
                assert result["status"] in ("healthy", "degraded", "unhealthy")
        except Exception as error:
            operation.told(f"! raised {error!r}")
            return
        operation.told("done")

    def _read(
        self, lane: Lane, verb: str, kind: Kind, key: int, function: Any
    ) -> Iterator[Any]:
        operation = Operation(lane, verb, kind.name, key)
        Op.set(operation)
        task = None
        try:
            result = self._call(lane, verb, key, function)
            if inspect.isawaitable(result):
                if verb == "cancelled":
                    task = asyncio.ensure_future(result)
                    seconds = lane.chance.choice((0.0, 0.001, 0.01))
                    asyncio.get_running_loop().call_later(seconds, task.cancel)
                    result = task
                result = yield result
        except asyncio.CancelledError:
            operation.told("cancelled" if task else "! raised CancelledError")
            return
        except Boom as error:
            right = error.of == f"{kind.name}:{key}" and verb not in NO_RUN
            operation.told("boom" if right else f"! raised {error!r}")
            return
        except CacheMiss:
            operation.told("miss" if verb in NO_RUN else "! raised CacheMiss")
            return
        except BackendError as error:
            # Also of those who only look: nothing else would tell a miss from it.
            allowed = verb in ("fresh", "peek", "entry")
            operation.told("unavailable" if allowed else f"! raised {error!r}")
            return
        except Exception as error:
            operation.told(f"! raised {error!r}")
            return
        finally:
            Op.set(None)
        if result is None and verb in NO_RUN:
            operation.told("miss")
        else:
            operation.told(self._judged(kind.name, key, result), result)

    def _call(self, lane: Lane, verb: str, key: int, function: Any) -> Any:
        if verb in STRATEGY:
            return function.using(STRATEGY[verb])(key)
        if verb == "get":
            return self._named(lane, "get")(f"{NAMED}:{key}")
        if verb == "get-many":
            found = self._named(lane, "get_many")([f"{NAMED}:{key}"])
            return _only(found) if lane.is_async else next(iter(found.values()), None)
        if verb == "entry":
            found = function.entry(key)
            return _content(found) if lane.is_async else getattr(found, "value", None)
        if verb in ("refresh", "peek"):
            return getattr(function, verb)(key)
        return function(key)

    def _judged(self, kind: str, key: int, value: Any) -> str:
        """What a value is worth by itself."""
        if not isinstance(value, dict) or "of" not in value:
            return f"! this is no value: {value!r:.80}"
        if value["of"] != f"{kind}:{key}":
            return f"! belongs to {value['of']}"
        if value["text"] != text_of(kind, key, value["version"]):
            return "! the content is damaged"
        if "touched" in value or value["list"]:
            return "! what somebody did to his copy shows in another"
        return "value"

    # -- lanes ------------------------------------------------------------------------

    def thread(self, lane: Lane) -> None:
        while not self.over.is_set():
            for _ in self.steps(lane):
                raise AssertionError("nothing is awaited in a thread")
            time.sleep(lane.chance.random() * self.settings.pause)

    def loops(self) -> None:
        """One loop after another."""
        lanes = [lane for lane in self.lanes if lane.is_async]
        while not self.over.is_set() and lanes:
            asyncio.run(self._loop(lanes))

    async def _loop(self, lanes: list[Lane]) -> None:
        watcher = asyncio.create_task(self._watch_loop())
        await asyncio.gather(*map(self._task, lanes))
        watcher.cancel()
        await self.cache.aclose()

    async def _task(self, lane: Lane) -> None:
        for _ in range(LOOP_LASTS + 500 * self.settings.number):
            if self.over.is_set():
                return
            steps = self.steps(lane)
            sent: Any = None
            failure: BaseException | None = None
            while True:
                try:
                    awaited = steps.throw(failure) if failure else steps.send(sent)
                except StopIteration:
                    break
                sent = failure = None
                try:
                    sent = await awaited
                except (Exception, asyncio.CancelledError) as error:
                    failure = error
            await asyncio.sleep(lane.chance.random() * self.settings.pause)

    # -- watching ---------------------------------------------------------------------

    def _late(self, due: float, until: float) -> None:
        if until - due > CALM_LOOP:
            self.tell("stall", due, until)

    async def _watch_loop(self) -> None:
        while True:
            due = now() + 0.005
            await asyncio.sleep(0.005)
            self._late(due, now())

    def _watch(self) -> None:
        while not self.over.is_set():
            due = now() + 0.005
            time.sleep(0.005)
            self._late(due, now())

    def _usage(self) -> None:
        try:
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            descriptors = len(os.listdir("/proc/self/fd"))
            threads = len(os.listdir("/proc/self/task"))
        except OSError:  # no such files on this platform
            return
        resident *= os.sysconf("SC_PAGESIZE")
        self.tell("usage", now(), resident, descriptors, threads)

    def _count(self, function: Any) -> None:
        info = function.cache_info()
        for name in ("l1_hits", "l2_hits", "stale_hits", "misses", "coalesced"):
            self._sources[name] += getattr(info, name)

    def _counts(self) -> None:
        before = Counter(self._sources)
        for function in self.functions.values():
            self._count(function)
        self.tell("counts", dict(self._sources))
        self._sources = before

    def report(self) -> None:
        """Send what is known; an operation that begins later is in a later report."""
        mark = now()
        oldest = [one.operation.begin for one in self.lanes if one.operation]
        with self._telling:
            records, self.records = self.records, []
        records.append(("mark", self.name, mark, min(oldest, default=None)))
        self.pipe.send_bytes(marshal.dumps(records))

    # -- from start to end ------------------------------------------------------------

    def work(self) -> None:
        jobs: list[Callable[[], None]] = [self._watch, self.loops]
        jobs += [
            lambda lane=lane: self.thread(lane)  # type: ignore[misc]
            for lane in self.lanes
            if not lane.is_async
        ]
        failed: list[BaseException] = []

        def kept(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=kept, args=(job,)) for job in jobs]
        for thread in threads:
            thread.daemon = True
            thread.start()
        turn = 0
        while not self.pipe.poll(0.2):  # a word from the program ends it
            if failed:
                raise failed[0]
            turn += 1
            if turn % 5 == 0:
                self._usage()
                self._counts()
            self.report()
        self.over.set()
        deadline = now() + 30
        while any(thread.is_alive() for thread in threads) and now() < deadline:
            time.sleep(0.01)
            self.report()
        self.cache.close()
        self._counts()
        self.report()


class _Run:
    """One run of a function."""

    def __init__(self, worker: Worker, kind: Kind, key: int) -> None:
        self.worker, self.kind, self.key = worker, kind, key
        self.name = f"{worker.name}.{next(worker._runs)}"
        operation = Op.get()
        self.verb, self.ordinal = "", 0
        if operation is not None:
            operation.runs += 1
            self.verb, self.ordinal = operation.verb, operation.runs
        self.begin = now()
        self.value = worker.value(kind.name, key, self.name, self.begin)
        self.pause = worker.pause_of_a_run()

    def end(self) -> dict[str, Any]:
        raised = self.worker.raises(self.kind)
        self.worker.tell(
            "run",
            self.name,
            self.kind.name,
            self.key,
            self.begin,
            now(),
            self.verb,
            self.ordinal,
            raised,
        )
        if raised:
            raise Boom(f"{self.kind.name}:{self.key}")
        return self.value


async def _only(found: Any) -> Any:
    return next(iter((await found).values()), None)


async def _content(found: Any) -> Any:
    return getattr(await found, "value", None)


def main(settings: Settings, pipe: Connection) -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("cachekit").setLevel(logging.CRITICAL)
    with open(Path(settings.folder) / f"{settings.name}.stacks", "w") as stacks:
        faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
        try:
            Worker(settings, pipe).work()
        except (BrokenPipeError, EOFError):  # the program is gone
            os._exit(1)
        faulthandler.unregister(signal.SIGUSR1)
