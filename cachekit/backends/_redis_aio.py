# SPDX-License-Identifier: MIT
"""The asyncio transport to one Redis server.

Every event loop has connections of its own, one unless more are asked for, and every
operation of the loop is pipelined on them. A function whose values exceed 1 MiB moves
to a second connection, so that nobody waits behind its replies: a function is what
stands before the last colon of a store key.

Connections of a loop end with it: ``asyncio.run`` and its like close them. A forked
child starts with none and leaves its parent's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import weakref
from asyncio import get_running_loop

from cachekit._core import ReplyError, pack_commands
from cachekit._errors import BackendError, BackendProtocolError, BackendTimeout
from cachekit.backends._redis_connection import Connection, Lost, reply_error
from cachekit.backends._redis_scripts import Talks
from cachekit.backends._redis_sweep import Sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any, TypeVar

    from cachekit.backends._protocol import (
        Claim,
        Claimed,
        Fill,
        Found,
        Release,
        Removal,
    )
    from cachekit.backends._redis_scripts import Command, Talk
    from cachekit.backends._redis_settings import RedisSettings

    T = TypeVar("T")

__all__ = ["AsyncRedisTransport"]

#: A function with a value of more bytes than this moves to the second connection.
_BULKY_BYTES = 1024 * 1024
#: So many functions are remembered to be bulky; then forgotten and found out again.
_BULKY_MOST = 1024
#: Values above this (bytes) are sent without another copy.
_LARGE_VALUE = 64 * 1024


class AsyncRedisTransport:
    """All methods but ``figures`` are awaitable.

    May be used from any number of loops and threads. `timeout` (seconds) bounds the
    whole operation: connecting, sending, waiting, trying again. Failures are raised as
    ``BackendError``.
    """

    versioned = True

    def __init__(self, settings: RedisSettings, talks: Talks | None = None) -> None:
        self._settings = settings
        self._talks = Talks(settings.address) if talks is None else talks
        self._tls: ssl.SSLContext | None = None
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._bulky: set[str] = set()
        self._sweeps: dict[str, Sweep] = {}  # out of time, to go on
        _transports.add(self)

    def __repr__(self) -> str:
        return f"<AsyncRedisTransport {self._settings.address}>"

    async def lookup(self, key: str, sides: tuple[str, ...], timeout: float) -> Found:
        """The bytes of `key` or None, its remaining lifetime in ms (-1: no end, -2: no
        entry), and what the keys `sides` hold.

        One round trip. The lifetime is asked for first: a fill in between can only make
        the entry look older.
        """
        loop = get_running_loop()
        deadline = loop.time() + timeout
        commands = pack_commands((("PTTL", key), ("MGET", key, *sides)))
        outcome: list[Any] | Lost
        try:
            # The hot path: one connection, known to the loop, nothing bulky anywhere.
            state = self._loops.get(loop)
            connection = None if state is None or self._bulky else state.single
            if connection is None or connection.closed:
                connection = self._connection(loop, key)
            outcome = await connection.submit(commands, 2, deadline)
            remaining, values = outcome
        except Lost as lost:
            outcome, remaining, values = lost, None, None
        if type(values) is not list or type(remaining) is not int:
            remaining, values = await self._again(key, commands, 2, deadline, outcome)
        if type(remaining) is not int or type(values) is not list:
            raise self._nonsense()
        for value in values:
            if value is not None and type(value) is not bytes:
                raise self._nonsense()
        if len(values) != 1 + len(sides):
            raise self._nonsense()
        data = values[0]
        if data is None or remaining == -2:
            return None, -2, tuple(values[1:])
        if len(data) > _BULKY_BYTES:
            self._mark_bulky(key)
        return data, remaining, tuple(values[1:]) if sides else ()

    async def read(self, key: str, timeout: float) -> tuple[bytes, int] | None:
        """The bytes of `key` and its remaining lifetime in ms (-1: no end), or None."""
        data, remaining, _ = await self.lookup(key, (), timeout)
        return None if data is None else (data, remaining)

    async def write(self, key: str, data: bytes, ttl_ms: int, timeout: float) -> None:
        """Store `data` for `ttl_ms` milliseconds; 0: without an end."""
        loop = get_running_loop()
        deadline = loop.time() + timeout
        if len(data) > _BULKY_BYTES:
            self._mark_bulky(key)
        expiry = ("PX", ttl_ms) if ttl_ms else ()
        commands = _packed([("SET", key, data, *expiry)])
        await self._again(key, commands, 1, deadline)

    async def delete(self, keys: Sequence[str], timeout: float) -> int:
        """Remove `keys`; how many there were."""
        if not keys:
            return 0
        deadline = get_running_loop().time() + timeout
        commands = pack_commands((("DEL", *keys),))
        removed = (await self._again(keys[0], commands, 1, deadline))[0]
        if type(removed) is not int:
            raise self._nonsense()
        return removed

    @property
    def fenced(self) -> bool:
        """False while the server refuses scripts: fills are plain writes then."""
        return self._talks.fenced

    async def claim(self, request: Claim, timeout: float) -> Claimed:
        """Fence, lock and versions, before a function runs."""
        return await self._carry_out("", self._talks.claim(request), timeout)

    async def fill(self, request: Fill, timeout: float) -> bool:
        """Store an entry; False when it was invalidated since its claim."""
        if len(request.data) > _BULKY_BYTES:
            self._mark_bulky(request.key)
        return await self._carry_out(request.key, self._talks.fill(request), timeout)

    async def remove(self, request: Removal, timeout: float) -> None:
        """Invalidate entries and versions, and tell."""
        await self._carry_out("", self._talks.remove(request), timeout)

    async def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        """Keep our lock for so long from now; False: it is no longer ours."""
        return await self._carry_out("", self._talks.renew(key, lock, ttl_ms), timeout)

    async def release(self, request: Release, timeout: float) -> None:
        """Give up our lock."""
        await self._carry_out("", self._talks.release(request), timeout)

    async def delete_prefix(self, prefix: str, timeout: float) -> int:
        """Remove every key that begins so; looks at all keys of the database.

        What runs out of time goes on where it stopped when it is asked for again.
        """
        deadline = get_running_loop().time() + timeout
        sweep = self._sweeps.pop(prefix, None) or Sweep(prefix)
        while sweep.command is not None:
            try:
                commands = pack_commands((sweep.command,))
                sweep.take((await self._again(prefix, commands, 1, deadline))[0])
            except BackendTimeout:
                self._sweeps[prefix] = sweep
                raise
        return sweep.deleted

    async def ping(self, timeout: float) -> None:
        """Raises unless the server answers."""
        deadline = get_running_loop().time() + timeout
        await self._again("", pack_commands((("PING",),)), 1, deadline)

    async def close(self) -> None:
        """Close every connection. A later operation connects anew."""
        running = get_running_loop()
        for loop, connections in list(self._loops.items()):
            del self._loops[loop]
            if loop is running:
                connections.close()
            else:
                with contextlib.suppress(RuntimeError):  # it is closed, and so are they
                    loop.call_soon_threadsafe(connections.close)
        await asyncio.sleep(0)

    def figures(self) -> dict[str, int]:
        """Connections open now and made so far, operations that wait; for reports."""
        states = list(self._loops.values())
        open_now = [
            connection
            for state in states
            for connection in state.all()
            if not connection.closed
        ]
        return {
            "size": len(open_now),
            "created": sum(state.created for state in states),
            "waiting": sum(len(connection.pending) for connection in open_now),
        }

    # --- within ---

    async def _carry_out(self, key: str, talk: Talk[T], timeout: float) -> T:
        deadline = get_running_loop().time() + timeout
        replies: Any = None  # what starts it
        while True:
            try:
                commands = talk.send(replies)
            except StopIteration as end:
                result: T = end.value
                return result
            packed = _packed(commands)
            replies = await self._again(
                key, packed, len(commands), deadline, in_place=True
            )

    def _connection(self, loop: asyncio.AbstractEventLoop, key: str) -> Connection:
        state = self._loops.get(loop)
        if state is None:
            state = self._enter(loop)
        if self._bulky and key.rpartition(":")[0] in self._bulky:
            return state.pick_bulky()
        return state.pick()

    def _enter(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        for other in list(self._loops):
            if other.is_closed():
                self._loops.pop(other, None)
        if self._settings.tls is not None and self._tls is None:
            self._tls = _tls_context(self._settings)
        state = self._loops[loop] = _Loop(loop, self._settings, self._tls)
        return state

    def _mark_bulky(self, key: str) -> None:
        if len(self._bulky) >= _BULKY_MOST:
            self._bulky = set()
        self._bulky.add(key.rpartition(":")[0])

    def _nonsense(self) -> BackendError:
        return BackendProtocolError(
            f"{self._settings.address}: the server's reply does not fit the command"
        )

    async def _again(
        self,
        key: str,
        commands: bytes | list[bytes],
        count: int,
        deadline: float,
        outcome: list[Any] | Lost | None = None,
        in_place: bool = False,
    ) -> list[Any]:
        """The replies, none of them an error; or, with `in_place`, none that passes.
        Tries again, within the deadline, what may go better: at once after a lost
        connection, after a pause when the server asks for patience. `outcome` is that
        of a try that was made already."""
        loop = get_running_loop()
        pause = self._settings.retry_delay
        for left in range(self._settings.connection_retries, -1, -1):
            if outcome is None:
                try:
                    outcome = await self._try(loop, key, commands, count, deadline)
                except Lost as lost:
                    outcome = lost
            if isinstance(outcome, Lost):
                if not left or loop.time() >= deadline:
                    raise outcome.error() from None
            else:
                refusal = _first_error(outcome, in_place)
                if refusal is None:
                    return outcome
                delay = random.random() * pause
                pause *= 2
                if not refusal.passing or not left or loop.time() + delay >= deadline:
                    raise reply_error(self._settings.address, refusal)
                await asyncio.sleep(delay)
            outcome = None
        raise AssertionError("the last try returns or raises")

    def _try(
        self,
        loop: asyncio.AbstractEventLoop,
        key: str,
        commands: bytes | list[bytes],
        count: int,
        deadline: float,
    ) -> asyncio.Future[list[Any]]:
        connection = self._connection(loop, key)
        if isinstance(commands, list):
            return connection.submit_large(commands, count, deadline)
        return connection.submit(commands, count, deadline)

    def _abandon(self) -> list[_Loop]:
        """In a forked child: give up what was inherited. Nothing is sent."""
        inherited = list(self._loops.values())
        self._loops = {}
        for state in inherited:
            for connection in state.all():
                _silence(connection)
        return inherited


class _Loop:
    """The connections of one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: RedisSettings,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.created = 0
        #: The last connection made, where only one is used at a time.
        self.single: Connection | None = None
        self._loop = loop
        self._settings = settings
        self._tls = tls
        self._turn = 0
        self._connections: list[Connection | None] = [None] * settings.async_connections
        self._bulky: Connection | None = None
        # The loop closes its asynchronous generators before it is closed itself.
        self._keeper = _keep(self)
        with contextlib.suppress(StopIteration):
            self._keeper.__anext__().send(None)

    def pick(self) -> Connection:
        """The next connection in turn, a new one where it is closed."""
        turn = self._turn
        connection = self._connections[turn]
        if len(self._connections) > 1:
            self._turn = (turn + 1) % len(self._connections)
        if connection is None or connection.closed:
            connection = self._connections[turn] = self._new()
            if len(self._connections) == 1:
                self.single = connection
        return connection

    def pick_bulky(self) -> Connection:
        """The connection of those whose values are large."""
        if self._bulky is None or self._bulky.closed:
            self._bulky = self._new()
        return self._bulky

    def _new(self) -> Connection:
        self.created += 1
        return Connection(self._loop, self._settings, self._tls)

    def all(self) -> list[Connection]:
        return [one for one in (*self._connections, self._bulky) if one is not None]

    def close(self) -> None:
        for connection in self.all():
            connection.abort()


