"""`stj`, the self-taught judge: trains an LLM judge without human labels (Self-Taught Evaluators).

`stj.Judge` is the judge as a Python class.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stj.judging.judge import Judge as Judge

__version__ = "0.1.0"
__all__ = ["Judge", "__version__"]


def __getattr__(name: str) -> Any:
    """`Judge`, imported at its first use, so that `import stj` takes milliseconds."""
    if name == "Judge":
        return importlib.import_module("stj.judging.judge").Judge
    raise AttributeError(f"module 'stj' has no attribute '{name}'")
