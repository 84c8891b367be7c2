"""The rules of each benchmark on cases by hand, and the recorded judgments that are accepted."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import SourceError
from stj.evals.benchmarks import BENCHMARKS, judgebench, mtbench, ppe_correctness, rewardbench, rmbench
from stj.evals.benchmarks.base import SourceRecord
from stj.evals.benchmarks.recorded import judged_records
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.rewardbench2 import groups as groups2
from stj.evals.benchmarks.rewardbench2 import ties_score
from stj.evals.benchmarks.scoring import BenchmarkScores, score_judged, score_recorded
from stj.evals.metrics import VerdictsByOrder, example_outcome, weighted
from stj.verdict import PARSERS, TIE, Parser

Record = dict[str, Any]


def scored(tmp_path: Path, word: str, *records: Record, parser: Parser = "strict") -> BenchmarkScores:
    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return score_recorded(str(file), benchmark_ref(word), parser)


def both_orders(first: str | None, second: str | None) -> VerdictsByOrder:
    return {"A": [first], "B": [second]}


def test_rewardbench_counts_an_error_one_half() -> None:
    assert [rewardbench.official(both_orders("A", b)) for b in ("B", "A", None)] == [1.0, 0.5, 0.75]


@given(st.lists(st.floats(0, 1), min_size=23, max_size=23))
def test_rewardbench_sections_weigh_math_prm_984(values: list[float]) -> None:
    table = dict(zip(rewardbench.SUBSETS, values, strict=True))
    groups = rewardbench.score_table(table)
    code = sum(table[f"hep-{language}"] * 164 for language in ("cpp", "go", "java", "js", "python", "rust"))
    assert groups["Reasoning"] == pytest.approx((table["math-prm"] * 984 + code) / (984 * 2))
    assert groups["overall"] == pytest.approx(sum(groups[section] for section in rewardbench.SECTIONS) / 4)
    assert set(groups) == {"overall", *rewardbench.SECTIONS, "micro"}


def test_a_section_with_a_missing_subset_is_not_reported() -> None:
    sizes = {"hep-go": 1, **rewardbench.SECTIONS["Chat"]}
    assert set(rewardbench.groups(sizes)) == {"Chat", "micro"}


def test_judgebench_is_right_if_the_sum_of_the_games_is_above_zero() -> None:
    verdicts = [("A", "B"), ("A", TIE), ("A", None), ("A", "A"), (TIE, TIE), ("B", "B"), (None, "A")]
    assert [judgebench.official(both_orders(*pair)) for pair in verdicts] == [1, 1, 1, 0, 0, 0, 0]


def test_no_verdict_in_both_orders_is_no_agreement() -> None:
    pairs = [("A", "B"), ("B", "A"), (None, None), ("A", "A")]
    assert [example_outcome(both_orders(*pair), None).agreed for pair in pairs] == [1, 1, 0, 0]


def test_rmbench_levels_are_the_triangles_of_the_matrix() -> None:
    """A judge that always prefers the fancier style: right if the right answer is fancier, half right on the diagonal."""
    values = {
        f"{domain}/{level}": value for domain in FILES for level, value in (("hard", 0.0), ("normal", 0.5), ("easy", 1.0))
    }
    groups = rmbench.groups(dict.fromkeys(values, 3))
    means = {name: weighted({part: values[part] for part in weights}, weights) for name, weights in groups.items()}
    assert means["overall"] == pytest.approx(0.5)
    assert (means["hard"], means["easy"]) == (0.0, 1.0)
    only_refuse = {f"safety-refuse/{level}": 3 for level in ("hard", "normal", "easy")}
    assert set(rmbench.groups(only_refuse)) == {"safety", "hard", "normal", "easy", "micro"}


def test_ppe_counts_a_vote_in_overall_and_in_each_of_its_cuts(tmp_path: Path) -> None:
    texts = {"judgment_ab": "[[A]]", "judgment_ba": "[[B]]"}
    hard = {**texts, "winner": "model_a", "hard_prompt": True, "language": "English"}
    code = {**texts, "winner": "model_b", "hard_prompt": True, "is_code": True, "language": "Russian"}
    tie = {**texts, "winner": "tie (bothbad)", "hard_prompt": True, "language": "English"}
    plain = {**texts, "winner": "model_a"}
    result = scored(tmp_path, "ppe-human", hard, code, tie, plain)
    assert (result.judged, result.unjudged) == (3, {"human_tie": 1})
    assert {name: (part.examples, part.accuracy) for name, part in result.subsets.items()} == {
        "all pairs": (3, pytest.approx(2 / 3)),
        "hard prompts": (2, 0.5),
        "code": (1, 0.0),
        "English": (1, 1.0),
        "Russian": (1, 0.0),
        "not English": (1, 0.0),
    }
    overall = result.groups["overall"]
    assert (overall.examples, overall.accuracy) == (3, pytest.approx(2 / 3))


def test_a_line_of_stj_judge_is_read_in_the_format_of_a_prompt_from_a_file(tmp_path: Path) -> None:
    votes = [{"shown_first": shown, "text": f"\\boxed{{{verdict}}}"} for shown, verdict in (("A", "A"), ("B", "B"))]
    line = {"id": "a", "winner": "A", "model": "m", "prompt": "file-12345678", "votes": votes, "error": None}
    result = scored(tmp_path, "pairs", {**line, "format": "boxed"})
    assert (result.groups["overall"].accuracy, result.groups["overall"].unparsed) == (1, 0)


def test_ppe_correctness_is_the_mean_of_five_domains_over_prompts() -> None:
    sizes = {"MMLU-Pro": 50, "MATH": 10, "GPQA": 20, "MBPP-Plus": 5, "IFEval": 5}
    groups = ppe_correctness.groups(sizes)
    assert weighted(dict(zip(sizes, (1.0, 0.0, 0.0, 1.0, 0.5), strict=True)), groups["overall"]) == pytest.approx(0.5)
    assert set(ppe_correctness.groups({"MATH": 10})) == {"micro"}
    pairs = [("MATH", "7", "llama/8b", "0"), ("MATH", "7", "gpt", "4")]
    assert [ppe_correctness.question_of_pair(pair) for pair in pairs] == [("MATH", "7")] * 2
    assert ppe_correctness.question_of_pair(("row-00000001",)) is None
    record = SourceRecord("f, line 1", "f", {"domain": "MATH", "question_id": 7, "id": "a/b"})
    assert ppe_correctness.recorded_pair_id(record) == ("MATH", "7", "a/b")
    assert ppe_correctness.recorded_pair_id(record._replace(values={"domain": "MATH", "question_id": 7})) is None


FILES = ("chat", "code", "math", "safety-refuse", "safety-response")


def test_the_items_of_both_safety_files_of_rmbench_are_one_domain() -> None:
    """As in the authors' code, which adds the matrices of all items whose domain begins with "safety"."""
    sizes = {f"{file}/{level}": size for file, size in zip(FILES, (9, 9, 9, 900, 100), strict=True) for level in LEVELS}
    values = {part: float(part.startswith("safety-refuse")) for part in sizes}
    weights = rmbench.groups(sizes)
    means = {name: weighted({part: values[part] for part in weights[name]}, weights[name]) for name in weights}
    assert means["safety"] == pytest.approx(0.9)
    assert [means[name] for name in ("overall", *LEVELS)] == pytest.approx([0.225] * 4)


