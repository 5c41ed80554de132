# SPDX-License-Identifier: MIT
"""Names in the store: who a function is, and how a key is written."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import textwrap
import types

import pytest

from cachekit._errors import ConfigurationError, UncacheableArgument
from cachekit._names import MAX_KEY, function_name, store_prefix
from cachekit.core import generate_cache_key

# -- the prefix -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "namespace, name, prefix",
    [
        (None, "get_user", "cachekit:get_user:"),
        ("shop", "app.get_user", "shop:app.get_user:"),
        (None, "app.make.<locals>.inner", "cachekit:app.make.<locals>.inner:"),
        (None, "get user{x}\n", "cachekit:get_user_x__:"),
        (None, "größe", "cachekit:gr__e:"),
        (None, "a\ud800", "cachekit:a_:"),
    ],
)
def test_prefix_is_readable(namespace, name, prefix):
    assert store_prefix(namespace, name) == prefix


@pytest.mark.parametrize("namespace", [None, "n", "n" * 64])
@pytest.mark.parametrize("length", [1, 100, 167, 168, 169, 250, 5000])
def test_key_fits_with_its_side_keys(namespace, length):
    prefix = store_prefix(namespace, "x" * length)
    key = prefix + "0" * 64
    assert len("{" + key + "}:f") <= 250
    assert len(key) <= MAX_KEY
    assert all("!" <= c <= "~" for c in key)


def test_long_names_that_differ_at_the_end_stay_apart():
    one, two = (store_prefix(None, "x" * 300 + end) for end in "ab")
    assert one != two
    assert one == store_prefix(None, "x" * 300 + "a")


def test_name_that_just_fits_is_not_cut():
    room = MAX_KEY - 64 - len("cachekit::")
    assert store_prefix(None, "x" * room) == "cachekit:" + "x" * room + ":"
    assert "~" in store_prefix(None, "x" * (room + 1))


# -- who a function is ----------------------------------------------------------------


class Service:
    def method(self): ...

    @classmethod
    def of_class(cls): ...


def test_function_is_known_by_module_and_qualified_name():
    assert function_name(store_prefix) == "cachekit._names.store_prefix"
    assert function_name(Service.method) == f"{__name__}.Service.method"
    assert function_name(Service.of_class) == f"{__name__}.Service.of_class"
    assert function_name(len) == "builtins.len"


def test_name_stands_in_for_it():
    assert function_name(store_prefix, "mine") == "mine"
    assert function_name(functools.partial(len), "mine") == "mine"


def test_callable_without_a_name_asks_for_one():
    with pytest.raises(ConfigurationError, match="name="):
        function_name(functools.partial(len))


def of_main(**variables: object) -> str:
    """The name of a function of a main module with these variables."""
    module = types.ModuleType("__main__")
    vars(module).update(variables)
    exec("def f(): ...", vars(module))
    return function_name(module.f)


@pytest.mark.parametrize(
    "variables, name",
    [
        ({"__file__": "/srv/app.py"}, "app.f"),
        ({"__file__": "app.py"}, "app.f"),
        ({"__file__": "/srv/shop/__main__.py"}, "shop.f"),
        ({"__file__": "/srv/shop.pyz/__main__.py"}, "shop.f"),
        ({}, "__main__.f"),
        ({"__spec__": types.SimpleNamespace(name="pkg.app")}, "pkg.app.f"),
        (
            {"__spec__": types.SimpleNamespace(name="__main__"), "__file__": "x/a.py"},
            "a.f",
        ),
    ],
)
def test_main_program_is_named_as_if_imported(variables, name):
    assert of_main(**variables) == name


PROGRAM = """
    import json, multiprocessing, sys
    from cachekit._names import function_name

    def work(x): ...

    def report(queue):
        queue.put([work.__module__, function_name(work)])

    decorated_as = function_name(work)

    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=report, args=(queue,))
        process.start()
        child = queue.get(timeout=50)
        process.join()
        print(json.dumps([decorated_as, *child]))
"""


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("how", ["file", "module"])
def test_program_and_its_spawned_workers_agree(how, tmp_path):
    (tmp_path / "billing.py").write_text(textwrap.dedent(PROGRAM))
    command = {"file": ["billing.py"], "module": ["-m", "billing"]}[how]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    parent, module, child = json.loads(done.stdout)
    assert module == "__mp_main__"
    assert parent == child == "billing.work"


# -- generate_cache_key ---------------------------------------------------------------


def test_key_is_namespace_name_and_64_digits():
    key = generate_cache_key("get_user", (123,), {})
    assert re.fullmatch(r"cachekit:get_user:[0-9a-f]{64}", key)
    assert key == generate_cache_key("get_user", (123,), {})


def test_key_depends_on_name_and_arguments():
    calls = [
        ("get_user", (123,), {}),
        ("get_user", (123.0,), {}),
        ("get_user", ("123",), {}),
        ("get_user", (), {"a": 123}),
        ("get_user", (), {}),
        ("get_users", (123,), {}),
    ]
    assert len({generate_cache_key(*call)[-64:] for call in calls}) == len(calls)


def test_key_does_not_depend_on_the_order_of_keywords():
    one = generate_cache_key("f", (), {"a": 1, "b": 2})
    assert one == generate_cache_key("f", (), {"b": 2, "a": 1})


def test_key_takes_a_namespace():
    assert generate_cache_key("f", (1,), {}, "shop").startswith("shop:f:")


def test_long_names_that_are_cut_have_keys_of_their_own():
    one = generate_cache_key("x" * 300 + "a", (1,), {})
    two = generate_cache_key("x" * 300 + "b", (1,), {})
    assert one[-64:] != two[-64:]


def test_uncacheable_argument_is_refused():
    with pytest.raises(UncacheableArgument):
        generate_cache_key("f", (object(),), {})


@pytest.mark.parametrize(
    "name, namespace, kind",
    [
        (1, None, TypeError),
        ("", None, ValueError),
        ("f", "", ValueError),
        ("f", "a b", ValueError),
        ("f", 1, TypeError),
    ],
)
def test_bad_name_or_namespace_is_refused(name, namespace, kind):
    with pytest.raises(kind, match="^name"):
        generate_cache_key(name, (), {}, namespace)
