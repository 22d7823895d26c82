"""``python -m uring_iopf``: the command line."""

import sys

from uring_iopf.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