LEVELS = ("hard", "normal", "easy")


@pytest.mark.parametrize(
    ("reference", "tied", "good", "wanted"),
    [
        ([9, 2], [9, 8, 2], 2, 1.0 + 0.01 * math.tanh(6 / 1 - 1)),
        ([9, 2], [9, 9, 2], 2, 1.0 + 0.01),  # no spread: the limit of tanh
        ([2, 9], [9, 8, 2], 2, 0.5 + 0.01 * math.tanh(-7 / 1 - 1)),  # the reference is wrong, and the smaller gap
        ([5, 5], [5, 5, 5], 2, 0.0),  # 0 / 0 counts nothing
        ([9, 2], [9, 3, 2], 2, 0.6 + 0.01 * math.tanh(1 / 6 - 1)),
    ],
)
def test_the_ties_formula(reference: list[float], tied: list[float], good: int, wanted: float) -> None:
    assert ties_score(reference, 1, tied, good) == pytest.approx(wanted)


@given(*[st.lists(st.integers(1, 10).map(float), min_size=2, max_size=8)] * 2)
def test_the_ties_score_is_between_its_ends(reference: list[float], tied: list[float]) -> None:
    assert -0.011 <= ties_score(reference, 1, tied, len(tied) // 2) <= 1.011


def test_rewardbench2_is_the_mean_of_six() -> None:
    sizes = dict(
        zip(("Factuality", "Focus", "Math", "Precise IF", "Safety", "Ties"), (475, 495, 183, 160, 450, 51), strict=True)
    )
    assert set(groups2(sizes)["overall"].values()) == {1.0}
    assert groups2({"Math": 1}) == {}


def test_four_answers_in_four_places(tmp_path: Path) -> None:
    texts = {"A": "[[A]]", "B": "[[B]]", "C": "[[A]]", "D": "what?"}
    scores = scored(tmp_path, "rewardbench2", {"id": "1", "subset": "Math", "judgments": texts}).subsets["Math"]
    assert scores.by_order == (1.0, 1.0, 0.0, 0.0)
    assert (scores.accuracy, scores.position_consistent, scores.unparsed, scores.always_a) == (0.5, 0.0, 0.25, 0.25)
    assert scores.official == (1 + 1 + 0 + 0.25) / 4


def test_ratings_share_the_top(tmp_path: Path) -> None:
    rows: list[Record] = [
        {"id": "1", "subset": "Math", "ratings": ["9", "9", "1", "2"]},
        {"id": "2", "subset": "Math", "ratings": [8, 9, 1, 1]},
        {"id": "3", "subset": "Math", "ratings": ["no", "", "<think>10", "10</think>"]},
        {"id": "ref:0", "subset": "Ties", "ratings": [9, 2]},
        {"id": "tied:0", "subset": "Ties", "ratings": [9, 8, 2], "num_correct": 2},
        {"id": "ref:1", "subset": "Ties", "ratings": [9, 2]},
    ]
    scores = scored(tmp_path, "rewardbench2-ratings", *rows)
    assert scores.subsets["Math"].accuracy == pytest.approx(0.5 / 3)
    assert scores.subsets["Math"].official == pytest.approx(0.75 / 3)
    assert scores.subsets["Math"].always_a is None
    assert scores.subsets["Ties"].examples == 1
    assert scores.subsets["Ties"].accuracy == pytest.approx(1.0, abs=0.011)
    assert scores.unjudged == {"unpaired": 1}


PAIR = {"id": "a", "winner": "B", "judgment_ab": "B is right. [[B]]", "judgment_ba": "A is right. [[A]]"}
UNJUDGED = {"id": "a", "winner": "B"}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("record", "first", "second"),
    [
        (PAIR, 1.0, 1.0),
        ({**PAIR, "winner": "A"}, 0.0, 0.0),
        ({**PAIR, "winner": "model_b", "judgment_ba": "[[B]]"}, 0.0, 1.0),
        ({**PAIR, "judgment_ab": ""}, 1.0, 0.0),
        ({**PAIR, "judgment_ab": ["[[B]]", None, ""]}, 1.0, 1.0),
        ({**PAIR, "judgment_ab": ["[[B]]", "[[A]]", "[[B]]"]}, 1.0, 1.0),
        ({"id": "a", "chosen": "4", "rejected": "5", "judgment_ab": "[[A]]", "judgment_ba": "[[A]]"}, 1.0, 0.0),
        ({"id": 1, "label": "B>A", "g1_judgment": "[[B]]", "g2_judgment": "[[A]]"}, 1.0, 1.0),
        ({**PAIR, "judgment_ab": "<think>\n[[A]]?\n</think>\n\n[[B]]", "judgment_ba": "[[B]]?</think>[[A]]"}, 1.0, 1.0),
        ({**PAIR, "judgment_ab": "<think>\nIt is [[B]]", "judgment_ba": "<think>[[A]]</think>"}, 0.0, 0.0),
    ],
)
def test_recorded_pairs(record: Record, first: float, second: float, parser: Parser, tmp_path: Path) -> None:
    """A thought is not read, whatever it says; one that is not closed gives no verdict."""
    scores = scored(tmp_path, "pairs", record, parser=parser).groups["overall"]
    assert scores.by_order == (first, second)


