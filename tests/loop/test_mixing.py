"""Training pairs of several sources: how they come into a run, and how they are mixed. No engine: the rows are scripted."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import from_plain
from stj.errors import CheckFailed, ConfigError, PassFailed, SourceError
from stj.loop.inputs import check_inputs
from stj.loop.mixing import MixedBalance
from stj.loop.phases import Run
from stj.loop.report_tables import tables
from stj.loop.summary import RunSummary
from stj.pair_sources import PairSource
from stj.plan.assumptions import Assumptions
from stj.plan.cost import assumed_pairs, phases
from stj.rows import Origin, Row
from stj.stages.judge import LABELS
from stj.storage.artifacts import differences, plain
from stj.verdict import Label
from tests.conftest import make_row
from tests.loop.test_examples import judged, selected, write
from tests.loop.test_phases import config, passes, rows_into

NAMES = ("one", "two", "three")


def given_row(number: int, source: str) -> Row:
    origin = Origin(source=source, place=f"{source}.jsonl, line {number}", labelled_by="human")
    return make_row(number, id=f"preferences/{source}/{number}", origin=origin)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(LABELS)), max_size=150),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_each_source_has_the_share_of_its_weight_and_as_many_labels_a_as_b(
    drawn: list[tuple[str, Label]], weights: list[float], rng: random.Random
) -> None:
    sources = [PairSource(kind="gsm8k", name=name, weight=weight) for name, weight in zip(NAMES, weights, strict=True)]
    rows = [(given_row(number, name), label) for number, (name, label) in enumerate(drawn)]

    def kept() -> set[tuple[str, Label]]:
        balance = MixedBalance(0, sources)
        for row, label in rows:
            balance.add(row, label)
        balance.settle()
        balance.mix()
        chosen = {(row.id, label) for row, label in rows if balance.has(row, label)}
        assert len(chosen) == 2 * balance.size
        return chosen

    chosen = kept()
    have = {name: min(Counter(label for own, label in drawn if own == name)[label] for label in LABELS) for name in NAMES}
    unit = min(have[source.name] / source.weight for source in sources)
    for source in sources:
        for label in LABELS:
            count = sum(row_id.split("/")[1] == source.name and own == label for row_id, own in chosen)
            assert abs(count - unit * source.weight) <= 0.5 + 1e-9
    rng.shuffle(rows)
    assert kept() == chosen


def mixing(
    tmp_path: Path, *overrides: str, second: str = "{kind: pairs, name: mine, weight: 2, path: FILE}", count: int = 60
) -> Run:
    file = tmp_path / "mine.jsonl"
    if not file.exists():
        pairs = [{"id": str(n), "prompt": f"p {n}?", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(count)]
        file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    sources = f"preferences=[{{name: made}}, {second.replace('FILE', str(file))}]"
    return Run(config(tmp_path, "iterations=1", "source.limit=9", sources, *overrides))


def test_given_pairs_come_first_and_take_no_place_of_synthetic_ones(tmp_path: Path) -> None:
    run = mixing(tmp_path, "select.limit=5", "heldout.path=null")
    rows = list(rows_into(run.iterations[0].annotation[0]))
    assert [row.position for row in rows] == list(range(69))
    assert [row.origin is None for row in rows] == [False] * 60 + [True] * 9
    assert all(row.pair is not None for row in rows[:60])
    stages = run.iterations[0].annotation[0].stages(None)
    assert len(stages["training"]) == 5
    assert len(stages["training/mine"]) == 1  # it is judged, and neither sorted nor made
    assert run.pairs is not None
    assert run.pairs.count_inputs() == 69


def test_a_given_pair_that_repeats_a_held_out_text_is_left_out(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(20))
    pairs = [{"prompt": f"{words} ?", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (tmp_path / "held.jsonl").write_text(json.dumps({"prompt": words, "chosen": "a", "rejected": "b"}))
    run = mixing(tmp_path, f"heldout.path={tmp_path}/held.jsonl")
    rows = [row for row in rows_into(run.iterations[0].annotation[0]) if row.origin is not None]
    assert [row.dropped for row in rows] == ["benchmark_overlap", None]


def test_without_synthetic_pairs_and_questions_nobody_loads_the_generator(tmp_path: Path) -> None:
    other = "models.generator.path=org/other"
    only = ("preferences=[{kind: pairs, path: stj/mini/data/dev.jsonl}]", "iterations=1")
    alone = Run(config(tmp_path, *only, other))
    assert passes(alone)["pairs"] == ("pairs", "judge", "heldout")
    assert alone.config.models.generator == alone.config.models.first_judge
    assert from_plain(plain(alone.config)) == alone.config
    asked = ("preferences=[{kind: gsm8k, path: q.jsonl}]", "iterations=1")
    (tmp_path / "q.jsonl").write_text('{"question": "q", "answer": "#### 1"}')
    asked = (asked[0].replace("q.jsonl", f"{tmp_path}/q.jsonl"), asked[1])
    seed = "models.generator.path=stj/mini/grading_seed"
    assert passes(Run(config(tmp_path, *asked, seed)))["pairs"] == ("pairs",)


def key_of(run: Run, name: str) -> dict[str, object]:
    return next(phase.artifact.key for phase in run.phases if phase.name == name)


def test_a_weight_makes_only_the_examples_stale_and_a_file_makes_the_pairs_stale(tmp_path: Path) -> None:
    run, heavier = mixing(tmp_path), mixing(tmp_path, second="{kind: pairs, name: mine, weight: 3, path: FILE}")
    assert not differences(key_of(run, "pairs"), key_of(heavier, "pairs"))
    assert differences(key_of(run, "iteration_1/examples"), key_of(heavier, "iteration_1/examples"))
    fewer = mixing(tmp_path, second="{kind: pairs, name: mine, weight: 2, path: FILE, limit: 5}")
    assert differences(key_of(run, "pairs"), key_of(fewer, "pairs"))
    assert "preferences" not in json.dumps(key_of(Run(config(tmp_path)), "pairs"))


def test_the_examples_have_the_proportion_of_the_weights_and_the_report_says_so(tmp_path: Path) -> None:
    run = mixing(tmp_path)
    rows = []
    for number in range(200):
        row = judged(number, "+" if number % 10 else "-")
        if number % 4:  # 150 of them
            origin = Origin(source="mine", place=f"mine.jsonl, line {number}", labelled_by="file")
            row = replace(row, origin=origin, category=None)
        rows.append(row)
    write(run.phases[0], rows)
    examples = selected(run, "iteration_1/examples")
    of_mine = Counter(int(example.id[-3:]) % 4 != 0 for example in examples)
    assert of_mine[True] == pytest.approx(2 * of_mine[False], abs=2)
    assert 60 < len(examples) < 3 * 50
    manifest = run.iterations[0].examples.artifact.manifest()
    assert manifest["sources"]["mine"] == {
        "labelled_by": "file", "weight": 2.0, "judged": 150, "kept": 140, "learned": of_mine[True],
    }  # fmt: skip
    assert manifest["funnel"]["instructions_in"] == 200
    shown = "\n".join(str(table) for table in tables(RunSummary.of(run).judges))
    assert re.search(r"M_0 +made +construction +1 +50 ", shown)
    assert re.search(r"mine +file +2 +150 +140 ", shown)
    assert "rest on human labels: 0, 0.0%" in " ".join(shown.split())


@pytest.mark.parametrize(
    "words",
    [
        ["preferences=[{name: made, weight: 50}, {kind: pairs, name: mine, path: FILE}]"],
        ["preferences=[{name: made}, {kind: pairs, name: mine, path: FILE, weight: 0.02}]"],
    ],
)
def test_a_weight_that_leaves_nothing_of_a_source_is_one_line(tmp_path: Path, words: list[str]) -> None:
    mixing(tmp_path)  # writes the file
    run = mixing(tmp_path, *(word.replace("FILE", str(tmp_path / "mine.jsonl")) for word in words))
    origin = Origin(source="mine", place="mine.jsonl, line 1", labelled_by="file")
    rows = [judged(number, "+") for number in range(40)]
    write(run.phases[0], [replace(row, origin=origin) if row.position % 2 else row for row in rows])
    with pytest.raises(PassFailed, match=r"preferences\[mine\] has no example to mix"):
        selected(run, "iteration_1/examples")


def test_paths_are_those_of_the_working_directory_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixing(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = mixing(tmp_path, second="{kind: pairs, name: mine, path: mine.jsonl}")
    monkeypatch.chdir("/")
    assert run.config.preferences[1].path == str(tmp_path / "mine.jsonl")
    assert len(list(rows_into(run.iterations[0].annotation[0]))) == len(
        list(rows_into(mixing(tmp_path).iterations[0].annotation[0]))
    )


def test_preferences_between_judgments_are_mixed_among_the_pairs_that_have_a_wrong_one(tmp_path: Path) -> None:
    run = mixing(tmp_path, "train.objective=dpo", "judge.sampling=first_pair")
    origin = Origin(source="mine", place="mine.jsonl, line 1", labelled_by="file")
    rows = [judged(number, "-+" if number % 3 else "+") for number in range(240)]
    write(run.phases[0], [replace(row, origin=origin) if row.position % 2 else row for row in rows])
    examples = selected(run, "iteration_1/examples")
    assert all(example.rejected is not None for example in examples)
    learned = Counter("mine" if int(example.id[-3:]) % 2 else "made" for example in examples)
    assert learned["mine"] == pytest.approx(2 * learned["made"], abs=2)
    assert learned["made"] > 0
    assert run.iterations[0].examples.artifact.manifest()["sources"]["mine"]["learned"] == learned["mine"]


def test_a_source_without_examples_is_one_line(tmp_path: Path) -> None:
    run = mixing(tmp_path)
    write(run.phases[0], [judged(number, "+") for number in range(40)])
    with pytest.raises(PassFailed, match=r"preferences\[mine\] has no example to mix: 0 of its 0 judged pairs can be learned"):
        selected(run, "iteration_1/examples")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"preferences\[mine\].path=.*holds no rows"),
        ('{"prompt": "q", "chosen": "a", "rejected": "a"}', "none of its rows can be learned"),
        ('{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "q"}', "line 2: no field"),
    ],
)
def test_bad_pairs_are_refused_before_anything_starts(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.jsonl").write_text(content)
    with pytest.raises((SourceError, CheckFailed), match=message):
        check_inputs(mixing(tmp_path).config)


def test_what_measures_the_judges_and_what_is_there_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}')
    with pytest.raises((ConfigError, CheckFailed), match=r"preferences\[mine\].path=.*holds what heldout.path=.* measures"):
        check_inputs(mixing(tmp_path, f"heldout.path={tmp_path}/mine.jsonl").config)
    twice = "{kind: pairs, name: mine, path: FILE}, {kind: pairs, name: more, path: FILE}"
    with pytest.raises((ConfigError, CheckFailed), match=r"preferences\[more\].path=.*preferences\[mine\] has the same data"):
        check_inputs(mixing(tmp_path, second=twice).config)


def test_a_file_that_changes_while_it_is_read_ends_the_pass(tmp_path: Path) -> None:
    run = mixing(tmp_path, "heldout.path=null")
    assert run.pairs is not None
    reading = run.pairs.read_training()
    next(reading)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}')
    with pytest.raises(SourceError, match="was changed while it was read"):
        list(reading)


def test_the_plan_counts_given_pairs_and_leaves_out_what_is_not_made(tmp_path: Path) -> None:
    def planned(*words: str) -> dict[str, float]:
        run = Run(config(tmp_path, *words))
        made = phases(run.config, Assumptions(), assumed_pairs(run.config))
        return {phase.name: phase.tokens_in for phase in made}

    alone = planned("preferences=[{kind: pairs, path: stj/mini/data/dev.jsonl}]")
    both = planned("preferences=[{}, {kind: pairs, path: stj/mini/data/dev.jsonl}]")
    assert "categories" not in alone
    assert "categories" in both
    assert 0 < alone["judgments 1"] < both["judgments 1"]
    assert both["categories"] == planned()["categories"]
    heavy = planned("preferences=[{}, {kind: pairs, path: stj/mini/data/dev.jsonl, weight: 9}]")
    assert heavy["judgments 1"] == both["judgments 1"]
    assert heavy["fine-tuning"] < both["fine-tuning"]  # of nine times as many given pairs, most synthetic ones are left out
