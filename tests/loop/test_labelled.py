"""Labelled judgments as training examples: published schemas, what is left out, and shares."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import load
from stj.errors import ConfigError, PassFailed, SourceError
from stj.loop.inputs import check_inputs, input_findings, kept_out
from stj.loop.labelled import LabelledExamples
from stj.loop.phases import Run
from stj.loop.tasks import grade_example
from stj.rows import Example, Grade, Judgment, Pair, Row, Turn, example_from_dict, rows_to_table
from stj.rubrics import SCALES
from stj.stages.grade import digest_of, grade_messages
from stj.verdict import GRADE_STYLES, grade_format, parse, written_grade
from tests.conftest import make_row

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
POINTS = {f"orig_score{point}_description": f"Worth {point}." for point in range(1, 6)}
FEEDBACK_COLLECTION = {
    **POINTS,
    "orig_instruction": "What is 2 + 2?",
    "orig_response": "4",
    "orig_reference_answer": "Four.",
    "orig_criteria": "Is the sum right?",
    "orig_feedback": "The response gives the right sum.",
    "orig_score": "5",
    "instruction": "###Task Description: ...",
    "output": "The response gives the right sum. [RESULT] 5",
}
PREFERENCE_COLLECTION = {
    "orig_instruction": "What is 2 + 2?",
    "orig_response_A": "5",
    "orig_response_B": "4",
    "orig_criteria": "Is the sum right?",
    "orig_feedback": "Response B gives the right sum.",
    "orig_preference": "B",
}
MIRRORED = PREFERENCE_COLLECTION | {
    "orig_response_A": "4",
    "orig_response_B": "5",
    "orig_feedback": "Response A gives the right sum.",
    "orig_preference": "A",
}
"""Beside it, so that there are as many labels A as B."""
FLOW = {
    "inputs": [{"name": "question", "content": "What is 2 + 2?"}],
    "output": {"name": "answer", "content": "4"},
    "criteria": "Is the sum right?",
    "rubric": [{"score": 0, "description": "No."}, {"score": 1, "description": "Yes."}],
    "score": 1,
    "feedback": "It is.",
}
OWN = {"instruction": "What is 2 + 2?", "response": "4", "rubric": "correctness_without_reference", "score": 4}


def file_of(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def examples(files: Iterable[Path], *overrides: str) -> tuple[list[Example], LabelledExamples]:
    named = f"examples.labelled=[{','.join(map(str, files))}]"
    made = LabelledExamples(load([MINI], [named, *overrides]))
    return list(made), made


def test_published_schemas_become_examples_in_the_words_of_the_run(tmp_path: Path) -> None:
    rows = [[FEEDBACK_COLLECTION], [PREFERENCE_COLLECTION, MIRRORED], [FLOW], [OWN]]
    (grade, verdict, mirrored, flow, own), made = examples([file_of(tmp_path / f"{i}.jsonl", *of) for i, of in enumerate(rows)])
    assert grade.completion == "The response gives the right sum. [[5]]"
    assert (grade.kind, grade.score, grade.winner) == ("grade", 5, None)
    shown = grade.messages[-1].content
    for text in ("What is 2 + 2?", "\n4\n", "Four.", "Is the sum right?", "Score 3: Worth 3."):
        assert text in shown
    assert (verdict.kind, verdict.winner, verdict.completion) == ("judgment", "B", "Response B gives the right sum. [[B]]")
    assert (mirrored.winner, mirrored.completion) == ("A", "Response A gives the right sum. [[A]]")
    assert verdict.messages[-1].content.index("5") < verdict.messages[-1].content.rindex("4")
    assert (flow.score, flow.completion) == (1, "It is. [[1]]")
    assert (own.score, own.completion) == (4, "[[4]]")
    assert len({example.id for example in (grade, verdict, mirrored, flow, own)}) == 5
    assert (made.counts.rows, made.counts.learned, made.counts.dropped) == (5, 5, {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": 4.5}, "score_not_whole"),
        ({"score": None}, "no_score"),
        ({"score": 9}, "score_off_scale"),
        ({"response": " "}, "empty_response"),
        ({"response": "\u200b\u2060"}, "empty_response"),
        ({"rubric": "correctness"}, "no_reference"),
        ({"feedback": "I would say [[2]], or more."}, "feedback_holds_verdict"),
    ],
)
def test_what_cannot_be_learned_has_a_counted_reason(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    made, counted = examples([file_of(tmp_path / "own.jsonl", {**OWN, **changes}, OWN | {"id": "2"})])
    assert len(made) == 1
    assert counted.counts.dropped == {reason: 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"orig_response_A": ""}, "empty_response"),
        ({"orig_response_B": "\u200b"}, "empty_response"),
        ({"orig_response_B": "<think>Four?</think>"}, "empty_response"),
        ({"orig_response_B": "<think>Four?</think>4"}, "thought_in_answer"),
        ({"orig_response_A": "4"}, "same_answers"),
        ({"orig_feedback": "<think>B?</think>B is right."}, "thought_in_feedback"),
        ({"orig_feedback": "B is right.\n<think>Or A?"}, "thought_in_feedback"),
        ({"orig_feedback": "[[A]] is wrong."}, "feedback_holds_verdict"),
        ({"orig_instruction": " "}, "empty_turn"),
    ],
)
def test_a_pair_that_teaches_nothing_has_a_counted_reason(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    rows = [{**PREFERENCE_COLLECTION, **changes}, PREFERENCE_COLLECTION, MIRRORED]
    made, counted = examples([file_of(tmp_path / "own.jsonl", *rows)])
    assert len(made) == 2
    assert counted.counts.dropped == {reason: 1}


def test_a_verdict_without_feedback_is_the_verdict_alone(tmp_path: Path) -> None:
    (made, _), _ = examples([file_of(tmp_path / "own.jsonl", PREFERENCE_COLLECTION | {"orig_feedback": " "}, MIRRORED)])
    assert made.completion == "[[B]]"


def test_there_are_as_many_labels_a_as_b(tmp_path: Path) -> None:
    rows = [(MIRRORED if number % 4 else PREFERENCE_COLLECTION) | {"id": str(number)} for number in range(20)]
    made, counted = examples([file_of(tmp_path / "own.jsonl", *rows)])
    assert Counter(example.winner for example in made) == {"A": 5, "B": 5}
    assert counted.counts.dropped == {"more_of_one_label": 10}
    counted.limit(5)
    assert Counter(example.winner for example in counted) == {"A": 2, "B": 2}
    assert counted.counts.learned == 4


def test_a_held_out_text_is_not_learned(tmp_path: Path) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    rows = [OWN | {"instruction": f"Count: {words}.", "id": "held out"}, OWN]
    held = file_of(tmp_path / "held.jsonl", OWN | {"instruction": f"Say {words}", "response": "no"})
    config = load([MINI], [f"examples.labelled=[{file_of(tmp_path / 'own.jsonl', *rows)}]", f"heldout.grades={held}"])
    made = LabelledExamples(config, kept_out(config))
    assert len(list(made)) == 1
    assert made.counts.dropped == {"benchmark_overlap": 1}


def test_what_measures_a_judge_cannot_train_it(tmp_path: Path) -> None:
    file = file_of(tmp_path / "own.jsonl", OWN)
    copy = file_of(tmp_path / "copy.jsonl", OWN)
    config = load([MINI], [f"examples.labelled=[{file}]", f"heldout.grades={copy}", "heldout.path=null"])
    [finding] = [finding for finding in input_findings(config, hub=False) if finding.subject == "examples.labelled"]
    assert not finding.ok
    assert f"holds what heldout.grades={copy} measures" in finding.words


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([PREFERENCE_COLLECTION, FEEDBACK_COLLECTION], "line 2: is no pair, and the rows before it are pairs"),
        ([FEEDBACK_COLLECTION, PREFERENCE_COLLECTION], "line 2: is a pair, and the rows before it are graded responses"),
        ([PREFERENCE_COLLECTION | {"id": "x"}] * 2, "line 2: field 'id' is 'x', which an earlier row has too"),
        ([{**PREFERENCE_COLLECTION, "orig_preference": None}], "line 1: no field 'orig_preference'"),
    ],
)
def test_a_file_holds_one_kind_with_ids_of_their_own(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        examples([file_of(tmp_path / "own.jsonl", *rows)])


def test_graded_responses_may_have_empty_fields_of_pairs(tmp_path: Path) -> None:
    """As Parquet and CSV hold rows whose table had pairs once."""
    empty = {"orig_preference": None, "orig_response_A": ""}
    (made,), _ = examples([file_of(tmp_path / "own.jsonl", {**FEEDBACK_COLLECTION, **empty})])
    assert made.score == 5


def test_labelled_judgments_of_which_none_can_be_learned_are_refused_before_a_start(tmp_path: Path) -> None:
    rows = [OWN | {"id": "1", "score": None}, OWN | {"id": "2", "score": 9}]
    words = [f"examples.labelled=[{file_of(tmp_path / 'own.jsonl', *rows)}]", f"run_root={tmp_path}/run"]
    with pytest.raises(SourceError, match="no row can be learned: 1 no_score, 1 score_off_scale"):
        check_inputs(load([MINI], words))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PREFERENCE_COLLECTION | {"orig_preference": "C"}, "orig_preference"),
        ({**PREFERENCE_COLLECTION, "orig_feedback": None}, "orig_feedback"),
        ({**FEEDBACK_COLLECTION, "orig_score": "6"}, "off the rubric's scale"),
        ({"instruction": "x"}, "response"),
    ],
)
def test_a_row_of_another_schema_is_named_with_its_line(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"line 1.*{message}"):
        examples([file_of(tmp_path / "own.jsonl", row)])


@given(style=st.sampled_from(GRADE_STYLES), scale=st.sampled_from(sorted(SCALES)), data=st.data())
def test_a_written_grade_is_read_back(style: str, scale: str, data: st.DataObject) -> None:
    score = data.draw(st.sampled_from(SCALES[scale]))
    feedback = data.draw(st.text(st.characters(categories=("L", "Z")), max_size=60))
    text = written_grade(style, feedback, score)
    wording = grade_format(style, SCALES[scale])
    if not any(parse(feedback, wording, parser) for parser in ("distinct", "strict")):
        assert parse(text, wording, "distinct") == str(score)
        assert parse(text, wording, "strict") == str(score)


def judged_run(tmp_path: Path, labelled: int, *overrides: str) -> list[Example]:
    """The examples of a run whose 100 pairs are all judged rightly and graded (5, 1), beside labelled grades."""
    rows = [OWN | {"id": str(i)} for i in range(labelled)]
    words = [f"examples.labelled=[{file_of(tmp_path / 'own.jsonl', *rows)}]"] if labelled else []
    run = Run(load([MINI], [f"run_root={tmp_path}/run", "iterations=1", *words, *overrides]))
    first = run.phases[0]
    first.artifact.begin()
    first.artifact.write_part("part-0", rows_to_table([judged(run, i) for i in range(100)]))
    first.artifact.finish()
    phase = next(phase for phase in run.phases if phase.name == "iteration_1/examples")
    phase.artifact.begin()
    phase.run()
    return [example_from_dict(record) for record in phase.artifact.records()]


def judged(run: Run, position: int) -> Row:
    rubric = run.config.grading.rubric_for(None)
    label = "AB"[position % 2]
    judgment = Judgment(
        purpose="training", winner=label, index=0, text=f"[[{label}]]", verdict=label, finish_reason="stop", output_tokens=1
    )  # type: ignore[arg-type]
    row = make_row(position, id=f"row-{position:03d}", pair=Pair(method="given", chosen="four", rejected="five"))
    row = replace(row, judgments=(judgment,), kept=0, kept_grades=0, rubrics=(rubric,))

    def grade(answer: str, score: int) -> Grade:
        asked = digest_of(grade_messages(row, answer, rubric, run.config.grading.words))  # type: ignore[arg-type]
        return Grade(
            rubric=rubric.name, answer=answer, index=0, asked=asked, text=f"[[{score}]]", score=score, finish_reason="stop",
            output_tokens=1, purpose="training",
        )  # type: ignore[arg-type]  # fmt: skip

    return replace(row, grades=(grade("chosen", 5), grade("rejected", 1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labelled", "overrides", "judgments", "grades", "known"),
    [
        (0, ["judge.task=pairwise"], 100, 0, 0),
        (0, ["judge.task=absolute"], 0, 200, 0),
        (0, ["judge.task=both"], 100, 100, 0),
        (0, ["judge.task=both", "grading.share=0.8"], 50, 200, 0),
        (30, ["judge.task=pairwise"], 100, 0, 30),
        (30, ["judge.task=pairwise", "examples.labelled_share=0.2"], 100, 0, 25),
        (30, ["judge.task=both", "examples.labelled_share=0.5"], 16, 16, 30),
    ],
)
def test_the_shares_are_kept(
    labelled: int, overrides: list[str], judgments: int, grades: int, known: int, tmp_path: Path
) -> None:
    made = judged_run(tmp_path, labelled, *overrides)
    kinds = Counter(f"{example.kind}{'' if example.id.startswith('row-') else ', labelled'}" for example in made)
    assert (kinds["judgment"], kinds["grade"], kinds["grade, labelled"]) == (judgments, grades, known)
    assert len({example.id for example in made}) == len(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labelled", "overrides", "message"),
    [
        (0, ["judge.task=both", "grading.share=0.001"], r"grading\.share=0\.001.*leave none of 200 grades"),
        (0, ["judge.task=both", "grading.share=1e-320"], "leave none of 200 grades"),
        (0, ["judge.task=both", "grading.share=0.9999999999999999"], "leave none of 100 judgments"),
        (30, ["examples.labelled_share=0.001"], r"labelled_share=0\.001: leave none of 30 labelled judgments"),
        (30, ["examples.labelled_share=1e-320"], "leave none of 30 labelled judgments"),
        (30, ["examples.labelled_share=0.999"], "leave none of 100 judgments"),
    ],
)
def test_a_share_that_leaves_none_of_a_kind_is_named(labelled: int, overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match=message):
        judged_run(tmp_path, labelled, *overrides)


def test_labelled_judgments_alone_need_no_pairs(tmp_path: Path) -> None:
    file = file_of(tmp_path / "own.jsonl", *(OWN | {"id": str(i)} for i in range(4)))
    words = [f"run_root={tmp_path}/run", f"examples.labelled=[{file}]", "examples.labelled_share=1", "heldout.path=null"]
    run = Run(load([MINI], [*words, "iterations=1"]))
    assert [phase.name for phase in run.phases] == ["iteration_1/examples", "iteration_1/model"]
    run.phases[0].artifact.begin()
    run.phases[0].run()
    assert run.phases[0].artifact.manifest()["rows"] == 4
    assert "4 of 4 labelled judgments" in run.phases[0].summary()
    with pytest.raises(ConfigError, match="set iterations=1"):
        load([MINI], [*words, "iterations=2"])


@pytest.mark.parametrize("changed", ["answer", "instruction", "rubric", "no rubric"])
def test_a_grade_is_never_used_for_another_answer_or_rubric(changed: str, tmp_path: Path) -> None:
    run = Run(load([MINI], [f"run_root={tmp_path}/run", "judge.task=absolute"]))
    row, words = judged(run, 0), run.config.grading.words
    assert row.pair
    assert grade_example(row, row.grades[0], words).score == 5
    other = {
        "answer": replace(row, pair=replace(row.pair, chosen="fourteen")),
        "instruction": replace(row, turns=(Turn(role="user", content="What is 3 + 3?"),)),
        "rubric": replace(row, rubrics=(replace(row.rubrics[0], criterion="Is it short?"),)),
        "no rubric": replace(row, rubrics=()),
    }[changed]
    with pytest.raises(PassFailed, match="was given for another text, rubric or prompt"):
        grade_example(other, row.grades[0], words)
