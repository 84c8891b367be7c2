"""Matching pairs so that no clue gives the better answer away, and the clues in the report. No engine: rows are scripted."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ConfigError, PassFailed
from stj.evals.clue_features import FEATURES, feature_sign
from stj.loop.clue_balance import TOLERANCE, ClueBalance
from stj.loop.clue_sets import clue_table
from stj.loop.phases import Run
from stj.loop.report_tables import tables
from stj.loop.summary import RunSummary
from stj.pair_sources import PairSource
from stj.rows import HELDOUT, TIED, Example, Judgment, Origin, Pair, Row
from stj.storage.artifacts import differences
from stj.storage.folder import Folder
from stj.verdict import Label
from tests.conftest import make_row
from tests.loop.test_examples import judged, run_of, selected, write
from tests.loop.test_mixing import key_of, mixing

LONG, MARKED = " and so on and on", "\n- a point"


def pair_with(length: int, markdown: int) -> Pair:
    """A pair in which the better answer is longer (1), shorter (-1) or as long (0), and so with Markdown."""
    marked, unmarked = f"{MARKED}{MARKED}", " " * 2 * len(MARKED)
    better = "words" + (marked if markdown > 0 else unmarked) + (LONG if length > 0 else "")
    worse = "other" + (marked if markdown < 0 else unmarked) + (LONG if length < 0 else "")
    return Pair(method="given", chosen=better, rejected=worse)


def sources_of(weights: list[float]) -> list[PairSource]:
    names = [f"s{number}" for number in range(len(weights))]
    return [PairSource(kind="gsm8k", name=name, weight=weight) for name, weight in zip(names, weights, strict=True)]


def row_of(number: int, source: str | None, pair: Pair) -> Row:
    origin = Origin(source=source, place="here", labelled_by="human") if source else None
    return make_row(number, id=f"row-{number:03d}", pair=pair, origin=origin)


def sign_of(row: Row, clue: str) -> int:
    assert row.pair
    return feature_sign(clue, row.instruction, row.pair.chosen, row.pair.rejected)


def share_right(rows: list[Row], clue: str) -> float:
    signs = [sign_of(row, clue) for row in rows]
    return 0.5 + sum(signs) / (2 * len(signs))


cells = st.tuples(st.integers(0, 2), st.sampled_from("AB"), st.sampled_from((-1, 0, 1)), st.sampled_from((-1, 0, 1)))


@given(
    st.lists(cells, min_size=1, max_size=120),
    st.lists(st.floats(0.2, 5), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_what_is_kept_obeys_every_rule_in_any_order(
    drawn: list[tuple[int, Label, int, int]], weights: list[float], rng: random.Random
) -> None:
    sources = sources_of(weights)
    rows = [
        (row_of(number, f"s{source}", pair_with(length, markdown)), label)
        for number, (source, label, length, markdown) in enumerate(drawn)
    ]

    def kept() -> list[tuple[Row, Label]] | None:
        balance = ClueBalance(("length", "markdown"), 0, sources)
        for row, label in rows:
            balance.add(row, label)
        try:
            counts = balance.settle("here")
        except PassFailed:
            return None
        chosen = sorted(((row, label) for row, label in rows if balance.has(row, label)), key=lambda item: item[0].id)
        assert (counts.pairs, counts.kept) == (len(rows), len(chosen))
        for clue in ("length", "markdown"):
            assert counts.after[clue] == pytest.approx(share_right([row for row, _ in chosen], clue))
        return chosen

    chosen = kept()
    whole = len({(source, label) for source, label, _, _ in drawn}) == 2 * len(sources)
    assert whole or chosen == sorted(rows, key=lambda item: item[0].id)  # the balance of labels says what is missing
    if whole and chosen is not None:
        for clue in ("length", "markdown"):
            for label in "AB":
                said = [row for row, own in chosen if own == label and sign_of(row, clue)]
                assert not said or abs(share_right(said, clue) - 0.5) <= TOLERANCE
        by_source = Counter((row.chain.split("/")[1], label) for row, label in chosen)
        sizes = {source.title: by_source[source.title, "A"] for source in sources}
        assert all(by_source[name, "B"] == size for name, size in sizes.items())
        low = max((sizes[s.title] - 0.5) / s.weight for s in sources)
        assert low <= min((sizes[s.title] + 0.5) / s.weight for s in sources) + 1e-6  # one unit fits all weights
    rng.shuffle(rows)
    assert kept() == chosen


def test_as_many_pairs_stay_as_can() -> None:
    """Of 100 pairs of a label, 70 have the longer answer better: of those 30 / 0.48 * 0.52 = 32 may stay."""
    balance = ClueBalance(("length",), 0, [])
    rows = [(row_of(number, None, pair_with(1 if number % 10 < 7 else -1, 0)), "AB"[number % 20 > 9]) for number in range(200)]
    for row, label in rows:
        balance.add(row, label)
    counts = balance.settle("here")
    assert counts.before == {"length": 0.7}
    assert counts.after["length"] == pytest.approx(0.516, abs=0.004)
    assert counts.kept == 124


def test_a_rare_clue_that_is_always_right_goes() -> None:
    """In 4 of 200 pairs the answer that refuses is worse: 49% of all, and 0% of those in which one refuses."""
    balance = ClueBalance(("refusals",), 0, [])
    rows = [(row_of(number, None, pair_with(0, 0)), "AB"[number % 2]) for number in range(200)]
    rows[:4] = [(with_refusal(row), label) for row, label in rows[:4]]
    for row, label in rows:
        balance.add(row, label)
    counts = balance.settle("here")
    assert counts.before == {"refusals": 0.49}
    assert (counts.kept, counts.after) == (196, {"refusals": 0.5})


def with_refusal(row: Row) -> Row:
    assert row.pair
    return replace(row, pair=replace(row.pair, rejected=f"I'm sorry, but I cannot. {row.pair.rejected}"))


def test_clues_that_only_together_are_balanced_keep_their_pairs() -> None:
    """Longer without more Markdown, against shorter with more, and the reverse: nothing has to go."""
    balance = ClueBalance(("length", "markdown"), 0, [])
    signs = [(1, 1), (-1, 0), (0, -1), (0, 0)]
    rows = [(row_of(number, None, pair_with(*signs[number % 4])), "AB"[number % 8 > 3]) for number in range(80)]
    for row, label in rows:
        balance.add(row, label)
    assert balance.settle("here").kept == 80


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_weights_of_any_size_are_solved_as_their_proportions(unit: float) -> None:
    kept = []
    for sources in (sources_of([1.0, 2.0]), sources_of([unit, 2 * unit])):
        balance = ClueBalance(("length",), 0, sources)
        for number in range(240):
            pair = pair_with(1 if number % 10 < 7 else -1, 0)
            balance.add(row_of(number, f"s{number % 2}", pair), "AB"[number % 20 > 9])
        kept.append(balance.settle("here").kept)
    assert kept[0] == kept[1] > 0


@pytest.mark.slow
def test_many_clues_and_sources_are_solved(tmp_path: Path) -> None:
    rng = random.Random(0)
    sources = sources_of([1.0, 2.0, 0.7])
    balance = ClueBalance(tuple(FEATURES), 0, sources)  # type: ignore[arg-type]
    for number in range(3000):
        pair = pair_with(rng.choice((1, 1, 0, -1)), rng.choice((1, 1, 0, -1)))
        if rng.random() < 0.2:
            pair = replace(pair, rejected=f"I'm sorry, but I cannot. {pair.rejected}")
        balance.add(row_of(number, f"s{number % 3}", pair), rng.choice("AB"))  # type: ignore[arg-type]
    counts = balance.settle("here")
    assert counts.kept > 500
    assert all(abs(share - 0.5) <= TOLERANCE for share in counts.after.values())


def with_pair(row: Row, length: int, markdown: int) -> Row:
    return replace(row, pair=pair_with(length, markdown))


def leaning_rows(count: int = 400) -> list[Row]:
    """Judged rows in which the longer answer is better in 75%, and the one with more Markdown in 62.5% of those that differ."""
    rng = random.Random(4)
    return [
        with_pair(judged(number, "+" if number % 9 else "-"), 1 if rng.random() < 0.75 else -1, rng.choice((1, 1, 1, 0, -1)))
        for number in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_the_examples_of_a_run_hold_no_named_clue_and_the_report_says_what_was_left_out(tmp_path: Path, objective: str) -> None:
    words = ("curate.balance=[length,markdown]", f"train.objective={objective}", "judge.sampling=first_pair")
    run = run_of(tmp_path, *words)
    rows = leaning_rows()
    if objective == "dpo":
        rows = [with_wrong(row) for row in rows]
    write(run.phases[0], rows)
    examples = selected(run, "iteration_1/examples")
    by_id = {row.id: row for row in rows}
    learned = [by_id[example.id] for example in examples]
    for clue in ("length", "markdown"):
        assert abs(share_right(learned, clue) - 0.5) <= TOLERANCE
    assert Counter(example.winner for example in examples)["A"] * 2 == len(examples) > 100
    phase = run.iterations[0].examples
    manifest = phase.artifact.manifest()
    left_out = manifest["balanced"]["pairs"] - manifest["balanced"]["kept"]
    assert manifest["judged"]["dropped"]["clue_balance"] == left_out > 0
    assert manifest["balanced"]["kept"] == len(examples)
    line = f"curate.balance left out {left_out:,} of {manifest['balanced']['pairs']:,} pairs: length 7"
    assert line in phase.summary()
    summary = RunSummary.of(run)
    shown = "\n".join(str(table) for table in tables(summary.judges, clue_table(summary.where.clues)))
    assert line in " ".join(shown.split())
    summary.write(Folder.at(tmp_path))
    assert line in (tmp_path / "report.html").read_text(encoding="utf-8")

    again = run_of(tmp_path / "again", *words)
    write(again.phases[0], rows[::-1])
    assert selected(again, "iteration_1/examples") == examples


def with_wrong(row: Row) -> Row:
    if row.kept is None:
        return row
    right = row.judgments[0]
    wrong: Judgment = replace(right, index=1, verdict="B" if right.winner == "A" else "A", text="no")
    return replace(row, judgments=(right, wrong))


def test_sources_keep_their_proportion(tmp_path: Path) -> None:
    run = mixing(tmp_path, "curate.balance=[length]")
    origin = Origin(source="mine", place="mine.jsonl, line 1", labelled_by="file")
    rows = [replace(row, origin=origin) if row.position % 3 else row for row in leaning_rows()]
    write(run.phases[0], rows)
    examples = selected(run, "iteration_1/examples")
    mine = sum(int(example.id[-3:]) % 3 != 0 for example in examples)
    assert mine == pytest.approx(2 * (len(examples) - mine), abs=3)
    assert run.iterations[0].examples.artifact.manifest()["sources"]["mine"]["learned"] == mine


def test_a_balance_that_cannot_be_reached_ends_the_run_in_one_line(tmp_path: Path) -> None:
    run = run_of(tmp_path, "curate.balance=[length,markdown]")
    write(run.phases[0], [with_pair(judged(number, "+"), 1, 0) for number in range(100)])
    message = (
        r"^iteration_1/examples: curate.balance=\[length, markdown\]: no choice among the 100 pairs that can be learned has "
        r"each clue right in 50 ± 2%: the longer answer is the better one in 100.0%, .* in 50.0%. Judge more pairs"
    )
    with pytest.raises(PassFailed, match=message):
        selected(run, "iteration_1/examples")


def test_a_source_without_examples_or_a_label_without_pairs_is_named_as_without_balance(tmp_path: Path) -> None:
    run = mixing(tmp_path, "curate.balance=[length]")
    write(run.phases[0], leaning_rows())
    with pytest.raises(PassFailed, match=r"preferences\[mine\] has no example to mix: 0 of its 0 judged pairs can be learned"):
        selected(run, "iteration_1/examples")
    alone = run_of(tmp_path / "alone", "curate.balance=[length]")
    rows = [row for row in leaning_rows() if row.judgments[0].winner == "A"]
    write(alone.phases[0], rows)
    with pytest.raises(PassFailed, match=r"no training examples: .* with label A, 0 with label B"):
        selected(alone, "iteration_1/examples")


def test_without_balance_nothing_is_as_before_and_with_it_only_the_examples_are_stale(tmp_path: Path) -> None:
    plain, balanced = run_of(tmp_path), run_of(tmp_path, "curate.balance=[length]")
    assert "balance" not in json.dumps(key_of(plain, "iteration_1/examples"))
    assert not differences(key_of(plain, "pairs"), key_of(balanced, "pairs"))
    assert differences(key_of(plain, "iteration_1/examples"), key_of(balanced, "iteration_1/examples"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("curate.balance=[lenght]",), "balance"),
        (("curate.balance=[length,length]",), "name each clue once"),
        (("curate.balance=[length]", "train.objective=sft_then_dpo"), "two sets of pairs"),
        (("curate.balance=[length]", "judge.task=both"), "judge.task=both"),
        (("curate.balance=[length]", "examples.labelled=[x.jsonl]"), "examples.labelled"),
    ],
)
def test_a_balance_that_would_not_hold_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(tmp_path, *words)


def heldout(number: int) -> Row:
    made = [Judgment(purpose="sampled", winner=label, index=0, text="x", verdict="A", finish_reason="stop", output_tokens=1)
            for label in "AB"]  # fmt: skip  # type: ignore[arg-type]
    return make_row(
        number, f"held {number}", id=f"heldout/{number}", task=HELDOUT, pair=pair_with(-1, 0), judgments=tuple(made)
    )


@pytest.mark.slow
def test_the_report_has_the_clues_of_each_set_of_pairs(tmp_path: Path) -> None:
    run: Run = run_of(tmp_path, "iterations=2")
    rows = leaning_rows()
    ties = [replace(heldout(number), pair=replace(pair_with(1, 0), method=TIED)) for number in range(30, 36)]
    write(run.phases[0], [*rows, *(heldout(number) for number in range(30)), *ties])
    examples: list[Example] = selected(run, "iteration_1/examples")
    where = RunSummary.of(run).where
    assert list(where.clues) == ["held-out pairs", "training pairs", "learned by M_1"]
    found = {name: {clue.name: clue for clue in clues.clues} for name, clues in where.clues.items()}
    assert where.clues["held-out pairs"].pairs == 30  # nobody knows a better answer of a tie
    assert found["held-out pairs"]["length"].accuracy == 0
    assert found["held-out pairs"]["position"].accuracy == 0.5  # both orders of each pair
    assert found["training pairs"]["length"].accuracy == pytest.approx(share_right(rows, "length"))
    ids = {example.id for example in examples}
    assert where.clues["learned by M_1"].pairs == len(ids)
    assert found["learned by M_1"]["length"].accuracy == pytest.approx(
        share_right([row for row in rows if row.id in ids], "length")
    )
    assert found["learned by M_1"]["position"].accuracy == 0.5  # as many labels A as B
    shown = str(clue_table(where.clues))
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert "chance is 50" in shown
    assert re.search(r"^position +50\.0 none differ", shown, re.MULTILINE)  # both orders of each held-out pair
    page = where.html()
    assert "What gives the better answer away" in page
    assert json.dumps(where.plain())
