"""`stj` as a user runs it, except that a journal is kept of what its engines are asked.

python -m tests.chaos.driver JOURNAL run conf/mini.yaml ...
"""

import sys
from functools import partial

from stj.cli import main as stj
from stj.passes import spec
from tests.chaos.journal import journaled_engine


def main() -> int:
    """Runs the command."""
    journal = sys.argv.pop(1)
    spec.Pass = partial(spec.Pass, make_engine=partial(journaled_engine, journal=journal))  # type: ignore[misc, assignment]
    return stj()


if __name__ == "__main__":
    sys.exit(main())
