# SPDX-License-Identifier: MIT
"""What a process remembers stays true: invalidations elsewhere reach its memory.

Processes tell each other over a channel per namespace (``_messages.py``). One thread of
the core listens (``_core.Subscriber``) and hands what it hears to `Coherence`, which
knows the functions of this process.

``flag`` says how far memory can be trusted; the core reads it in each call:

====  ===============================================================================
  1   everything is heard, or there is nothing to hear
  2   the store does not let us listen: memory keeps its entries for 5 s at most
  0   nothing is heard, and memory may hold what was invalidated meanwhile. It is used
      while the store does not answer; once it does, ``suspect``
 -1   nothing is heard, and memory holds nothing: nothing is filled while the store
      answers; what is filled while it does not, ``missed``
 -2   nobody listens yet, in a forked child or after close: ``wake``
====  ===============================================================================
"""

from __future__ import annotations

import os
import weakref
from _thread import RLock
from time import monotonic, sleep

from cachekit import _core
from cachekit._events import CHANNEL as FOREIGN
from cachekit._events import decode_event
from cachekit._logging import default_log
from cachekit._members import Members
from cachekit._messages import DIGEST, ENTRY, VERSION, parse
from cachekit._waiters import Waiters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from cachekit._core import CachedFunction

    class Subscriber(Protocol):
        """What is used of ``_core.Subscriber``."""

        def subscribe(self, channels: Sequence[str], /) -> object: ...
        def track(self, prefixes: Sequence[str], /) -> object: ...
        def start(self) -> object: ...
        def stop(self, timeout: float, /) -> object: ...
        def wait(self, seconds: float, /) -> int: ...
        def confirmed(self, channel: str, /) -> bool: ...


__all__ = ["FIRST_WAIT", "Coherence"]

#: Seconds that a function's first call waits to be heard of at most.
FIRST_WAIT = 0.1
#: Seconds that closing, and exit, wait for the thread.
STOP_WAIT = 1.0

#: States of a subscriber.
LOST, STANDING, REFUSED = 0, 1, 2
#: What ``flag`` says.
HEARS, CAPPED, MISSED, EMPTY, ASLEEP = 1, 2, 0, -1, -2

#: Where a server reports keys that were touched.
_TRACKING = b"__redis__:invalidate"
#: Where programs of the PyPI package tell of invalidations.
_FOREIGN = FOREIGN.encode()
_DIGITS = 64
_POLL = 0.0005


