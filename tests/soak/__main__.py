"""``python -m soak``, in the folder of the tests."""

import sys

from soak.program import main

if __name__ == "__main__":
    sys.exit(main())
