# SPDX-License-Identifier: MIT
"""Redis as a backend: one object with a blocking and an asyncio face."""

from __future__ import annotations

from time import monotonic

from cachekit._core import RedisClient
from cachekit._errors import BackendTimeout
from cachekit.backends._redis_sweep import Sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._config import CacheConfig
    from cachekit.backends._redis_aio import AsyncRedisTransport

__all__ = ["RedisBackend"]


class RedisBackend:
    """A Redis server.

    ``url``     ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for
                TLS, ``unix:///path/to/socket``; default: the environment's
    ``config``  timeouts, pool and retries; default: the environment's

    Raises ``ConfigurationError`` for a URL that is none. Connects when first used.

    >>> RedisBackend("redis://127.0.0.1:6379/1").address
    '127.0.0.1:6379'
    """

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
        self._open()

    def _open(self) -> None:
        """A new client; its methods are ours, so that nothing stands in between."""
        size, patience = self._pool
        self._client = client = RedisClient(
            self.settings, pool_size=size, pool_timeout=patience
        )
        self.read, self.write, self.delete = client.read, client.write, client.delete
        self.ping = client.ping

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

            self._async = AsyncRedisTransport(self.settings)
        return self._async

    def pool_stats(self) -> dict[str, Any]:
        """Figures of the pool of blocking connections."""
        stats: dict[str, Any] = self._client.pool_stats()
        return stats

    def __repr__(self) -> str:
        return f"<RedisBackend {self.address}>"