class Coherence:
    """Memory coherence of this process with all others on one shared store.

    ``address``          of the store, for people
    ``make_subscriber``  ``(on_messages=, on_state=)`` gives a ``_core.Subscriber``;
                         None where the store has no channel
    ``origin``           8 random bytes that tell our messages; others after a fork
    ``flag``             see the module
    ``waiters``          who waits for a lock of this store
    """

    def __init__(
        self, address: str, make_subscriber: Callable[..., Subscriber] | None
    ) -> None:
        self.address = address
        self.flag = _core.Flag(HEARS if make_subscriber is None else EMPTY)
        self.origin = os.urandom(8)
        self.waiters = Waiters()
        self._make_subscriber = make_subscriber
        self._members = Members()
        # Re-entrant: a finalizer that runs inside may call a cached function. What
        # follows is guarded by it.
        self._lock = RLock()
        self._subscriber: Subscriber | None = None
        self._running = False
        self._state = LOST
        self._used = False  # whether a call can be under way
        self._channels: dict[str, None] = {}
        self._unheard: set[str] = set()  # channels that came late, while it stands
        _all.add(self)

    # -- joining ----------------------------------------------------------------------

    def join(
        self,
        function: CachedFunction,
        *,
        channel: str,
        version_keys: tuple[str, ...],
        function_id: bytes,
        store_prefix: str,
        computed_tags: bool,
        tracking: bool,
        digests: bool = False,
        registry: str | None = None,
        foreign: bool = False,
    ) -> None:
        """Keep the memory of ``function`` coherent, for as long as it lives.

        ``channel``        of its namespace
        ``version_keys``   names of those that all its entries depend on
        ``computed_tags``  whether entries have others as well
        ``digests``        whether memory knows them by their digests
        ``tracking``       also hear of what the server itself does to its keys
        ``foreign``        also hear of what the PyPI package invalidates, which knows
                           the function by ``registry`` (None: nobody can tell)

        The first one starts to listen, and waits up to ``FIRST_WAIT`` seconds for what
        comes of it; a later one waits as long for a channel that is new.
        """
        self._members.add(
            function,
            channel=channel,
            version_keys=version_keys,
            function_id=function_id,
            prefix=store_prefix.encode() if tracking else None,
            computed_tags=computed_tags,
            digests=digests,
            registry=(registry,) if foreign else None,
        )
        if self._make_subscriber is None:
            return
        channels = (channel, FOREIGN) if foreign else (channel,)
        with self._lock:
            if self._subscriber is None:
                self._subscriber = _subscriber_for(self, self._make_subscriber)
            subscriber = self._subscriber
            for name in channels:
                if name not in self._channels:
                    self._channels[name] = None
                    subscriber.subscribe((name,))
            if tracking:
                subscriber.track((store_prefix,))
            starts = not self._running
            failure = self._start() if starts else None
        if failure is not None:
            self._say_capped(failure)
        elif starts:
            subscriber.wait(FIRST_WAIT)
        else:
            for name in channels:
                self._hear(subscriber, name)
        with self._lock:
            self._used = True

    def _start(self) -> str | None:
        """Begin to listen; why not, or None. With the lock held."""
        assert self._subscriber is not None
        self._state = LOST
        self._unheard.clear()
        self._running = True
        self.flag.value = EMPTY
        try:
            self._subscriber.start()
        except Exception as error:
            self._running = False
            self.flag.value = CAPPED
            return f"no thread: {type(error).__name__}"
        return None

    def _hear(self, subscriber: Subscriber, channel: str) -> None:
        """Wait for a channel that was added while others stand, if it was."""
        until = monotonic() + FIRST_WAIT
        while self.flag.value == HEARS and not subscriber.confirmed(channel):
            if monotonic() >= until:
                with self._lock:
                    if self.flag.value == HEARS:
                        self._unheard.add(channel)
                        self.flag.value = MISSED
                break
            sleep(_POLL)

    def wake(self) -> None:
        """Listen again, in a forked child or after ``close``."""
        failure = None
        with self._lock:
            if self.flag.value == ASLEEP and self._subscriber is not None:
                failure = self._start()
        if failure is not None:
            self._say_capped(failure)

    def close(self, timeout: float = STOP_WAIT) -> None:
        """Stop listening; the next use begins anew. Waits ``timeout`` seconds at most.

        What memory holds of the functions is dropped.
        """
        subscriber = self._subscriber
        if subscriber is None:
            return
        with self._lock:
            self._running = False
            self.flag.value = ASLEEP
        subscriber.stop(timeout)
        self.flush()

    # -- what is heard ----------------------------------------------------------------

    def apply(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Carry out what was heard: pairs of channel and data, both hostile."""
        garbage = 0
        for channel, data in messages:
            if channel == _TRACKING:
                self._touched(data)
                continue
            if channel == _FOREIGN:
                self._said(data)
                continue
            message = parse(data)
            if message is None or channel.decode("utf-8", "replace") not in (
                self._channels
            ):
                garbage += 1
            elif message.kind in (ENTRY, DIGEST):
                if message.origin != self.origin:
                    self.local_entry(*message[2:], digest=message.kind == DIGEST)
            elif message.kind == VERSION:
                if message.origin != self.origin:
                    self.local_version(message.body.decode())
            else:  # ours as well: others in this process may wait
                self.waiters.wake(message.body.decode())
        if garbage:
            self.flush()
            default_log().limited(
                ("garbage", self.address),
                "warning",
                "messages on the channels of %s that are not cachekit's: "
                "memory is dropped",
                self.address,
                event="coherence_garbage",
                store=self.address,
                count=garbage,
            )

    def _touched(self, key: bytes) -> None:
        """The server says that a key has changed; an empty one stands for all.

        A version key is not looked at: a claim that prolongs it touches it, too, and
        whoever deletes it with cachekit says so on the channel.
        """
        if not key:
            self.flush()
            return
        functions = self._members.by("prefix", key[:-_DIGITS])
        if functions:
            try:
                digest = bytes.fromhex(key[-_DIGITS:].decode())
            except ValueError:
                return
            for function in functions:
                function._forget(digest)

    def _said(self, data: bytes) -> None:
        """A program of the PyPI package, or one of ours among them, has invalidated
        entries of a function. Its keys are not those of memory: all of it is dropped,
        and what is no such message is about everything that it could be about."""
        registry = decode_event(data)
        if registry is None:
            heard = self._members.by("foreign", None)
        else:
            heard = self._members.by("registry", registry)
            heard += self._members.by("registry", None)
        for function in heard:
            function._expire()

    def local_entry(self, function_id: bytes, key: bytes, digest: bool = False) -> None:
        """An entry is gone: for all functions of that id in this process.

        ``digest``  it is named by its digest; a function that knows it by another name
                    cannot tell which it is, and forgets all of them
        """
        same, other = ("digest", "entry") if digest else ("entry", "digest")
        for function in self._members.by(same, function_id):
            function._forget(key)
        for function in self._members.by(other, function_id):
            function._expire()

    def local_version(self, name: str) -> None:
        """A version key is gone: for all functions whose entries may carry it."""
        self._members.expire(name)

    def flush(self) -> None:
        """Drop what memory holds of all functions here."""
        for function in self._members.all():
            function._distrust()

    # -- what is known of memory ------------------------------------------------------

    def suspect(self) -> None:
        """The store answers and not everything is heard: memory is dropped, once."""
        with self._lock:
            if self.flag.value != MISSED:
                return
            stands = self._state == STANDING
            late = list(self._unheard)
            if not stands:
                self.flag.value = EMPTY
        if not stands or not all(map(self._confirmed, late)):
            self.flush()
            return
        for channel in late:
            for function in self._members.by("channel", channel):
                function._distrust()
        with self._lock:
            if self._state == STANDING and self._running:
                self._trust()

    def missed(self) -> None:
        """Memory was filled while nothing is heard."""
        if self.flag.value == ASLEEP:
            self.wake()
        with self._lock:
            if self.flag.value == EMPTY:
                self.flag.value = MISSED

    def on_state(self, state: int) -> None:
        """The subscriber stands, is refused, or is lost."""
        flushed = False
        while True:
            with self._lock:
                if not self._running:
                    return  # the last words of one that was stopped
                # As long as no call can be under way there is nothing to flush.
                empty = self.flag.value == EMPTY
                if state == LOST or flushed or (empty and not self._used):
                    self._settle(state)
                    break
            self.flush()
            flushed = True
        self._say(state)

    def _settle(self, state: int) -> None:
        """The flag for a new state. With the lock held."""
        self._state = state
        self._unheard.clear()
        if state == REFUSED:
            self.flag.value = CAPPED
        elif state == STANDING:
            self._trust()
        elif self.flag.value != EMPTY:
            self.flag.value = MISSED

    def _trust(self) -> None:
        """It stands: believe memory, unless a channel has come late. Lock held."""
        self._unheard = {name for name in self._channels if not self._confirmed(name)}
        self.flag.value = MISSED if self._unheard else HEARS

    def _confirmed(self, channel: str) -> bool:
        return self._subscriber is not None and self._subscriber.confirmed(channel)

    # -- what is said of it -----------------------------------------------------------

    def _say(self, state: int) -> None:
        if state == REFUSED:
            self._say_capped("the server refuses SUBSCRIBE")
            return
        log, fields = default_log(), {"store": self.address}
        stands = state == STANDING
        if stands:
            log.changed(
                ("coherence", self.address),
                "ok",
                "warning",
                "invalidations of %s are heard; memory is used to the full",
                self.address,
                event="coherence_recovered",
                **fields,
            )
        log.changed(
            ("subscription", self.address),
            "ok" if stands else "lost",
            "info",
            "the subscription to %s " + ("stands again" if stands else "is lost"),
            self.address,
            event="subscription_changed",
            **fields,
        )

    def _say_capped(self, reason: str) -> None:
        default_log().changed(
            ("coherence", self.address),
            "refused",
            "warning",
            "invalidations of %s are not heard (%s); memory keeps its entries for 5 s "
            "at most",
            self.address,
            reason,
            event="coherence_refused",
            store=self.address,
        )

    # -- forked child -----------------------------------------------------------------

    def _after_fork(self) -> None:
        self._lock = RLock()
        self._members.after_fork()
        self.waiters.after_fork()
        self.origin = os.urandom(8)
        self._running = False
        self._state = LOST
        self._unheard = set()
        if self._subscriber is not None:
            self.flag.value = ASLEEP
        self.flush()

    def __repr__(self) -> str:
        return f"<Coherence {self.address}>"


def _subscriber_for(
    coherence: Coherence, make: Callable[..., Subscriber]
) -> Subscriber:
    """One whose thread does not keep the coherence, and with it everything, alive."""
    reference = weakref.ref(coherence)

    def on_messages(messages: Iterable[tuple[bytes, bytes]]) -> None:
        listener = reference()
        if listener is None:
            return
        try:
            listener.apply(messages)
        except BaseException:
            listener.flush()  # what was not carried out may be anything
            raise

    def on_state(state: int) -> None:
        listener = reference()
        if listener is not None:
            listener.on_state(state)

    def on_answer(_: int) -> None:
        # Memory may be all that calls ask: then none of them finds out.
        listener = reference()
        if listener is not None:
            listener.suspect()

    return make(on_messages=on_messages, on_state=on_state, on_answer=on_answer)


_all: weakref.WeakSet[Coherence] = weakref.WeakSet()


def _after_fork() -> None:
    for coherence in list(_all):
        coherence._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
