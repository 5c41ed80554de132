# SPDX-License-Identifier: MIT
"""The second process of the demo: it knows nothing but the address of the store.

    python examples/neighbour.py redis://127.0.0.1:6379 email < modules.txt

Prints one line of JSON: how long each call took, and where the values came from. Then
invalidates what carries the tag that it was given.
"""

from __future__ import annotations

import json
import sys
import time

import survey

from cachekit import Cache, CacheConfig


def main() -> None:
    cache = Cache(CacheConfig(namespace="demo"), backend=sys.argv[1])
    measure = cache(tags=lambda module: [survey.package(module)])(survey.measure)
    seconds = []
    for module in sys.stdin.read().splitlines():
        began = time.perf_counter()
        measure(module)
        seconds.append(time.perf_counter() - began)
    info = measure.cache_info()
    counts = {"memory": info.l1_hits, "store": info.l2_hits, "ran": info.loads}
    print(json.dumps({"seconds": seconds, **counts}))
    cache.invalidate_tags(sys.argv[2])
    cache.close()


if __name__ == "__main__":
    main()
