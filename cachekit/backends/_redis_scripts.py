# SPDX-License-Identifier: MIT
"""Fences, locks and versions on Redis: what to send and what it means, without I/O.

An operation is a *talk*: a generator that yields lists of commands, is sent the list of
their replies (errors among them, as `ReplyError`), and returns the result. Both
transports carry the same talks out; each list is one round trip.

What must be decided and done in one step is a script. Keys of different slots are never
in one script. A server that does not know a script (NOSCRIPT) is sent it again, from
the first that it did not know on: what follows may build on it. A server that refuses
scripts gets the plain way, without a fence, and is asked again after ``RETRY_SECONDS``.

All may be done twice: a repeated claim finds its own tokens, a repeated removal nothing
to remove. Only a fill that is repeated after it was stored says that it was not.
"""

from __future__ import annotations

import os
from time import monotonic

from cachekit._core import ReplyError
from cachekit._errors import (
    BackendAuthenticationError,
    BackendError,
    BackendProtocolError,
    BackendReplyError,
)
from cachekit._logging import default_log
from cachekit.backends._protocol import Claimed, fence_key, lock_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    from cachekit.backends._protocol import Claim, Fill, Release, Removal

    T = TypeVar("T")
    Command: TypeAlias = tuple[Any, ...]
    Talk: TypeAlias = Generator[list[Command], list[Any], T]

__all__ = ["RETRY_SECONDS", "Talks", "failure", "kind_of"]

#: Seconds until a server that refused scripts is asked again.
RETRY_SECONDS = 60.0
#: Bytes of an entry that a claim returns.
_HEAD = 96
#: Members of a set that are removed in one round trip.
_LISTED = 1000
_DIGITS = b"0123456789abcdef"


# --- scripts ---

#: ``look(key, pattern)``: what a side key holds, false when it is missing; or nil and
#: the error to return when it is somebody else's.
_LOOK = """\
local token = '^' .. string.rep('[0-9a-f]', 16)
local function look(key, pattern)
  local held = redis.pcall('GET', key)
  if type(held) == 'table' then return nil, held end
  if held and not string.find(held, pattern) then
    return nil, redis.error_reply('WRONGTYPE of a side key')
  end
  return held
end
"""

#: ``let_go(lock, ours, channel, wake)``: release the lock where it is ours.
_LET_GO = """\
local function let_go(lock, held, ours, channel, wake)
  if not held or string.sub(held, 1, 16) ~= ours then return 0 end
  redis.pcall('DEL', lock)
  if #held > 16 then redis.pcall('PUBLISH', channel, wake) end
  return 1
end
"""

#: KEYS fence, lock, entry.
#: ARGV token, its ms, replace, lock's token, its ms, head, delete, unseen, channel[,
#: message].
_CLAIM = """\
local now, bad = look(KEYS[1], token .. '$')
if bad then return bad end
local held = false
if ARGV[5] ~= '0' then
  held, bad = look(KEYS[2], token .. 'w*$')
  if bad then return bad end
end
if ARGV[7] == '1' then
  redis.call('DEL', KEYS[1], KEYS[3])
  if ARGV[10] then redis.pcall('PUBLISH', ARGV[9], ARGV[10]) end
  now = false
end
if ARGV[8] == '1' and not held and redis.call('EXISTS', KEYS[3]) == 1 then
  return {now or ARGV[1], '', 1, false}
end
if ARGV[3] == '1' or not now then
  now = ARGV[1]
  redis.call('SET', KEYS[1], now, 'PX', ARGV[2])
end
local mine, busy = '', 0
if ARGV[5] ~= '0' then
  if not held then
    mine = ARGV[4]
    redis.call('SET', KEYS[2], mine, 'PX', ARGV[5])
  elseif string.sub(held, 1, 16) == ARGV[4] then
    mine = ARGV[4]
  else
    busy = 1
    if #held == 16 then redis.pcall('APPEND', KEYS[2], 'w') end
  end
end
local head = false
if ARGV[6] ~= '0' then
  head = redis.pcall('GETRANGE', KEYS[3], 0, tonumber(ARGV[6]) - 1)
  if type(head) == 'table' or head == '' then head = false end
end
return {now, mine, busy, head}
"""

