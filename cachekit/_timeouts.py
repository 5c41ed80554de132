# SPDX-License-Identifier: MIT
"""A blocking function that its caller need not wait for.

``soft_timeout`` and ``hard_timeout`` end a wait, never a run: Python cannot stop a
thread. So the function runs in a daemon thread of its own; exit does not wait for it.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["RunApart"]


class RunApart:
    """A run of ``function`` in a thread of its own, begun at once.

    ``function``  takes nothing; it sees a copy of the caller's context variables, and
                  what it sets in them stays in the copy

    Where no thread can be started, it has run here when the constructor returns. In the
    child of a fork, a run that was under way in another thread has ended with a
    RuntimeError.

    >>> run = RunApart(lambda: 6 * 7)
    >>> run.wait(10), run.result()
    (True, 42)
    """

    __slots__ = (
        *("__weakref__", "_context", "_ended", "_lock", "_then", "_thread"),
        *("exception", "value"),
    )

    def __init__(self, function: Callable[[], Any]) -> None:
        #: Once it has ended: what the function returned, or else what it raised.
        self.value: Any = None
        self.exception: BaseException | None = None
        self._context = copy_context()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._then: Callable[[], object] | None = None  # guarded by _lock
        thread = threading.Thread(
            target=self._work, args=(function,), name="cachekit-apart", daemon=True
        )
        self._thread: threading.Thread | None = thread
        _running.add(self)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or exit has begun
            self._run(function)

    def _work(self, function: Callable[[], Any]) -> None:
        context = self._context
        then = self._run(function)
        # The frames of an exception lead back to this one.
        del self, function
        if then is not None:
            context.run(then)

    def _run(self, function: Callable[[], Any]) -> Callable[[], object] | None:
        try:
            self.value = self._context.run(function)
        except BaseException as error:
            self.exception = _without_us(error)
        try:
            with self._lock:
                self._thread = None
                _running.discard(self)
                self._ended.set()
                return self._then
        finally:
            del self, function

    def wait(self, seconds: float | None) -> bool:
        """Wait until it has ended, ``seconds`` at most (None: as long as it takes).

        Whether it has. Signals are handled meanwhile: Ctrl-C ends the wait, and not
        the run.
        """
        return self._ended.wait(seconds)

    def leave(self, then: Callable[[], object]) -> bool:
        """Wait no more: ``then`` is called in the run's thread and context once the
        function has ended. False, and it is not called: it has ended already.

        What ``then`` raises goes to ``threading.excepthook``.
        """
        with self._lock:
            if self._ended.is_set():
                return False
            self._then = then
            return True

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def result(self) -> Any:
        """What the function returned, or raises what it raised: that very object.

        To be asked once it has ended.
        """
        if not self._ended.is_set():
            raise RuntimeError("it has not ended")
        try:
            if self.exception is not None:
                raise self.exception
            return self.value
        finally:
            del self  # the traceback must not keep the exception alive


def _without_us(error: BaseException) -> BaseException:
    """With the traceback from the function's own frame on, as of a plain call.

    No variable may hold the former one: it holds the frame, and that the exception.
    """
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


_running: weakref.WeakSet[RunApart] = weakref.WeakSet()


def _after_fork() -> None:
    """In the child no thread is left but the one that forked."""
    here = threading.current_thread()
    for run in list(_running):
        run._lock = threading.Lock()
        if run._thread is not here:
            run.exception = RuntimeError(
                "the process was forked while the function ran in another thread"
            )
            run._thread = None
            run._ended = threading.Event()
            run._ended.set()
            _running.discard(run)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