async def _keep(connections: _Loop) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        connections.close()
        await asyncio.sleep(0)  # the loop disconnects in its next turn


def _packed(commands: Sequence[Command]) -> bytes | list[bytes]:
    """The bytes of the commands; in pieces where a value is too large to copy."""
    pieces: list[bytes] = []
    small: list[Command] = []
    for command in commands:
        if all(type(one) is not bytes or len(one) <= _LARGE_VALUE for one in command):
            small.append(command)
            continue
        if small:
            pieces.append(pack_commands(small))
            small = []
        _pack_around(command, pieces)
    if not pieces:
        return pack_commands(small)
    if small:
        pieces.append(pack_commands(small))
    return pieces


def _pack_around(command: Command, pieces: list[bytes]) -> None:
    """Add one command; its large arguments are pieces of their own."""
    before = b"*%d\r\n" % len(command)
    for one in command:
        if type(one) is bytes and len(one) > _LARGE_VALUE:
            pieces += (before + b"$%d\r\n" % len(one), one)
            before = b"\r\n"
        else:
            # Without the count of arguments in front.
            before += pack_commands(((one,),)).partition(b"\r\n")[2]
    pieces.append(before)


def _first_error(replies: list[Any], passing: bool = False) -> ReplyError | None:
    """The first error among the replies; the first that passes, if so asked."""
    for reply in replies:
        if type(reply) is ReplyError and (reply.passing or not passing):
            return reply
    return None


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    import ssl

    options = dict(settings.tls or {})
    context = ssl.create_default_context(
        cafile=options.get("ca_certs"), capath=options.get("ca_path")
    )
    verify = options.get("verify", True)
    context.check_hostname = verify and options.get("check_hostname", True)
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if options.get("certfile"):
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    return context


# --- fork ---

_transports: weakref.WeakSet[AsyncRedisTransport] = weakref.WeakSet()
#: What a child inherited. Kept for ever: to destroy it would be to use it.
_inherited: list[list[_Loop]] = []


def _silence(connection: Connection) -> None:
    """Close the inherited descriptor, and nothing else.

    The objects around it will close its number once more, some day, and may first ask
    to be taken off a selector that the parent still uses. So the number stays taken, by
    something that concerns nobody.
    """
    with contextlib.suppress(OSError):
        descriptor = connection.fileno()
        if descriptor >= 0:
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, descriptor, inheritable=False)
            os.close(nowhere)


def _after_fork() -> None:
    for transport in list(_transports):
        _inherited.append(transport._abandon())


os.register_at_fork(after_in_child=_after_fork)
