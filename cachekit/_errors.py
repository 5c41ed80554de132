# SPDX-License-Identifier: MIT
"""The exceptions of cachekit.

::

    CacheKitError
    ├── ConfigurationError (ValueError)          an option or variable is wrong
    │   └── NotBuiltYet (NotImplementedError)    an option this version does not have
    ├── CacheMiss (LookupError)                  nothing cached, and no run allowed
    ├── UncacheableArgument (TypeError)          an argument has no canonical bytes
    ├── SerializationError (ValueError)          E004: a value cannot be stored
    │   └── DecodeError                          stored bytes are not a value
    ├── DecryptionError                          E003: stored bytes are not authentic
    ├── LoaderTimeout (TimeoutError)             the function ran longer than allowed
    └── BackendError                             the shared store did not do its work
        ├── BackendTimeout (TimeoutError)
        ├── BackendConnectionError (ConnectionError)
        ├── BackendAuthenticationError
        ├── BackendProtocolError
        ├── BackendReplyError                    the server answered with an error
        ├── PoolTimeout                          no free connection in time
        └── BackendUnavailable                   skipped: the breaker is open

Every one has ``code`` (``"E001"`` to ``"E004"`` or None), ``message`` (one sentence)
and ``hint`` (cause and way out, or None); ``str()`` holds all that are set. All can be
pickled. None ever holds an argument, a value, a key of encryption or a password.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "BackendAuthenticationError",
    "BackendConnectionError",
    "BackendError",
    "BackendProtocolError",
    "BackendReplyError",
    "BackendTimeout",
    "BackendUnavailable",
    "CacheKitError",
    "CacheMiss",
    "ConfigurationError",
    "DecodeError",
    "DecryptionError",
    "LoaderTimeout",
    "NotBuiltYet",
    "PoolTimeout",
    "SerializationError",
    "UncacheableArgument",
]


class CacheKitError(Exception):
    """Base of everything that cachekit raises of its own accord."""

    #: "E001" to "E004", or None.
    code: str | None = None
    #: What happened, in one sentence.
    message: str = ""
    #: The cause and the way out, or None.
    hint: str | None = None

    def __init__(
        self, message: str = "", *, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.code else self.message
        if not self.hint:
            return text
        joint = " " if text.endswith((".", "!", "?", ":")) else ". "
        return f"{text}{joint}{self.hint}" if text else self.hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[CacheKitError], args: tuple[Any, ...]) -> CacheKitError:
    """Rebuild a pickled error whatever its ``__init__`` asks for."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ConfigurationError(CacheKitError, ValueError):
    """An option, an environment variable or a combination of them is wrong."""


