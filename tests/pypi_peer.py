# SPDX-License-Identifier: MIT
"""A program that uses the package named ``cachekit`` on PyPI.

    python -I -S pypi_peer.py FOLDER

Runs in a process that sees the folder which that package is installed in, and nothing
of ours. Each line of its input is a call, as JSON; each line it answers tells whether
the function ran and what the call gave, or what it raised.
"""

import datetime
import json
import logging
import os
import sys

sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)

# What the package says goes nowhere: answers alone go to the pipe.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

from cachekit.backends.redis import RedisBackend  # noqa: E402

from cachekit import cache  # noqa: E402

NAMES = {name: getattr(datetime, name) for name in ("datetime", "date", "time")}
NAMES["timezone"] = datetime.timezone


def call(case):
    runs = []

    def function(number, flag=False):
        runs.append(number)
        return eval(case["value"], NAMES)

    function.__module__ = "app"
    function.__qualname__ = function.__name__ = "get_user"
    options = dict(case.get("options", {}), l1_enabled=False, ttl=300)
    if "key" in case:
        options["key"] = eval(case["key"])
    if case.get("url"):  # else by REDIS_URL
        options["backend"] = RedisBackend(case["url"])
    cached = cache(**options)(function)
    if case.get("does") == "invalidate":
        return {"ran": False, "gave": str(cached.invalidate_cache(*eval(case["args"])))}
    if case.get("does") == "clear":
        return {"ran": False, "gave": str(cached.cache_clear())}
    gave = cached(*eval(case["args"], NAMES))
    return {"ran": bool(runs), "gave": repr(gave)}


for line in sys.stdin:
    try:
        answer = call(json.loads(line))
    except Exception as error:
        answer = {"raised": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers)
