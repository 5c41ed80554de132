"""Other processes, told what to do.

    with Peer(lambda: Program(url)) as peer:
        assert peer.call("read", 1) == 1       # Program(url).read(1), over there
        peer.tell("read", 2)                   # begun; answer() waits for it
        peer.kill()                            # as kill -9

The object is made in the child, which this process forks: it may be anything, and so
may what makes it. Arguments and results are pickled.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

PATIENCE = 30.0  # seconds: more than anything takes


class Peer:
    """A child process with an object of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._pipe.close()
            self._serve(make, theirs)
        theirs.close()

    @staticmethod
    def _serve(make: Callable[[], Any], pipe: Any) -> None:
        status = 1
        try:
            signal.alarm(120)
            program = make()
            while (order := pipe.recv()) is not None:
                method, args = order
                try:
                    answer = (True, getattr(program, method)(*args))
                except Exception as error:
                    traceback.print_exc()
                    answer = (False, repr(error))
                pipe.send(answer)
            status = 0
        except EOFError:
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def tell(self, method: str, *args: Any) -> None:
        """Begin ``method(*args)``."""
        self._pipe.send((method, args))

    def answer(self) -> Any:
        """What the oldest of the methods that were begun returned."""
        assert self._pipe.poll(PATIENCE), "the other process does not answer"
        good, result = self._pipe.recv()
        assert good, f"in the other process: {result}"
        return result

    def call(self, method: str, *args: Any) -> Any:
        self.tell(method, *args)
        return self.answer()

    @property
    def busy(self) -> bool:
        """Has it not answered yet?"""
        return not self._pipe.poll(0)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def close(self) -> None:
        self.kill()
        self._pipe.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
