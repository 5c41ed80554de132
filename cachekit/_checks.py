# SPDX-License-Identifier: MIT
"""What one option accepts: shared by the configuration and the decorator.

A *check* knows three things: the phrase that tells a person what is accepted, how to
judge and normalise a Python value, and how to read the text of an environment variable.
A refusal is a bare TypeError (wrong kind of thing) or ValueError (right kind, out of
range); its argument, where there is one, is a detail that explains more. The caller
knows the option's name and composes the message.

Nothing here imports at module level: these tables are built at ``import cachekit``.
"""

from __future__ import annotations

import sys

from cachekit._types import NEVER, Never

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, TypeAlias

    Duration: TypeAlias = float | timedelta
    #: ttl= as a function of the result.
    LifetimeOf: TypeAlias = Callable[[Any], float | timedelta | Never]

#: 100 years, the longest lifetime there is.
LONGEST = 100 * 365.25 * 86400
#: The shortest.
SHORTEST = 0.001
#: CK_NEVER of the core: a moment that does not come.
NEVER_NS = 2**63 - 1

_LARGEST_INT = 2**31 - 1


class Unset:
    """The type of ``UNSET``: nothing was given, the next layer decides."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unset>"

    def __bool__(self) -> bool:
        return False


UNSET = Unset()


class Check:
    """Base of all checks; accepts anything."""

    #: Completes "must be ...".
    accepted = "anything"
    #: The same for the text of an environment variable, where that differs.
    reads = ""
    #: The type of an argument, for the type checker.
    takes = "Any"
    #: The type of the normalised value.
    gives = "Any"

    def check(self, value: Any) -> Any:
        """The normalised value; raises TypeError or ValueError."""
        return value

    def parse(self, text: str) -> Any:
        """The normalised value of an environment variable."""
        return self.check(text)


class Flag(Check):
    accepted = "true or false"
    reads = "true/false, 1/0, yes/no or on/off"
    takes = gives = "bool"

    _WORDS = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def parse(self, text: str) -> bool:
        try:
            return self._WORDS[text.lower()]
        except KeyError:
            raise ValueError from None


class Whole(Check):
    """A whole number within bounds."""

    takes = gives = "int"

    def __init__(self, low: int, high: int = _LARGEST_INT, unit: str = "") -> None:
        self.low = low
        self.high = high
        upper = f"from {low} to {high}" if high != _LARGEST_INT else f"of {low} or more"
        self.accepted = f"a whole number{unit and ' of ' + unit} {upper}"

    def check(self, value: Any) -> int:
        if isinstance(value, bool):
            raise ValueError
        if not isinstance(value, int):
            raise TypeError
        if not self.low <= value <= self.high:
            raise ValueError
        return int(value)

    def parse(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError from None
        return self.check(number)


class Number(Check):
    """A finite number within bounds; ``above`` leaves the lower bound out."""

    takes = gives = "float"

    def __init__(
        self, low: float, high: float, accepted: str, above: bool = False
    ) -> None:
        self.low = low
        self.high = high
        self.above = above
        self.accepted = accepted

    def check(self, value: Any) -> float:
        if isinstance(value, bool):
            raise ValueError
        if not isinstance(value, (int, float)):
            raise TypeError
        # NaN fails every comparison, so it is refused here too.
        if not self.low <= value <= self.high or (self.above and value == self.low):
            raise ValueError
        return float(value)

    def parse(self, text: str) -> float:
        return self.check(read_float(text))


class Seconds(Check):
    """A duration: int, float or timedelta, normalised to float seconds.

    ``zero`` also accepts 0, ``never`` also NEVER, ``function`` also a callable.
    """

    def __init__(
        self,
        low: float = SHORTEST,
        *,
        zero: bool = False,
        never: bool = False,
        function: bool = False,
    ) -> None:
        self.low = low
        self.zero = zero
        self.never = never
        self.function = function
        bounds = f"from {low:g} s to 100 years" if low > 0 else "from 0 to 100 years"
        if zero:
            bounds = "0 or " + bounds
        self.reads = f"a number of seconds, {bounds}" + (", or never" if never else "")
        self.accepted = f"a number of seconds or a timedelta, {bounds}"
        self.accepted += ", or cachekit.NEVER" if never else ""
        self.accepted += ", or a callable of the result" if function else ""
        tail = (" | Never" if never else "") + (" | LifetimeOf" if function else "")
        self.gives = "float" + tail
        self.takes = "Duration" + tail

    def check(self, value: Any) -> Any:
        if self.never and isinstance(value, Never):
            return value
        if isinstance(value, bool):
            raise ValueError
        if not isinstance(value, (int, float)):
            # A timedelta can only exist where datetime is imported.
            datetime = sys.modules.get("datetime")
            if datetime is not None and isinstance(value, datetime.timedelta):
                value = value.total_seconds()
            elif self.function and callable(value) and not isinstance(value, type):
                return value
            else:
                raise TypeError
        if not (self.low <= value <= LONGEST or (self.zero and value == 0)):
            raise ValueError
        return float(value)

    def parse(self, text: str) -> Any:
        if self.never and text.lower() == "never":
            return NEVER
        return self.check(read_float(text))


class Maybe(Check):
    """The inner check, or None."""

    def __init__(self, inner: Check) -> None:
        self.inner = inner
        joint = ", or None" if "," in inner.accepted else " or None"
        self.accepted = inner.accepted + joint
        self.reads = (inner.reads or inner.accepted) + joint.replace("None", "none")
        self.takes = f"{inner.takes} | None"
        self.gives = f"{inner.gives} | None"

    def check(self, value: Any) -> Any:
        return None if value is None else self.inner.check(value)

    def parse(self, text: str) -> Any:
        return None if text.lower() == "none" else self.inner.parse(text)


class Text(Check):
    """Text that is not empty."""

    takes = gives = "str"

    def __init__(self, accepted: str = "text that is not empty") -> None:
        self.accepted = accepted

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if not value:
            raise ValueError
        return str(value)


class Namespace(Text):
    """The first part of every key in the store."""

    def __init__(self) -> None:
        super().__init__("1 to 64 printable ASCII characters without space and braces")

    def check(self, value: Any) -> str:
        text = super().check(value)
        if len(text) > 64 or not all("!" <= c <= "~" and c not in "{}" for c in text):
            raise ValueError
        return text


class Choice(Check):
    """One of a few words."""

    takes = gives = "str"

    def __init__(self, *words: str) -> None:
        self.words = words
        self.accepted = " or ".join(f'"{word}"' for word in words)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if value not in self.words:
            raise ValueError
        return value


class Function(Check):
    """A callable that takes what ``of`` says."""

    def __init__(self, of: str, returns: str) -> None:
        self.accepted = f"a callable of {of}"
        arguments = "..." if "arguments" in of else "[Any]"
        self.takes = self.gives = f"Callable[{arguments}, {returns}]"

    def check(self, value: Any) -> Any:
        if not callable(value):
            raise TypeError
        return value


def read_float(text: str) -> float:
    """float() without its message, which repeats the text."""
    try:
        return float(text)
    except ValueError:
        raise ValueError from None


def held(value: object, *, secret: bool = False) -> str:
    """What was given, for a message: short, and masked when it is a secret.

    Only plain values are written out; of anything else the type is enough.
    """
    if isinstance(value, (str, int, float)) or value is None or value is NEVER:
        if secret and value is not None:
            return "***"
        if isinstance(value, str) and ("@" in value or "://" in value):
            value = mask_url(value)
        text = repr(value)
        return text if len(text) <= 120 else text[:117] + "..."
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.timedelta):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return f"an object of type {type(value).__qualname__}"


def mask_url(text: str) -> str:
    """``text`` with everything in it that may be a password replaced by ``***``.

    Errs to the safe side: a password may hold ``/``, ``#``, ``?`` and ``@`` that
    somebody forgot to encode, and a port that is no number may be half a password.
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    user_info, at, address = rest.rpartition("@")
    if at:
        user = user_info.partition(":")[0] if ":" in user_info else ""
        rest = f"{user}:***@{_mask_query(address)}"
    else:
        authority, slash, path = rest.partition("/")
        name, colon, port = authority.rpartition(":")
        if colon and not port.partition("?")[0].isdigit() and not port.endswith("]"):
            authority = f"{name}:***"
        rest = _mask_query(authority + slash + path)
    return scheme + mark + rest


