"""The report of a run: report.json for programs, report.html for people. report_tables.py has the tables for the terminal."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from stj.evals.attack_card import AttackCard, flips
from stj.evals.table import interval, percent
from stj.loop.clue_balance import ClueBalanceCounts, balance_words
from stj.loop.counts import GradingCounts, RescueCounts, by_score, rescue_words
from stj.loop.dashboard import Dashboard, Lengths
from stj.loop.diversity import Diversity
from stj.loop.heldout import HeldoutScores
from stj.loop.heldout_grades import GradeFigures, HeldoutGrades
from stj.loop.label_flags import LabelNoise, noise_words
from stj.loop.measures import BenchmarkReport, JudgeComparison
from stj.loop.mixing import SourceCounts, mixing_words
from stj.loop.plots import Line, bar_plot, line_plot, split_plot
from stj.loop.where import Where
from stj.storage.folder import Folder, json_bytes
from stj.verdict import PARSERS, Parser

_NONE = "–"
_NOT_SHOWN = {"config", "samples", "fingerprints"}
"""Facts about a run that have a part of the page of their own, or say nothing to a reader."""


@dataclass(frozen=True, kw_only=True)
class IterationReport:
    """One judge: how good it is, and what happened to the training pairs that it judged for the next one.

    The last judge, M_T, judges no training pairs: what describes its training data is None.
    """

    judge: str
    """"M_0" to "M_T"."""
    heldout: HeldoutScores | None = None
    heldout_grades: HeldoutGrades | None = None
    """How well the judge grades the held-out responses."""
    heldout_comparisons: tuple[JudgeComparison, ...] = ()
    """On the held-out pairs, against the judge before and against M_0."""
    benchmarks: dict[str, BenchmarkReport] = field(default_factory=dict)
    """The judge on each benchmark of the run, by name."""
    draws_per_kept: float | None = None
    """Judgments sampled for each kept judgment."""
    accepted: float | None = None
    """Share of pairs with a kept judgment."""
    parser: Parser | None = None
    """The parser that decided which judgments were kept."""
    kept_by_parser: dict[str, int] | None = None
    """Pairs of whose sampled judgments each parser would keep one."""
    truncated: float | None = None
    """Share of the judgments of training pairs that max_tokens cut, in the judgment or in the thought before it."""
    examples: int | None = None
    """Training examples, after balancing."""
    instructions_in: int | None = None
    selected: int | None = None
    pairs: int | None = None
    attacked: dict[str, int] | None = None
    """Those of them whose worse answer is attacked, by attack (`pairs.attacked`)."""
    attacked_accepted: float | None = None
    """Share of the attacked pairs with a kept judgment."""
    label_a: int | None = None
    """Kept judgments that show the better answer as A, before balancing."""
    label_b: int | None = None
    grading: GradingCounts | None = None
    """Its grades of the answers of the training pairs; None if it compared them alone."""
    labelled: dict[str, Any] | None = None
    """The labelled judgments among its training data: rows, learned, and dropped by reason (LabelledCounts)."""
    sources: dict[str, SourceCounts] | None = None
    """The pairs of each source, if the run names its sources (`preferences`)."""
    rescue: RescueCounts | None = None
    """What became of the pairs without a right judgment, if `judge.rescue` asks."""
    label_noise: LabelNoise | None = None
    """What the judges so far say about the labels, if `curate.label_noise` asks."""
    balanced: ClueBalanceCounts | None = None
    """The pairs that `curate.balance` left out, if it names clues."""
    dropped: dict[str, int] | None = None
    """Dropped rows, by reason."""
    failed: int | None = None
    """Rows whose request to a model failed."""
    dashboard: Dashboard | None = None
    """Its judgments of the training pairs. For M_0 these are the first judge's, which may be another model."""
    alarms: tuple[str, ...] = ()
    """A line for each number that is out of its bounds (stj/loop/dashboard.py)."""


def lift(iterations: Sequence[IterationReport]) -> str:
    """One line: the gain in held-out mean accuracy from the first measured judge to the last, with both intervals."""
    measured = [(iteration.judge, iteration.heldout) for iteration in iterations if iteration.heldout]
    if not measured and any(iteration.heldout_grades for iteration in iterations):
        return grades_lift(iterations)
    if not measured:
        return "Held-out accuracy: no judge was measured"
    (first, old), (last, new) = measured[0], measured[-1]
    if len(measured) == 1:
        return f"Held-out accuracy of {first}: {percent(old.accuracy)}% {interval(old.ci95)}; no later judge was measured"
    apart = old.ci95[1] < new.ci95[0] or new.ci95[1] < old.ci95[0]
    noise = ", so this is within noise" if within_noise(iterations) else ""
    return (
        f"Lift {first} -> {last}: {100 * (new.accuracy - old.accuracy):+.1f} points of held-out accuracy, "
        f"{percent(old.accuracy)}% {interval(old.ci95)} -> {percent(new.accuracy)}% {interval(new.ci95)}; "
        f"the 95% intervals {'are apart' if apart else 'overlap'}{noise}"
    )


