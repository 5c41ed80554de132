# SPDX-License-Identifier: MIT
"""The values that the benchmarks cache. Made from a seed: the same in every run."""

from __future__ import annotations

import random
from typing import Any

_TEXT = """
amber basin cedar delta ember fjord grove heath inlet jetty knoll ledge marsh north
oasis plain quarry ridge shore tundra upland valley willow
"""
_WORDS = _TEXT.split()


def ten_keys() -> dict[str, Any]:
    """A dict of 10 keys with the usual kinds of values."""
    return {
        "id": 48213,
        "name": "Amber Ridge",
        "email": "amber@ridge.example",
        "active": True,
        "score": 87.25,
        "visits": 1043,
        "country": "NO",
        "plan": "standard",
        "manager": None,
        "token": "7f3c9a51be",
    }


def one_kilobyte() -> dict[str, Any]:
    """A dict that packs to a little under 1 KiB."""
    chance = random.Random(1)
    return {
        "id": 48213,
        "name": "Amber Ridge",
        "active": True,
        "scores": [chance.random() for _ in range(20)],
        "tags": chance.sample(_WORDS, 12),
        "address": {"street": "Willow 12", "city": "Upland", "zip": "4021"},
        "text": " ".join(chance.choice(_WORDS) for _ in range(88)),
    }


def document() -> dict[str, Any]:
    """A nested document of about 10 KB as JSON. No part of it is shared."""
    chance = random.Random(2)

    def person(number: int) -> dict[str, Any]:
        return {
            "id": number,
            "name": " ".join(chance.sample(_WORDS, 2)).title(),
            "active": chance.random() < 0.5,
            "balance": round(chance.uniform(0, 9999), 2),
            "address": {
                "street": f"{chance.choice(_WORDS)} {chance.randrange(99)}",
                "geo": {"lat": chance.uniform(-90, 90), "lon": chance.uniform(0, 90)},
            },
            "tags": chance.sample(_WORDS, 5),
            "history": [
                {"at": chance.randrange(10**9), "kind": chance.choice(_WORDS)}
                for _ in range(3)
            ],
        }

    return {"version": 3, "total": 30, "people": [person(n) for n in range(30)]}


def small() -> dict[str, Any]:
    """A dict of four scalars."""
    return {"id": 48213, "name": "Amber Ridge", "active": True, "score": 87.25}


def two_hundred_bytes() -> dict[str, Any]:
    """A dict that packs to about 200 bytes."""
    return {**ten_keys(), "note": "Amber ridge, the upper valley, by the quarry"}


def thousand_dicts() -> list[dict[str, Any]]:
    """Rows of a table."""
    chance = random.Random(3)
    return [
        {
            "id": number,
            "name": chance.choice(_WORDS),
            "score": chance.random(),
            "active": chance.random() < 0.5,
        }
        for number in range(1000)
    ]


def long_text() -> str:
    """A str of 1 MiB that no compression shrinks by much."""
    chance = random.Random(4)
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=1 << 20))
