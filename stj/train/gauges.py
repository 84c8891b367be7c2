"""A training's metrics beside Ray's own, on the cluster's Prometheus endpoint. stj/monitoring.py declares them."""

from ray.util.metrics import Gauge

from stj.monitoring import TRAINING_METRICS, by_name
from stj.text import in_ascii
from stj.train.metrics import StepMetrics


class TrainingGauges:
    """The metrics of one training, labelled with its run's directory and its own below it: iteration_1."""

    def __init__(self, folder: str) -> None:
        run, iteration, rest = folder.rpartition("/iteration_")  # where stj/loop/phases.py puts trainings
        run, training = (run, f"iteration_{rest}") if iteration else ("", folder)
        self._labels = {"run": in_ascii(run), "training": in_ascii(training)}  # Ray takes no other labels
        declared = by_name(TRAINING_METRICS, "stj_train_")
        self._gauges = {name: Gauge(metric.name, metric.description, metric.labels) for name, metric in declared.items()}

    def show(self, step: StepMetrics, checkpoint_step: int) -> None:
        """Shows a step, and the step of the last checkpoint; for rank 0 only."""
        self._gauges["checkpoint_step"].set(checkpoint_step, self._labels)
        for name, gauge in self._gauges.items():
            value = getattr(step, name, None)
            if value is not None:
                gauge.set(value, self._labels)

    def show_restarts(self, count: int) -> None:
        """Shows how often ranks have restarted; for the controller only."""
        self._gauges["restarts"].set(count, self._labels)
