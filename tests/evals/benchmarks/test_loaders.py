"""Every loader on its published schema, in every kind of file; one clear line for each bad file."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj.cli import main
from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.base import HubPart
from stj.evals.benchmarks.evaluation import judged_examples
from stj.evals.benchmarks.refs import benchmark_ref, benchmark_refs
from stj.evals.benchmarks.scoring import score_judged
from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.prompts.two_turns import SECOND_REFERENCE
from stj.rows import Judgment, Row, row_from_dict, rows_to_table

Record = dict[str, Any]


def conversation(text: str) -> list[Record]:
    return [{"role": role, "content": f"{role} {turn}: {text}"} for turn in (1, 2) for role in ("user", "assistant")]


def helpsteer(response: str, helpfulness: int) -> Record:
    others = {"correctness": 3, "coherence": 4, "complexity": 2, "verbosity": 2}
    return {"prompt": "2 + 2?", "response": response, "helpfulness": helpfulness, **others}


VOTE = {"question_id": 111, "model_a": "vicuna", "model_b": "alpaca", "winner": "model_a", "judge": "expert_1", "turn": 1}
PPE_VOTE = {
    **{"question_id": "q1", "model_a": "gpt", "model_b": "claude", "winner": "model_b", "prompt": "2 + 2?"},
    **{"response_1": "5", "response_2": "4", "language": "English", "is_code": False, "is_refusal": False},
    **{"conv_metadata": {"turns": 1}, "sim": 0.5, "length_a": 9, "length_b": 3, "token_diff": 6.0, "longer_won": "False"},
    **{"hard_prompt": True, "easy_prompt": False, "if_prompt": False, "math_prompt": True},
}
PPE_ANSWERS = {
    **{"question_id": "7", "problem": "2 + 2?", "level": "Level 1", "type": "Algebra", "model_name": "llama/8b"},
    **{"prompt": "2 + 2?", "scores": [True, False, True], "parsed_outputs": ["4", "5", "4"], "mean_score": 2 / 3},
    **{"response_1": "4", "response_2": "5", "response_3": "four"},
    **{"conflict_pairs": [[0, 1], [1, 2]], "sampled_conflict_pairs": [[1, 0], [1, 2]]},
}
GOOD: dict[str, list[Record]] = {
    "ppe-human": [PPE_VOTE],
    "ppe-correctness": [PPE_ANSWERS],
    "rewardbench": [{"id": 7, "prompt": "2 + 2?", "chosen": "4", "rejected": "5", "subset": "math-prm"}],
    "rewardbench2": [
        {"id": "9", "prompt": "2 + 2?", "chosen": ["4"], "rejected": ["5", "6", "7"], "subset": "Math"},
        {"id": "ref:0", "prompt": "A colour?", "chosen": ["red"], "rejected": ["two"], "subset": "Ties"},
        {"id": "tied:0", "prompt": "A colour?", "chosen": ["red", "blue"], "rejected": ["two"], "subset": "Ties"},
    ],
    "mtbench": [{**VOTE, "conversation_a": conversation("v"), "conversation_b": conversation("a")}],
    "helpsteer2": [helpsteer("4", 4), helpsteer("5", 1)],
    "llmbar": [{"input": "2 + 2?", "output_1": "5", "output_2": "4", "label": 2, "subset": "Natural"}],
    "judgebench": [
        {"pair_id": "x", "source": "livebench-math", "question": "2 + 2?", "response_A": "5", "response_B": "4", "label": "B>A"}
    ],
    "rmbench": [{"id": 1, "prompt": "2 + 2?", "chosen": list("468"), "rejected": list("579"), "domain": "math"}],
    "hhh": [{"input": "2 + 2?", "targets": {"choices": ["5", "4"], "labels": [0, 1]}, "subset": "honest"}],
    "pairs": [{"instruction": "2 + 2?", "response_a": "5", "response_b": "4", "winner": "B"}],
}
FLAT = ("rewardbench", "helpsteer2", "llmbar", "judgebench", "pairs")


def write_jsonl(file: Path, records: list[Record]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_json(file: Path, records: list[Record]) -> None:
    file.write_text(json.dumps(records, indent=1))


def write_parquet(file: Path, records: list[Record]) -> None:
    pq.write_table(pa.Table.from_pylist(records), file)


def write_csv(file: Path, records: list[Record]) -> None:
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


WRITERS: dict[str, Callable[[Path, list[Record]], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".parquet": write_parquet,
    ".csv": write_csv,
}


def load(name: str, records: list[Record], tmp_path: Path, suffix: str = ".jsonl") -> list[Row]:
    file = tmp_path / f"{name}{suffix}"
    WRITERS[suffix](file, records)
    rows = list(benchmark_ref(f"{name}:{file}").rows(None))
    assert [row_from_dict(record) for record in rows_to_table(rows).to_pylist()] == rows
    return rows


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", GOOD)
def test_a_published_schema_in_every_kind_of_file(name: str, suffix: str, tmp_path: Path) -> None:
    first = load(name, GOOD[name], tmp_path, suffix)[0]
    assert (first.task, first.position, first.dropped) == (name, 0, None)
    assert first.id.startswith(f"{name}/")
    if first.candidates:
        assert first.candidates.answers[0] == "4"
    elif name != "mtbench":
        assert first.instruction == "2 + 2?"
        assert first.pair
        assert (first.pair.chosen, first.pair.rejected) == ("4", "5")


@pytest.mark.parametrize("name", FLAT)
def test_csv(name: str, tmp_path: Path) -> None:
    [row] = load(name, GOOD[name], tmp_path, ".csv")
    assert row.pair
    assert (row.pair.chosen, row.pair.rejected) == ("4", "5")


def test_rmbench_has_nine_pairs_an_item_and_its_domain_may_be_the_files_name(tmp_path: Path) -> None:
    rows = load("rmbench", GOOD["rmbench"], tmp_path)
    places = [(row.subset, row.pair.chosen, row.pair.rejected) for row in rows if row.pair]
    assert places[:4] == [("math/normal", "4", "5"), ("math/hard", "4", "7"), ("math/hard", "4", "9"), ("math/easy", "6", "5")]
    file = tmp_path / "safety-refuse_filtered.json"
    write_json(file, [{key: value for key, value in GOOD["rmbench"][0].items() if key != "domain"}])
    assert {row.subset for row in benchmark_ref(f"rmbench:{file}").rows(None)} == {
        f"safety-refuse/{x}" for x in ("hard", "normal", "easy")
    }


def test_mtbench_rows_are_pairs_in_either_order_of_the_models(tmp_path: Path) -> None:
    [vote] = GOOD["mtbench"]
    turned = {**vote, "model_a": "alpaca", "model_b": "vicuna", "conversation_a": vote["conversation_b"]}
    turned |= {"conversation_b": vote["conversation_a"], "judge": "expert_2", "winner": "tie"}
    second = {**vote, "turn": 2}
    author = {**vote, "judge": "author_0", "question_id": 112}
    rows = load("mtbench", [vote, turned, second, author], tmp_path)
    assert [(row.id, row.subset) for row in rows] == [
        ("mtbench/111/alpaca/vicuna/1", "turn 1/math"),
        ("mtbench/111/alpaca/vicuna/2", "turn 2/math"),
    ]
    assert rows[0].pair
    assert (rows[0].pair.chosen, rows[0].pair.rejected) == ("assistant 1: a", "assistant 1: v")
    assert "user 1: a" in rows[1].instruction
    assert "user 2: a" in rows[1].instruction


def reference(number: int, *turns: str, model: str = "gpt-4") -> Record:
    return {"question_id": number, "model_id": model, "choices": [{"index": 0, "turns": list(turns)}], "tstamp": 1.0}


def test_mtbenchs_reference_answers_lie_beside_the_votes(tmp_path: Path) -> None:
    """FastChat shows them in math, reasoning and coding, up to the judged turn."""
    [vote] = GOOD["mtbench"]
    write_jsonl(
        tmp_path / "human.jsonl", [vote, {**vote, "turn": 2}, {**vote, "question_id": 112}, {**vote, "question_id": 81}]
    )
    ref = benchmark_ref(f"mtbench:{tmp_path}")
    assert [row.reference for row in ref.rows(None)] == [None] * 4
    alone = ref.identity
    (tmp_path / "reference_answer").mkdir()
    file = tmp_path / "reference_answer" / "gpt-4.jsonl"
    write_jsonl(file, [reference(111, "r1", "r2"), reference(81, "w1", "w2")])
    assert [row.reference for row in ref.rows(None)] == ["r1", f"r1{SECOND_REFERENCE}r2", None, None]
    assert [record.values["question_id"] for record in ref.records()] == [111, 111, 112, 81]
    assert ref.identity.startswith(alone)
    assert ref.identity != alone
    for records, message in (
        ([reference(111, "r1", "r2"), reference(111, "s1", "s2", model="gpt-4o")], "a second reference answer to question 111"),
        ([reference(111, "r1")], "it must be two answers"),
        ([{"question_id": 111}], "no field 'choices'"),
        ([{"question_id": 111, "choices": []}], "a list that begins with {turns: [answer, answer]}"),
        ([{"question_id": "x", "choices": []}], "it must be a whole number"),
    ):
        write_jsonl(file, records)
        with pytest.raises(SourceError) as caught:
            list(ref.rows(None))
        assert message in str(caught.value)


def test_helpsteer2_weighs_its_attributes_and_equal_scores_are_dropped(tmp_path: Path) -> None:
    wordy = {**helpsteer("long", 4), "verbosity": 4}  # 0.65 * 4 - 0.4 * 4 < 0.65 * 3 - 0.4 * 2
    rows = load("helpsteer2", [wordy, helpsteer("short", 3), helpsteer("a", 2), helpsteer("b", 2)], tmp_path)
    assert rows[0].pair
    assert rows[0].pair.chosen == "short"
    assert rows[1].dropped == "equal_scores"
    helpful = load("helpsteer2-helpfulness", [wordy, helpsteer("short", 3)], tmp_path)
    assert helpful[0].pair
    assert helpful[0].pair.chosen == "long"


def test_helpsteer2_dialogues(tmp_path: Path) -> None:
    prompt = "hi\n<extra_id_1>Assistant\nyes?\n<extra_id_1>User\n2 + 2?"
    [row] = load("helpsteer2", [{**record, "prompt": prompt} for record in GOOD["helpsteer2"]], tmp_path)
    assert [(turn.role, turn.content) for turn in row.turns] == [("user", "hi"), ("assistant", "yes?"), ("user", "2 + 2?")]


def test_ppes_votes_are_in_every_cut_and_ties_are_not_judged(tmp_path: Path) -> None:
    ties = [{**PPE_VOTE, "question_id": f"q{i}", "winner": winner} for i, winner in enumerate(("tie", "tie (bothbad)"), 2)]
    chinese = {**PPE_VOTE, "question_id": "q4", "winner": "model_a", "language": "Chinese", "is_code": True}
    plain = {name: PPE_VOTE[name] for name in ("prompt", "response_1", "response_2", "winner")} | {"question_id": "q5"}
    rows = load("ppe-human", [PPE_VOTE, *ties, chinese, plain], tmp_path)
    assert [(row.id, row.dropped) for row in rows] == [
        ("ppe-human/q1", None),
        ("ppe-human/q2", "human_tie"),
        ("ppe-human/q3", "human_tie"),
        ("ppe-human/q4", None),
        ("ppe-human/q5", None),
    ]
    assert [row.subset for row in rows] == [
        "hard prompts+math+shorter answer won+English",
        "hard prompts+math+English",
        "hard prompts+math+English",
        "hard prompts+code+math+Chinese+not English",
        "all pairs",
    ]
    assert [row.pair and row.pair.chosen for row in rows] == ["4", "5", "5", "5", "4"]


def test_ppes_sampled_pairs_show_the_right_answer_as_the_better_one(tmp_path: Path) -> None:
    gpqa = {name: value for name, value in PPE_ANSWERS.items() if name != "level"} | {"Subdomain": "Physics"}
    twice = {**PPE_ANSWERS, "question_id": "8", "sampled_conflict_pairs": [[0, 1], [0, 1]]}
    none = {**PPE_ANSWERS, "question_id": "9", "sampled_conflict_pairs": []}
    rows = load("ppe-correctness", [PPE_ANSWERS, gpqa, twice, none], tmp_path)
    assert [(row.id, row.pair and (row.pair.chosen, row.pair.rejected)) for row in rows] == [
        ("ppe-correctness/MATH/7/llama%2F8b/0", ("4", "5")),
        ("ppe-correctness/MATH/7/llama%2F8b/1", ("four", "5")),
        ("ppe-correctness/GPQA/7/llama%2F8b/0", ("4", "5")),
        ("ppe-correctness/GPQA/7/llama%2F8b/1", ("four", "5")),
        ("ppe-correctness/MATH/8/llama%2F8b/0", ("4", "5")),
        ("ppe-correctness/MATH/8/llama%2F8b/1", ("4", "5")),
    ]
    assert [row.position for row in rows] == list(range(6))


@pytest.mark.parametrize("field", ["answer_index", "level", "Subdomain", "task_id", "ifeval_prompt"])
def test_each_of_ppes_data_sets_is_known_by_its_schema_in_one_file_of_all(field: str, tmp_path: Path) -> None:
    """A Parquet file of all five has every column in every row, null where a domain has none."""
    domains = {
        "answer_index": "MMLU-Pro",
        "level": "MATH",
        "Subdomain": "GPQA",
        "task_id": "MBPP-Plus",
        "ifeval_prompt": "IFEval",
    }
    record = {**dict.fromkeys(domains), **bad("ppe-correctness", level=None)[0], field: 0}
    assert {row.subset for row in load("ppe-correctness", [record], tmp_path, ".parquet")} == {domains[field]}


def test_headline_stands_for_the_benchmarks_that_still_separate_judges(tmp_path: Path) -> None:
    names = ["ppe-human", "ppe-correctness", "judgebench", "rmbench"]
    assert [ref.word for ref in benchmark_refs(["headline"])] == names
    file = str(tmp_path / "pairs.jsonl")
    named = [ref.word for ref in benchmark_refs([f"judgebench:{file}", "headline", "llmbar", "headline"])]
    assert named == ["ppe-human", "ppe-correctness", f"judgebench:{file}", "rmbench", "llmbar"]
    assert list(BENCHMARKS)[:7] == [*names, "rewardbench", "rewardbench2", "rewardbench2-ratings"]
    with pytest.raises(ConfigError, match="name a place beside it, as in headline rmbench:FILE"):
        benchmark_refs([f"headline:{file}"])
    with pytest.raises(ConfigError, match=r"'headline': headline stands for .*; here name one of them$"):
        benchmark_ref("headline")
    with pytest.raises(ConfigError, match="judgebench: named twice"):
        benchmark_refs(["headline", "judgebench", "judgebench"])


def test_hhh_as_big_bench_has_it(tmp_path: Path) -> None:
    (tmp_path / "harmless").mkdir()
    task = {"name": "hhh", "examples": [{"input": "2 + 2?", "target_scores": {"5": 0, "4": 1}}]}
    (tmp_path / "harmless" / "task.json").write_text(json.dumps(task))
    [row] = benchmark_ref(f"hhh:{tmp_path}").rows(None)
    assert row.pair
    assert (row.subset, row.pair.chosen) == ("harmless", "4")


def test_llmbars_repository_is_read_without_its_recorded_judgments(tmp_path: Path) -> None:
    record = {key: value for key, value in GOOD["llmbar"][0].items() if key != "subset"}
    for place in ("Natural", "Adversarial/Manual", "Natural/evaluators/GPT-4/CoT"):
        (tmp_path / place).mkdir(parents=True)
        write_json(tmp_path / place / "dataset.json", [record])
    assert {row.subset for row in benchmark_ref(f"llmbar:{tmp_path}").rows(None)} == {"Natural", "Manual"}


def test_folder_names_count_as_whole_words_below_the_given_folder(tmp_path: Path) -> None:
    record = {key: value for key, value in GOOD["llmbar"][0].items() if key != "subset"}
    folder = tmp_path / "natural" / "evaluators" / "bench"
    for name in ("Manual", "Supernatural"):
        (folder / name).mkdir(parents=True)
        write_json(folder / name / "dataset.json", [record])
    assert {row.subset for row in benchmark_ref(f"llmbar:{folder}").rows(None)} == {"Manual", "dataset"}
    write_jsonl(folder / "pairs.jsonl", GOOD["pairs"])
    assert len(list(benchmark_ref(f"pairs:{folder / 'pairs.jsonl'}").rows(None))) == 1


def test_a_copy_of_a_data_set_is_read_in_the_benchmarks_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split, chosen in (("raw", "5"), ("filtered", "4")):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", bad("rewardbench", chosen=chosen))
    [row] = benchmark_ref(f"rewardbench:{tmp_path}").rows(None)
    assert row.pair
    assert row.pair.chosen == "4"


def test_helpsteer2s_published_files_are_read_packed(tmp_path: Path) -> None:
    (tmp_path / "preference").mkdir()
    lines = "".join(json.dumps(record) + "\n" for record in GOOD["helpsteer2"])
    for name in ("train.jsonl.gz", "validation.jsonl.gz", "preference/preference.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress((lines if name.startswith("validation") else "{}").encode()))
    for place in (tmp_path, tmp_path / "validation.jsonl.gz"):
        assert len(list(benchmark_ref(f"helpsteer2:{place}").rows(None))) == 1
    torn = (tmp_path / "validation.jsonl.gz").read_bytes()[:40]
    (tmp_path / "validation.jsonl.gz").write_bytes(torn)
    with pytest.raises(SourceError, match="cannot be read"):
        list(benchmark_ref(f"helpsteer2:{tmp_path}").rows(None))


def test_rmbenchs_folder_repeats_its_items_and_is_read_once(tmp_path: Path) -> None:
    write_json(tmp_path / "math_filtered.json", without("rmbench", "domain"))
    assert len(list(benchmark_ref(f"rmbench:{tmp_path}").rows(None))) == 9
    write_json(tmp_path / "total_dataset.json", GOOD["rmbench"])
    assert len(list(benchmark_ref(f"rmbench:{tmp_path}").rows(None))) == 9


def test_line_separators_inside_a_string_end_no_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        json.dumps({**GOOD["pairs"][0], "response_b": "a\u2028b\u0085c"}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    [row] = benchmark_ref(f"pairs:{file}").rows(None)
    assert row.pair
    assert row.pair.chosen == "a\u2028b\u0085c"


def bad(name: str, **values: Any) -> list[Record]:
    return [{**GOOD[name][0], **values}]


def without(name: str, field: str) -> list[Record]:
    return [{key: value for key, value in GOOD[name][0].items() if key != field}]


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        *((name, [], "holds no records") for name in GOOD),
        ("rewardbench", without("rewardbench", "chosen"), "no field 'chosen'"),
        ("rewardbench", bad("rewardbench", chosen=["4"]), "field 'chosen' is list ['4']; it must be a string"),
        ("rewardbench", bad("rewardbench", subset="chess"), "field 'subset' is str 'chess'; it must be one of alpacaeval-easy"),
        ("rewardbench", GOOD["rewardbench"] * 2, "which an earlier row has too"),
        ("rewardbench2", bad("rewardbench2", rejected=["5"]), "1 chosen and 1 rejected answers; Math has 1 and 3"),
        ("rewardbench2", bad("rewardbench2", chosen="4"), "it must be a list of strings"),
        ("mtbench", bad("mtbench", turn=3), "it must be 1 or 2"),
        ("mtbench", bad("mtbench", question_id=7), "it must be one of 81 to 160"),
        ("mtbench", bad("mtbench", model_b="vicuna"), "two models are needed"),
        ("mtbench", bad("mtbench", winner="vicuna"), "field 'winner' is str 'vicuna'; it must be A or B"),
        ("rewardbench2", bad("rewardbench2", id="1", subset="Ties"), "the id of a row of Ties is ref:N, or tied:N"),
        ("pairs", bad("pairs", winner="Katie"), "field 'winner' is str 'Katie'; it must be A or B"),
        ("mtbench", without("mtbench", "conversation_a"), "no field 'conversation_a'"),
        ("helpsteer2", [helpsteer("4", 4)], "adjacent rows"),
        ("helpsteer2", [helpsteer("4", 4), {**helpsteer("5", 1), "prompt": "?"}], "adjacent rows"),
        ("helpsteer2", [helpsteer("4", 4), {**helpsteer("5", 1), "helpfulness": "much"}], "it must be a number"),
        ("llmbar", bad("llmbar", label=3), "field 'label' is int 3"),
        ("ppe-human", bad("ppe-human", winner="gpt"), "field 'winner' is str 'gpt'; it must be A or B"),
        ("ppe-human", bad("ppe-human", winner=None), "field 'winner' is NoneType None"),
        ("ppe-human", bad("ppe-human", is_code="yes"), "field 'is_code' is str 'yes'; it must be true, false or null"),
        ("ppe-human", bad("ppe-human", length_a="long"), "field 'length_a' is str 'long'; it must be a number"),
        ("ppe-human", GOOD["ppe-human"] * 2, "which an earlier row has too"),
        ("ppe-human", without("ppe-human", "response_2"), "no field 'response_2'"),
        ("ppe-correctness", GOOD["ppe-correctness"] * 2, "which an earlier row has too"),
        ("ppe-correctness", without("ppe-correctness", "level"), "no field that only one domain has"),
        ("ppe-correctness", bad("ppe-correctness", domain="Maths"), "it must be one of MMLU-Pro, MATH"),
        ("ppe-correctness", bad("ppe-correctness", scores=[True, True, True]), "both answers have the same score"),
        ("ppe-correctness", bad("ppe-correctness", scores="right"), "it must be a list with true for each right answer"),
        ("ppe-correctness", bad("ppe-correctness", sampled_conflict_pairs=[[0, 3]]), "two places from 0 to 2"),
        ("ppe-correctness", bad("ppe-correctness", sampled_conflict_pairs=[[-1, 0]]), "two places from 0 to 2"),
        ("ppe-correctness", bad("ppe-correctness", sampled_conflict_pairs=[[0]]), "two places from 0 to 2"),
        ("ppe-correctness", bad("ppe-correctness", sampled_conflict_pairs=None), "it must be a list of pairs of places"),
        (
            "ppe-correctness",
            bad("ppe-correctness", scores=[True] * 3 + [False], sampled_conflict_pairs=[[0, 3]]),
            "'response_4'",
        ),
        ("judgebench", bad("judgebench", label="A=B"), "ties are not allowed"),
        ("judgebench", bad("judgebench", source="chess"), "JudgeBench has mmlu-pro"),
        ("rmbench", bad("rmbench", chosen=["4"]), "1 answers; RM-Bench has 3 styles"),
        ("rmbench", without("rmbench", "domain"), "no field 'domain'"),
        ("hhh", bad("hhh", targets={"choices": ["4", "5"], "labels": [1, 1]}), "only one with label 1"),
        ("hhh", bad("hhh", targets={"choices": None, "labels": [1, 0]}), "field 'targets.choices' is NoneType None"),
        ("hhh", bad("hhh", targets={"choices": [["4"], ["5"]], "labels": [1, 0]}), "field 'targets.choices[]' is list ['4']"),
        ("hhh", bad("hhh", targets={"choices": ["4", "5"], "labels": None}), "field 'targets.labels' is NoneType None"),
        ("helpsteer2", [helpsteer("4", 4), {**helpsteer("5", 1), "helpfulness": 10**400}], "it must be a number"),
        ("helpsteer2", [helpsteer("4", 4), {**helpsteer("5", 1), "helpfulness": "nan"}], "it must be a number"),
        ("llmbar", bad("llmbar", subset=3), "field 'subset' is int 3; it must be a string"),
        ("hhh", without("hhh", "targets"), "field 'targets' is NoneType None"),
        ("hhh", without("hhh", "subset"), "no field 'subset'"),
        ("pairs", bad("pairs", winner=None), "no field 'winner' or 'label'"),
        ("pairs", without("pairs", "response_b"), "no field 'response_b'"),
        ("pairs", bad("pairs", id="a") * 2, "which an earlier row has too"),
    ],
)
def test_one_clear_line_for_each_bad_file(name: str, records: list[Record], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        load(name, records, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".jsonl", '{"instruction": "x"\n', "line 1, column 1: not JSON"),
        (".json", "[{]", "not JSON"),
        (".json", "3", "a JSON int; a list of objects is needed"),
        (".json", "[3]", "item 0: a JSON int; an object is needed"),
        (".json", "[" * 100_000, "JSON that Python cannot hold"),
        (".json", f"[{'9' * 5_000}]", "JSON that Python cannot hold"),
        (".csv", "instruction,response_a,response_b,winner\n?,a,b\n", "line 2: fewer values than the header has names (4)"),
        (".jsonl.gz", "no gzip", "cannot be read: Not a gzipped file"),
        (".parquet", "PAR1", "not a Parquet file"),
        (".txt", "x", "cannot read a '.txt' file"),
    ],
)
def test_a_damaged_file_fails_before_anything_starts(
    suffix: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"pairs{suffix}"
    file.write_text(text)
    assert main(["eval", "package://mini/seed_model", f"pairs:{file}", f"run_root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_json_file_that_is_really_one_object_a_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    write_jsonl(file, [*GOOD["pairs"], *GOOD["pairs"]])
    assert len(list(benchmark_ref(f"pairs:{file}").rows(None))) == 2


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"pairs"}))
def test_the_hub_is_read_in_the_published_splits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append((path, options["split"], options.get("data_files"), options["revision"]))
        return datasets.Dataset.from_list(GOOD[name]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert next(benchmark_ref(name).rows(1)).task == name
    part = BENCHMARKS[name].hub[0]
    assert asked[0] == (part.path, part.split, part.files, part.revision)


def test_files_are_read_through_datasets_and_their_names_are_the_subsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real `datasets` library, on a local folder in place of LLMBar's repository."""
    record = {key: value for key, value in GOOD["llmbar"][0].items() if key != "subset"}
    parts = []
    for folder in ("Natural", "Adversarial/GPTOut"):
        (tmp_path / folder).mkdir(parents=True)
        write_json(tmp_path / folder / "dataset.json", [record, record])
        parts.append(HubPart("json", "train", f"{tmp_path}/{folder}/dataset.json"))
    monkeypatch.setitem(BENCHMARKS, "llmbar", replace(BENCHMARKS["llmbar"], hub=tuple(parts)))
    assert [row.subset for row in benchmark_ref("llmbar").rows(None)] == ["Natural", "Natural", "GPTOut", "GPTOut"]