#: KEYS version. ARGV number (empty: do not create it), ms to live (0: for ever).
_VERSION = """\
local now, bad = look(KEYS[1], token .. '$')
if bad then return bad end
if not now then
  if ARGV[1] == '' then return false end
  if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
  else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  end
  return ARGV[1]
end
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and ARGV[2] == '0' then
  redis.call('PERSIST', KEYS[1])
elseif left >= 0 and left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return now
"""

#: KEYS fence, lock, entry.
#: ARGV token, data, ms, lock's token, channel, wake[, message].
_FILL = """\
local now, bad = look(KEYS[1], token .. '$')
if bad then return bad end
local held = false
if ARGV[4] ~= '' then
  held, bad = look(KEYS[2], token .. 'w*$')
  if bad then return bad end
end
local stored, refused = 0, nil
if now == ARGV[1] then
  local done
  if ARGV[3] == '0' then
    done = redis.pcall('SET', KEYS[3], ARGV[2])
  else
    done = redis.pcall('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
  end
  if done.err then
    refused = done
  else
    stored = 1
    redis.call('DEL', KEYS[1])
  end
end
if stored == 1 and ARGV[7] then redis.pcall('PUBLISH', ARGV[5], ARGV[7]) end
let_go(KEYS[2], held, ARGV[4], ARGV[5], ARGV[6])
return refused or stored
"""

#: KEYS fence, entry. A fence that is somebody else's stays.
_REMOVE = """\
local now, bad = look(KEYS[1], token .. '$')
if not bad then redis.call('DEL', KEYS[1]) end
return redis.call('DEL', KEYS[2])
"""

#: KEYS version. What is somebody else's stays; it is no number of any entry.
_DROP = """\
local now, bad = look(KEYS[1], token .. '$')
if bad then return 0 end
return redis.call('DEL', KEYS[1])
"""

#: KEYS lock. ARGV token, ms.
_RENEW = """\
local held, bad = look(KEYS[1], token .. 'w*$')
if bad then return bad end
if not held or string.sub(held, 1, 16) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

#: KEYS lock. ARGV token, channel, wake.
_RELEASE = """\
local held, bad = look(KEYS[1], token .. 'w*$')
if bad then return bad end
return let_go(KEYS[1], held, ARGV[1], ARGV[2], ARGV[3])
"""


class Script:
    """One script: its text, and the name that a server knows it by."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        from hashlib import sha1

        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
        _texts[self.sha] = text

    def on(self, *keys: str) -> Callable[..., Command]:
        """The command, once it is called with the script's arguments."""
        return lambda *args: ("EVALSHA", self.sha, len(keys), *keys, *args)


_texts: dict[str, str] = {}
CLAIM = Script(_LOOK + _CLAIM)
VERSION = Script(_LOOK + _VERSION)
FILL = Script(_LOOK + _LET_GO + _FILL)
REMOVE = Script(_LOOK + _REMOVE)
DROP = Script(_LOOK + _DROP)
RENEW = Script(_LOOK + _RENEW)
RELEASE = Script(_LOOK + _LET_GO + _RELEASE)


def _is_script(command: Command) -> bool:
    return command[0] in ("EVALSHA", "EVAL")


def _in_full(command: Command) -> Command:
    """The same with the text of its script."""
    if command[0] != "EVALSHA":
        return command
    return ("EVAL", _texts[command[1]], *command[2:])


def _all_in_full(commands: list[Command]) -> list[Command]:
    return [_in_full(command) for command in commands]


def _once_in_full(commands: list[Command]) -> list[Command]:
    """Each text once: with it the server knows the script."""
    told: set[str] = set()
    changed: list[Command] = []
    for command in commands:
        known = command[1] in told
        told.add(command[1])
        changed.append(command if known else _in_full(command))
    return changed


# --- errors ---

#: Errors that servers before 7 wrap in one of their own when a script met them.
_WORDS = {
    "OOM": "oom",
    "READONLY": "readonly",
    "NOREPLICAS": "noreplicas",
    "MISCONF": "misconf",
    "MASTERDOWN": "masterdown",
    "WRONGTYPE": "wrongtype",
    "NOPERM": "noperm",
    "LOADING": "loading",
    "BUSY": "busy",
}
_WRAPPED = ("ERR Error running script", "-")
#: What 7.0 calls a NOPERM that a script met.
_FORBIDDEN = "ERR The user executing the script can"
_UNKNOWN = ("ERR unknown command", "ERR unsupported command")


