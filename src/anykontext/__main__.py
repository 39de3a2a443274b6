"""`python -m anykontext`."""

import sys

from anykontext.cli import main

if __name__ == "__main__":
    sys.exit(main())
