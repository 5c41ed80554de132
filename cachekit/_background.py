# SPDX-License-Identifier: MIT
"""Threads for the background refreshes of blocking functions.

At most four daemon threads, started at the first refresh, ended when idle, joined when
the interpreter exits, started anew in a forked child. No thread starts at import.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from contextvars import Context, copy_context
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Workers", "submit"]

#: Seconds that exit waits for refreshes under way; a function that hangs must not keep
#: the process.
EXIT_PATIENCE = 5.0


class Workers:
    """A small pool of daemon threads.

    ``limit``  threads at most
    ``idle``   seconds without work after which a thread ends
    """

    def __init__(self, limit: int = 4, idle: float = 10.0) -> None:
        self._limit = limit
        self._idle = idle
        self._renew()

    def _renew(self) -> None:
        self._wake = threading.Condition()
        self._jobs: deque[tuple[Context, Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._waiting = 0
        self._closed = False

    def submit(self, job: Callable[[], Any]) -> None:
        """Run ``job`` soon, with the caller's context variables. Never blocks.

        What it raises goes to ``threading.excepthook``. After exit began it is dropped.
        """
        with self._wake:
            if self._closed:
                return
            self._jobs.append((copy_context(), job))
            if self._waiting >= len(self._jobs):
                self._wake.notify()
            elif len(self._threads) < self._limit:
                thread = threading.Thread(
                    target=self._work, name="cachekit-refresh", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    if self._threads:
                        return  # no more threads: one of ours will come to it
                    self._jobs.pop()
                    if not threading.main_thread().is_alive():
                        return  # exit has begun
                    raise
                self._threads.add(thread)

    def _next(self) -> tuple[Context, Callable[[], Any]] | None:
        """The next job; None ends the thread."""
        with self._wake:
            deadline = monotonic() + self._idle
            while not self._jobs and not self._closed:
                self._waiting += 1
                self._wake.wait(max(0.0, deadline - monotonic()))
                self._waiting -= 1
                if monotonic() >= deadline:
                    break
            if self._jobs and not self._closed:
                return self._jobs.popleft()
            self._threads.discard(threading.current_thread())
            return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            context, run = job
            try:
                context.run(run)
            except BaseException:
                threading.excepthook(
                    threading.ExceptHookArgs((*_exc_info(), threading.current_thread()))
                )
            del context, run, job

    def close(self, patience: float = EXIT_PATIENCE) -> None:
        """Drop what has not begun; wait up to ``patience`` seconds for what has."""
        with self._wake:
            self._closed = True
            self._jobs.clear()
            self._wake.notify_all()
            threads = list(self._threads)
        deadline = monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))


def _exc_info() -> tuple[Any, Any, Any]:
    import sys

    return sys.exc_info()


_workers = Workers()
submit = _workers.submit
atexit.register(_workers.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers._renew)