@pytest.mark.parametrize("label", [{"label": "A"}, {"winner": "B"}, {}])
@pytest.mark.parametrize("names", [("response_a", "response_b"), ("chosen", "rejected")])
def test_equal_answers_are_neither_judged_nor_scored(names: tuple[str, str], label: Record, tmp_path: Path) -> None:
    """What `stj eval` does not judge, `stj score` does not count: else two judges have scores on different pairs."""
    asked = {"instruction": "2 + 2?", "judgment_ab": "[[A]]", "judgment_ba": "[[A]]"}
    same = {**asked, **dict.fromkeys(names, "four"), **label, "id": 1}
    other = {**asked, names[0]: "four", names[1]: "five", "label": "A", "id": 2}
    scores = scored(tmp_path, "pairs", same, other)
    assert (scores.judged, scores.unjudged) == (1, {"same_answers": 1})
    assert scores.groups["overall"].by_order == (1.0, 0.0)
    rows = benchmark_ref(f"pairs:{tmp_path / 'recorded.jsonl'}").rows(None)
    assert [row.dropped for row in rows] == ["same_answers", None]


@pytest.mark.parametrize("label", [{"label": "both"}, {"label": "A", "chosen": "four", "rejected": "five"}])
def test_equal_answers_with_a_label_that_nobody_can_read_are_refused(label: Record, tmp_path: Path) -> None:
    row = {"instruction": "2 + 2?", "response_a": "four", "response_b": "four", "judgment_ab": "[[A]]", **label}
    with pytest.raises(SourceError, match="line 1: field"):
        scored(tmp_path, "pairs", row)
    with pytest.raises(SourceError, match="line 1: field"):
        list(benchmark_ref(f"pairs:{tmp_path / 'recorded.jsonl'}").rows(None))


