"""A function in a thread of its own: what comes back, and what its caller may do."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from together import MAX, wait_until

from cachekit import _timeouts
from cachekit._timeouts import RunApart

request: ContextVar[str] = ContextVar("request", default="none")


def test_a_value_comes_back() -> None:
    value = object()
    run = RunApart(lambda: value)
    assert run.wait(MAX) and run.wait(0) and run.ended
    assert run.result() is run.value is value
    assert run.exception is None


def test_it_runs_in_a_daemon_thread_of_its_own() -> None:
    run = RunApart(threading.current_thread)
    assert run.wait(None)
    assert run.value is not threading.current_thread()
    assert run.value.daemon


@pytest.mark.parametrize("kind", [ValueError, KeyError, SystemExit, StopIteration])
def test_an_exception_comes_back_as_it_is(kind: type[BaseException]) -> None:
    error = kind("reason")

    def fail() -> None:
        raise error

    run = RunApart(fail)
    assert run.wait(MAX)
    assert run.exception is error
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == ["fail"]
    with pytest.raises(kind) as caught:
        run.result()
    assert caught.value is error


def test_an_exception_is_not_kept_alive() -> None:
    class Error(Exception): ...

    def fail() -> None:
        raise Error

    gc.collect()
    gc.disable()
    try:
        run = RunApart(fail)
        assert run.wait(MAX)
        gone = weakref.ref(run.exception)  # type: ignore[type-var]
        try:
            run.result()
        except Error:
            pass
        wait_until(lambda: not apart_threads())
        del run
        assert gone() is None
    finally:
        gc.enable()


def apart_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "cachekit-apart"]


def test_a_wait_ends_in_time_and_the_run_goes_on() -> None:
    go = threading.Event()
    run = RunApart(lambda: go.wait(MAX))
    assert not run.wait(0.01) and not run.ended
    with pytest.raises(RuntimeError, match="not ended"):
        run.result()
    go.set()
    assert run.wait(MAX) and run.result() is True


def test_the_function_knows_the_context_of_its_caller() -> None:
    def work() -> str:
        seen = request.get()
        request.set("changed")
        return seen

    token = request.set("mine")
    run = RunApart(work)
    assert run.wait(MAX) and run.value == "mine"
    assert request.get() == "mine"
    request.reset(token)


def test_who_leaves_has_the_rest_done_there() -> None:
    go = threading.Event()
    done: list[Any] = []

    def work() -> int:
        request.set("of the run")
        assert go.wait(MAX)
        return 5

    run = RunApart(work)
    assert not run.wait(0.01)
    assert run.leave(
        lambda: done.append((run.value, threading.current_thread(), request.get()))
    )
    assert not done
    thread = apart_threads()[0]
    go.set()
    wait_until(lambda: done)
    assert done == [(5, thread, "of the run")]


def test_one_cannot_leave_what_has_ended() -> None:
    run = RunApart(lambda: 5)
    assert run.wait(MAX)
    assert not run.leave(lambda: pytest.fail("it must not be called"))


def test_leaving_and_ending_at_once_agree() -> None:
    for _ in range(300):
        done: list[int] = []
        run = RunApart(lambda: 5)
        left = run.leave(lambda done=done: done.append(1))
        if left:
            wait_until(lambda done=done: done)
        else:
            assert run.ended
            assert not done


def test_what_is_raised_after_leaving_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda info: reported.append(info.exc_type)
    )
    go = threading.Event()
    run = RunApart(lambda: go.wait(MAX))
    assert run.leave(lambda: 1 / 0)
    go.set()
    wait_until(lambda: reported)
    assert reported == [ZeroDivisionError]


def test_where_no_thread_can_start_it_runs_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    run = RunApart(threading.current_thread)
    assert run.ended and run.result() is threading.current_thread()
    failed = RunApart(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result()
    assert not _timeouts._running


def test_a_wait_is_interrupted_by_a_signal() -> None:
    class Rang(Exception): ...

    def ring(*args: Any) -> None:
        raise Rang

    go = threading.Event()
    former = signal.signal(signal.SIGUSR1, ring)
    try:
        run = RunApart(lambda: go.wait(MAX))
        threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        began = time.monotonic()
        with pytest.raises(Rang):
            run.wait(None)
        assert time.monotonic() - began < MAX / 2
        go.set()
        assert run.wait(MAX)
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_exit_does_not_wait_for_it() -> None:
    code = """if True:
        import time
        from cachekit._timeouts import RunApart
        run = RunApart(lambda: time.sleep(60))
        assert not run.wait(0.01)
        run.leave(lambda: None)
    """
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - began < 20


def forked(job: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(8)
            job()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_child_a_run_of_the_parent_has_ended() -> None:
    go = threading.Event()
    run = RunApart(lambda: go.wait(MAX))

    def in_child() -> None:
        assert run.wait(MAX)
        assert not run.leave(lambda: None)
        with pytest.raises(RuntimeError, match="forked"):
            run.result()
        again = RunApart(lambda: 5)
        assert again.wait(MAX) and again.value == 5

    with run._lock:
        assert forked(in_child) == 0
    go.set()
    assert run.wait(MAX) and run.value is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_function_may_fork() -> None:
    holder: list[RunApart] = []
    ready = threading.Event()

    def work() -> int:
        assert ready.wait(MAX)

        def in_child() -> None:
            assert not holder[0].ended

        return forked(in_child)

    holder.append(RunApart(work))
    ready.set()
    assert holder[0].wait(MAX) and holder[0].result() == 0