def within_noise(iterations: Sequence[IterationReport]) -> bool:
    """Whether chance may explain what the last judge gained over the first one measured on held-out pairs.

    The interval of their difference on the same pairs holds 0 or, if they were not compared so, their own intervals overlap.
    """
    measured = [iteration for iteration in iterations if iteration.heldout]
    first, last = measured[0], measured[-1]
    paired = next((found.ci95 for found in last.heldout_comparisons if found.against == first.judge), None)
    if paired is not None:
        return paired[0] <= 0 <= paired[1]
    if first.heldout is None or last.heldout is None:
        return False
    (low, high), (new_low, new_high) = first.heldout.ci95, last.heldout.ci95
    return new_low <= high and low <= new_high


def grades_lift(iterations: Sequence[IterationReport]) -> str:
    """One line: exact agreement and rank correlation of the first judge and the last; "" without held-out grades."""
    measured = [(iteration.judge, iteration.heldout_grades) for iteration in iterations if iteration.heldout_grades]
    if not measured:
        return ""
    (first, old), (last, new) = measured[0], measured[-1]
    if len(measured) == 1:
        return f"Held-out grades of {first}: {_grade_words(old.sampled)}; no later judge was measured"
    before, after = old.sampled.exact, new.sampled.exact
    gained = "" if before is None or after is None else f"{100 * (after - before):+.1f} points of exact agreement; "
    return f"Grades {first} -> {last}: {gained}{_grade_words(old.sampled)} -> {_grade_words(new.sampled)}"


def _grade_words(figures: GradeFigures) -> str:
    rank = "no rank correlation" if figures.spearman is None else f"Spearman {figures.spearman:.3f}"
    exact = "no whole true score" if figures.exact is None else f"{percent(figures.exact)}% {interval(figures.exact_ci95)}"
    return f"{exact}, {rank}"


def write_report(
    folder: Folder,
    run: dict[str, Any],
    iterations: Sequence[IterationReport],
    where: Where | None = None,
    diversity: Diversity | None = None,
) -> None:
    """Writes report.json and report.html, unless they hold the same already.

    `where` says where the judges are wrong, `diversity` how diverse the instructions are.
    `run` holds JSON values: facts about the run, its resolved settings as `config`, and a few judgments to show as `samples`.
    A sample has instruction, chosen, rejected, judge, thought, text, verdict and winner.
    """
    for name, content in report_files(run, iterations, where or Where(), diversity or Diversity()).items():
        folder.keep(name, content)


def report_files(
    run: dict[str, Any], iterations: Sequence[IterationReport], where: Where, diversity: Diversity
) -> dict[str, bytes]:
    """The content of the report's files, by name."""
    record = {"run": run, "iterations": [asdict(iteration) for iteration in iterations], "where": where.plain()}
    if diversity.facts is not None:
        record["diversity"] = diversity.plain()
    page = html(run, iterations, where, diversity).encode(errors="backslashreplace")
    return {"report.json": json_bytes(record), "report.html": page}


def html(
    run: Mapping[str, Any],
    iterations: Sequence[IterationReport],
    where: Where | None = None,
    diversity: Diversity | None = None,
) -> str:
    """The report as one page that needs neither network nor scripts."""
    measured = [iteration for iteration in iterations if iteration.heldout]
    data_by_judge = training_sets(iterations)
    watched = [(iteration, iteration.dashboard) for iteration in iterations if iteration.dashboard]
    drops = Counter[str]()
    for _, data in data_by_judge:
        drops.update(data.dropped or {})
    return _template().render(
        facts={key: value for key, value in run.items() if key not in _NOT_SHOWN},
        settings=list(_settings(run.get("config") or {})),
        samples=run.get("samples") or [],
        iterations=iterations,
        first=measured[0] if measured else None,
        subsets=heldout_subsets(iterations),
        heldout_notes=list(heldout_notes(iterations)),
        last=measured[-1] if measured else None,
        trained=data_by_judge,
        benchmarks=benchmark_names(iterations),
        cards=attack_cards(iterations),
        compared=any(iteration.heldout_comparisons for iteration in iterations),
        watched=watched,
        categories=list(dict.fromkeys(name for _, dashboard in watched for name in dashboard.by_category)),
        alarmed=any(iteration.alarms for iteration in iterations),
        parsers=PARSERS,
        reasons=[reason for reason, _ in drops.most_common()],
        lift=lift(iterations),
        within_noise=bool(measured) and within_noise(iterations),
        mixed=[(judge, data.sources) for judge, data in data_by_judge if data.sources],
        trained_grades=[(judge, data.grading) for judge, data in data_by_judge if data.grading],
        graded=[iteration for iteration in iterations if iteration.heldout_grades],
        grades_lift=grades_lift(iterations),
        plots=_plots(iterations),
        where=(where or Where()).html(),
        diversity=(diversity or Diversity()).html(),
    )


def heldout_subsets(iterations: Sequence[IterationReport]) -> list[str]:
    """The subsets of the held-out pairs."""
    return sorted({name for iteration in iterations if iteration.heldout for name in iteration.heldout.subsets})


