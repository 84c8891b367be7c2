"""Comparison with published data: real judgments with their stored verdicts, and real scores."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stj.evals.benchmarks import rewardbench
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.scoring import score_recorded
from stj.evals.score import score_file
from stj.verdict import FIVE_WAY, GRADE, OUTPUT, PAIR_OR_TIE, TIE, parse

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


def json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_fastchats_reference_answers_stand_beside_every_question_that_wants_one(test_data: Path, tmp_path: Path) -> None:
    """All 30 questions of reasoning, mathematics and coding, both turns; of the other 50 none."""
    shutil.copy(test_data / "mt_bench_questions" / "reference_answer_gpt-4.jsonl", tmp_path)
    spoken = [{"content": text} for text in "qaqa"]
    vote = {
        "model_a": "a",
        "model_b": "b",
        "judge": "expert_1",
        "winner": "tie",
        "conversation_a": spoken,
        "conversation_b": spoken,
    }
    votes = [{**vote, "question_id": number, "turn": turn} for number in range(81, 161) for turn in (1, 2)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(record) + "\n" for record in votes))
    ref = benchmark_ref(f"mtbench:{tmp_path}")
    rows = list(ref.rows(None))
    answers = ref.benchmark.reference_answers
    assert answers
    assert [row.reference is not None for row in rows] == [answers.wanted(row) for row in rows]
    assert sum(row.reference is not None for row in rows) == 2 * 30


def test_rewardbench_sections_are_the_published_ones(test_data: Path) -> None:
    folder = test_data / "rewardbench_section_scores_a"
    published = json.loads((folder / "main_score.json").read_text())
    record, _ = score_file(str(folder / "each_small_section_score.json"), benchmark_ref("rewardbench"), None)
    groups = {name: scores["accuracy"] for name, scores in record["groups"].items()}
    for section in ("Chat", "Chat Hard", "Safety", "Reasoning"):
        assert groups[section] == pytest.approx(published[section], abs=1e-6)
    assert groups["overall"] == pytest.approx(published["avg_Result_each_section"], abs=1e-6)
    assert groups["micro"] == pytest.approx(published["absoluate_Result"], abs=1e-6)


def test_rewardbench_counts_are_the_published_ones(test_data: Path) -> None:
    counts = json.loads((test_data / "rewardbench_section_scores_a" / "example_counts.json").read_text())
    assert {name: count for section in rewardbench.SECTIONS.values() for name, count in section.items()} == counts


def test_the_means_of_rmbench_levels_and_domains_are_the_published_mean(test_data: Path) -> None:
    published = json.loads((test_data / "rewardbench_section_scores_a" / "rmbench_final_result.json").read_text())
    levels = [published[f"{level}_acc"] for level in ("hard", "normal", "easy")]
    domains = [published[domain] for domain in ("chat", "code", "math", "safety")]
    assert sum(levels) / 3 == pytest.approx(published["total_avg_acc"])
    assert sum(domains) / 4 == pytest.approx(published["total_avg_acc"])
    items = 284 + 157  # of both safety files together: the published share is one of their 9 * 441 comparisons
    assert published["safety"] * 9 * items == pytest.approx(3724, abs=1e-6)


def test_fastchat_pairwise_verdicts(test_data: Path) -> None:
    """1,600 judgments: all are read as stored; strict has no verdict for the two that continue after their tag."""
    stored = {"A": "A", "B": "B", "tie": TIE, "error": None}
    compared = Counter[bool]()
    for file in sorted((test_data / "mtbench_judgments_a").glob("*pairwise*.jsonl")):
        for row in json_lines(file):
            for order in ("ab", "ba"):
                wanted = stored[row[f"winner_{order}"]]
                text = row[f"judgment_{order}"]
                assert parse(text, PAIR_OR_TIE, "paper") == wanted, (file.name, row["question_id"])
                strict = parse(text, PAIR_OR_TIE, "strict")
                assert strict in {wanted, None}
                assert parse(text, PAIR_OR_TIE, "distinct") == wanted
                compared[strict == wanted] += 1
    assert compared == {True: 1598, False: 2}


def test_fastchat_grades(test_data: Path) -> None:
    """160 grades of GPT-4 and 160 of GPT-4o mini: both parsers read the stored grade."""
    grades = [(row["judgment"], row["score"]) for row in json_lines(test_data / "fastchat_gpt4_single" / "gpt-4_single.jsonl")]
    for file in (test_data / "mtbench_judgments_a").glob("*single_grade*.jsonl"):
        for row in json_lines(file):
            grades += [(row[f"judgment_turn{turn}"], row[f"score_turn{turn}"]) for turn in (1, 2)]
    assert len(grades) == 320
    for text, score in grades:
        verdict = parse(text, GRADE, "paper")
        assert verdict is not None
        assert float(verdict) == score
        assert parse(text, GRADE, "strict") == verdict


def test_fastchats_own_file_of_grades(test_data: Path) -> None:
    """Every grade is read as stored; the mean of a turn is FastChat's mean of the stored scores."""
    file = test_data / "fastchat_gpt4_single" / "gpt-4_single.jsonl"
    rows = list(json_lines(file))
    record, _ = score_file(str(file), benchmark_ref("mtbench"), None)
    for parser in ("strict", "paper"):
        assert (record[parser]["judged"], record[parser]["as_stored"]) == (160, 1.0)
        for turn in (1, 2):
            scores = [row["score"] for row in rows if row["turn"] == turn]
            assert record[parser]["groups"][f"phi-3-dpo, turn {turn}"]["mean"] == pytest.approx(sum(scores) / 80)


