# SPDX-License-Identifier: MIT
"""How to reach one Redis server: what the blocking and the asyncio transport share."""

from __future__ import annotations

import dataclasses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["RedisSettings"]


@dataclasses.dataclass(frozen=True)
class RedisSettings:
    """One server, and how to behave towards it. All times are in seconds.

    Attributes:
        host, port: the address; not used when ``path`` is set.
        path: a unix socket, instead of ``host`` and ``port``.
        username, password: for AUTH; a password alone is sent alone.
        database: the number for SELECT; 0 sends none.
        tls: None for a plain connection, else the options of TLS: ``ca_certs``,
            ``certfile``, ``keyfile`` (files), ``ca_path`` (a folder),
            ``check_hostname`` (default True), ``verify`` (default True),
            ``server_hostname`` (default ``host``).
        connect_timeout: for connecting and greeting; inside the operation's timeout.
        connection_retries: how often one operation is tried again, at most.
        retry_delay: the first pause before trying again; doubles, with full jitter.
        keepalive: ask the kernel to probe idle connections.
        health_check_interval: a connection idle for longer is pinged before use;
            0 never does.
        retry_on_timeout: a connect that timed out is tried again, within the deadline.
        async_connections: pipelined connections per event loop.
        client_name: for CLIENT SETNAME; empty sends none.
        max_reply: the largest reply that is accepted, in bytes.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)
    database: int = 0
    tls: Mapping[str, Any] | None = None
    connect_timeout: float = 1.0
    connection_retries: int = 3
    retry_delay: float = 0.1
    keepalive: bool = False
    health_check_interval: float = 0.0
    retry_on_timeout: bool = False
    async_connections: int = 1
    client_name: str = "cachekit"
    max_reply: int = 100 * 1024 * 1024 + 1024

    @property
    def address(self) -> str:
        """The server for people: no user, no password."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def probe(self) -> dict[str, Any]:
        """Where and how ``_core.Guard`` asks whether the server is back."""
        probe: dict[str, Any]
        if self.path is not None:
            probe = {"path": self.path}
        else:
            probe = {"host": self.host, "port": self.port}
        if self.tls is not None:
            # The first operation does the handshake: an accepted connection will do.
            probe["probe_bytes"] = b""
        elif self.password is not None:
            from cachekit._core import pack_commands

            user = [] if self.username is None else [self.username]
            probe["probe_bytes"] = pack_commands(
                [["AUTH", *user, self.password], ["PING"]]
            )
        return probe