def kind_of(error: ReplyError) -> str:
    """What happened in one word, also when it happened inside a script."""
    if error.kind == "server" and error.text.startswith(_WRAPPED):
        for word in error.text.split():
            kind = _WORDS.get(word.lstrip("-"))
            if kind is not None:
                return kind
    return "noperm" if error.text.startswith(_FORBIDDEN) else error.kind


def failure(address: str, error: ReplyError) -> BackendError:
    """The exception for an error among the replies."""
    kind = kind_of(error)
    if kind == "auth":
        return BackendAuthenticationError(f"{address}: {error.text}", kind="auth")
    if kind == "wrongtype":
        return _foreign(address)
    return BackendReplyError(f"{address}: {error.text}", kind=kind)


def _foreign(address: str) -> BackendError:
    """A side key is somebody else's data. Says nothing about the server's health."""
    text = f"{address}: a side key holds something else than cachekit put there"
    return BackendReplyError(text, kind="wrongtype", counts=False)


def _is_refusal(error: ReplyError) -> bool:
    """Does the server, or what it allows this user, know no scripts?"""
    return (
        kind_of(error) == "noperm"
        or error.text.startswith(_UNKNOWN)
        or "Unknown Redis command" in error.text
    )


# --- talks ---


def _token() -> str:
    return os.urandom(8).hex()


def _first_unknown(replies: list[Any]) -> int | None:
    """Which command met a script that the server does not know."""
    for at, reply in enumerate(replies):
        if type(reply) is ReplyError and reply.kind == "noscript":
            return at
    return None


def _creation(side: str, life: int) -> Command:
    """Create a version key with a number of its own, unless it is there."""
    return ("SET", side, _token(), *(("PX", life) if life else ()), "NX")


def _extension(side: str, life: int) -> Command:
    """Let a version key live longer, never shorter. Servers before 7 refuse: it is lost
    earlier then, which errs to the safe side."""
    return ("PEXPIRE", side, life, "GT") if life else ("PERSIST", side)


def _is_number(reply: Any) -> bool:
    return type(reply) is bytes and len(reply) == 16 and not reply.strip(_DIGITS)


def _outdated(request: Claim) -> list[Command]:
    """What a claim says of the entry's further names."""
    if request.delete:
        return [*_removed(request, True), *_published(request.also)]
    if request.replace:
        return [("DEL", fence_key(name)) for name, _ in request.others]
    return []


def _removed(request: Claim | Fill, tells: bool) -> list[Command]:
    """The entry's further names are removed, and where it ``tells``, that is told."""
    commands: list[Command] = []
    for name, message in request.others:
        commands += [("DEL", fence_key(name)), ("DEL", name)]
        if tells:
            commands.append(("PUBLISH", request.channel, message))
    return commands


def _published(messages: tuple[tuple[str, bytes], ...]) -> list[Command]:
    return [("PUBLISH", channel, message) for channel, message in messages]


def _noted(request: Fill) -> list[Command]:
    """The entry has a place in a set."""
    if request.listed is None:
        return []
    name, member, seconds = request.listed
    return [("SADD", name, member), ("EXPIRE", name, seconds)]


