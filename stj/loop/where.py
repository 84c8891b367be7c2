"""Where the judges of a run are wrong, and what they were trained on: the part of the report with plots, and its numbers.

The rows of each pass are read once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from markupsafe import Markup

from stj.evals.clues import PairClues
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.clue_sets import ClueSets, clue_names, clue_of
from stj.loop.cut_plots import Point, interval_plot, share_plot
from stj.loop.cuts import DIMENSIONS, TOKEN_BINS, Cut, CutCounts, JudgeCuts
from stj.loop.figures import Figure, figures
from stj.loop.kinds import PassPhase
from stj.loop.phases import Run
from stj.loop.report.cells import Cell, table_of
from stj.loop.report.templates import render
from stj.loop.report.words import number, whole
from stj.rows import HELDOUT, TRAINING, Row, row_from_dict
from stj.text import Column

_CELLS = (
    Cell[JudgeCuts](Column("", "judge, task", word="judge"), lambda each: f"{each.judge}, {each.task}"),
    Cell[JudgeCuts](Column("tokens,", "mean", word="tokens of a judgment"), lambda each: whole(each.lengths.mean)),
    Cell[JudgeCuts](Column("of right", "ones"), lambda each: whole(each.lengths.mean_right)),
    Cell[JudgeCuts](Column("of", "others"), lambda each: whole(each.lengths.mean_wrong)),
    Cell[JudgeCuts](Column("verdict against its", "last sentence"), lambda each: number(each.contradictions["count"])),
    Cell[JudgeCuts](Column("of last sentences", "that prefer one"), lambda each: number(each.contradictions["stated"])),
    Cell[JudgeCuts](Column("cycles", "A>B>C>A"), lambda each: number(each.cycles["count"])),
    Cell[JudgeCuts](Column("", "of triples"), lambda each: number(each.cycles["triples"])),
)


@dataclass(frozen=True, kw_only=True)
class Where:
    """The cuts of every judge on every task, and the figures of the paper on the instructions."""

    cuts: tuple[JudgeCuts, ...] = ()
    """In the order of the judges."""
    figures: tuple[Figure, ...] = ()
    clues: Mapping[str, PairClues] = field(default_factory=dict)
    """How well simple features say which answer is better, by the set of pairs (stj/loop/clue_sets.py)."""

    name = "where"

    @classmethod
    def of(cls, run: Run) -> "Where":
        """Reads the finished passes of a run."""
        counts: dict[tuple[int, str], CutCounts] = {}
        sets = ClueSets(run)
        for judge, row in _judged_rows(run):
            counts.setdefault((judge, row.task), CutCounts()).add(row)
            sets.add(judge, row)
        cuts = [counts[judge, task].result(f"M_{judge}", task) for judge, task in sorted(counts)]
        made = run.pairs is not None and run.pairs.artifact.state()[0] == "done"
        drawn = tuple(figures(run.pairs.rows())) if made and run.pairs else ()
        return cls(cuts=tuple(cuts), figures=drawn, clues=sets.result())

    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        return {
            "cuts": [asdict(cuts) for cuts in self.cuts],
            "figures": [asdict(figure) for figure in self.figures],
            "clues": {name: asdict(clues) for name, clues in self.clues.items()},
        }

    def html(self) -> Markup:
        """The part of the page; empty if there are no numbers."""
        if not self.cuts and not self.figures and not self.clues:
            return Markup()
        plots = [(task, _task_plots(task, self.cuts)) for task in _tasks(self.cuts)]
        return render(
            "where.html.jinja",
            cuts=self.cuts,
            judging=table_of(_CELLS, self.cuts),
            tasks=[(task, shown) for task, shown in plots if shown],
            figures=[(figure, _figure_plot(figure)) for figure in self.figures],
            lengths=_lengths_plot(self.cuts),
            clues=self.clues,
            clue_names=clue_names(self.clues),
            clue_rules={clue.name: clue.rule for each in self.clues.values() for clue in each.clues},
            clue_of=clue_of,
        )


def _judged_rows(run: Run) -> Iterator[tuple[int, Row]]:
    """The judged rows of each finished pass and benchmark, with the number of the judge."""
    phases: list[PassPhase | BenchmarkPhase] = [phase for phase in run.passes if "judge_again" not in phase.parts]
    for judge in range(run.config.iterations + 1):
        phases += run.benchmark_phases(judge)
    for phase in phases:
        if phase.artifact.state()[0] == "done":
            rows = map(row_from_dict, phase.artifact.records())
            yield from ((phase.judge, row) for row in rows if row.judgments)


def _tasks(cuts: Sequence[JudgeCuts]) -> list[str]:
    """The tasks: held-out pairs first, benchmarks, then the training pairs."""
    tasks = {each.task for each in cuts}
    return sorted(tasks, key=lambda task: (task != HELDOUT, task == TRAINING, task))


def _ends(cuts: Sequence[JudgeCuts]) -> list[JudgeCuts]:
    """The first and the last judge."""
    return [cuts[0], cuts[-1]] if len(cuts) > 1 else list(cuts)


def _task_plots(task: str, cuts: Sequence[JudgeCuts]) -> list[tuple[str, Markup]]:
    """One plot for each dimension, of the first and the last judge on a task."""
    judges = _ends([each for each in cuts if each.task == task])
    plots = []
    for dimension in DIMENSIONS:
        by_judge = [{cut.label: cut for cut in each.cuts if cut.dimension == dimension} for each in judges]
        labels = list(dict.fromkeys(label for classes in by_judge for label in classes))
        if labels:
            series = [
                (each.judge, [_point(classes.get(label)) for label in labels])
                for each, classes in zip(judges, by_judge, strict=True)
            ]
            plots.append((dimension, interval_plot(labels, series, title=f"accuracy by {dimension}, {task}")))
    return plots


def _point(cut: Cut | None) -> Point | None:
    if cut is None:
        return None
    return Point(share=cut.accuracy, interval=cut.ci95, note=f"{100 * cut.accuracy:.1f}% of {cut.pairs:,}")


def _figure_plot(figure: Figure) -> Markup:
    series = [("all instructions", _shares(figure.all)), ("selected", _shares(figure.selected))]
    return share_plot(figure.labels, series, title=f"{figure.title}, all and selected instructions")


def _lengths_plot(cuts: Sequence[JudgeCuts]) -> Markup | None:
    """Lengths of the judgments of the first and the last judge, over all tasks."""
    total: dict[str, list[int]] = {}
    for each in cuts:
        counts = total.setdefault(each.judge, [0] * len(TOKEN_BINS))
        total[each.judge] = [so_far + count for so_far, count in zip(counts, each.lengths.counts, strict=True)]
    if not total:
        return None
    shown: Mapping[str, list[int]] = {judge: total[judge] for judge in (min(total, key=_number), max(total, key=_number))}
    series = [(judge, _shares(counts)) for judge, counts in shown.items()]
    return share_plot(TOKEN_BINS, series, title="tokens of a judgment")


def _number(judge: str) -> int:
    return int(judge.removeprefix("M_"))


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
