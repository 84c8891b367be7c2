"""`stj`, the self-taught judge: trains an LLM judge without human labels (Self-Taught Evaluators).

`stj.Judge` is the judge as a Python class. `stj.load_rows` reads what a run has written.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stj.artifact_rows import load_rows as load_rows
    from stj.judging.judge import Judge as Judge

__version__ = "0.1.0"
__all__ = ["Judge", "__version__", "load_rows"]

_PLACES = {"Judge": "stj.judging.judge", "load_rows": "stj.artifact_rows"}


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use, so that `import stj` takes milliseconds."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'stj' has no attribute '{name}'")