class Talks:
    """The operations on one server, and whether it takes scripts.

    ``clock``  seconds, monotonic; tests give their own

    May be shared by threads and loops.
    """

    def __init__(self, address: str, clock: Callable[[], float] = monotonic) -> None:
        self._address = address
        self._clock = clock
        self._refused_at: float | None = None

    @property
    def fenced(self) -> bool:
        """False from when scripts were refused until one is taken again."""
        return self._refused_at is None

    def claim(self, request: Claim) -> Talk[Claimed]:
        """See `Transport.claim`."""
        key, lock_ms, message = request.key, request.lock_ms, request.message
        life = request.life_ms and request.life_ms + request.fence_ttl_ms
        if self._may_script():
            lock = (request.lock or _token()) if lock_ms else ""
            commands: list[Command] = [
                CLAIM.on(fence_key(key), lock_key(key), key)(
                    _token(),
                    request.fence_ttl_ms,
                    int(request.replace),
                    lock,
                    lock_ms,
                    _HEAD if request.head else 0,
                    int(request.delete),
                    int(request.unseen and bool(lock)),
                    request.channel,
                    *(() if message is None else (message,)),
                ),
                *(VERSION.on(side)(_token(), life) for side in request.sides),
                *_outdated(request),
            ]
            replies = yield from self._scripted(commands)
            if replies is not None:
                return self._claimed(replies[: 1 + len(request.sides)], lock)
        return (yield from self._plain_claim(request, life))

    def _claimed(self, replies: list[Any], lock: str) -> Claimed:
        self._raise(replies)
        answer, *numbers = replies
        if type(answer) is not list or len(answer) != 4:
            raise self._nonsense()
        fence, mine, busy, head = answer
        if (
            not _is_number(fence)
            or mine not in (b"", lock.encode())
            or type(busy) is not int
            or not (head is None or type(head) is bytes)
        ):
            raise self._nonsense()
        self._check_numbers(numbers)
        return Claimed(fence.decode(), mine.decode(), busy != 0, tuple(numbers), head)

    def _plain_claim(self, request: Claim, life: int) -> Talk[Claimed]:
        """No fence, no lock; and of versions what plain commands can do."""
        key, sides = request.key, request.sides
        needed: list[Command] = [_creation(side, life) for side in sides]
        needed += [("GET", side) for side in sides]
        optional = [_extension(side, life) for side in sides]
        if request.delete:
            # The fence first: whoever has its token must not store what we remove.
            needed.insert(0, ("DEL", key))
            optional.insert(0, ("DEL", fence_key(key)))
        if request.delete and request.message is not None:
            optional.append(("PUBLISH", request.channel, request.message))
        optional += _outdated(request)
        if request.head:
            optional.append(("GETRANGE", key, 0, _HEAD - 1))
        first = optional[: int(request.delete)]
        commands = [*first, *needed, *optional[len(first) :]]
        replies = (yield commands) if commands else []
        answers = replies[len(first) : len(first) + len(needed)]
        self._raise(answers)
        numbers = answers[len(needed) - len(sides) :]
        if any(type(number) is bytes and not _is_number(number) for number in numbers):
            raise _foreign(self._address)
        self._check_numbers(numbers)
        head = replies[-1] if request.head and type(replies[-1]) is bytes else None
        return Claimed(None, "", False, tuple(numbers), head or None)

    def fill(self, request: Fill) -> Talk[bool]:
        """See `Transport.fill`."""
        key, message = request.key, request.message
        tail = () if message is None else (message,)
        ttl_ms, sides = request.ttl_ms, request.sides
        if request.fence is None:
            commands: list[Command] = [
                ("SET", key, request.data, *(("PX", ttl_ms) if ttl_ms else ())),
                *(_extension(side, ttl_ms) for side in sides),
                *(("PUBLISH", request.channel, text) for text in tail),
                *_removed(request, message is not None),
                *(_published(request.also) if message is not None else ()),
                *_noted(request),
            ]
            replies = yield commands
            self._raise(replies[:1])
            if replies[0] != b"OK":
                raise self._nonsense()
            return True
        commands = [
            FILL.on(fence_key(key), lock_key(key), key)(
                request.fence,
                request.data,
                ttl_ms,
                request.lock,
                request.channel,
                request.wake,
                *tail,
            ),
            *(VERSION.on(side)("", ttl_ms) for side in sides),
            *_removed(request, message is not None),
            *(_published(request.also) if message is not None else ()),
            *_noted(request),
        ]
        # Refused now, and not when it was claimed: nobody can say whether it still may.
        answer = yield from self._scripted(commands)
        return answer is not None and self._flag(answer)

    def remove(self, request: Removal) -> Talk[None]:
        """See `Transport.remove`."""
        for name, prefix in request.listed:
            yield from self._empty(name, prefix)
        messages = [("PUBLISH", channel, text) for channel, text in request.messages]
        scripted: list[Command] = [
            *(REMOVE.on(fence_key(key), key)() for key in request.keys),
            *(DROP.on(version)() for version in request.versions),
        ]
        if scripted and self._may_script():
            replies = yield from self._scripted([*scripted, *messages])
            if replies is not None:
                self._check_counts(replies[: len(scripted)])
                return
        # As above. A user may be allowed the entries and not their side keys, which
        # then nobody has; nor is it our failure that nobody may be told.
        fences: list[Command] = [("DEL", fence_key(key)) for key in request.keys]
        names = [*request.keys, *request.versions]
        commands = [*fences, *(("DEL", name) for name in names), *messages]
        if commands:
            replies = yield commands
            self._check_counts(replies[len(fences) : len(fences) + len(names)])

    def _empty(self, name: str, prefix: str) -> Talk[None]:
        """Remove the entries that a set names. A member leaves it first: written again
        meanwhile, an entry is never without its place in the set."""
        while True:
            (members,) = yield [("SRANDMEMBER", name, _LISTED)]
            self._raise([members])
            if type(members) is not list:
                raise self._nonsense()
            if not members:
                return
            commands: list[Command] = [("SREM", name, *members)]
            for member in members:
                key = prefix + member.decode("utf-8", "surrogateescape")
                commands += [("DEL", fence_key(key)), ("DEL", key)]
            self._raise((yield commands))

    def renew(self, key: str, lock: str, ttl_ms: int) -> Talk[bool]:
        """See `Transport.renew`."""
        replies = yield from self._scripted([RENEW.on(lock_key(key))(lock, ttl_ms)])
        return replies is not None and self._flag(replies)

    def release(self, request: Release) -> Talk[None]:
        """See `Transport.release`. Where scripts are refused the lock expires."""
        if request.lock:
            command = RELEASE.on(lock_key(request.key))
            replies = yield from self._scripted(
                [command(request.lock, request.channel, request.wake)]
            )
            if replies is not None:
                self._flag(replies)

    # --- within ---

    def _may_script(self) -> bool:
        refused = self._refused_at
        return refused is None or self._clock() - refused >= RETRY_SECONDS

    def _scripted(self, commands: list[Command]) -> Talk[list[Any] | None]:
        """The replies; None when scripts are refused."""
        replies = yield commands
        for tell in (_once_in_full, _all_in_full):
            at = _first_unknown(replies)
            if at is None:
                break
            rest = tell(commands[at:])
            replies = [*replies[:at], *(yield rest)]
        answers = [
            reply
            for command, reply in zip(commands, replies, strict=True)
            if _is_script(command)
        ]
        if any(type(one) is ReplyError and _is_refusal(one) for one in answers):
            self._refuse()
            return None
        if any(type(one) is not ReplyError for one in answers):
            self._accept()
        return replies

    def _refuse(self) -> None:
        self._refused_at = self._clock()
        default_log().changed(
            ("scripts", self._address),
            "refused",
            "warning",
            "%s refuses scripts: what is computed while it is invalidated may be "
            "stored all the same, and there are no locks",
            self._address,
            event="unfenced",
            store=self._address,
        )

    def _accept(self) -> None:
        if self._refused_at is None:
            return
        self._refused_at = None
        default_log().changed(
            ("scripts", self._address),
            "ok",
            "warning",
            "%s takes scripts again",
            self._address,
            event="fenced",
            store=self._address,
        )

    def _flag(self, replies: list[Any]) -> bool:
        """Whether the first script said yes."""
        self._raise(replies[:1])
        if type(replies[0]) is not int or replies[0] not in (0, 1):
            raise self._nonsense()
        return replies[0] == 1

    def _check_numbers(self, numbers: list[Any]) -> None:
        if not all(map(_is_number, numbers)):
            raise self._nonsense()

    def _check_counts(self, replies: list[Any]) -> None:
        self._raise(replies)
        if any(type(reply) is not int for reply in replies):
            raise self._nonsense()

    def _raise(self, replies: list[Any]) -> None:
        """Raise the first error among the replies."""
        for reply in replies:
            if type(reply) is ReplyError:
                raise failure(self._address, reply)

    def _nonsense(self) -> BackendError:
        return BackendProtocolError(
            f"{self._address}: the server's reply does not fit the command"
        )
