"""Keeps the driver's memory flat: over a million rows, Ray Data's statistics of each block take hundreds of MB."""

from typing import Any

from stj.passes.ray_private import StepCallback, forget_block_stats


class ForgetBlockStats(StepCallback):
    """Drops the statistics of finished blocks, which nobody reads."""

    def on_step(self, executor: Any) -> None:
        """Drops those collected since the last step."""
        forget_block_stats(executor)
