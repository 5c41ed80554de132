"""The public names are those of ``__all__``, each documented and none missing."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import cachekit

MODULES = (
    "cachekit",
    "cachekit.aio",
    "cachekit.backends",
    "cachekit.core",
    "cachekit.health",
    "cachekit.serializers",
)
#: What a module may have beside its ``__all__``: modules, and names for its own use.
SUBMODULES = {name.partition(".")[2] for name in MODULES if "." in name}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def public(module: ModuleType) -> list[tuple[str, Any]]:
    return [(name, getattr(module, name)) for name in module.__all__]


def own_members(kind: type) -> list[tuple[str, Any]]:
    """What a class says in public, without what object or Exception gives it."""
    return [
        (name, value)
        for name, value in inspect.getmembers(kind)
        if not name.startswith("_")
        and any(
            name in vars(base)
            for base in kind.__mro__
            if base.__module__.startswith("cachekit")
        )
    ]


def test_module_is_documented(module: ModuleType) -> None:
    assert module.__doc__


def test_all_is_sorted_and_free_of_doubles(module: ModuleType) -> None:
    names = module.__all__
    assert names == sorted(set(names), key=sort_key)


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that isort uses."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_every_name_of_all_is_there_and_documented(module: ModuleType) -> None:
    for name, value in public(module):
        if inspect.isclass(value) or callable(value):
            assert inspect.getdoc(value), f"{module.__name__}.{name}"


def test_every_public_method_is_documented(module: ModuleType) -> None:
    bare = [
        f"{module.__name__}.{name}.{member}"
        for name, value in public(module)
        if inspect.isclass(value)
        for member, found in own_members(value)
        if (callable(found) or isinstance(found, property))
        and not inspect.getdoc(found)
    ]
    assert bare == []


def test_module_defines_no_public_name_outside_all(module: ModuleType) -> None:
    others = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in module.__all__
        and getattr(value, "__module__", None) == module.__name__
    }
    assert others == set()


def test_star_import_gives_exactly_all(module: ModuleType) -> None:
    names: dict[str, Any] = {}
    exec(f"from {module.__name__} import *", names)
    del names["__builtins__"]
    assert set(names) == set(module.__all__)


def test_dir_lists_all(module: ModuleType) -> None:
    assert set(module.__all__) <= set(dir(module))


def test_unknown_name_is_an_attribute_error(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_such'"):
        _ = module.nothing_such


def test_classes_say_where_users_find_them() -> None:
    """A traceback and a pickle show the module; the public one leads to the class."""
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute, value in public(module):
            if inspect.isclass(value):
                home = importlib.import_module(value.__module__)
                assert getattr(home, attribute) is value, (name, attribute)


def test_every_exception_is_exported() -> None:
    from cachekit import _errors

    for name in _errors.__all__:
        assert getattr(cachekit, name) is getattr(_errors, name)
        assert name in cachekit.__all__


@pytest.mark.parametrize("name", sorted(SUBMODULES))
def test_submodule_is_imported_when_it_is_first_used(name: str) -> None:
    code = (
        "import sys, cachekit; "
        f"before = 'cachekit.{name}' in sys.modules; "
        f"module = cachekit.{name}; "
        f"print(before, module is sys.modules['cachekit.{name}'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    before, after = done.stdout.split()
    assert after == "True"
    assert before == "False"