def test_one_order_alone_is_scored_as_one(tmp_path: Path) -> None:
    """As RewardBench judges officially, each pair in a random order; an empty text has no verdict."""
    first, second = {"judgment_ab": "[[A]]"}, {"judgment_ba": "[[A]]"}
    rows = [{"id": i, "subset": "math-prm", **texts} for i, texts in enumerate((first, first, second, {"judgment_ba": ""}))]
    scores = scored(tmp_path, "rewardbench", *rows).subsets["math-prm"]
    assert (scores.accuracy, scores.by_order, scores.unparsed, scores.always_a) == (0.5, (1.0, 0.0), 0.25, 0.5)
    assert (scores.position_consistent, scores.agreement) == (None, None)
    assert scores.official == (1 + 1 + 0 + 0.5) / 4
    both = scored(tmp_path, "rewardbench", {**rows[0], **second}).subsets["math-prm"]
    assert (both.by_order, both.position_consistent) == ((1.0, 0.0), 0.0)
    only_second = scored(tmp_path, "rewardbench", rows[2]).subsets["math-prm"]
    assert only_second.by_order == (None, 0.0)


GAMES = {"source": "livecodebench", "label": "A>B", "response_model": "gpt-4o-2024-05-13"}


def test_judgebench_has_the_pairs_of_both_models_beside_each_other(tmp_path: Path) -> None:
    right, wrong = (
        [{"judgment": {"response": f"[[{both_orders}]]"}}] for both_orders in ("A>B", "B>A")
    )  # one game, as with --single_game
    rows = [
        {**GAMES, "pair_id": "1", "judgments": right},
        {**GAMES, "pair_id": "2", "judgments": wrong},
        {**GAMES, "pair_id": "3", "judgments": right, "response_model": "claude-3-5-sonnet-20240620", "source": "mmlu-pro-law"},
    ]
    groups = scored(tmp_path, "judgebench", *rows).groups
    assert {name: group.official for name, group in groups.items()} == pytest.approx(
        {"overall": 2 / 3, "gpt-4o": 0.5, "claude": 1.0, "coding": 0.5, "knowledge": 1.0}
    )


