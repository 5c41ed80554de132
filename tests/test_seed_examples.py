"""The examples of the guides that describe what a user expects, as they stand.

They are found beside the checkout, where there is one with them; elsewhere this file is
skipped, and tests/test_aio_api.py holds the same patterns in our own words.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from servers import RedisServer

import cachekit
from cachekit import CacheConfig, aio

SEEDS = Path(__file__).resolve().parents[2] / "shared" / "seeds"


def seed(number: str) -> str:
    found = sorted(SEEDS.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the guides are not beside this checkout")
    return found[0].read_text()


# -- the troubleshooting guide --------------------------------------------------------

FENCE = re.compile(r"^ *```python( notest)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def troubleshooting() -> list[Any]:
    found = sorted(SEEDS.glob("003_*.txt"))
    if not found:
        return [pytest.param(None, id="none")]
    blocks = FENCE.findall(found[0].read_text())
    return [
        pytest.param(textwrap.dedent(code), id=f"{number}{'-notest' if notest else ''}")
        for number, (notest, code) in enumerate(blocks)
    ]


class _User:
    def model_dump(self) -> dict[str, Any]:
        return {"id": 1, "name": "Ada"}


def _names() -> dict[str, Any]:
    """What the examples assume to be defined."""
    return {
        "__name__": "example",
        "cache": cachekit.Cache(CacheConfig(namespace="seed")),
        "expensive_operation": lambda data: data,
        "compute_expensive_result": lambda x: x,
        "fallback_value": lambda x: None,
        "fetch_user_model": lambda user_id: _User(),
        "fetch_user": lambda user_id: {"id": user_id},
        "update_user": lambda user, data: None,
        "user_id": 1,
        "data": {},
        "logger": MagicMock(),
        "MyCustomClass": dict,
        "secrets": "secret",
        "app": MagicMock(),
    }


def _stub(monkeypatch: pytest.MonkeyPatch, name: str, **names: Any) -> None:
    """A module that an example imports and that need not be installed here."""
    module = types.ModuleType(name)
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("code", troubleshooting())
def test_troubleshooting(
    code: str | None, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code is None:
        pytest.skip("the guides are not beside this checkout")
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", "ab" * 32)
    monkeypatch.setenv("CACHEKIT_REDIS_URL", redis_server.url)
    monkeypatch.setattr(
        cachekit, "cache", cachekit.Cache(CacheConfig(namespace="seed"))
    )
    _stub(monkeypatch, "redis", from_url=lambda url: MagicMock())
    _stub(monkeypatch, "flask", jsonify=lambda *args: args)
    names = _names()
    names["cache"] = cachekit.cache
    exec(compile(code, "example", "exec"), names)
    _call_what_was_decorated(names)
    cachekit.cache.close()


def _call_what_was_decorated(names: dict[str, Any]) -> None:
    arguments = {"data": {"a": 1}, "user_id": 1, "x": 1}
    for made in list(names.values()):
        if isinstance(made, cachekit._core.CachedFunction):
            wanted = made.__wrapped__.__code__.co_varnames
            count = made.__wrapped__.__code__.co_argcount
            given = [arguments[name] for name in wanted[:count]]
            first = made(*given)
            assert str(made(*given)) == str(first)  # tables have an == of their own
            assert type(made(*given)) is type(first)


def test_the_key_has_the_form_of_the_guide() -> None:
    from cachekit.core import generate_cache_key

    key = generate_cache_key("get_user", (123,), {})
    assert re.fullmatch(r"cachekit:get_user:[0-9a-f]+", key)


# -- the resilience guide -------------------------------------------------------------

STATEMENT = re.compile(
    r"^(config = |cache = |details = |print\(details|@cached|import )"
)


def resilience() -> list[str]:
    """The Python of the guide, whose blocks have lost their fences and indents."""
    lines = seed("004").splitlines()
    blocks, at = [], 0
    while at < len(lines):
        if not STATEMENT.match(lines[at]):
            at += 1
            continue
        end = at + 1
        while end < len(lines) and not _parses(lines[at:end]):
            end += 1
        if end < len(lines) and _parses(lines[at:end]):
            blocks.append(_indented(lines[at:end]))
            at = end
        else:
            at += 1
    return blocks


def _parses(lines: list[str]) -> bool:
    text = _indented(lines)
    try:
        compile(text, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True


def _indented(lines: list[str]) -> str:
    """Bodies of functions and of ``with`` stand one step further right."""
    depth, out = 0, []
    for line in lines:
        out.append("    " * depth + line)
        if re.match(r"(async )?(def|with) .*:$|with .*:$", line):
            depth += 1
    return "\n".join(out)


class _Db:
    def __init__(self) -> None:
        self.runs = 0

    def __getattr__(self, name: str) -> Any:
        async def fetch(*args: Any) -> dict[str, Any]:
            self.runs += 1
            return {"name": name, "args": list(args)}

        return fetch


def test_resilience(redis_server: RedisServer) -> None:
    """Every block but the tests, which follow below."""
    blocks = resilience()
    joined = "\n".join(blocks)
    for word in ("stale_ttl=60", "single_flight=True", "circuit_breaker_timeout=60.0"):
        assert word in joined
    names: dict[str, Any] = {
        "CacheConfig": _config_on(redis_server.url),
        "YokedCache": aio.Cache,
        "cached": aio.cached,
        "db": _Db(),
        "external_api": _Db(),
        "__name__": "example",
        "compute_expensive_thing": _Db().thing,
    }

    async def main() -> None:
        names["cache"] = aio.Cache(names["CacheConfig"]())
        for block in blocks:
            if block.startswith("import"):
                continue
            await _execute(block, names)
        await names["cache"].close()

    asyncio.run(main())


def _config_on(url: str) -> Any:
    def make(**fields: Any) -> CacheConfig:
        fields["redis_url"] = url
        return CacheConfig(namespace="seed", **fields)

    return make


async def _execute(block: str, names: dict[str, Any]) -> None:
    code = compile(block, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waits = eval(code, names)
    if waits is not None:
        await waits
    for made in list(names.values()):
        if isinstance(made, cachekit._core.CachedFunction):
            count = made.__wrapped__.__code__.co_argcount
            first = await made(*["1"] * count)
            assert await made(*["1"] * count) == first


def _body_of(name: str) -> str:
    """A test function of the guide, up to the next one, indents restored."""
    lines = seed("004").splitlines()
    begin = lines.index(f"async def {name}():")
    body, depth = [lines[begin]], 1
    for line in lines[begin + 1 :]:
        if line.startswith("@pytest"):
            break
        body.append("    " * depth + line)
        if line.startswith("with "):
            depth += 1
    return "\n".join(body)


def test_the_guides_test_of_graceful_degradation() -> None:
    from unittest.mock import patch

    cache = aio.Cache(CacheConfig(redis_url="redis://127.0.0.1:1", namespace="seed"))

    @aio.cached(cache=cache, ttl=300)
    async def get_user(user_id: int) -> Any:
        return {"id": user_id}

    names = {"patch": patch, "cache": cache, "get_user": get_user}
    exec(_body_of("test_graceful_degradation"), names)
    asyncio.run(names["test_graceful_degradation"]())  # type: ignore[operator]


def test_the_guides_test_of_stale_on_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from unittest.mock import patch

    async def fetch_product(number: str) -> Any:
        return {"name": "of the database"}

    _stub(monkeypatch, "db", fetch_product=fetch_product)
    cache = aio.Cache(CacheConfig(namespace="seed"), backend=None)

    @aio.cached(
        cache=cache,
        ttl=300,
        serve_stale_on_error=True,
        full_key=lambda number: f"product:{number}",
    )
    async def get_product(number: str) -> Any:
        return await sys.modules["db"].fetch_product(number)

    names = {"patch": patch, "cache": cache, "get_product": get_product}
    exec(_body_of("test_stale_on_error"), names)
    asyncio.run(names["test_stale_on_error"]())  # type: ignore[operator]
