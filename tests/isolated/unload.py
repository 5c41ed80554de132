"""The module can be dropped and imported again, and takes its types with it."""

import gc
import importlib
import sys
import weakref


def use() -> list["weakref.ref[object]"]:
    cachekit = importlib.import_module("cachekit")
    core = importlib.import_module("cachekit._core")
    cache = cachekit.Cache(backend=None)

    @cache
    def rows(number: int) -> list[int]:
        return [number]

    class Owner:
        @cache(ignore=("self",))
        def method(self) -> int:
            return 1

    assert rows(1) == rows(1) == [1]
    assert Owner().method() == Owner().method() == 1
    types = [core.CachedFunction, core.Memory, core.Flag, core.Call, core.Flight]
    return [weakref.ref(thing) for thing in (core, cache, rows, *types)]


def unload() -> None:
    for name in list(sys.modules):
        if name == "cachekit" or name.startswith("cachekit."):
            del sys.modules[name]
    for _ in range(3):
        gc.collect()


for _ in range(3):
    references = use()
    unload()
    alive = [reference() for reference in references if reference() is not None]
    assert not alive, alive
