"""What Ray Data notes of each block for statistics that nobody reads: over a million rows, hundreds of MB in the driver."""

from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.map_operator import MapOperator


class ForgetBlockStats(ExecutionCallback):  # type: ignore[misc]
    """Empties the lists as the blocks come. Ray Data calls this from its own loop, at each of its steps."""

    def on_execution_step(self, executor: Any) -> None:
        """Drops what was noted since the last step."""
        for operator in executor._topology:
            if isinstance(operator, MapOperator):
                operator._output_blocks_stats.clear()
