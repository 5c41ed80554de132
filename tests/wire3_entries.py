# SPDX-License-Identifier: MIT
"""Entries, keys and refusals recorded from release 0.24.1 of the PyPI package.

``tests/data/wire3/entries.json`` holds them, a case on a line; they are never made
anew. Arguments and values are Python expressions; the names in them are here.
"""

from __future__ import annotations

import importlib
import json
import os
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest

from cachekit._wire3 import EntryForm, serializer_code

RECORDED = json.loads(
    (Path(__file__).parent / "data" / "wire3" / "entries.json").read_text()
)
NUMPY_NAMES = ("np.", "pd.")


class Color(Enum):
    RED = "red"
    TWO = 2


class Num(IntEnum):
    ONE = 1


class OrjsonSerializer:
    pass


class StandardSerializer:
    pass


class AutoSerializer:
    pass


NAMES: dict[str, Any] = {
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
    "date": date,
    "time": time,
    "UUID": UUID,
    "Decimal": Decimal,
    "Path": PurePosixPath,
    "Color": Color,
    "Num": Num,
    "OrjsonSerializer": OrjsonSerializer,
    "StandardSerializer": StandardSerializer,
    "AutoSerializer": AutoSerializer,
}


def library(name: str) -> Any:
    """An optional library; without it the test is skipped, or fails where CI=true."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")


def value_of(expression: str) -> Any:
    """What an expression of a case stands for."""
    names = dict(NAMES)
    if "np." in expression:
        names["np"] = library("numpy")
    if "pd." in expression:
        names["pd"] = library("pandas")
    return eval(expression, names)


def code_of(case: dict[str, Any]) -> str:
    """The code of the case's serializer."""
    if "serializer_expr" in case:
        return serializer_code(value_of(case["serializer_expr"]))
    return serializer_code(case.get("serializer", "default"))


def form_of(case: dict[str, Any]) -> EntryForm:
    """The form of the case's entry."""
    if "pd." in case.get("value", "") or case["serializer"] == "arrow":
        library("pandas")
        library("pyarrow")
    if case["serializer"] == "orjson":
        library("orjson")
    return EntryForm(case["serializer"], case.get("integrity_checking", True))


def expression(case: dict[str, Any]) -> str:
    """A short name for a case."""
    parts = (case.get("serializer"), case.get("value"), case.get("form"))
    parts += (case.get("operation"), case.get("args"), case.get("label"))
    return "-".join(str(part) for part in parts if part is not None)[:48]
