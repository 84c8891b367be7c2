"""Every verb: these imports register their functions, in the order in which `stj --help` shows them.

A verb is one typed function, which calls the code that does the work. It imports its own module when it is called: ray and
torch take seconds, and `stj --help` needs neither.
"""

# isort: off
from stj.cli import viewing

__all__ = [
    *("agreeing", "annotating", "app", "attacking", "building", "calibrating", "measuring", "merging", "running", "using"),
    "viewing",
]
