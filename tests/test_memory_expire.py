# SPDX-License-Identifier: MIT
"""The table in memory: invalidation of a tag."""

from __future__ import annotations

import pytest

from cachekit import _core

TABLE_OF_TAGS = 65536 * 4


def test_the_table_of_tags_is_charged_once_and_given_back() -> None:
    memory = _core.Memory()
    before = memory.stats()["bytes"]
    memory.expire_tag(0)
    memory.expire_tag(65535)
    assert memory.stats()["bytes"] == before + TABLE_OF_TAGS
    memory.check()
    memory.clear()
    assert memory.stats()["bytes"] == before
    memory.check()


def test_a_small_budget_has_no_table_of_tags() -> None:
    memory = _core.Memory(max_bytes=4 * TABLE_OF_TAGS - 1)
    before = memory.stats()["bytes"]
    memory.expire_tag(1)
    assert memory.stats()["bytes"] == before
    memory.check()


@pytest.mark.parametrize("slot", [-1, 65536, 10**30, -(10**30)])
def test_a_slot_is_16_bits(slot: int) -> None:
    with pytest.raises(ValueError):
        _core.Memory().expire_tag(slot)


def test_a_slot_is_an_int() -> None:
    with pytest.raises(TypeError):
        _core.Memory().expire_tag("1")  # type: ignore[arg-type]
