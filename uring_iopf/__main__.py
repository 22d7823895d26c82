"""``python -m uring_iopf``: the command line."""

import sys

from uring_iopf.cli import main

if __name__ == "__main__":
    sys.exit(main())
