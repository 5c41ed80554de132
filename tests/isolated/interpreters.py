"""The package in further interpreters, with a GIL of their own where there is such."""

import sys
import threading

from cachekit import Cache

CODE = """if True:
    from cachekit import Cache, CacheMiss, _core

    cache = Cache(backend=None)

    @cache(name="rows")
    def rows(number):
        return [number]

    assert rows(1) == rows(1) == [1]
    assert rows.cache_info()[:2] == (1, 1)
    try:
        rows.peek(2)
    except CacheMiss:
        pass
    else:
        raise AssertionError

    main_type = {main_type}
    assert id(_core.CachedFunction) != main_type, "types are not shared"
"""

LATER = """if True:
    import asyncio

    @cache(name="later")
    async def later(number):
        return [number]

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(later(1)) == [1]
    assert loop.run_until_complete(later(1)) == [1]
    loop.close()
"""


def run_in_another() -> None:
    from cachekit import _core

    code = CODE.replace("{main_type}", str(id(_core.CachedFunction)))
    if sys.version_info[:2] != (3, 12):
        # In 3.12 asyncio itself breaks the heap of an interpreter with its own GIL.
        code += LATER
    code = f"import sys; sys.path[:] = {sys.path!r}\n{code}"
    if sys.version_info >= (3, 13):
        import _interpreters

        one = _interpreters.create("isolated")
        failure = _interpreters.exec(one, code)
        assert failure is None, failure.errdisplay
        _interpreters.destroy(one)
    else:
        import _xxsubinterpreters

        one = _xxsubinterpreters.create()
        _xxsubinterpreters.run_string(one, code)
        _xxsubinterpreters.destroy(one)


cache = Cache(backend=None)


@cache
def rows(number: int) -> list[int]:
    return [number]


rows(1)
for _ in range(3):
    run_in_another()
if sys.version_info >= (3, 12):
    threads = [threading.Thread(target=run_in_another) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert rows(1) == [1]
assert rows.cache_info()[:2] == (1, 1)
