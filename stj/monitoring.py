"""Every metric that stj exports, in one list: what shows it, the docs' table and Grafana's dashboard are checked against it.

Ray exports those of runs, passes and trainings on each machine, with `ray_` before their names. `stj serve` exports its own at
/metrics. vLLM's and Ray's own metrics are not here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as it is declared; Ray and Prometheus add to the name."""

    name: str
    kind: Literal["gauge", "counter"] = "gauge"
    """A counter only rises while its process lives."""
    unit: str
    labels: tuple[str, ...]
    description: str
    by_ray: bool = True
    """Whether Ray exports it; otherwise the server does."""

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"{'ray_' if self.by_ray else ''}{self.name}{'_total' if self.kind == 'counter' else ''}"


_RUN = ("run",)
_PASS = ("run", "pass")
_TRAINING = ("run", "training")

RUN_METRICS = (
    Metric(name="stj_run_phase", unit="0 or 1", labels=(*_RUN, "phase"), description="1 while this phase runs, 0 after it."),
    Metric(
        name="stj_run_phases",
        unit="phases",
        labels=(*_RUN, "state"),
        description="Phases of this command by state: done or left.",
    ),
)
PASS_METRICS = (
    Metric(
        name="stj_pass_rows",
        unit="rows",
        labels=(*_PASS, "state"),
        description="Rows by state: done (over all starts), failed, dropped (in this start), in_flight, total (if known).",
    ),
    Metric(
        name="stj_pass_engines",
        unit="engines",
        labels=(*_PASS, "state"),
        description="Engines by state: waiting (without a machine), starting, running.",
    ),
    Metric(
        name="stj_pass_engine_starts",
        kind="counter",
        unit="starts",
        labels=_PASS,
        description="Starts of engines in this start of the pass. More starts than engines are restarts.",
    ),
    Metric(
        name="stj_pass_tokens",
        kind="counter",
        unit="tokens",
        labels=(*_PASS, "kind"),
        description="Tokens in this start by kind: prompt, computed (prompt tokens that no cache held), output.",
    ),
    Metric(
        name="stj_pass_engine_seconds",
        kind="counter",
        unit="seconds",
        labels=_PASS,
        description="Time of all engines together in this start, with their loading.",
    ),
    Metric(
        name="stj_pass_dollars",
        unit="dollars",
        labels=_PASS,
        description="Cost over all starts of the pass, if prices are set.",
    ),
    Metric(
        name="stj_pass_output_tokens_per_s",
        unit="tokens per second",
        labels=_PASS,
        description="Tokens that engines write, including aborted samples.",
    ),
    Metric(name="stj_pass_draws_per_kept", unit="judgments", labels=_PASS, description="Judgments sampled for each one kept."),
    Metric(
        name="stj_pass_accepted",
        unit="share",
        labels=(*_PASS, "category"),
        description="Share of the judged pairs with a kept judgment.",
    ),
    Metric(name="stj_pass_eta_s", unit="seconds", labels=_PASS, description="Time to the end, at the pace so far."),
)
TRAINING_METRICS = (
    Metric(name="stj_train_step", unit="steps", labels=_TRAINING, description="The last step."),
    Metric(
        name="stj_train_checkpoint_step",
        unit="steps",
        labels=_TRAINING,
        description="Step of the last checkpoint, 0 if there is none. A fault costs the steps since.",
    ),
    Metric(
        name="stj_train_restarts",
        unit="restarts",
        labels=_TRAINING,
        description="Restarts of the ranks in this start of the training.",
    ),
    Metric(name="stj_train_loss", unit="nats", labels=_TRAINING, description="Loss of the last step."),
    Metric(name="stj_train_lr", unit="1", labels=_TRAINING, description="Learning rate of the last step."),
    Metric(name="stj_train_grad_norm", unit="1", labels=_TRAINING, description="Norm of the last step's gradient."),
    Metric(
        name="stj_train_tokens_per_s",
        unit="tokens per second",
        labels=_TRAINING,
        description="Tokens of examples, of all ranks together.",
    ),
    Metric(
        name="stj_train_mfu",
        unit="share",
        labels=_TRAINING,
        description="Share of the devices' peak FLOP/s that the last step reached, if the peak is known.",
    ),
)
SERVER_METRICS = (
    Metric(
        name="stj_judge_votes",
        kind="counter",
        unit="judgments",
        labels=("prompt", "verdict"),
        description="Judgments of pairs (one vote each), by the verdict they vote for.",
        by_ray=False,
    ),
)
METRICS = (*RUN_METRICS, *PASS_METRICS, *TRAINING_METRICS, *SERVER_METRICS)


def by_name(metrics: Iterable[Metric], prefix: str) -> dict[str, Metric]:
    """The metrics by what stands behind the prefix in their names."""
    return {metric.name.removeprefix(prefix): metric for metric in metrics}


def table() -> str:
    """The table of docs/clusters.md."""
    rows = [
        f"| `{metric.exported}` | {metric.kind} | {metric.unit} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {metric.description} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | kind | unit | labels | is |", "|---|---|---|---|---|", *rows])
