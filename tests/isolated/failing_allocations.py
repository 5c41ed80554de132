"""Each allocation of a call fails, in turn: argv[1] names the kind of call.

A call may raise MemoryError or come through; the next one, with memory, is right, and
no flight is left open.
"""

import _testcapi
import contextlib
import gc
import logging
import sys
import time

from cachekit import Cache, SerializationError
from cachekit.backends import MemoryBackend

MOST = 3000
logging.getLogger("cachekit").disabled = True
# What cannot be raised is written there; with failing allocations there is much.
sys.stderr = open("/dev/null", "w")
sys.unraisablehook = lambda info: None


def value(number: int) -> dict[str, object]:
    return {"number": number, "rows": [[number, "text", 2.5], (1, b"bytes")]}


async def value_async(number: int) -> dict[str, object]:
    return value(number)


def call_of(kind: str):
    """A fresh function of the kind, and how it is called."""
    cache = Cache(backend=MemoryBackend() if "store" in kind else None)
    if "async" not in kind:
        fn = cache(single_flight_timeout=5, name=kind)(value)
        fn(0)
        return fn, fn
    # Without a flight nothing is waited for, and no event loop is needed, which does
    # not come through failing allocations itself.
    fn = cache(single_flight=False, name=kind)(value_async)

    def run(number: int) -> object:
        coroutine = fn(number)
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it waits")

    run(0)
    return fn, run


def attempt(fn, run, number: int, start: int, stop: int) -> bool:
    """Did an allocation fail?"""
    failed = False
    _testcapi.set_nomemory(start, stop)
    try:
        result = run(number)
    except (MemoryError, SerializationError):
        failed = True
    finally:
        _testcapi.remove_mem_hooks()
    if not failed:
        assert result == value(number), result
        del result
    began = time.monotonic()
    for _ in range(2):
        assert run(number) == value(number)
    assert time.monotonic() - began < 2, "a flight was left open"
    return failed


def sweep(kind: str, hit: bool, lasting: bool) -> None:
    fn, run = call_of(kind)
    number, quiet = 1, 0
    for start in range(1, MOST):
        if not hit:
            number += 1
            fn.cache_clear()
        else:
            run(number)
        quiet = (
            0
            if attempt(fn, run, number, start, 0 if lasting else start + 1)
            else (quiet + 1)
        )
        memory = fn._plan.memory
        memory.check()
        if quiet > 60:
            break
    else:
        raise AssertionError("the sweep did not end")


kind = sys.argv[1]
try:
    with contextlib.redirect_stdout(None):
        sweep(kind, hit=False, lasting=False)
        sweep(kind, hit=True, lasting=False)
        # Context variables of the interpreter, which a miss sets, do not survive a
        # lasting lack: hits only.
        sweep(kind, hit=True, lasting=True)
    gc.collect()
except BaseException as error:
    import traceback

    sys.stderr = sys.__stderr__
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.exit(1)
