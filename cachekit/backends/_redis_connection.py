# SPDX-License-Identifier: MIT
"""One pipelined connection to a Redis server on one event loop.

An operation is bytes to send and a number of replies to wait for: one future, an entry
in a queue, and no task or timer of its own. The operations of one loop turn leave in
one write. Replies are matched to operations in order, so an operation whose caller has
gone keeps its place in the queue until its replies have come and are dropped.

Deadlines share one timer. When it rings, the loop first gets the time to deliver what
waits in the socket: a loop that was blocked has missed the deadline, not the server.
An operation that is still unanswered then has failed, and the connection is dropped
with it; unless the connection received much in the meantime: then the server is alive
and the operation was slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque

from cachekit._core import ReplyError, RespReader, pack_commands
from cachekit._errors import (
    BackendAuthenticationError,
    BackendConnectionError,
    BackendError,
    BackendProtocolError,
    BackendReplyError,
    BackendTimeout,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine
    from typing import Any

    from cachekit.backends._redis_settings import RedisSettings

__all__ = ["Connection", "Lost", "reply_error"]

#: Bytes that prove a connection alive while an operation waits.
_ALIVE_BYTES = 256 * 1024
#: Seconds without a byte after a deadline until it is believed, and the most of them.
_QUIET_SECONDS = 0.005
_DRAIN_SECONDS = 0.05
#: A timer this late (seconds) was kept waiting by its own loop.
_LATE_SECONDS = 0.02
#: Seconds that a late connect timer grants once more.
_CONNECT_GRACE_SECONDS = 0.1
#: Pieces of this size (bytes) are not copied into the write of the turn.
_LARGE_PIECE = 64 * 1024

_NEVER = float("inf")
_PING = pack_commands([["PING"]])


class Lost(Exception):
    """The connection broke under an operation that may be tried again."""

    def __init__(self, error: Callable[[], BackendError]) -> None:
        super().__init__()
        #: Makes the exception to raise when it is not tried again.
        self.error = error


def reply_error(address: str, error: ReplyError) -> BackendError:
    """The exception for an error that the server answered."""
    if error.kind == "auth":
        return BackendAuthenticationError(f"{address}: {error.text}", kind="auth")
    return BackendReplyError(f"{address}: {error.text}", kind=error.kind)


def _connect_error(address: str, error: BaseException) -> Callable[[], BackendError]:
    """What to raise when connecting ended in `error`; one new exception a call."""
    if isinstance(error, BackendError):
        kind, text, made = error.kind, error.message, type(error)
        return lambda: made(text, kind=kind)
    if isinstance(error, asyncio.TimeoutError):
        text = f"{address}: no connection in time"
        return lambda: BackendTimeout(text, kind="timeout")
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        text = f"{address}: connection reset"
        return lambda: BackendConnectionError(text, kind="reset")
    # Neither ssl nor socket errors repeat anything that was sent.
    kind = "tls" if type(error).__module__ == "ssl" else "refused"
    text = f"{address}: {getattr(error, 'strerror', None) or 'no connection'}"
    return lambda: BackendConnectionError(text, kind=kind)


class Connection(asyncio.Protocol):
    """Connects when made; operations may be submitted at once.

    Belongs to its loop: every method is to be called there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: RedisSettings,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.closed = False
        #: Operations that wait for replies, oldest first: (future, replies, deadline,
        #: bytes received when submitted). Until `_ready`, `_out` holds their bytes one
        #: to one.
        self.pending: deque[tuple[asyncio.Future[list[Any]], int, float, int]] = deque()
        self.received = 0
        self._loop = loop
        self._settings = settings
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._feed = RespReader(max_bulk=settings.max_reply).feed
        self._partial: list[Any] | None = None
        self._out: list[bytes] = []
        self._flushing = False
        self._large = False
        self._paused = False
        self._ready = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._idle_limit = settings.health_check_interval or _NEVER
        self._active_at = 0.0
        self._create_future = loop.create_future
        self._connecting = loop.create_task(self._open())

    # --- operations ---

    def submit(
        self, data: bytes, replies: int, deadline: float
    ) -> asyncio.Future[list[Any]]:
        """Send `data`, which holds `replies` commands, in the write of this turn.

        The future gives the list of replies; or raises `Lost` or a `BackendError`. It
        may be cancelled. `deadline` is a time of the loop.
        """
        if self._idle_limit is not _NEVER:
            self._check_idle(deadline)
        future = self._create_future()
        self.pending.append((future, replies, deadline, self.received))
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if deadline < self._timer_at:
            self._arm(deadline)
        return future

    def submit_large(
        self, pieces: list[bytes], replies: int, deadline: float
    ) -> asyncio.Future[list[Any]]:
        """As `submit`, without a copy of the pieces."""
        self._large = True
        if not self._ready:  # one item of `_out` for one operation
            return self.submit(b"".join(pieces), replies, deadline)
        future = self.submit(pieces[0], replies, deadline)
        self._out.extend(pieces[1:])
        return future

    def _check_idle(self, deadline: float) -> None:
        now = self._loop.time()
        idle = now - self._active_at
        self._active_at = now
        if self._ready and not self.pending and idle > self._idle_limit:
            future = self._create_future()
            future.add_done_callback(_forget)
            self.pending.append((future, 1, deadline, self.received))
            self._out.append(_PING)

    def _flush(self) -> None:
        self._flushing = False
        if not self._ready or self._paused or self.closed:
            return
        out, self._out = self._out, []
        if not out:
            return
        assert self._transport is not None
        if self._large:
            self._large = False
            for piece in _joined(out):
                self._transport.write(piece)
        else:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # --- connecting ---

    async def _open(self) -> None:
        """Connect and greet. Does not raise; what went wrong goes to the waiting."""
        due = self._loop.time() + self._settings.connect_timeout
        timer = self._loop.call_at(due, self._connect_late, due)
        try:
            await self._connect()
            await self._greet()
        except asyncio.CancelledError:
            # By our timer; `abort` has closed already, and a loop that ends is alone.
            self._close(self._connect_failure(asyncio.TimeoutError()))
        except Exception as error:
            self._close(self._connect_failure(error))
        else:
            self._start()
        finally:
            timer.cancel()

    def _connect_failure(self, error: BaseException) -> Callable[[], Exception]:
        make = _connect_error(self._settings.address, error)
        if self._settings.retry_on_timeout and isinstance(error, asyncio.TimeoutError):
            return lambda: Lost(make)
        return make

    def _connect_late(self, due: float) -> None:
        now = self._loop.time()
        if now - due > _LATE_SECONDS:  # the loop was blocked: let it look once more
            later = now + _CONNECT_GRACE_SECONDS
            self._loop.call_at(later, self._connect_late, later)
        elif not self._ready:
            self._connecting.cancel()

    async def _connect(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {}
        if self._tls is not None:
            name = (settings.tls or {}).get("server_hostname") or settings.host
            options = {"ssl": self._tls, "server_hostname": name}
        opening: Coroutine[Any, Any, Any]
        if settings.path is not None:
            opening = self._loop.create_unix_connection(
                lambda: self, settings.path, **options
            )
        else:
            opening = self._loop.create_connection(
                lambda: self, settings.host, settings.port, **options
            )
        await opening
        if settings.keepalive and settings.path is None:
            self._keep_alive()

    def _keep_alive(self) -> None:
        # The loop's own socket object may not let us; the option belongs to what the
        # descriptor stands for, so a copy does.
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self.fileno())) as copy,
        ):
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def _greet(self) -> None:
        """AUTH, SELECT and CLIENT SETNAME in one write."""
        settings = self._settings
        commands: list[list[Any]] = []
        if settings.password is not None:
            user = [settings.username] if settings.username is not None else []
            commands.append(["AUTH", *user, settings.password])
        if settings.database != 0:
            commands.append(["SELECT", settings.database])
        if settings.client_name:
            commands.append(["CLIENT", "SETNAME", settings.client_name])
        if not commands:
            return
        greeting = self._create_future()
        self.pending.appendleft((greeting, len(commands), _NEVER, 0))
        assert self._transport is not None
        self._transport.write(pack_commands(commands))
        for command, reply in zip(commands, await greeting, strict=True):
            if not isinstance(reply, ReplyError):
                continue
            if command[0] == "AUTH" and reply.kind != "maxclients":
                raise BackendAuthenticationError(
                    f"{settings.address}: {reply.text}", kind="auth"
                )
            if command[0] == "SELECT" or reply.kind == "maxclients":
                raise reply_error(settings.address, reply)
            # A connection without a name works as well.

    def _start(self) -> None:
        """Greeted: send what waits, without those that nobody waits for any more."""
        if self.closed:
            return
        waiting = list(zip(self.pending, self._out, strict=True))
        self.pending.clear()
        self._out.clear()
        for operation, data in waiting:
            if not operation[0].done():
                self.pending.append(operation)
                self._out.append(data)
        self._ready = True
        self._active_at = self._loop.time()
        self._flush()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream is a Transport
        if self.closed:
            transport.abort()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        self.received += len(data)
        try:
            replies = self._feed(data)
        except (BackendProtocolError, MemoryError) as error:
            text = f"{self._settings.address}: {error}"
            kind, counts = getattr(error, "kind", None), getattr(error, "counts", None)
            self._close(lambda: BackendProtocolError(text, kind=kind, counts=counts))
            return
        if self._partial is not None:
            replies = self._partial + replies
            self._partial = None
        pending = self.pending
        at, count = 0, len(replies)
        while at < count:
            if not pending:
                self._unasked(replies[at])
                return
            future, wanted, _, _ = pending[0]
            end = at + wanted
            if end > count:
                self._partial = replies[at:]
                return
            pending.popleft()
            if not future.done():
                future.set_result(replies[at:end])
            at = end

    def _unasked(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):  # its last words
            self._close(lambda: reply_error(self._settings.address, reply))
        else:
            text = f"{self._settings.address}: the server sent more than was asked for"
            self._close(lambda: BackendProtocolError(text))

    def connection_lost(self, exc: Exception | None) -> None:
        text = f"{self._settings.address}: connection reset"
        self._lose(lambda: BackendConnectionError(text, kind="reset"))

    def _lose(self, error: Callable[[], BackendError]) -> None:
        """The connection is gone. One that was never up is not tried again."""
        self._close((lambda: Lost(error)) if self._ready else error)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # --- deadlines ---

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        if self.pending:
            until = self._loop.time() + _DRAIN_SECONDS
            self._loop.call_later(_QUIET_SECONDS, self._drain, 2, self.received, until)

    def _drain(self, turns: int, received: int, until: float) -> None:
        """Two turns more, so that the loop has looked at its sockets in between
        whichever order it works in; and again while bytes keep coming."""
        if self.closed:
            return
        if turns:
            self._loop.call_soon(self._drain, turns - 1, received, until)
        elif self.received != received and self._loop.time() < until:
            self._loop.call_later(_QUIET_SECONDS, self._drain, 2, self.received, until)
        else:
            self._judge()

    def _judge(self) -> None:
        now = self._loop.time()
        following = _NEVER
        failed = False
        text = f"{self._settings.address}: no reply in time"
        for future, _, deadline, received in self.pending:
            if future.done():
                continue
            if deadline > now:
                following = min(following, deadline)
            elif self.received - received >= _ALIVE_BYTES:
                future.set_exception(BackendTimeout(text, counts=False))
            else:
                failed = True
                future.set_exception(BackendTimeout(text))
        if failed and self._ready:
            # The others may still have the time for a new connection.
            self._lose(lambda: BackendTimeout(text))
        elif following < self._timer_at:
            # Not for each deadline of a crowd that waits together.
            self._arm(max(following, now + _QUIET_SECONDS))

    # --- the end ---

    def _close(self, error: Callable[[], Exception]) -> None:
        """Fail what waits, each with an exception of its own, and disconnect."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._out.clear()
        pending, self.pending = self.pending, deque()
        for future, _, _, _ in pending:
            if not future.done():
                future.set_exception(error())
        if self._transport is not None:
            self._transport.abort()

    def abort(self) -> None:
        """Disconnect. What waits fails; it is not counted as the store's failure."""
        text = f"{self._settings.address}: the transport was closed"
        self._close(lambda: BackendConnectionError(text, kind="closed", counts=False))
        self._connecting.cancel()

    def fileno(self) -> int:
        """The socket's descriptor; -1 without one."""
        if self._transport is None:
            return -1
        found = self._transport.get_extra_info("socket")
        return -1 if found is None else int(found.fileno())


def _forget(future: asyncio.Future[Any]) -> None:
    """Take notice of an exception that concerns nobody."""
    if not future.cancelled():
        future.exception()


def _joined(out: list[bytes]) -> list[bytes]:
    """Runs of small pieces joined; large ones by themselves."""
    joined: list[bytes] = []
    small: list[bytes] = []
    for piece in out:
        if len(piece) < _LARGE_PIECE:
            small.append(piece)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(piece)
    if small:
        joined.append(b"".join(small))
    return joined
