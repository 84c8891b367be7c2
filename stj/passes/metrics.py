"""The progress of a pass as Ray metrics, for the cluster's Prometheus and Grafana. There they are named `ray_stj_...`."""

from ray.util.metrics import Gauge

from stj.passes.progress import Progress
from stj.text import in_ascii

_ROWS = ("done", "failed", "in_flight")


class PassMetrics:
    """Gauges of one pass, with its name as a label."""

    def __init__(self, name: str) -> None:
        self._name = {"pass": in_ascii(name)}
        self._rows = Gauge("stj_pass_rows", "Rows of the pass by state.", ("pass", "state"))
        self._tokens = Gauge("stj_pass_output_tokens_per_s", "Tokens that engines write, including aborted samples.", ("pass",))
        self._draws = Gauge("stj_pass_draws_per_kept", "Judgments sampled for each one kept.", ("pass",))
        self._accepted = Gauge("stj_pass_accepted", "Share of the judged pairs with a kept judgment.", ("pass", "category"))
        self._eta = Gauge("stj_pass_eta_s", "Seconds to its end, at the pace so far.", ("pass",))

    def show(self, progress: Progress) -> None:
        """Sets the gauges."""
        for state in _ROWS:
            self._rows.set(getattr(progress, state), {**self._name, "state": state})
        self._tokens.set(progress.tokens_per_s, self._name)
        if progress.kept:
            self._draws.set(progress.draws / progress.kept, self._name)
        for category, judged in progress.judged.items():
            self._accepted.set(progress.accepted[category] / judged, {**self._name, "category": category})
        if progress.eta_s is not None:
            self._eta.set(progress.eta_s, self._name)
