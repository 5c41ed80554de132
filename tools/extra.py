"""Prints the requirements of an extra: python tools/extra.py lint.

Runs in an environment that holds the package, so it reads the installed metadata.
"""

import sys
from importlib.metadata import requires


def requirements(extra):
    for requirement in requires("cachekit") or []:
        name, _, marker = requirement.partition(";")
        if f'extra == "{extra}"' in marker.replace("'", '"'):
            yield name.strip()


if __name__ == "__main__":
    print(*requirements(sys.argv[1]))