def test_rmbenchs_recorded_comparisons_of_an_item_are_a_cluster(tmp_path: Path) -> None:
    rows = [
        {"id": item, "domain": "chat", "styles": [right, wrong], "judgment_ab": f"[[{'AB'[item]}]]"}
        for item in (0, 1)
        for right in range(3)
        for wrong in range(3)
    ]
    scores = scored(tmp_path, "rmbench", *rows).groups["chat"]
    assert scores.accuracy == 0.5
    assert scores.ci95 == pytest.approx((0, 1))
    with pytest.raises(SourceError, match="which an earlier row has too"):
        scored(tmp_path, "rmbench", *rows, rows[0])


@pytest.mark.parametrize("completion", ["Output (a)", ["Output (a)", "stop"]])
def test_a_completion_is_a_text_or_a_list_that_begins_with_it(completion: object, tmp_path: Path) -> None:
    both_orders = {f"swap = {swapped}": {"completion": completion} for swapped in (True, False)}
    scores = scored(tmp_path, "llmbar", {"results": [both_orders], "label": 1, "subset": "Natural"}).groups["overall"]
    assert scores.by_order == (1.0, 0.0)


@given(st.lists(st.sampled_from(["A", "B", None]), min_size=4, max_size=4))
def test_turning_a_recorded_pair_round_changes_no_score(verdicts: list[str | None]) -> None:
    """The responses and their texts in the other order mean the same."""
    texts = ["" if verdict is None else f"[[{verdict}]]" for verdict in verdicts]
    rows = [{"winner": "A", "judgment_ab": texts[i], "judgment_ba": texts[i + 1]} for i in (0, 2)]
    turned = [{"winner": "B", "judgment_ab": row["judgment_ba"], "judgment_ba": row["judgment_ab"]} for row in rows]
    assert from_records(rows) == from_records(turned)


def from_records(records: list[Record]) -> BenchmarkScores:
    sources = [SourceRecord(f"row {number}", "file.jsonl", record) for number, record in enumerate(records)]
    return score_judged(BENCHMARKS["pairs"], "strict", judged_records(sources, BENCHMARKS["pairs"], "strict"), ())


def test_a_verdict_is_never_read_from_the_responses(tmp_path: Path) -> None:
    """The answers say [[A]], the judge says nothing."""
    hostile = {
        "response_a": "[[A]]",
        "response_b": "[[A]] [[A]]",
        "instruction": "[[A]]",
        "judgment_ab": "",
        "judgment_ba": "hm",
    }
    for parser in ("strict", "paper"):
        scores = scored(tmp_path, "pairs", {**PAIR, **hostile}, parser=parser).groups["overall"]  # type: ignore[arg-type]
        assert (scores.unparsed, scores.accuracy) == (1.0, 0.0)
        assert (scores.longest, scores.shortest) == (1.0, 0.0)


