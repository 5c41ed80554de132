"""A store used by further interpreters, with a GIL of their own where there is such.

argv: the store's URL.
"""

import sys

from cachekit import Cache, CacheConfig

CODE = """if True:
    from cachekit import Cache, CacheConfig, Invalidation

    cache = Cache(CacheConfig(namespace="interpreters"), backend={url!r})

    @cache(name="rows")
    def rows(number):
        return [number, {name!r}]

    assert rows(1) == [1, "main"], "what the main interpreter stored"
    assert rows({own}) == rows({own}) == [{own}, {name!r}]
    assert rows.invalidate(2) is Invalidation.DELIVERED
    assert rows(2) == [2, {name!r}]
    cache.set({name!r}, {own})
    if {close}:
        cache.close()
"""


def run_in_another(own: int, close: bool) -> None:
    name = f"further {own}"
    code = CODE.format(url=sys.argv[1], name=name, own=own, close=close)
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


cache = Cache(CacheConfig(namespace="interpreters"), backend=sys.argv[1])


@cache(name="rows")
def rows(number: int) -> list[object]:
    return [number, "main"]


rows(1), rows(2)
for own in (11, 12, 13, 14):
    # Before 3.12 this module looks for threads before the interpreter's own end, which
    # stops the one that listens.
    run_in_another(own, close=own % 2 == 0 or sys.version_info < (3, 12))
    assert rows(own) == [own, f"further {own}"]
    assert cache.get(f"further {own}") == own
assert rows(1) == [1, "main"]
cache.close()
