# SPDX-License-Identifier: MIT
"""Redis as a backend: one object with a blocking and an asyncio face."""

from __future__ import annotations

from time import monotonic

from cachekit._core import RedisClient, Subscriber
from cachekit._errors import BackendTimeout
from cachekit.backends._redis_scripts import Talks
from cachekit.backends._redis_sweep import Sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from cachekit._config import CacheConfig
    from cachekit.backends._protocol import Claim, Claimed, Fill, Release, Removal
    from cachekit.backends._redis_aio import AsyncRedisTransport
    from cachekit.backends._redis_scripts import Talk

    T = TypeVar("T")

__all__ = ["PING_INTERVAL", "RedisBackend"]

#: Seconds between two questions whether a subscription still stands.
PING_INTERVAL = 5.0


class RedisBackend:
    """A Redis server.

    ``url``     ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for
                TLS, ``unix:///path/to/socket``; default: the environment's
    ``config``  timeouts, pool and retries; default: the environment's

    Raises ``ConfigurationError`` for a URL that is none. Connects when first used.

    >>> RedisBackend("redis://127.0.0.1:6379/1").address
    '127.0.0.1:6379'
    """

    versioned = True

    def __init__(
        self, url: str | None = None, config: CacheConfig | None = None
    ) -> None:
        from cachekit._config import CacheConfig
        from cachekit.backends._url import operation_timeout, redis_settings

        config = CacheConfig().over_environment() if config is None else config
        self.settings = redis_settings(config, url)
        self.timeout = operation_timeout(config, url)
        self._pool = (config.connection_pool_size, config.pool_timeout)
        self._sweeps: dict[str, Sweep] = {}  # out of time, to go on
        self._async: AsyncRedisTransport | None = None
        self._talks = Talks(self.settings.address)
        self._open()

    def _open(self) -> None:
        """A new client; its methods are ours, so that nothing stands in between."""
        size, patience = self._pool
        self._client = client = RedisClient(
            self.settings, pool_size=size, pool_timeout=patience
        )
        self.read, self.write, self.delete = client.read, client.write, client.delete
        self.ping, self.lookup = client.ping, client.lookup

    def close(self) -> None:
        """Close the blocking connections, those in use as soon as they are free. A
        later operation connects anew."""
        client = self._client
        self._open()
        client.close()

    @property
    def address(self) -> str:
        """Where the server is: no user, no password."""
        return self.settings.address

    @property
    def fenced(self) -> bool:
        """False while the server refuses scripts: fills are plain writes then."""
        return self._talks.fenced

    def claim(self, request: Claim, timeout: float) -> Claimed:
        """Fence, lock and versions, before a function runs."""
        return self._carry_out(self._talks.claim(request), timeout)

    def fill(self, request: Fill, timeout: float) -> bool:
        """Store an entry; False when it was invalidated since its claim."""
        return self._carry_out(self._talks.fill(request), timeout)

    def remove(self, request: Removal, timeout: float) -> None:
        """Invalidate entries and versions, and tell."""
        self._carry_out(self._talks.remove(request), timeout)

    def renew(self, key: str, lock: str, ttl_ms: int, timeout: float) -> bool:
        """Keep our lock for so long from now; False: it is no longer ours."""
        return self._carry_out(self._talks.renew(key, lock, ttl_ms), timeout)

    def release(self, request: Release, timeout: float) -> None:
        """Give up our lock."""
        self._carry_out(self._talks.release(request), timeout)

    def _carry_out(self, talk: Talk[T], timeout: float) -> T:
        deadline = monotonic() + timeout
        replies: Any = None  # what starts it
        while True:
            try:
                commands = talk.send(replies)
            except StopIteration as end:
                result: T = end.value
                return result
            replies = self._client.pipeline(commands, timeout, True)
            timeout = deadline - monotonic()

    def delete_prefix(self, prefix: str, timeout: float) -> int:
        """Remove every key that begins so; looks at all keys of the database.

        What runs out of time goes on where it stopped when it is asked for again.
        """
        deadline = monotonic() + timeout
        sweep = self._sweeps.pop(prefix, None) or Sweep(prefix)
        while sweep.command is not None:
            try:
                left = max(0.0, deadline - monotonic())
                sweep.take(self._client.execute(*sweep.command, timeout=left))
            except BackendTimeout:
                self._sweeps[prefix] = sweep
                raise
        return sweep.deleted

    def asyncio(self) -> AsyncRedisTransport:
        """The same server for async functions."""
        if self._async is None:
            from cachekit.backends._redis_aio import AsyncRedisTransport

            self._async = AsyncRedisTransport(self.settings, self._talks)
        return self._async

    def subscriber(self, **callbacks: Any) -> Subscriber:
        """What listens to the server, with a connection and a thread of its own.

        ``callbacks``  ``on_messages`` and ``on_state``, see ``_core.Subscriber``
        """
        return Subscriber(
            self.settings,
            deadline=self.timeout,
            ping_interval=PING_INTERVAL,
            **callbacks,
        )

    def pool_stats(self) -> dict[str, Any]:
        """Figures of the pool of blocking connections."""
        stats: dict[str, Any] = self._client.pool_stats()
        return stats

    def __repr__(self) -> str:
        return f"<RedisBackend {self.address}>"
