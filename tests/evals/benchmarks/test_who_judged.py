"""Whose verdicts a file holds: one judge's, in orders that are known or not, on models that are named."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj.cli import main
from stj.errors import SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.scoring import score_recorded

Record = dict[str, Any]
PAIR: Record = {"label": "A", "judgment_ab": "[[A]]", "judgment_ba": "[[B]]"}


def write(file: Path, *rows: Record) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"judge": "gpt-4"}, {"judge": "claude"}),
        ({"judge": ["gpt-4", "pair-v2"]}, {"judge": ["gpt-5", "pair-v2"]}),
        ({"judge_model": "a"}, {"judge_model": "b"}),
        ({"votes": [], "model": "a"}, {"votes": [], "model": "b"}),
    ],
)
def test_the_judgments_of_several_judges_are_not_pooled(first: Record, second: Record, tmp_path: Path) -> None:
    write(tmp_path / "rows/1.jsonl", {**PAIR, **first, "id": 1})
    write(tmp_path / "rows/2.jsonl", {**PAIR, **second, "id": 2})
    with pytest.raises(SourceError, match=r"2\.jsonl, line 1: field '.*in an earlier row: the judgments of several judges"):
        score_recorded(str(tmp_path / "rows"), benchmark_ref("pairs"), "strict")


def test_one_judge_may_have_several_prompts_files_and_models_under_judgment(tmp_path: Path) -> None:
    prompts = ("pair-v2", "pair-math-v1")
    for number, prompt in enumerate(prompts):
        row = {**PAIR, "judge": ["gpt-4", prompt], "model": prompt, "id": number}
        write(tmp_path / f"rows/response_model={prompt},judge_name=arena_hard,judge_model=o1.jsonl", row)
    assert score_recorded(str(tmp_path / "rows"), benchmark_ref("pairs"), "strict").judged == 2


@pytest.mark.parametrize(
    "names", [("judge_model=a.jsonl", "judge_model=b.jsonl"), ("evaluators/a/r.jsonl", "evaluators/b/r.jsonl")]
)
def test_the_names_of_files_and_folders_may_name_the_judge(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / "rows" / name, PAIR)
    with pytest.raises(SourceError, match="several judges are not pooled"):
        score_recorded(str(tmp_path / "rows"), benchmark_ref("pairs"), "strict")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("values", [{"judge_id": "gpt-4"}, {"judge_id": 7}, {"annotator": "gpt-4"}])
def test_a_winner_beside_a_judges_name_is_no_truth(values: Record, ending: str, tmp_path: Path) -> None:
    row = {**PAIR, "label": None, "winner": "A", **values, "instruction": "2 + 2?", "response_a": "4", "response_b": "5"}
    file = str(write_as(tmp_path / f"rows.{ending}", row))
    words = rf"rows\.{ending}, (line 1|line 2|row 0): field 'winner' stands beside '{next(iter(values))}', .*'label'"
    with pytest.raises(SourceError, match=words):
        score_recorded(file, benchmark_ref("pairs"), "strict")
    with pytest.raises(SourceError, match=words):
        list(benchmark_ref(f"pairs:{file}").rows(None))


def write_as(file: Path, row: Record) -> Path:
    """One row as JSONL, CSV or Parquet."""
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    elif file.suffix == ".csv":
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([row.keys(), row.values()])
    else:
        write(file, row)
    return file


def test_the_same_pair_in_two_files_is_of_two_judges_unless_ids_say_otherwise(tmp_path: Path) -> None:
    row = {**PAIR, "instruction": "2 + 2?"}
    write(tmp_path / "twice/1.jsonl", row, row)
    assert score_recorded(str(tmp_path / "twice"), benchmark_ref("pairs"), "strict").judged == 2
    write(tmp_path / "twice/2.jsonl", row)
    with pytest.raises(SourceError, match=r"2\.jsonl, line 1: an earlier file has the same pair"):
        score_recorded(str(tmp_path / "twice"), benchmark_ref("pairs"), "strict")


def test_models_and_turns_are_no_ids(tmp_path: Path) -> None:
    rows = [{**PAIR, "model_a": "x", "model_b": "y", "turn": 1, "instruction": f"question {number}"} for number in range(3)]
    assert score_recorded(str(write(tmp_path / "rows.jsonl", *rows)), benchmark_ref("pairs"), "strict").judged == 3
    questions = [{**row, "question_id": 81, "turn": turn} for turn, row in enumerate(rows)]
    file = write(tmp_path / "questions.jsonl", *questions, questions[0])
    with pytest.raises(SourceError, match=r"line 4.*which an earlier row has too"):
        score_recorded(str(file), benchmark_ref("pairs"), "strict")


def test_a_judges_winner_is_no_truth_where_the_first_response_is_the_chosen_one(tmp_path: Path) -> None:
    row = {"id": 1, "subset": "math-prm", "judgment_ab": "[[B]]", "judgment_ba": "[[A]]", "winner": "B"}
    file = write(tmp_path / "rows.jsonl", {**row, "chosen": "x", "rejected": "y"})
    assert score_recorded(str(file), benchmark_ref("rewardbench"), "strict").groups["micro"].accuracy == 0
    with pytest.raises(SourceError, match="field 'winner' is 'B', but the first response is this benchmark's chosen one"):
        score_recorded(str(write(file, row)), benchmark_ref("rewardbench"), "strict")


def duel(first: str, second: str, verdicts: tuple[str, str] | str, question: int) -> Record:
    named = {"question_id": question, "turn": 1}
    if isinstance(verdicts, str):
        return {**named, "model_a": first, "model_b": second, "judge": "gpt4_pair", "winner": verdicts}
    return {**named, "model_1": first, "model_2": second, "g1_judgment": verdicts[0], "g2_judgment": verdicts[1]}


def test_each_pair_of_models_has_its_wins_and_ties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second row names the models in the other order: there b wins too."""
    verdicts = [("[[B]]", "[[A]]"), ("[[A]]", "[[A]]"), ("[[C]]", "[[C]]"), ("[[A]]", "hm")]
    rows = [duel("a", "b", read, 81 + number) for number, read in enumerate(verdicts)]
    rows += [duel("b", "a", ("[[A]]", "[[B]]"), 90), duel("org/a", "c", ("[[A]]", "[[B]]"), 90)]
    file = write(tmp_path / "rows.jsonl", *rows)
    assert main(["score", str(file), "--benchmark", "mtbench", "--parser", "strict", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["strict"]["pairs_of_models"]
    names = ("model_1", "model_2", "win", "loss", "tie", "inconsistent", "no_verdict")
    assert [tuple(pair[name] for name in names) for pair in counts] == [
        ("a", "b", 0, 2, 1, 1, 1),
        ("c", "org/a", 0, 1, 0, 0, 0),
    ]
    assert main(["score", str(file), "--benchmark", "mtbench", "--parser", "strict"]) == 0
    assert "c against org/a" in capsys.readouterr().out


def test_a_combined_verdict_has_no_orders_and_inconsistent_is_no_agreement(tmp_path: Path) -> None:
    rows = [duel("a", "b", winner, 81 + n) for n, winner in enumerate(("model_a", "model_b", "tie", "tie (inconsistent)"))]
    file = write(tmp_path / "rows.jsonl", *rows)
    read = score_recorded(str(file), benchmark_ref("mtbench"), "strict")
    overall = read.groups["first model preferred"]
    assert (overall.accuracy, overall.by_order, overall.position_consistent, overall.agreement) == (0.25, (), None, None)
    assert overall.always_a is None
    [counts] = read.duels
    assert (counts.win, counts.loss, counts.tie, counts.inconsistent) == (1, 1, 1, 1)
    vote = {"model_a": "a", "model_b": "b", "turn": 1, "judge": "expert_1", "winner": "tie"}
    votes = write(tmp_path / "human.jsonl", {**vote, "question_id": 83}, {**vote, "question_id": 84})
    ties = score_recorded(str(file), benchmark_ref(f"mtbench:{votes}"), "strict").groups["all votes"]
    assert (ties.accuracy, ties.official) == (0.5, 1.0)  # FastChat counts both as ties


def test_a_decision_without_text_has_no_order(tmp_path: Path) -> None:
    row = {"source": "livecodebench", "label": "B>A", "judgments": [{"judgment": None, "decision": "B>A"}]}
    overall = score_recorded(str(write(tmp_path / "rows.jsonl", row)), benchmark_ref("judgebench"), "paper").groups["overall"]
    assert (overall.accuracy, overall.by_order, overall.position_consistent) == (1.0, (), None)


def test_a_missing_section_says_which_subsets_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subsets = ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust", "math-prm")
    row = {"judgment_ab": "[[A]]", "judgment_ba": "[[B]]"}
    file = write(tmp_path / "rows.jsonl", *({**row, "id": 1, "subset": name} for name in subsets))
    assert main(["score", str(file), "--benchmark", "rewardbench", "--parser", "strict", "--json"]) == 0
    missing = json.loads(capsys.readouterr().out)["strict"]["missing"]
    assert set(missing) == {"overall", "Chat", "Chat Hard", "Safety"}
    assert missing["Chat"] == ["alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"]
    assert main(["score", str(file), "--benchmark", "rewardbench", "--parser", "strict"]) == 0
    assert "no overall: nothing was judged of alpacaeval-easy, " in capsys.readouterr().out


def test_the_folder_of_an_llmbar_evaluator_is_scored_without_its_statistics(tmp_path: Path) -> None:
    folder = tmp_path / "Natural/evaluators/GPT-4/CoT"
    order = {"completion": ["Output (a)", "stop"], "winner": "1"}
    write(folder / "result.json", {"label": 1, "results": [{"swap = False": order, "swap = True": order}]})
    write(folder / "statistics.json", {"average": 0.5})
    assert score_recorded(str(folder), benchmark_ref("llmbar"), "paper").judged == 1
