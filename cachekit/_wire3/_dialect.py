# SPDX-License-Identifier: MIT
"""Four facts about entries of version 3 moved with the releases that write them."""

from __future__ import annotations

from dataclasses import dataclass

from cachekit._errors import ConfigurationError

__all__ = ["DIALECTS", "Dialect", "dialect_of"]


@dataclass(frozen=True)
class Dialect:
    """The habits of a release and of those after it, up to the next one here.

    ``release``      the first release with these habits
    ``codes``        keys end in the code of the serializer, else always in ``s``
    ``function_id``  keys made by a ``key=`` function begin with the function's id
    ``bound_whole``  encrypted entries are bound to the key as it is stored, tenant
                     included, else to the key without the tenant
    ``registry``     a set tells the keys of a function, where keys begin with a tenant
    ``events``       invalidations are told on a channel, there likewise
    """

    release: str
    codes: bool
    function_id: bool
    bound_whole: bool
    registry: bool
    events: bool


#: Newest first.
DIALECTS = (
    Dialect("0.24", True, True, True, True, True),
    Dialect("0.23", True, False, True, True, True),
    Dialect("0.20", True, False, False, True, False),
    Dialect("0.17", False, False, False, False, False),
)


def dialect_of(wire: str) -> Dialect:
    """What ``CACHEKIT_WIRE`` means: ``3``, or ``3:`` and a release from 0.17 to 0.24.

    Raises ``ConfigurationError``.

    >>> dialect_of("3").release, dialect_of("3:0.22").release
    ('0.24', '0.20')
    """
    version, colon, release = wire.partition(":")
    if version == "3" and not colon:
        return DIALECTS[0]
    major, _, minor = release.partition(".")
    if version == "3" and major == "0" and len(minor) == 2 and minor.isdecimal():
        for dialect in DIALECTS:
            if "0.24" >= release >= dialect.release:
                return dialect
    raise ConfigurationError(
        f"no program writes entries of version {wire!r}",
        hint='Accepted are "3", and "3:" with a release from 0.17 to 0.24: "3:0.20"',
    )
