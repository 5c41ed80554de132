"""A process that forks while a cache is being configured leaves the child a lock."""

from __future__ import annotations

import os
import threading

import pytest

from cachekit import Cache


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_forked_under_the_lock_can_use_its_cache():
    cache = Cache(backend=None)

    @cache(name="forked")
    def double(number: int) -> int:
        return 2 * number

    held, release = threading.Event(), threading.Event()

    def hold():
        with cache._lock:
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            threading.Timer(10, lambda: os._exit(2)).start()
            code = 0 if double(4) == 8 else 3
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
