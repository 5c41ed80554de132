# SPDX-License-Identifier: MIT
"""The packages that the benchmarks measure against.

What the interpreter already has is used; the rest is installed from PyPI into a folder
of its own under ``out/rivals/``, one package at a time, so that one that cannot be
installed takes no other along. The package that is named ``cachekit`` on PyPI is
another one: it gets a folder that only processes of its own look into.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"
FOLDER = OUT / "rivals" / sys.implementation.cache_tag

#: Module: what pip is asked for.
RIVALS = {
    "aiocache": "aiocache>=0.12",
    "cachebox": "cachebox",
    "cachetools": "cachetools",
    "cashews": "cashews>=7",
    "cryptography": "cryptography>=42",
    "dogpile": "dogpile.cache>=1.3",
    "glide_sync": "valkey-glide-sync",
    "hiredis": "hiredis>=3",
    "msgpack": "msgpack>=1",
    "msgspec": "msgspec>=0.19",
    "ormsgpack": "ormsgpack>=1.5",
    "redis": "redis>=5",
}
NAMESAKE = "cachekit==0.24.*"

_tried: dict[str, str | None] = {}
_added: list[str] = []


class Unavailable(Exception):
    """A rival is not here; the text says why."""


def rival(module: str) -> Any:
    """The module, installed first if it has to be. Raises Unavailable."""
    why = _make_available(module)
    if why is not None:
        raise Unavailable(why)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"{module} cannot be imported: {error}") from None


def search_path(*modules: str) -> str:
    """The PYTHONPATH with which a child process finds them. Raises Unavailable."""
    for module in modules:
        why = _make_available(module)
        if why is not None:
            raise Unavailable(why)
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*([given] if given else []), *_added])


def namesake() -> Path:
    """The folder with the PyPI package of our name. Raises Unavailable."""
    folder = FOLDER / "namesake"
    why = _install(NAMESAKE, folder)
    if why is not None:
        raise Unavailable(why)
    return folder


def versions() -> dict[str, str]:
    """Of the rivals used so far."""
    found = {}
    for module, requirement in RIVALS.items():
        if module in _tried and _tried[module] is None:
            name = requirement.partition(">")[0].partition("=")[0]
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "?"
    return found


def _make_available(module: str) -> str | None:
    """Why it is not, or None."""
    if module not in _tried:
        why = None
        if importlib.util.find_spec(module) is None:
            folder = FOLDER / module
            why = _install(RIVALS[module], folder)
            if why is None:
                # At the end: nothing that is there already gives way.
                sys.path.append(str(folder))
                _added.append(str(folder))
                importlib.invalidate_caches()
        _tried[module] = why
    return _tried[module]


def _install(requirement: str, folder: Path) -> str | None:
    done = folder / ".installed"
    if done.exists() and json.loads(done.read_text()) == requirement:
        return None
    print(f"installing {requirement}", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    command = [*pip, "install", "--upgrade", "--target", str(folder), requirement]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode != 0:
        last = (said.stderr.strip().splitlines() or ["pip failed"])[-1]
        return f"{requirement} does not install: {last}"
    done.write_text(json.dumps(requirement))
    return None
