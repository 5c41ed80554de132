"""The process that owns the server, and breaks it.

Bursts of trouble, and calm between them; now and then a calm that is long enough for
every process to have heard of everything. What happens is seeded, and told to the
model: before it begins, and when it is over.
"""

from __future__ import annotations

import contextlib
import itertools
import marshal
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from proxy import Proxy
from servers import RedisServer, ServerError

from soak.plan import Limits, Record

now = time.monotonic
SHORT_CALM = 1.2
LONG_CALM = 2.0  # beyond what the model waits for


class _Over(Exception):
    """The program wants an end."""


class Conductor:
    def __init__(self, seed: int, seconds: float, workers: int, pipe: Connection):
        self.chance = random.Random(f"{seed}/conductor")
        self.seconds = seconds
        self.workers = workers
        self.pipe = pipe
        self.server = RedisServer()
        self.server.start()
        self.proxy = Proxy(self.server.port)
        self._numbers = itertools.count(1)
        limits = Limits()
        self.hearing = limits.hearing + limits.deadline + limits.slack

    # -- telling ----------------------------------------------------------------------

    def tell(self, *record: Any) -> None:
        records: list[Record] = [record] if record else []
        records.append(("mark", "conductor", now(), None))
        self.pipe.send_bytes(marshal.dumps(records))

    @contextlib.contextmanager
    def trouble(self, name: str, route: str) -> Iterator[None]:
        number, begin = next(self._numbers), now()
        self.tell("trouble", number, name, route, begin, None)
        yield
        self.tell("trouble", number, name, route, begin, now())

    def rest(self, seconds: float) -> None:
        until = now() + seconds
        while (left := until - now()) > 0:
            if self.pipe.poll(min(left, 0.1)):
                raise _Over
            self.tell()

    # -- troubles ---------------------------------------------------------------------

    def kill(self) -> None:
        seconds = self.chance.choice((0.0, 0.05, 0.3, 1.2))
        with self.trouble(f"kill -9, down for {seconds} s", "all"):
            self.server.kill()
            self.rest(seconds)
            self.server.start()

    def stop(self) -> None:
        seconds = self.chance.choice((0.1, 0.4, 0.8, 2.0))
        with self.trouble(f"stop for {seconds} s", "all"):
            self.server.stop()
            self.rest(seconds)
            self.server.cont()

    def fill(self) -> None:
        """Reads go on; nothing more is taken."""
        seconds = self.chance.choice((0.2, 1.0, 2.0))
        with self.trouble(f"fill for {seconds} s", "none"):
            self._ask("CONFIG", "SET", "maxmemory", "1")
            self.rest(seconds)
            self._ask("CONFIG", "SET", "maxmemory", "0")

    def flush(self) -> None:
        with self.trouble("flush", "none"):
            self._ask("FLUSHALL")

    def forget_scripts(self) -> None:
        with self.trouble("scripts lost", "none"):
            self._ask("SCRIPT", "FLUSH")

    def cut_clients(self) -> None:
        kind = self.chance.choice(("normal", "pubsub"))
        with self.trouble(f"client-kill of type {kind}", "all"):
            self._ask("CLIENT", "KILL", "TYPE", kind)

    def pause(self) -> None:
        seconds = self.chance.choice((0.2, 0.7, 1.5))
        what = self.chance.choice(("ALL", "WRITE"))
        with self.trouble(f"pause of {what} for {seconds} s", "all"):
            self._ask("CLIENT", "PAUSE", int(seconds * 1000), what)
            self.rest(seconds)

    def bad_line(self) -> None:
        """Only those who come through the proxy feel it."""
        proxy, chance = self.proxy, self.chance
        lines: dict[str, Callable[[], None]] = {
            "cut": lambda: proxy.cut(after=chance.randrange(40)),
            "delay": lambda: proxy.delay(0.2),
            "hold": proxy.hold,
            "stall": proxy.stall,
            "drop": proxy.drop,
            "refuse": proxy.refuse,
            "reset": proxy.reset,
            "disconnect": proxy.disconnect,
            "trickle": lambda: proxy.trickle(16, 0.01),
        }
        name = chance.choice(list(lines))
        seconds = chance.choice((0.1, 0.5, 1.5))
        with self.trouble(f"line {name} for {seconds} s", "proxy"):
            lines[name]()
            self.rest(seconds)
            proxy.heal()

    def kill_worker(self) -> None:
        self.tell("worker", self.chance.randrange(self.workers))

    def _ask(self, *words: str | int) -> None:
        """Tell the server; it may still be paused for our command."""
        with contextlib.suppress(OSError, ServerError):
            self.server.call(*words)

    # -- the piece --------------------------------------------------------------------

    def play(self) -> None:
        others = (
            (self.stop, 4),
            (self.fill, 3),
            (self.flush, 2),
            (self.forget_scripts, 2),
            (self.cut_clients, 3),
            (self.pause, 3),
            (self.bad_line, 4),
            (self.kill_worker, 2),
        )
        acts, weights = zip(*others, strict=True)
        started = now()
        self.rest(min(2.0, self.seconds / 8))
        for turn in itertools.count(1):
            burst = [self.kill]
            burst += self.chance.choices(acts, weights, k=self.chance.randrange(1, 4))
            self.chance.shuffle(burst)
            for act in burst:
                act()
                self.rest(self.chance.random() * 0.4)
            if turn % 4 == 2:
                self.rest(self.hearing + LONG_CALM)
            else:
                self.rest(self.chance.random() * SHORT_CALM)
            if now() - started > self.seconds:  # the program ends us before
                return

    def close(self) -> None:
        self.proxy.close()
        self.server.close()


def main(
    seed: int, seconds: float, workers: int, quiet: bool, pipe: Connection
) -> None:
    """The process. It tells where the server is, and makes trouble unless `quiet`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    conductor = Conductor(seed, seconds, workers, pipe)
    try:
        pipe.send_bytes(marshal.dumps((conductor.server.url, conductor.proxy.url)))
        if not quiet:
            conductor.play()
        while True:
            conductor.rest(1.0)
    except (_Over, BrokenPipeError):
        pass
    finally:
        conductor.close()