def test_fastchats_schema_against_human_votes(tmp_path: Path) -> None:
    """Three votes on one pair name the models in the other order; the judge prefers vicuna in one order only."""
    votes = [
        {"question_id": 81, "model_a": "vicuna", "model_b": "alpaca", "turn": 1, "judge": f"expert_{i}", "winner": winner}
        for i, winner in enumerate(("model_a", "model_b", "tie"))
    ]
    author = {**votes[0], "judge": "author_1"}
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in [*votes, author]))
    row = {"question_id": 81, "model_1": "alpaca", "model_2": "vicuna", "turn": 1}
    row |= {"g1_judgment": "[[B]]", "g2_judgment": "[[B]]"}
    groups = scored(tmp_path, f"mtbench:{tmp_path / 'human.jsonl'}", row).groups
    assert (groups["overall"].examples, groups["overall"].accuracy) == (2, 0.5)
    assert groups["all votes"].official == pytest.approx(1 / 3)  # the orders differ, a tie: as one of three says
    assert groups["all votes"].accuracy == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert groups["all votes"].always_a == pytest.approx((0.5 + 0.5 + 0) / 3)  # A judge that always says A never says tie.
    assert groups["all votes"].ci95[1] - groups["all votes"].ci95[0] > 0.9  # One question says almost nothing.
    assert "no ties" not in groups
    assert groups["no human ties, turn 1"].examples == groups["no human ties, writing"].examples == 2


