# SPDX-License-Identifier: MIT
"""Contestants that are processes of their own.

A worker does one line of work at a time: a line to its stdin says what, a line from its
stdout how many nanoseconds that took. So they take part in the rounds of a race like
everyone else. Between rounds they sleep in a read.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rivals import Unavailable, namesake

HERE = Path(__file__).resolve().parent


class Worker:
    """A child that answers lines. `path` is its PYTHONPATH, ours unless given."""

    def __init__(self, command: list[str], path: str | None = None) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        if path is not None:
            environment["PYTHONPATH"] = path
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, *words: object) -> None:
        """Have it do something. Raises Unavailable."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self._stopped() from None

    def answer(self) -> str:
        """What it says to that. Raises Unavailable."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise self._stopped()
        return line

    def ask(self, *words: object) -> float:
        """Have it do something; returns the seconds. Raises Unavailable."""
        self.say(*words)
        answer = self.answer()
        if not answer.isdigit():
            raise Unavailable(answer)
        return int(answer) / 1e9

    def _stopped(self) -> Unavailable:
        words = " ".join(map(str, self.process.args))
        return Unavailable(f"stopped working: {words}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def floor(port: int, prefix: str, keys: int) -> Iterator[Worker]:
    """The GET loop of floor.c, built in a temporary folder. Raises Unavailable."""
    with tempfile.TemporaryDirectory(prefix="cachekit-floor-") as folder:
        program = _build(HERE / "floor.c", Path(folder))
        worker = Worker([str(program), str(port), prefix, str(keys)])
        try:
            yield worker
        finally:
            worker.close()


def _build(source: Path, folder: Path) -> Path:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"no C compiler ({compiler[0]})")
    tool = shlex.split(os.environ.get("PKG_CONFIG", "pkg-config"))
    try:
        found = subprocess.run(
            [*tool, "--cflags", "--libs", "hiredis"], capture_output=True, text=True
        )
    except OSError:
        raise Unavailable("pkg-config is not installed") from None
    if found.returncode != 0:
        raise Unavailable("hiredis is not installed for C")
    program = folder / source.stem
    flags = shlex.split(found.stdout)
    done = subprocess.run(
        [*compiler, "-O2", str(source), *flags, "-o", str(program)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise Unavailable(f"{source.name} does not compile: {done.stderr[-200:]}")
    return program


@contextlib.contextmanager
def namesake_worker(url: str, keys: int) -> Iterator[Worker]:
    """The PyPI package of our name, on the Redis at `url`. Raises Unavailable."""
    folder = namesake()
    script = str(HERE / "namesake.py")
    worker = Worker([sys.executable, "-I", "-S", script, str(folder), url, str(keys)])
    try:
        worker.ask("lru", 1000)
        yield worker
    finally:
        worker.close()
