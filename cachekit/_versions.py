# SPDX-License-Identifier: MIT
"""Names of version keys: what an invalidation of many entries at once deletes.

A function, a namespace and a tag each have a key in the store with a random number; an
entry carries the numbers it was built under. The names::

    {namespace}:{function}:v:{32 hex}      a function; the digits are its id as well
    {namespace}:v:{32 hex}                 a namespace
    {namespace}:tag:{readable}:{32 hex}    a tag

The digits are BLAKE2b-128 of what is named, kept apart by kind. Where a ``key`` is
given they are of that keyed digest, and the readable part of a tag is left out:
encrypted caches show no names.
"""

from __future__ import annotations

from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Parts to at least 16 bytes: `_core.Keyring.names_digest` for one key of it.
    Keyed = Callable[..., bytes]

__all__ = [
    "function_id",
    "function_key",
    "is_tag_key",
    "judge_tags",
    "namespace_key",
    "tag_key",
    "tag_slot",
]

#: Bytes of the longest tag in UTF-8, and how many a call may have.
MAX_TAG, MAX_TAGS = 200, 32

_ID_SIZE = 16
_HEX = 2 * _ID_SIZE
_READABLE = 64
_TAG = ":tag:"
#: Tags of one process that recur: users and products, more than functions.
_REMEMBERED = 4096


def _digits(kind: bytes, key: Keyed | None, *parts: bytes) -> str:
    """32 hex digits; ``kind`` and the lengths of the parts keep the meanings apart."""
    from hashlib import blake2b

    if key is not None:
        return key(b"cachekit." + kind, *parts)[:_ID_SIZE].hex()
    digest = blake2b(digest_size=_ID_SIZE, person=b"cachekit." + kind)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def function_key(prefix: str, identity: bytes, *, key: Keyed | None = None) -> str:
    """The version key of a function.

    ``prefix``    of its store keys: ``"{namespace}:{function}:"``
    ``identity``  canonical bytes of its name and closure
    ``key``       the keyed digest of an encrypted cache
    """
    return f"{prefix}v:{_digits(b'fn', key, prefix.encode(), identity)}"


def function_id(key_name: str) -> bytes:
    """The 16 bytes that tell a function apart, from the name of its version key."""
    return bytes.fromhex(key_name[-_HEX:])


def namespace_key(namespace: str | None, *, key: Keyed | None = None) -> str:
    """The version key of a namespace.

    >>> namespace_key("shop").startswith("shop:v:")
    True
    """
    space = namespace or "cachekit"
    return f"{space}:v:{_digits(b'space', key, space.encode())}"


def tag_key(namespace: str | None, tag: str, *, key: Keyed | None = None) -> str:
    """The version key of a tag that has been judged.

    >>> tag_key("shop", "price list").rpartition(":")[0]
    'shop:tag:price_list'
    """
    if key is not None:
        # Not remembered: tags that are encrypted are not kept in the clear.
        space = namespace or "cachekit"
        return f"{space}{_TAG}{_digits(b'tag', key, space.encode(), tag.encode())}"
    return _plain_tag_key(namespace or "cachekit", tag)


@lru_cache(_REMEMBERED)
def _plain_tag_key(space: str, tag: str) -> str:
    readable = "".join(
        c if "!" <= c <= "~" and c not in "{}" else "_" for c in tag[:_READABLE]
    )
    digits = _digits(b"tag", None, space.encode(), tag.encode())
    return f"{space}{_TAG}{readable}:{digits}"


def is_tag_key(name: str) -> bool:
    """Whether ``name``, which may come from anywhere, looks like a tag's version key.

    Others may: a function can be called ``tag``. Whoever asks errs to the safe side.
    """
    return (
        _TAG in name
        and name[-_HEX - 1 : -_HEX] == ":"
        and not name[-_HEX:].strip("0123456789abcdef")
    )


def tag_slot(tag_key_name: str) -> int:
    """0 to 65535: 16 bits of the digest in the name of a tag's version key."""
    return int(tag_key_name[-4:], 16)


def judge_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags of a function or a call, each once and in order of their text.

    ``tags``  at most 32 of printable text, 1 to 200 bytes in UTF-8, none normalised

    The order makes the tags of a set, or written in another order, the same tags.
    Raises TypeError when ``tags`` is a text or no collection, and ValueError for a tag
    that is none.

    >>> judge_tags(["products", "product:1"])
    ('product:1', 'products')
    """
    if isinstance(tags, (str, bytes, bytearray, memoryview)):
        raise TypeError(
            f"tags must be a list of texts, not {type(tags).__name__}: "
            'write tags=["name"]'
        )
    try:
        several = iter(tags)
    except TypeError:
        raise TypeError(
            f"tags must be a list of texts, not {type(tags).__name__}"
        ) from None
    judged: set[str] = set()
    for tag in several:
        judged.add(_judge(tag))
        if len(judged) > MAX_TAGS:
            raise ValueError(f"more than {MAX_TAGS} tags")
    return tuple(sorted(judged))


def _judge(tag: object) -> str:
    if not isinstance(tag, str):
        raise ValueError(f"a tag must be text, not {type(tag).__name__}: {_short(tag)}")
    if not tag:
        raise ValueError("a tag must not be empty: ''")
    if not tag.isprintable():
        raise ValueError(f"a tag must be printable text: {_short(tag)}")
    if len(tag) > MAX_TAG or len(tag.encode()) > MAX_TAG:
        raise ValueError(f"a tag has at most {MAX_TAG} bytes in UTF-8: {_short(tag)}")
    return str.__str__(tag)  # of a subclass only its text


def _short(tag: object) -> str:
    try:
        text = ascii(tag)
    except Exception:
        return "its repr() raises"
    return text if len(text) <= 80 else f"{text[:77]}..."