_SECRET_WORDS = ("pass", "secret", "token", "auth", "key")


def _mask_query(text: str) -> str:
    address, mark, query = text.partition("?")
    if not mark:
        return text
    shown = []
    for item in query.split("&"):
        name, equals, _ = item.partition("=")
        hide = equals and any(word in name.lower() for word in _SECRET_WORDS)
        shown.append(f"{name}=***" if hide else item)
    return f"{address}?{'&'.join(shown)}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that ``name`` is most likely a misspelling of."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def unknown_name(what: str, name: str, known: Iterable[str]) -> TypeError:
    """The TypeError for a keyword that ``what`` does not take."""
    names = sorted(known)
    match = nearest(name, names)
    if match is not None:
        tail = f"did you mean {match!r}?"
    else:
        tail = "it takes: " + ", ".join(names)
    return TypeError(f"{what} takes no keyword {name!r}; {tail}")


def refusal(
    kind: type[Exception], where: str, accepted: str, value: str, cause: Exception
) -> Exception:
    """One sentence for a refused value: where, what is accepted, what it held."""
    detail = ": " + str(cause.args[0]) if cause.args and cause.args[0] else ""
    return kind(f"{where} must be {accepted}, not {value}{detail}")


def to_ns(seconds: float | Never) -> int:
    """Seconds or NEVER as the core's nanoseconds."""
    return NEVER_NS if seconds is NEVER else round(seconds * 1e9)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping with text keys; TypeError otherwise."""
    if not isinstance(value, dict) and not (
        hasattr(value, "keys") and hasattr(value, "__getitem__")
    ):
        raise TypeError
    if not all(isinstance(key, str) for key in value):
        raise TypeError
    return value  # type: ignore[no-any-return]


def sequence_of_text(value: Any) -> tuple[str, ...]:
    """A list, tuple or set of text as a tuple; TypeError otherwise."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError
    if not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)