class NotBuiltYet(ConfigurationError, NotImplementedError):
    """An option that cachekit knows and this version does not have.

    ``option`` is its name. Nothing is accepted and then ignored.
    """

    option: str = ""

    def __init__(
        self, option: str = "", *, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(
            f"{option} is not available in this version of cachekit",
            code=code,
            hint=hint,
        )
        self.option = option


class CacheMiss(CacheKitError, LookupError):
    """Nothing is cached for this call, and the function may not be run for it."""


class UncacheableArgument(CacheKitError, TypeError):
    """An argument cannot be part of a key; the message names the parameter."""


class SerializationError(CacheKitError, ValueError):
    """E004: a value cannot be stored; the message names the type of the culprit."""

    code: str | None = "E004"
    #: Where in the value the culprit is, for instance ``$.users[3].id``, if known.
    path: str | None = None
    #: The name of its type, if known.
    type_name: str | None = None


class DecodeError(SerializationError):
    """Stored bytes are not a value: damaged, truncated, or beyond the limits."""

    code = None


class DecryptionError(CacheKitError):
    """E003: stored bytes are not authentic under the key that is configured."""

    code = "E003"

    def __init__(
        self,
        message: str = "Decryption failed: authentication tag verification failed",
        *,
        code: str | None = None,
        hint: str | None = (
            "The master key was changed, or the entry was damaged or tampered with: "
            "name the former key in CACHEKIT_PREVIOUS_MASTER_KEYS, or let the entry "
            "be computed again"
        ),
    ) -> None:
        super().__init__(message, code=code, hint=hint)


class LoaderTimeout(CacheKitError, TimeoutError):
    """The function ran longer than ``hard_timeout`` and nothing stale may be served."""

    @classmethod
    def of(cls, seconds: float | None) -> LoaderTimeout:
        """The one of a function that has run for so long."""
        return cls(f"the function ran longer than its hard_timeout of {seconds:g} s")


#: Kinds that say nothing about the health of the store: it is alive and refuses a
#: write, or it was not asked at all.
_UNCOUNTED = frozenset(
    {"pool", "skipped", "readonly", "oom", "noreplicas", "misconf", "argument"}
)


class BackendError(CacheKitError):
    """The shared store did not do what it was asked.

    ``kind`` is one short word (refused, timeout, reset, auth, loading, oom, readonly,
    maxclients, protocol, server, pool, skipped). ``counts`` tells whether the breaker
    takes it for a failure of the store; where it is not given, the kind decides.
    """

    kind: str = "server"
    counts: bool = True

    def __init__(
        self,
        message: str = "",
        *,
        kind: str | None = None,
        counts: bool | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        if kind is not None:
            self.kind = kind
        if counts is not None:
            self.counts = counts
        elif kind is not None:
            self.counts = kind not in _UNCOUNTED


class BackendTimeout(BackendError, TimeoutError):
    """The store did not answer within the deadline of the operation."""

    kind = "timeout"


class BackendConnectionError(BackendError, ConnectionError):
    """No connection: refused, reset, or the name does not resolve."""

    kind = "refused"


class BackendAuthenticationError(BackendError):
    """The store refused the user or the password."""

    kind = "auth"


class BackendProtocolError(BackendError):
    """The store sent bytes that its protocol does not allow."""

    kind = "protocol"


class BackendReplyError(BackendError):
    """The store answered with an error; ``kind`` tells which."""

    kind = "server"


class PoolTimeout(BackendError):
    """Every connection was busy for the whole of ``pool_timeout``."""

    kind = "pool"
    counts = False


class BackendUnavailable(BackendError):
    """The store was not asked, because its breaker is open."""

    kind = "skipped"
    counts = False


def uncacheable_argument(
    parameter: str | None, cause: BaseException | None = None
) -> UncacheableArgument:
    """The error for a parameter whose argument has no canonical bytes.

    ``cause`` carries the reason. The binding composes the error here.
    """
    which = f"argument {parameter!r}" if parameter else "an argument"
    if parameter == "key=":
        which = "the result of key="
    reason = cause.message if isinstance(cause, CacheKitError) else str(cause or "")
    return UncacheableArgument(
        f"{which} cannot be part of a key" + (f": {reason}" if reason else ""),
        hint=(
            "Make the key yourself with key=, leave the parameter out with ignore=, "
            "give its class a __cache_key__() method, or call through uncached with "
            'on_uncacheable="call"'
        ),
    )


def missing_master_key() -> ConfigurationError:
    """E001, for a function that must be encrypted and has no key."""
    return ConfigurationError(
        "CACHEKIT_MASTER_KEY environment variable must be set",
        code="E001",
        hint="Generate one: export CACHEKIT_MASTER_KEY=$(openssl rand -hex 32)",
    )


def invalid_master_key() -> ConfigurationError:
    """E002, for a key that is no key. What it held is not repeated."""
    return ConfigurationError(
        "CACHEKIT_MASTER_KEY must be hex-encoded, minimum 32 bytes",
        code="E002",
        hint="Generate one: export CACHEKIT_MASTER_KEY=$(openssl rand -hex 32)",
    )


def _publish() -> None:
    """The public name of each is cachekit.X: in a traceback and in a pickle."""
    for name in __all__:
        globals()[name].__module__ = "cachekit"


_publish()
