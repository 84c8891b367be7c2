"""`stj`, the self-taught judge: trains an LLM judge without human labels (Self-Taught Evaluators).

`stj.Judge` is the judge as a library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stj.judging.judge import Judge as Judge

__version__ = "0.1.0"
__all__ = ["Judge", "__version__"]


def __getattr__(name: str) -> Any:
    """`Judge`, imported when it is asked for: `import stj` alone takes milliseconds."""
    if name == "Judge":
        return importlib.import_module("stj.judging.judge").Judge
    raise AttributeError(f"module 'stj' has no attribute '{name}'")
