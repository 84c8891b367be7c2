"""Selecting a training set from judged rows on disk: no engine, the rows are scripted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stj.config_loader import load
from stj.errors import PassFailed
from stj.loop.counts import JudgingCounts
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.summary import RunSummary
from stj.rows import Category, Example, Judgment, Pair, Row, example_from_dict, rows_to_table
from stj.stages.judge import label_of_winner
from stj.verdict import PAIR, Label, other, parse
from tests.conftest import make_row

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
CATEGORY = Category(name="Knowledge and Reasoning", complexity=3, length="a")
RISE = ("train.objective=sft_then_dpo", "train.preference.source=warm_up")
PAIRS = 200


def run_of(tmp_path: Path, *overrides: str) -> Run:
    return Run(load([MINI], [f"run_root={tmp_path}/run", "iterations=1", *overrides]))


def judgment(winner: Label, index: int, right: str, judge: str) -> Judgment:
    """A judgment that is right ("+"), wrong ("-"), or has no verdict ("?")."""
    verdict = None if right == "?" else winner if right == "+" else other(winner)
    text = f"{judge} says in judgment {index}: [[{verdict}]]"
    return Judgment(
        purpose="training", winner=winner, index=index, text=text, verdict=verdict, finish_reason="stop", output_tokens=9
    )


def judged(position: int, outcome: str, judge: str = "M_0") -> Row:
    row_id = f"row-{position:03d}"
    winner = label_of_winner(0, row_id)
    judgments = tuple(judgment(winner, index, right, judge) for index, right in enumerate(outcome))
    pair = Pair(method="given", chosen=f"good {position}", rejected=f"bad {position}")
    row = make_row(position, id=row_id, category=CATEGORY, pair=pair, judgments=judgments)
    kept = outcome.find("+")
    return row.drop("no_correct_judgment") if kept < 0 else Row(**{**vars(row), "kept": kept})


def write(phase: Phase, rows: list[Row]) -> None:
    phase.artifact.begin()
    phase.artifact.write_part("part-0", rows_to_table(rows))
    phase.artifact.finish()


def selected(run: Run, name: str) -> list[Example]:
    phase = next(phase for phase in run.phases if phase.name == name)
    phase.artifact.begin()
    phase.run()
    return [example_from_dict(record) for record in phase.artifact.records()]


def counted(examples: list[Example]) -> dict[str, Counter[str]]:
    return {label: Counter(example.kind for example in examples if example.winner == label) for label in "AB"}


@pytest.mark.slow
def test_rise_prefers_only_among_what_the_warmed_up_model_got_wrong_and_right(tmp_path: Path) -> None:
    run = run_of(tmp_path, *RISE)
    outcomes = ["+", "-+", "?+", "---"]
    write(run.phases[0], [judged(i, outcomes[i % 4]) for i in range(PAIRS)])
    warm = selected(run, "iteration_1/examples")
    assert all(example.rejected is None and "M_0 says" in example.completion for example in warm)
    assert not {example.id for example in warm} & {f"row-{i:03d}" for i in range(3, PAIRS, 4)}

    again = next(phase for phase in run.phases if phase.name == "iteration_1/warm_up/judged")
    outcomes = ["+++", "+-", "-?+", "---", "?+?"]
    write(again, [judged(i, outcomes[i % 5], "the warm-up") for i in range(PAIRS)])
    pairs = selected(run, "iteration_1/warm_up/examples")
    assert pairs
    assert {int(example.id[-3:]) % 5 for example in pairs} == {1, 2}
    for example in pairs:
        assert example.completion.startswith("the warm-up says")
        assert example.completion.endswith(f"[[{example.winner}]]")
        assert example.rejected is not None
        assert example.rejected.endswith(f"[[{other(example.winner)}]]")
    assert len(set(map(len, [[e for e in pairs if e.winner == label] for label in "AB"]))) == 1
    manifest = next(p for p in run.phases if p.name == "iteration_1/warm_up/examples").artifact.manifest()
    dropped = manifest["judged"]["dropped"]
    assert dropped == {"no_wrong_judgment": 2 * PAIRS // 5, "no_correct_judgment": PAIRS // 5}


def test_rise_says_so_where_the_warmed_up_model_gets_nothing_wrong(tmp_path: Path) -> None:
    run = run_of(tmp_path, *RISE)
    write(run.phases[0], [judged(i, "+") for i in range(8)])
    write(next(p for p in run.phases if p.name == "iteration_1/warm_up/judged"), [judged(i, "+++") for i in range(8)])
    with pytest.raises(PassFailed, match=r"iteration_1/warm_up/examples: no training examples: 8 .*8 no_wrong_judgment"):
        selected(run, "iteration_1/warm_up/examples")


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "dpo", "rpo", "sft_then_dpo"])
def test_djpo_examples_have_their_shares_and_are_balanced_in_each_kind(tmp_path: Path, objective: str) -> None:
    djpo = ("examples.verdicts=0.15", "examples.deductions=0.15", f"train.objective={objective}", "judge.sampling=first_pair")
    run = run_of(tmp_path, *djpo)
    rows = [judged(i, "-+" if i % 3 else "+") for i in range(PAIRS)]
    write(run.phases[0], rows)
    examples = selected(run, "iteration_1/examples")
    assert examples == sorted(examples, key=lambda example: example.id)
    compared = [example for example in examples if example.rejected is not None]
    assert bool(compared) == (objective != "sft")
    for group in (examples, compared):
        found = counted(group)
        assert found["A"] == found["B"]
        assert found["A"]["verdict"] == pytest.approx(0.15 * found["A"].total(), abs=2)
        assert found["A"]["deduction"] == pytest.approx(0.15 * found["A"].total(), abs=2)
    phase = run.iterations[0].examples
    verdicts = sum(example.kind == "verdict" for example in examples)
    assert f"{len(examples)} examples (" in phase.summary()
    assert f"{verdicts} verdicts" in phase.summary()

    shuffled = run_of(tmp_path / "again", *djpo)
    write(shuffled.phases[0], rows[::-1])
    assert selected(shuffled, "iteration_1/examples") == examples


def judge_wrote(position: int, *texts: str) -> Row:
    """A row whose judge wrote these texts; "{}" is the label of the better answer. It was read by `distinct`."""
    row = judged(position, "-" * len(texts))
    winner = row.judgments[0].winner
    written = tuple(
        replace(judgment, text=text.format(winner), verdict=parse(text.format(winner), PAIR, "distinct"))
        for judgment, text in zip(row.judgments, texts, strict=True)
    )
    kept = next((judgment.index for judgment in written if judgment.correct), None)
    return replace(row, judgments=written, kept=kept, dropped="no_correct_judgment" if kept is None else None)


@pytest.mark.slow
def test_the_report_counts_what_each_parser_would_keep(tmp_path: Path) -> None:
    """Both labels occur among many rows. Each row has one of five kinds of judgments."""
    kinds = (
        ("[[{}]]",),
        ("I choose [[{}]], because it is right.",),
        ("who knows", "Not [[{}]], no."),
        ("[[A]] or [[B]]", "who knows"),
        ("who knows",),
    )
    run = run_of(tmp_path)
    write(run.pairs, [judge_wrote(position, *kinds[position % 5]) for position in range(PAIRS)])
    selected(run, "iteration_1/examples")
    each = PAIRS // 5
    shown_as_a = sum(label_of_winner(0, f"row-{position:03d}") == "A" for position in range(3, PAIRS, 5))
    expected = {"strict": each, "distinct": 2 * each, "paper": 3 * each + shown_as_a}
    report = RunSummary.of(run).judges[0]
    assert (report.parser, report.kept_by_parser) == ("distinct", expected)
    phase = next(phase for phase in run.phases if phase.name == "iteration_1/examples")
    assert f"kept by parser: strict {expected['strict']}, distinct {expected['distinct']}, " in phase.summary()


def test_the_control_counts_any_verdict_but_none_of_a_judgment_that_was_cut() -> None:
    row = judge_wrote(0, "[[A]]")
    cut = replace(row, judgments=(replace(row.judgments[0], finish_reason="length"),))
    for judged_row, keep, kept in (
        (judge_wrote(1, "[[A]], it seems"), "random", 1),
        (cut, "random", 0),
        (judge_wrote(2, "none"), "random", 0),
    ):
        counts = JudgingCounts()
        counts.add(judged_row, keep)
        assert counts.kept_by_parser == {"strict": 0, "distinct": kept, "paper": kept}


def test_the_report_says_where_the_judge_is_wrong(tmp_path: Path) -> None:
    """Of each pair the first judgment counts: those of even positions are right, and their last sentence says otherwise."""
    run = run_of(tmp_path)
    texts = ("So Response {other} is better. [[{}]]", "[[{other}]]")
    rows = []
    for position in range(10):
        winner = label_of_winner(0, f"row-{position:03d}")
        rows.append(judge_wrote(position, texts[position % 2].replace("{other}", other(winner))))
    write(run.pairs, rows)
    where = RunSummary.of(run).where
    [cuts] = where.cuts
    [turns] = [cut for cut in cuts.cuts if cut.dimension == "turns"]
    assert (cuts.judge, cuts.task, turns.pairs, turns.accuracy) == ("M_0", "training", 10, 0.5)
    assert (cuts.contradictions["count"], cuts.contradictions["stated"]) == (5, 5)
    assert where.figures[0].number == 3