def test_votes_without_experts_are_refused(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_1": "b", "model_2": "a", "turn": 2, "g1_judgment": "[[B]]", "g2_judgment": "[[A]]"}
    vote = {"question_id": 81, "model_a": "a", "model_b": "b", "turn": 2, "judge": "author_1", "winner": "model_a"}
    (tmp_path / "human.jsonl").write_text(json.dumps(vote))
    with pytest.raises(SourceError, match="holds no vote of an expert"):
        scored(tmp_path, f"mtbench:{tmp_path / 'human.jsonl'}", row)
    (tmp_path / "human.jsonl").write_text(json.dumps({**vote, "judge": "expert_1"}))
    others = scored(tmp_path, f"mtbench:{tmp_path / 'human.jsonl'}", row, {**row, "turn": 1})
    assert (others.judged, others.unjudged) == (2, {"no votes": 1})


def test_without_human_votes_the_orders_are_still_compared(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_1": "b", "model_2": "a", "turn": 2, "g1_judgment": "[[B]]", "g2_judgment": "[[A]]"}
    groups = scored(tmp_path, "mtbench", row).groups
    assert groups[mtbench.WITHOUT_VOTES].position_consistent == 1.0
    assert "overall" not in groups


@pytest.mark.parametrize(
    ("word", "records", "message"),
    [
        ("pairs", [], "holds no recorded judgments"),
        ("pairs", [PAIR, PAIR], "which an earlier row has too"),
        ("pairs", [{**PAIR, "winner": "tie"}], "human_tie 1"),
        ("pairs", [{"id": "a", "winner": "A"}], "no judgments: give 'judgment_ab'"),
        ("pairs", [{"id": "a", "judgment_ab": "x", "judgment_ba": "x"}], "no field 'winner'"),
        ("pairs", [{**PAIR, "id": ["a"]}], "field 'id' is list ['a']; it must be a string or a whole number"),
        ("pairs", [{**PAIR, "id": True}], "field 'id' is bool True"),
        ("pairs", [{**PAIR, "turn": 1}, {**PAIR, "turn": 2}], "which an earlier row has too"),
        ("pairs", [{**PAIR, "id": "a\nb\x1b[31m"}] * 2, "'all/a\\nb\\x1b[31m', which an earlier row has too"),
        ("pairs", [{**PAIR, "winner": "Katie"}], "field 'winner' is str 'Katie'"),
        ("llmbar", [{**PAIR, "subset": 3}], "field 'subset' is int 3; it must be a string"),
        ("rmbench", [{**PAIR, "domain": "chat", "styles": [True, False]}], "a list of two numbers from 0 to 2"),
        ("judgebench", [{**GAMES, "judgments": []}], "not in its benchmark's schema"),
        ("judgebench", [{**GAMES, "judgments": [None] * 3}], "not in its benchmark's schema"),
        ("rewardbench2", [{"subset": "Math", "ratings": [9, 10**400]}], "a list of texts, or numbers from 1 to 10"),
        ("rewardbench2", [{"subset": "Math", "ratings": [9, 11]}], "a list of texts, or numbers from 1 to 10"),
        ("rewardbench2", [{"subset": "Math", "ratings": [9, True]}], "a list of texts, or numbers from 1 to 10"),
        ("rewardbench2", [{"subset": "Math", "ratings": [9, float("nan")]}], "a list of texts, or numbers from 1 to 10"),
        (
            "mtbench",
            [{"question_id": "9" * 5_000, "model_1": "a", "model_2": "b", "turn": 1}],
            "field 'question_id' is str '999",
        ),
        ("pairs", [{**PAIR, "judgment_ab": 3}], "field 'judgment_ab' is int 3; it must be the judge's text"),
        (
            "judgebench",
            [{"source": "livecodebench", "label": "A>B", "judgments": [{"text": 1}]}],
            "not in its benchmark's schema",
        ),
        ("rewardbench", [PAIR], "no field 'subset'"),
        ("rewardbench", [{**PAIR, "subset": "math-prm", "winner": "tie"}], "'winner' is the judge's word, leave it out"),
        ("rewardbench2", [{"subset": "Math", "judgments": {"E": "x"}}], "an object from A, B, C and D to texts"),
        ("rewardbench2", [{"subset": "Math", "ratings": "9"}], "a list of texts, or numbers from 1 to 10"),
        ("rewardbench2", [{"subset": "Ties", "id": "ref:0", "ratings": [9, 1]}], "none of 1 judged examples can be scored"),
        ("rewardbench2", [{"subset": "Ties", "id": "ref:0", "judgments": {"A": "[[A]]"}}], "Ties are rated"),
        ("rewardbench2", [{"subset": "Ties", "id": "tied:0", "ratings": [9, 8, 1]}], "no field 'num_correct'"),
        ("rewardbench2", [{"subset": "Ties", "id": "ref:0", "ratings": [9, 1], "num_correct": 0}], "num_correct' is int 0"),
        ("pairs", [{**UNJUDGED, "results": 1}], "LLMBar's list of completions or ratings: it begins with 1"),
        ("pairs", [{**UNJUDGED, "results": 0}], "LLMBar's list of completions or ratings: it begins with 0"),
        ("rewardbench2", [{"subset": "Ties", "id": "7", "ratings": [9, 1]}], "the id of a row of Ties is ref:N, or tied:N"),
        ("rewardbench2", [{"subset": "Math", "id": "1", "judgment_ab": "[[A]]"}], "no field 'judgments'"),
        ("mtbench", [{"question_id": 81, "model_1": "a", "turn": 1}], "no field 'model_2'"),
        ("mtbench", [{"question_id": 81, "model_1": "a", "model_2": "b", "turn": 1}], "no judgments"),
    ],
)
def test_one_clear_line_for_each_bad_recording(word: str, records: list[Record], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        scored(tmp_path, word, *records)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(*[st.sampled_from(["A", "B", None])] * 2), min_size=1, max_size=9))
def test_more_right_verdicts_never_score_less(verdicts: list[tuple[str | None, str | None]]) -> None:
    """Accuracy, consistency and the official rules rise as one verdict after the other becomes right."""
    steps = []
    for first, second in verdicts:
        steps.append([example_outcome(both_orders(*pair), None) for pair in ((first, second), ("A", second), ("A", "B"))])
    for chain in steps:
        for before, after in pairwise(chain):
            assert before.accuracy <= after.accuracy
            assert before.consistent <= after.consistent
    for first, second in verdicts:
        for rule in (rewardbench.official, judgebench.official):
            assert rule(both_orders(first, second)) <= rule(both_orders("A", "B")) == 1