def heldout_notes(iterations: Sequence[IterationReport]) -> Iterator[str]:
    """Which held-out pairs are ties, and which were not judged, for each judge of whom it is not the same as before."""
    said = ""
    for iteration in iterations:
        scores = iteration.heldout
        if scores is None:
            continue
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in scores.unjudged_by_reason.items())
        tied = [f"{scores.tied:,} of {scores.pairs:,} are ties by their labels"] if scores.tied else []
        words = "; ".join([*tied, *([f"{scores.unjudged:,} not judged ({reasons})"] if reasons else [])])
        if words and words != said:
            yield f"Held-out pairs of {iteration.judge}: {words}"
        said = words


def attack_cards(iterations: Sequence[IterationReport]) -> dict[str, AttackCard]:
    """The attack card of each judge that has one, by the judge."""
    reports = ((iteration.judge, report) for iteration in iterations for report in iteration.benchmarks.values())
    return {judge: report.attacks for judge, report in reports if report.attacks}


def number(value: float | None) -> str:
    """A count without decimals, any other number with two."""
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def difference_words(compared: JudgeComparison) -> str:
    """The paired difference and its interval, in points."""
    low, high = compared.ci95
    return f"{100 * compared.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def p_words(compared: JudgeComparison) -> str:
    """McNemar's exact p."""
    return f"{compared.mcnemar_p:.2g}"


def length_words(lengths: Lengths | None) -> str:
    """A mean length, and the lengths between which the middle half lies."""
    if lengths is None:
        return _NONE
    low, _, high = lengths.quartiles
    return f"{lengths.mean:,.0f} [{low:,}, {high:,}]"


def ends(limits: tuple[float, float] | None) -> str:
    """The ends of an interval of correlations; empty without one."""
    return "" if limits is None else f"[{limits[0]:.2f}, {limits[1]:.2f}]"


def benchmark_names(iterations: Sequence[IterationReport]) -> list[str]:
    """The benchmarks that some judge has judged, in the order of the config."""
    return list(dict.fromkeys(name for iteration in iterations for name in iteration.benchmarks))


def training_sets(iterations: Sequence[IterationReport]) -> list[tuple[str, IterationReport]]:
    """Each set of training data under the name of the judge that it trains."""
    following = [*(iteration.judge for iteration in iterations[1:]), "the next judge"]
    return [(judge, data) for judge, data in zip(following, iterations, strict=False) if data.pairs is not None]


def _plots(iterations: Sequence[IterationReport]) -> dict[str, Markup]:
    data_by_judge = training_sets(iterations)
    judges = [f"for {judge}" for judge, _ in data_by_judge]
    accepted = [None if data.accepted is None else 100 * data.accepted for _, data in data_by_judge]
    draws = [data.draws_per_kept for _, data in data_by_judge]
    splits = [(data.label_a or 0, data.label_b or 0) for _, data in data_by_judge]
    x_title = "training data"
    return {
        "accuracy": _accuracy_plot(iterations),
        "accepted": bar_plot(
            judges, accepted, x_title=x_title, y_title="pairs with a kept judgment, %", written=lambda v: f"{v:.1f}%", high=100
        ),
        "draws": bar_plot(judges, draws, x_title=x_title, y_title="judgments per kept one", written=lambda v: f"{v:.2f}"),
        "balance": split_plot(judges, splits),
    }


def _accuracy_plot(iterations: Sequence[IterationReport]) -> Markup:
    by_judge = [iteration.heldout for iteration in iterations]

    def line(name: str, style: str, score: str, ends: str | None = None) -> Line:
        values = [getattr(scores, score, None) for scores in by_judge]
        bands = [getattr(scores, ends, None) if ends else None for scores in by_judge]
        return Line(
            name=name,
            style=style,
            values=[None if value is None else 100 * value for value in values],
            band=[(100 * band[0], 100 * band[1]) if band else None for band in bands],
        )

    lines = [
        line("winner first", "first", "accuracy_winner_first"),
        line("winner second", "second", "accuracy_winner_second"),
        line("position-consistent", "consistent", "position_consistent"),
        line("greedy, both orders", "greedy", "greedy_accuracy", "greedy_ci95"),
        line("sampled, both orders", "mean", "accuracy", "ci95"),
    ]
    return line_plot(
        [iteration.judge for iteration in iterations], lines, x_title="judge", y_title="judgments that are right, %"
    )


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The config by section, with settings under dotted names; settings without a section come first."""
    loose = [(key, _written(value)) for key, value in config.items() if not isinstance(value, Mapping)]
    if loose:
        yield "run", loose
    for section, settings in config.items():
        if isinstance(settings, Mapping):
            yield section, list(_flat(settings))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _written(value)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, interval=interval, number=number, written=_written)
    environment.filters.update(
        difference=difference_words, p=p_words, lengths=length_words, flips=flips, balanced=balance_words, noise=noise_words
    )
    environment.filters.update(
        rescue=rescue_words, ends=ends, mixing=mixing_words, by_score=lambda counts: by_score(counts) or _NONE
    )
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
