"""The extension can be loaded again and again, and takes its types with it."""

import gc
import importlib.machinery
import importlib.util
import sys
import weakref
from types import ModuleType

from cachekit import _core


def load() -> ModuleType:
    """The extension once more: a module of its own, with types of its own."""
    loader = importlib.machinery.ExtensionFileLoader("cachekit._core", _core.__file__)
    spec = importlib.util.spec_from_file_location(
        loader.name, loader.path, loader=loader
    )
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def use(core: ModuleType) -> None:
    assert core.decode(core.encode({"rows": [1, 2.5, {"a"}]})) == {
        "rows": [1, 2.5, {"a"}]
    }
    assert core.canonical((1, "a")) == _core.canonical((1, "a"))
    assert core.hold_copy([1]) == [1]
    core.Memory(max_entries=3).check()
    core.Flag(3).value += 1
    core.CachedFunction(len, lambda fn: None, None, False).using


def main() -> None:
    types = "CachedFunction BoundFunction Memory Flag Call Flight Guard".split()
    blocks = []
    for _ in range(8):
        core = load()
        assert core is not _core and core.Flag is not _core.Flag
        use(core)
        references = [weakref.ref(getattr(core, name)) for name in types]
        references.append(weakref.ref(core))
        del core
        for _ in range(3):
            gc.collect()
        alive = [reference() for reference in references if reference() is not None]
        assert not alive, alive
        blocks.append(sys.getallocatedblocks())
    grown = blocks[-1] - blocks[3]
    assert grown < 40, f"{grown} blocks more in four rounds: {blocks}"


main()
