"""A run and its passes as Ray metrics, for the cluster's Prometheus and Grafana. stj/monitoring.py declares them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import ray.util.metrics

from stj.monitoring import PASS_METRICS, RUN_METRICS, Metric, by_name
from stj.passes.ledger import Ledger
from stj.passes.progress import Progress
from stj.passes.registry import EngineStates
from stj.text import in_ascii

_ROWS = ("done", "failed", "dropped", "in_flight")
_TOKENS = {"prompt": "prompt_tokens", "computed": "computed_tokens", "output": "output_tokens"}


class _RayMetrics:
    """Some declared metrics, as Ray takes them: labels in ASCII, and counters by what is added."""

    def __init__(self, metrics: Iterable[Metric], prefix: str, labels: Mapping[str, str]) -> None:
        self._labels = {name: in_ascii(value) for name, value in labels.items()}
        declared = by_name(metrics, prefix)
        kinds = {"gauge": ray.util.metrics.Gauge, "counter": ray.util.metrics.Counter}
        self._metrics = {
            name: kinds[metric.kind](metric.name, metric.description, metric.labels) for name, metric in declared.items()
        }
        self._counted: Counter[tuple[str, ...]] = Counter()

    def set(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge."""
        self._metrics[name].set(value, self._labels | labels)

    def count(self, name: str, total: float, **labels: str) -> None:
        """Brings a counter up to a total."""
        key = (name, *labels.values())
        if total > self._counted[key]:
            self._metrics[name].inc(total - self._counted[key], self._labels | labels)
            self._counted[key] = total  # type: ignore[assignment]


class RunMetrics:
    """The phases of a run that this command makes."""

    def __init__(self, run: str, phases: int) -> None:
        self._metrics = _RayMetrics(RUN_METRICS, "stj_run_", {"run": run})
        self._done, self._phases = 0, phases
        self._show_phases()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows a phase while the block runs, and counts it as done if the block ends well."""
        label = in_ascii(name)
        self._metrics.set("phase", 1, phase=label)
        try:
            yield
            self._done += 1
            self._show_phases()
        finally:
            self._metrics.set("phase", 0, phase=label)

    def _show_phases(self) -> None:
        self._metrics.set("phases", self._done, state="done")
        self._metrics.set("phases", max(0, self._phases - self._done), state="left")


class PassMetrics:
    """The metrics of one pass."""

    def __init__(self, name: str, run: str = "") -> None:
        self._metrics = _RayMetrics(PASS_METRICS, "stj_pass_", {"run": run, "pass": name})

    def show(self, progress: Progress) -> None:
        """Shows rows and judgments."""
        for state in _ROWS:
            self._metrics.set("rows", getattr(progress, state), state=state)
        if progress.total is not None:
            self._metrics.set("rows", progress.total, state="total")
        self._metrics.set("output_tokens_per_s", progress.tokens_per_s)
        if progress.kept:
            self._metrics.set("draws_per_kept", progress.draws / progress.kept)
        for category, judged in progress.judged.items():
            self._metrics.set("accepted", progress.accepted[category] / judged, category=in_ascii(category))
        if progress.eta_s is not None:
            self._metrics.set("eta_s", progress.eta_s)

    def show_engines(self, engines: EngineStates) -> None:
        """Shows how many engines wait, start and run."""
        for state in ("waiting", "starting", "running"):
            self._metrics.set("engines", getattr(engines, state), state=state)
        self._metrics.count("engine_starts", engines.starts)

    def show_cost(self, spent: Ledger, dollars: float | None) -> None:
        """Shows what this start has spent, and the price of all starts."""
        usage = asdict(spent.usage)
        for kind, field in _TOKENS.items():
            self._metrics.count("tokens", usage[field], kind=kind)
        self._metrics.count("engine_seconds", spent.engine_seconds)
        if dollars is not None:
            self._metrics.set("dollars", dollars)

    def end(self) -> None:
        """Shows that nothing runs any more: a gauge keeps its last value while the command goes on with other phases."""
        self._metrics.set("rows", 0, state="in_flight")
        for state in ("waiting", "starting", "running"):
            self._metrics.set("engines", 0, state=state)
        for name in ("output_tokens_per_s", "eta_s"):
            self._metrics.set(name, 0)
