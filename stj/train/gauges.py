"""A training's metrics as Ray's own: on the cluster's Prometheus endpoint and in its dashboard, beside those of Ray."""

from collections.abc import Callable

from ray.util.metrics import Gauge

from stj.train.step import Metrics

_SHOWN = {
    "loss": "Loss of the last step, in nats",
    "lr": "Learning rate of the last step",
    "grad_norm": "Norm of the last step's gradient",
    "tokens_per_s": "Tokens of examples a second, of all ranks together",
    "mfu": "Share of the devices' peak FLOP/s that the last step reached",
}


def gauges(training: str) -> Callable[[Metrics], None]:
    """A call that shows a step's metrics as `stj_train_loss{training=...}` and so on; for rank 0 alone."""
    known = {name: Gauge(f"stj_train_{name}", words, tag_keys=("training",)) for name, words in _SHOWN.items()}

    def show(metrics: Metrics) -> None:
        for name, gauge in known.items():
            value = getattr(metrics, name)
            if value is not None:
                gauge.set(value, tags={"training": training})

    return show
