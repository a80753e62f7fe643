"""``python -m deployment`` is the command ``asclepias``."""

import sys

from deployment.cli import main

if __name__ == "__main__":
    sys.exit(main())
