"""`python -m stj.cli` is `stj`."""

import sys

from stj.cli import main

sys.exit(main())