def test_another_data_set_is_read_in_each_split_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append((path, options["split"]))
        return datasets.Dataset.from_list(GOOD[name]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in ("hhh", "pairs"):
        assert [row.task for row in benchmark_ref(f"{name}:someone/else").rows(None)] == [name]
    assert asked == [("someone/else", "train")] * 2


def test_a_data_set_that_is_a_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: Any) -> Any:
        raise RuntimeError("Dataset scripts are no longer supported, but found x.py")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(SourceError, match="Dataset scripts are no longer supported"):
        next(benchmark_ref("rewardbench:someone/else").rows(1))


def test_a_benchmark_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rewardbench'"):
        benchmark_ref("rewardbnch")
    with pytest.raises(ConfigError, match="give its file"):
        assert benchmark_ref("pairs").identity


def test_a_file_of_pairs_may_have_other_fields_and_ties(tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    rows = [{"q": "2 + 2?", "l": "4", "r": "5", "w": word, "part": "sums"} for word in ("l", "r", "tie")]
    write_jsonl(file, rows)
    names = PairFields(instruction="q", response_a="l", response_b="r", winner="w", subset="part")
    [ref], [half], [own] = (benchmark_refs([f"pairs:{file}"], *how) for how in ((names,), (names, "half"), ()))
    assert [(row.pair and row.pair.chosen, row.dropped, row.subset) for row in ref.rows(None)] == [
        ("4", None, "sums"),
        ("5", None, "sums"),
        ("4", "human_tie", "sums"),
    ]
    assert [row.pair and row.pair.method for row in half.rows(None)] == ["given", "given", "tied_half"]
    assert len({ref.identity, half.identity, own.identity}) == 3
    with pytest.raises(SourceError, match="no field 'instruction'; the fields there are 'q', 'l', 'r', 'w', 'part'"):
        list(own.rows(None))


@pytest.mark.parametrize(("ties", "accuracy"), [("skip", 1.0), ("count", 2 / 3), ("half", 5 / 6)])
def test_ties_count_in_the_scores_of_pairs(tmp_path: Path, ties: Ties, accuracy: float) -> None:
    """A judge that always prefers the right answer, and on the tie the first response in both orders."""
    rows = [{"instruction": "2 + 2?", "response_a": "4", "response_b": "5", "winner": word} for word in ("A", "tie", "A")]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    [ref] = benchmark_refs([f"pairs:{tmp_path}/pairs.jsonl"], OWN_FIELDS, ties)

    def judged(row: Row) -> Row:
        said = [
            Judgment(purpose="greedy", winner=label, index=0, text="", verdict=label, finish_reason="stop", output_tokens=1)
            for label in ("A", "B")
        ]
        return row if row.dropped else replace(row, judgments=tuple(said))

    examples = judged_examples(map(judged, ref.rows(None)), ref.benchmark, None, votes=False)
    scores = score_judged(ref.benchmark, "distinct", examples, ref.records())
    assert scores.groups["overall"].accuracy == pytest.approx(accuracy)
    assert scores.unjudged == ({"human_tie": 1} if ties == "skip" else {})
