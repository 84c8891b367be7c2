"""Training pairs of several sources: how they come into a run, and how they are mixed. No engine: the rows are scripted."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import from_plain
from stj.errors import CheckFailed, ConfigError, PassFailed, SourceError
from stj.loop.inputs import check_inputs, input_findings
from stj.loop.mixing import MixedBalance
from stj.loop.phases import Run
from stj.loop.report import html
from stj.loop.report_tables import tables
from stj.loop.summary import RunSummary
from stj.pair_mixing import Mixing, mixed_sources
from stj.pair_sources import PairSource
from stj.plan.assumptions import Assumptions
from stj.plan.cost import assumed_pairs, phases
from stj.rows import Example, Origin, Pair, Row
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


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(LABELS)), max_size=150),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_repeats_give_each_source_its_share_and_are_spread_evenly(
    drawn: list[tuple[str, Label]], weights: list[float], rng: random.Random
) -> None:
    sources = [PairSource(kind="gsm8k", name=name, weight=weight) for name, weight in zip(NAMES, weights, strict=True)]
    drawn += product(NAMES, LABELS)  # a source without examples is refused
    rows = [(given_row(number, name), label) for number, (name, label) in enumerate(drawn)]
    have = {name: min(Counter(label for own, label in drawn if own == name)[label] for label in LABELS) for name in NAMES}

    def times() -> Counter[tuple[str, str, Label]]:
        balance = MixedBalance(0, sources, "up")
        for row, label in rows:
            balance.add(row, label)
        balance.settle()
        balance.mix()
        counted = Counter({(row.id.split("/")[1], row.id, label): balance.times(row, label) for row, label in rows})
        assert counted.total() == 2 * balance.size
        assert {name: balance.most_times_of(name) for name in NAMES} == {
            name: max(count for (own, *_), count in counted.items() if own == name) for name in NAMES
        }
        return counted

    counted = times()
    unit = max(have[source.name] / source.weight for source in sources)
    for source in sources:
        for label in LABELS:
            counts = [count for (name, _, own), count in counted.items() if (name, own) == (source.name, label) and count]
            assert len(counts) == min(have[source.name], sum(counts))
            assert max(counts, default=0) - min(counts, default=0) <= 1
            assert abs(sum(counts) - unit * source.weight) <= 0.5 + 1e-6
    rng.shuffle(rows)
    assert times() == counted


@given(
    st.lists(st.integers(1, 60), min_size=3, max_size=3),
    st.floats(0.01, 0.95),
    st.sampled_from(["down", "up"]),
    st.floats(0.1, 1),
)
def test_topping_up_gives_at_least_the_share_and_little_more(
    have: list[int], wanted: float, mixing: Mixing, part: float
) -> None:
    sources = [PairSource(kind="synthetic", name="one"), PairSource(kind="helpsteer2", name="two", weight=0.3)]
    sources.append(PairSource(kind="hh_rlhf", name="three", weight=0.2))
    mixed = mixed_sources(sources, wanted, "top_up", None)
    topped_up = mixed != sources
    assert topped_up == (wanted > 1 / 3 + 1e-9)
    balance = MixedBalance(0, mixed, mixing, for_humans=topped_up)
    for source, count in zip(sources, have, strict=True):
        for number in range(2 * count):
            origin = Origin(source=source.name, place="", labelled_by=source.labelled_by)
            balance.add(make_row(number, id=f"{source.name}/{number}", origin=origin), LABELS[number % 2])
    balance.settle()
    balance.mix()
    for most in (balance.size, round(part * balance.size)):  # the second is what `examples.labelled_share` leaves
        balance.limit(most)
        humans = balance.size_of("two") + balance.size_of("three")
        assert balance.size <= most
        if topped_up:
            assert humans >= wanted * balance.size - 1e-6
        if topped_up and mixing == "down":
            assert all(balance.size_of(source.name) == balance.distinct_of(source.name) for source in sources)


def test_topping_up_raises_the_weights_of_human_labels_by_as_little_as_is_enough() -> None:
    sources = [PairSource(weight=6), PairSource(kind="helpsteer2", weight=3), PairSource(kind="hh_rlhf", weight=1)]
    weights = [source.weight for source in mixed_sources(sources, 0.6, "top_up", None)]
    assert weights == pytest.approx([6, 6.75, 2.25])
    assert mixed_sources(sources, 0.4, "top_up", None) == sources
    with_labelled = [source.weight for source in mixed_sources(sources, 0.4, "top_up", 0.5)]
    assert sum(with_labelled[1:]) / sum(with_labelled) == pytest.approx(0.8)
    with pytest.raises(
        ConfigError, match=r"human_share=0.5: .* 0.4 of the examples .* set examples.human_share_rule=top_up, or"
    ):
        mixed_sources(sources, 0.5, "refuse", None)
    with pytest.raises(ConfigError, match=r"no weights give so many: leave out what humans did not label"):
        mixed_sources(sources, 1, "top_up", None)
    with pytest.raises(ConfigError, match=r"human_share=0.1: .* 0 of the examples rest on human labels: raise the weights"):
        mixed_sources(sources[:1], 0.1, "top_up", None)


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


def test_categories_of_a_given_source_are_asked_of_the_generator_where_the_pairs_are_made(tmp_path: Path) -> None:
    whole = mixing(tmp_path)
    part = mixing(tmp_path, second="{kind: pairs, name: mine, path: FILE, categories: [Other, Coding]}")
    again = mixing(tmp_path, second="{kind: pairs, name: mine, path: FILE, categories: [Coding, Other]}")
    changed = differences(key_of(whole, "pairs"), key_of(part, "pairs"))
    assert len(changed) == 1
    assert key_of(part, "pairs") == key_of(again, "pairs")

    def asked(run: Run, name: str) -> list[str]:
        phase = next(phase for phase in run.passes if phase.name == name)
        return [stage.func.__name__ for stage in phase.stages(None)["training/mine"]]  # type: ignore[attr-defined]

    assert "keep_categories" not in asked(whole, "pairs")
    assert asked(part, "pairs") == ["keep_categories", "judge"]
    alone = "preferences=[{kind: pairs, path: stj/mini/data/dev.jsonl%s}]"
    assert not config(tmp_path, alone % "").generates
    assert config(tmp_path, alone % ", categories: [Coding]").generates


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
        "repeated": 0, "most_times": 1, "own_weight": None,
    }  # fmt: skip
    assert manifest["funnel"]["instructions_in"] == 200
    shown = "\n".join(str(table) for table in tables(RunSummary.of(run).judges))
    assert re.search(r"M_0 +made +construction +1 +50 ", shown)
    assert re.search(r"mine +file +2 +150 +140 ", shown)
    assert "rest on human labels: 0, 0.0%" in " ".join(shown.split())


def two_sources(run: Run, *outcomes: str) -> None:
    """Writes judged pairs with these outcomes in turn, every fourth of which is of the source `mine`."""
    origin = Origin(source="mine", place="mine.jsonl, line 1", labelled_by="human")
    rows = [judged(number, outcomes[number // 4 % len(outcomes)] if number % 10 else "-") for number in range(240)]
    write(run.phases[0], [row if row.position % 4 else replace(row, origin=origin, category=None) for row in rows])


def of_mine(example: Example) -> bool:
    return int(example.id[-3:]) % 4 == 0


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_examples_of_a_small_source_are_repeated_under_ids_of_their_own(tmp_path: Path, objective: str) -> None:
    run = mixing(tmp_path, "examples.mixing=up", f"train.objective={objective}", "judge.sampling=all")
    two_sources(run, "+-+")
    examples = selected(run, "iteration_1/examples")
    assert len({example.id for example in examples}) == len(examples)
    made, mine = (Counter(example.winner for example in examples if of_mine(example) == own) for own in (False, True))
    assert made["A"] == made["B"] == pytest.approx(mine["A"] / 2, abs=1)
    assert mine["A"] == mine["B"]
    repeats = [example for example in examples if example.id.startswith("repeat/")]
    by_id = {example.id: example for example in examples}
    assert all(of_mine(example) and re.match(r"repeat/\d+/row-\d{3}$", example.id) for example in repeats)
    assert all(replace(example, id=example.id[-7:]) == by_id[example.id[-7:]] for example in repeats)
    counts = run.iterations[0].examples.artifact.manifest()["sources"]["mine"]
    most = max(int(example.id.split("/")[1]) for example in repeats)
    assert (counts["learned"], counts["repeated"], counts["most_times"]) == (mine.total(), len(repeats), most)
    shown = " ".join("\n".join(str(table) for table in tables(RunSummary.of(run).judges)).split())
    assert f"mine: {len(repeats)} of its {mine.total()} examples are repeats; each is learned at most {most} times" in shown


def test_a_repeat_draws_its_own_kind_and_keeps_its_place_in_the_curriculum(tmp_path: Path) -> None:
    curriculum = "select.disagreement={order: easy_first}"
    run = mixing(tmp_path, "examples.mixing=up", "examples.verdicts=0.5", "judge.sampling=all", curriculum)
    two_sources(run, "+-+", "+--")
    examples = selected(run, "iteration_1/examples")
    kinds = Counter(example.kind for example in examples)
    assert kinds["verdict"] == pytest.approx(len(examples) / 2, abs=2)
    by_pair: dict[str, set[str]] = {}
    for example in examples:
        by_pair.setdefault(example.id[-7:], set()).add(example.kind)
    assert any(len(each) == 2 for each in by_pair.values())
    difficulties = {example.id: example.difficulty for example in examples}
    assert len(set(difficulties.values())) == 2
    assert all(difficulty == difficulties[row_id[-7:]] for row_id, difficulty in difficulties.items())


def test_weights_that_repeat_an_example_hundreds_of_times_end_the_run_in_one_line(tmp_path: Path) -> None:
    run = mixing(tmp_path, "examples.mixing=up", second="{kind: pairs, name: mine, weight: 1000, path: FILE}")
    two_sources(run, "+")
    with pytest.raises(PassFailed, match=r"an example of preferences\[mine\] would be learned 3,\d+ times by the weights"):
        selected(run, "iteration_1/examples")


def test_a_share_of_human_labels_holds_among_pairs_without_clues(tmp_path: Path) -> None:
    second = "{kind: pairs, name: mine, weight: 0.1, path: FILE, human: true}"
    asked = ("examples.human_share=0.37", "examples.human_share_rule=top_up", "curate.balance=[length]")
    run = mixing(tmp_path, *asked, second=second)
    origin = Origin(source="mine", place="mine.jsonl, line 1", labelled_by="human")
    answers = [Pair(method="given", chosen="long " * (1 + number // 8 % 2), rejected="long " * 2) for number in range(240)]
    answers = [
        pair if number // 16 % 2 else replace(pair, chosen=f"{pair.rejected} and") for number, pair in enumerate(answers)
    ]
    rows = [replace(judged(number, "+"), pair=pair) for number, pair in enumerate(answers)]
    write(run.phases[0], [row if row.position % 4 else replace(row, origin=origin, category=None) for row in rows])
    examples = selected(run, "iteration_1/examples")
    assert run.iterations[0].examples.artifact.manifest()["balanced"]["kept"] == len(examples) > 50
    assert 0.37 <= sum(map(of_mine, examples)) / len(examples) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("mixed", ["down", "up"])
def test_a_share_of_human_labels_is_topped_up_and_reported(tmp_path: Path, mixed: str) -> None:
    second = "{kind: pairs, name: mine, weight: 0.1, path: FILE, human: true}"
    asked = ("examples.human_share=0.6", "examples.human_share_rule=top_up", f"examples.mixing={mixed}")
    run = mixing(tmp_path, *asked, second=second)
    found = {finding.subject: finding.words for finding in input_findings(run.config, hub=False)}
    assert found["preferences[mine]"] == "60 pairs; examples.human_share raises its weight from 0.1 to 1.5"
    two_sources(run, "+")
    examples = selected(run, "iteration_1/examples")
    mine = sum(map(of_mine, examples))
    assert 0.6 <= mine / len(examples) < 0.62
    repeated = sum(example.id.startswith("repeat/") for example in examples)
    counts = run.iterations[0].examples.artifact.manifest()["sources"]["mine"]
    assert (counts["own_weight"], counts["weight"], counts["repeated"]) == (0.1, pytest.approx(1.5), repeated)
    assert (repeated > 0) == (mixed == "up")
    shown = " ".join("\n".join(str(table) for table in tables(RunSummary.of(run).judges)).split())
    assert "mine: examples.human_share raised its weight from 0.1 to 1.5" in shown
    page = html({}, RunSummary.of(run).judges)
    assert "mine: examples.human_share raised its weight from 0.1 to 1.5" in page
    assert (f"{repeated:,} of its {mine:,} examples are repeats" in page) == (mixed == "up")
    assert f"rest on human labels: {mine}, 60" in shown


def test_only_a_run_that_repeats_or_tops_up_has_another_key_of_its_examples(tmp_path: Path) -> None:
    human = "{kind: pairs, name: mine, path: FILE, human: true}"
    plain_run, up = mixing(tmp_path, second=human), mixing(tmp_path, "examples.mixing=up", second=human)
    enough = mixing(tmp_path, "examples.human_share=0.5", "examples.human_share_rule=top_up", second=human)
    topped_up = mixing(tmp_path, "examples.human_share=0.6", "examples.human_share_rule=top_up", second=human)
    name = "iteration_1/examples"
    assert not {"mixing", "human_share"} & key_of(plain_run, name).keys()
    assert key_of(enough, name) == key_of(plain_run, name)
    for changed in (up, topped_up):
        assert differences(key_of(plain_run, name), key_of(changed, name))
        assert not differences(key_of(plain_run, "pairs"), key_of(changed, "pairs"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("preferences=[]",), "examples.mixing=up: nothing is mixed"),
        (("train.objective=sft_then_dpo", "judge.sampling=first_pair"), "examples.mixing=up: train.objective=sft_then_dpo"),
        (("curate.balance=[length]",), "examples.mixing=up: repeats would bring back the clues"),
        (("examples.mixing=sideways",), "examples.mixing=sideways: must be"),
        (("examples.human_share_rule=top_up",), "human_share_rule=top_up: no share is asked for"),
    ],
)
def test_repeats_that_another_setting_excludes_are_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixing(tmp_path, "examples.mixing=up", *words)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"preferences\[mine\].path=.*holds no rows"),
        ('{"prompt": "q", "chosen": "a", "rejected": "a"}', r"none of its 1 rows can be learned \(1 same_answers\)"),
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


@pytest.mark.slow
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
    filtered = planned("preferences=[{kind: pairs, path: stj/mini/data/dev.jsonl, categories: [Coding]}]")
    assert filtered.pop("categories") > 0
    assert filtered == alone
    heavy = planned("preferences=[{}, {kind: pairs, path: stj/mini/data/dev.jsonl, weight: 9}]")
    assert heavy["judgments 1"] == both["judgments 1"]
    assert heavy["fine-tuning"] < both["fine-tuning"]  # of nine times as many given pairs, most synthetic ones are left out
