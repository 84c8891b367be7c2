"""A training's metrics beside Ray's own, on the cluster's Prometheus endpoint and in its dashboard."""

from collections.abc import Callable

from ray.util.metrics import Gauge

from stj.text import in_ascii
from stj.train.metrics import StepMetrics

_SHOWN = {
    "loss": "Loss of the last step, in nats",
    "lr": "Learning rate of the last step",
    "grad_norm": "Norm of the last step's gradient",
    "tokens_per_s": "Tokens of examples a second, of all ranks together",
    "mfu": "Share of the devices' peak FLOP/s that the last step reached",
}


def gauges(training: str) -> Callable[[StepMetrics], None]:
    """Returns a function that shows a step's metrics, as `stj_train_loss{training=...}` and so on; for rank 0 only."""
    by_name = {name: Gauge(f"stj_train_{name}", description, tag_keys=("training",)) for name, description in _SHOWN.items()}

    label = in_ascii(training)  # Ray takes no other labels

    def show(metrics: StepMetrics) -> None:
        for name, gauge in by_name.items():
            value = getattr(metrics, name)
            if value is not None:
                gauge.set(value, tags={"training": label})

    return show