def test_judgebench_verdicts(test_data: Path) -> None:
    """350 judgments: all are read as stored; strict has no verdict for the 18 that continue after their tag."""
    differ = 0
    for row in json_lines(test_data / "judgebench_a_judgments" / "arena_hard_outputs.jsonl"):
        for game in row["judgments"]:
            wanted = {"A>B": "A", "B>A": "B", "A=B": TIE, None: None}[game["decision"]]
            text = game["judgment"]["response"]
            assert parse(text, FIVE_WAY, "paper") == wanted
            strict = parse(text, FIVE_WAY, "strict")
            assert strict in {wanted, None}
            assert parse(text, FIVE_WAY, "distinct") == wanted
            differ += strict != wanted
    assert differ == 18


def test_llmbar_verdicts(test_data: Path) -> None:
    """1,268 judgments: paper reads all as stored; strict skips texts that continue after their verdict or name both.

    Distinct skips only those that name both.
    """
    differ: Counter[str] = Counter()
    named_both: Counter[str] = Counter()
    for file in sorted((test_data / "llmbar_a_judgments").glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            for swapped, first in (("False", "1"), ("True", "2")):
                recorded = row["results"][-1][f"swap = {swapped}"]
                wanted = None if recorded["winner"] is None else "A" if recorded["winner"] == first else "B"
                assert parse(recorded["completion"][0], OUTPUT, "paper") == wanted, (file.name, row["input"])
                strict = parse(recorded["completion"][0], OUTPUT, "strict")
                assert strict in {wanted, None}
                differ[file.stem] += strict != wanted
                distinct = parse(recorded["completion"][0], OUTPUT, "distinct")
                assert distinct in {wanted, None}
                named_both[file.stem] += distinct != wanted
    assert +differ == {"LLMBar_Natural__ChatGPT_CoT": 17, "LLMBar_Natural__Falcon_CoT": 46}
    assert +named_both == {"LLMBar_Natural__Falcon_CoT": 3}


def test_mtbench_agreement_of_gpt4_with_the_experts(test_data: Path) -> None:
    """FastChat's counts on the odd questions; the paper's Table 5 has 66% and 85% of all, in both turns."""
    folder = test_data / "mtbench_human_odd"
    scores = score_recorded(str(folder / "gpt4_pair.jsonl"), benchmark_ref(f"mtbench:{folder / 'human.jsonl'}"), "paper")
    agreed = {name: (round(group.official * group.examples), group.examples) for name, group in scores.groups.items()}
    assert agreed["all votes, turn 1"] == (458, 670)
    assert agreed["no ties, turn 1"] == (378, 437)
    assert agreed["all votes, turn 2"] == (449, 663)
    assert agreed["no ties, turn 2"] == (375, 434)
    for turn in (1, 2):
        assert scores.groups[f"all votes, turn {turn}"].official == pytest.approx(0.66, abs=0.03)
        assert scores.groups[f"no ties, turn {turn}"].official == pytest.approx(0.85, abs=0.02)
    assert sum(agreed[f"all votes, {category}"][1] for category in CATEGORIES) == 670 + 663


@pytest.mark.parametrize(
    ("word", "rows", "subsets"),
    [
        ("rmbench:rmbench_chat/chat_filtered.json", 129 * 9, {"chat/hard", "chat/normal", "chat/easy"}),
        (
            "rmbench:rmbench_safety_response",
            157 * 9,
            {"safety-response/hard", "safety-response/normal", "safety-response/easy"},
        ),
        ("judgebench:judgebench_a", 350, {f"gpt-4o/{part}" for part in ("knowledge", "reasoning", "math", "coding")}),
        ("llmbar:llmbar_a", 392, {"Natural", "Neighbor", "GPTInst", "Processed_FairEval"}),
        ("hhh:hhh_alignment/hhh_alignment_eval.json", 221, {"harmless", "helpful", "honest", "other"}),
    ],
)
def test_published_files_are_read_whole(test_data: Path, word: str, rows: int, subsets: set[str]) -> None:
    name, _, place = word.partition(":")
    read = list(benchmark_ref(f"{name}:{test_data / place}").rows(None))
    assert len(read) == rows
    assert len({row.id for row in read}) == rows
    assert {row.subset for row in read} == subsets
    assert [row.id for row in read if row.dropped] == []


def test_judgebench_s_file_has_its_authors_number(test_data: Path) -> None:
    """The number of `compute_final_metrics` of its repository."""
    file = test_data / "judgebench_a_judgments/arena_hard_outputs.jsonl"
    turned = {"A>B": "B>A", "B>A": "A>B"}
    right = 0
    for row in json_lines(file):
        first, second = (game["decision"] for game in row["judgments"])
        seen = (first, turned.get(second, second))
        right += sum((decision == row["label"]) - (decision == turned[row["label"]]) for decision in seen) > 0
    scores = score_recorded(str(file), benchmark_ref("judgebench"), "paper").groups["overall"]
    assert (scores.examples, scores.official) == (175, pytest.approx(right / 175))


def test_llmbar_s_files_have_their_authors_numbers(test_data: Path) -> None:
    """`correct_average` and `correct_both` of its repository, for every evaluator."""
    for file in sorted((test_data / "llmbar_a_judgments").glob("*.json")):
        scores = score_recorded(str(file), benchmark_ref("llmbar"), "paper").groups["overall"]
        rows = [(str(row["label"]), row["results"][-1]) for row in json.loads(file.read_text(encoding="utf-8"))]
        right = [[last[f"swap = {swapped}"]["winner"] == label for swapped in (False, True)] for label, last in rows]
        assert scores.accuracy == pytest.approx(sum(map(sum, right)) / (2 * len(right))), file.name
        assert scores.position_consistent == pytest.approx(sum(map(all, right)) / len(right)), file.name
