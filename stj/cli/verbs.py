"""Every verb: these imports register their functions, in the order in which `stj --help` shows them.

A verb is one typed function, which calls the code that does the work. It imports its own module when it is called: ray and
torch take seconds, and `stj --help` needs neither.
"""

# isort: off
from stj.cli import starting
from stj.cli import running
from stj.cli import listing
from stj.cli import measuring
from stj.cli import attacking
from stj.cli import agreeing
from stj.cli import using
from stj.cli import viewing
from stj.cli import explaining
from stj.cli import annotating
from stj.cli import calibrating
from stj.cli import merging
from stj.cli import publishing
from stj.cli import building
from stj.cli.app import app

__all__ = [
    "agreeing",
    "annotating",
    "app",
    "attacking",
    "building",
    "calibrating",
    "explaining",
    "listing",
    "measuring",
    "merging",
    "publishing",
    "running",
    "starting",
    "using",
    "viewing",
]
