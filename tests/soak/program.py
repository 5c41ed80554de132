"""Start everybody, feed the model, say what happened."""

from __future__ import annotations

import argparse
import contextlib
import marshal
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

from soak import conductor, worker
from soak.model import Model, Violation
from soak.plan import Database, Limits, Record, Settings, kinds

STUCK = 20.0  # seconds without a word from a process
WORKERS = 4
spawn = multiprocessing.get_context("spawn")


class _Process:
    """A child and our end of the pipe to it."""

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=target, args=(*arguments, theirs))
        self.process.daemon = True
        self.process.start()
        theirs.close()
        self.heard = time.monotonic()
        self.over = False

    def told(self) -> list[Record] | None:
        """What it says now; None when it is gone."""
        records: list[Record] = []
        try:
            while self.pipe.poll():
                records += marshal.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.over = True
            return records or None
        if records:
            self.heard = time.monotonic()
        return records

    def end(self) -> None:
        """Take what it still has to say; then it must go."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(b"end")

    def close(self) -> None:
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Soak:
    """One run.

    seed     chooses what everybody does
    seconds  how long
    quiet    without trouble
    fault    something for the workers to do wrong, see `faults`
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        *,
        workers: int = WORKERS,
        quiet: bool = False,
        fault: str = "",
        limits: Limits | None = None,
    ) -> None:
        self.seed, self.seconds, self.quiet, self.fault = seed, seconds, quiet, fault
        self.workers = workers
        self.limits = limits or Limits()
        self.routes = {
            f"w{number}": ("direct", "proxy")[number % 2] for number in range(workers)
        }
        self.kinds = kinds()
        self.model = Model(self.kinds, self.routes, self.limits)
        self.killed = 0
        self.failures: list[str] = []  # of processes
        self.folder = tempfile.mkdtemp(prefix="cachekit-soak-")
        self._processes: dict[str, _Process] = {}
        self._lives = [0] * workers
        self._urls = {"direct": "", "proxy": ""}
        self._expected: set[str] = set()  # processes that we ended

    @property
    def passed(self) -> bool:
        return not self.model.violations and not self.failures

    def run(self) -> bool:
        """True when nothing was found."""
        try:
            Database(self.folder, list(self.kinds), make=True).close()
            self._start()
            self._listen()
            self._end()
            self.model.finish()
        finally:
            for process in self._processes.values():
                process.process.kill()
                process.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.passed

    def _start(self) -> None:
        first = _Process(
            "conductor",
            conductor.main,
            self.seed,
            self.seconds,
            self.workers,
            self.quiet,
        )
        self._processes["conductor"] = first
        urls = marshal.loads(first.pipe.recv_bytes())
        self._urls = dict(zip(("direct", "proxy"), urls, strict=True))
        self.model.joined("conductor", time.monotonic())
        for number in range(self.workers):
            self._start_worker(number)

    def _start_worker(self, number: int) -> None:
        route = self.routes[f"w{number}"]
        settings = Settings(
            seed=self.seed,
            folder=self.folder,
            url=self._urls[route],
            route=route,
            number=number,
            life=self._lives[number],
            fault=self.fault,
        )
        self._lives[number] += 1
        name = settings.name
        self._processes[name] = _Process(name, worker.main, settings)
        self.model.joined(name, time.monotonic())

    def _kill_worker(self, number: int) -> None:
        name = f"w{number}.{self._lives[number] - 1}"
        process = self._processes[name]
        self._expected.add(name)
        assert process.process.pid is not None
        now = time.monotonic()
        self.killed += 1
        # Its number is none of the conductor's.
        self.model.feed([("trouble", -self.killed, f"{name} dies", "none", now, now)])
        os.kill(process.process.pid, signal.SIGKILL)
        process.process.join()
        self._take(process)
        self._start_worker(number)

    def _take(self, process: _Process) -> None:
        """Feed what it says to the model."""
        records = process.told()
        asked = [record[1] for record in records or () if record[0] == "worker"]
        self.model.feed(record for record in records or () if record[0] != "worker")
        if process.over:
            self.model.left(process.name)
            del self._processes[process.name]
            process.close()
            code = process.process.exitcode
            if process.name not in self._expected or code not in (0, -signal.SIGKILL):
                self.failures.append(f"{process.name} ended with {code}")
        for number in asked:
            self._kill_worker(number)

    def _listen(self) -> None:
        """Until the time is over, or something is found."""
        until = time.monotonic() + self.seconds
        while time.monotonic() < until and self.passed:
            self._hear(0.5)

    def _hear(self, seconds: float) -> None:
        by_pipe: dict[Any, _Process] = {
            process.pipe: process for process in self._processes.values()
        }
        for pipe in connection.wait(list(by_pipe), seconds):
            if by_pipe[pipe].name in self._processes:
                self._take(by_pipe[pipe])
        for process in self._processes.values():
            if time.monotonic() - process.heard > STUCK:
                self.failures.append(
                    f"{process.name} is stuck\n{self._stacks(process)}"
                )
                process.heard = time.monotonic()

    def _stacks(self, process: _Process) -> str:
        path = Path(self.folder) / f"{process.name}.stacks"
        if not path.exists() or process.process.pid is None:
            return ""
        os.kill(process.process.pid, signal.SIGUSR1)
        time.sleep(0.5)
        return path.read_text()

    def _end(self) -> None:
        """Workers first: the server outlives them."""
        self._end_all([name for name in self._processes if name != "conductor"])
        self._end_all(["conductor"])

    def _end_all(self, names: list[str]) -> None:
        self._expected.update(names)
        processes = [self._processes[name] for name in names]
        for process in processes:
            process.end()
        until = time.monotonic() + 2 * STUCK
        while any(name in self._processes for name in names):
            self._hear(0.2)
            if time.monotonic() > until:
                late = [name for name in names if name in self._processes]
                self.failures.append(f"{', '.join(late)} did not end")
                return

    # -- telling ----------------------------------------------------------------------

    def summary(self) -> list[str]:
        model, counts = self.model, self.model.counts
        sources: dict[str, int] = {}
        for one in model.sources.values():
            for name, count in one.items():
                sources[name] = sources.get(name, 0) + count
        troubles = {
            name.partition(" ")[2]: count
            for name, count in counts.items()
            if name.startswith("trouble ")
        }
        outcomes = {
            name.partition(" ")[2]: count
            for name, count in counts.items()
            if name.startswith("outcome ")
        }
        verbs = {
            name: count
            for name, count in counts.items()
            if " " not in name and name not in ("operations", "runs")
        }
        lines = [
            f"{self.workers} processes, {len(self.kinds)} kinds of functions",
            f"{counts['operations']} operations: {_listed(verbs)}",
            f"{counts['runs']} runs of functions",
            f"outcomes: {_listed(outcomes)}",
            f"reads by source: {_listed(sources)}",
            f"trouble: {_listed(troubles)}; {self.killed} workers killed",
            "slowest, in seconds: "
            + ", ".join(
                f"{verb} {took:.2f}" for verb, took in sorted(model.slowest.items())
            ),
        ]
        if model.heard:
            heard = sorted(model.heard)
            lines.append(
                f"{len(heard)} reads in other processes of what was invalidated: half "
                f"of them within {heard[len(heard) // 2]:.3f} s of it, all within "
                f"{heard[-1]:.2f} s"
            )
        for worker_name, (first, last) in sorted(model.growth().items()):
            if last != first:
                lines.append(
                    f"{worker_name}: {first[0] >> 10} to {last[0] >> 10} KiB, "
                    f"{first[1]} to {last[1]} descriptors, {first[2]} to {last[2]} "
                    "threads"
                )
        return lines

    def report(self) -> list[str]:
        """What was found, and how to see it again."""
        lines = list(self.failures)
        for violation in self.model.violations[:5]:
            lines += [f"{violation.kind}:{violation.key}: {violation.text}"]
        more = len(self.model.violations) - 5
        if more > 0:
            lines.append(f"and {more} more")
        if self.model.violations:
            lines += ["", "What happened before the first of them:"]
            lines += self.model.history(_first(self.model.violations))
        lines += ["", f"To see it again: {self.command()}"]
        return lines

    def command(self) -> str:
        return f"make soak SEED={self.seed} SECONDS={self.seconds:g}"


def _first(violations: list[Violation]) -> Violation:
    return min(violations, key=lambda one: one.when)


def _listed(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in ordered)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--quiet", action="store_true", help="make no trouble")
    arguments = parser.parse_args()
    seed = arguments.seed
    if seed is None:
        seed = random.SystemRandom().randrange(10**6)
    soak = Soak(seed, arguments.seconds, quiet=arguments.quiet)
    print(f"soak: seed {seed}, {arguments.seconds:g} s", flush=True)
    passed = False
    with contextlib.suppress(KeyboardInterrupt):
        passed = soak.run()
    print(*soak.summary(), sep="\n")
    if not passed:
        print("", "NOT PASSED", *soak.report(), sep="\n")
        return 1
    print("nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
