# SPDX-License-Identifier: MIT
"""Entries of version 3: what the package ``cachekit`` on PyPI keeps in its stores.

Releases 0.17 to 0.24 of that package write one frame under keys of four kinds, see
``_dialect``. The other modules:

``_arguments``  the digits that stand for a call
``_keys``       names of entries, those to write under and those to look for
``_entries``    values to entries and back, plain and encrypted
``_auto``       what the serializer ``auto`` writes
``_interop``    entries that programs in other languages share
``_function``   all of it for one decorated function
"""

from cachekit._wire3._dialect import Dialect, dialect_of
from cachekit._wire3._entries import Bond, EntryForm, read_entry, write_entry
from cachekit._wire3._interop import (
    InteropName,
    interop_arguments,
    read_interop,
    write_interop,
)
from cachekit._wire3._keys import Name, call_names, custom_names, serializer_code

__all__ = [
    "Bond",
    "Dialect",
    "EntryForm",
    "InteropName",
    "Name",
    "call_names",
    "custom_names",
    "dialect_of",
    "interop_arguments",
    "read_entry",
    "read_interop",
    "serializer_code",
    "write_entry",
    "write_interop",
]
