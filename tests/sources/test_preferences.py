"""Training pairs that are not synthetic: published data sets in their schemas, files of pairs, and what is wrong with them."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stj.errors import SourceError
from stj.pair_sources import PairSource
from stj.rows import Row
from stj.sources.preferences import preferences_identity, preferences_size, read_preferences, source_content

DATA = os.environ.get("STJ_TEST_DATA")
REAL = pytest.mark.skipif(not DATA, reason="STJ_TEST_DATA names no folder of real data")
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def written(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def steered(prompt: str, response: str, *attributes: int) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, **dict(zip(ATTRIBUTES, attributes, strict=True))}


def rows_of(**settings: Any) -> list[Row]:
    return list(read_preferences([PairSource(**settings)]))


@REAL
def test_the_dialogues_of_hh_rlhf_are_compared_by_their_last_turns() -> None:
    file = Path(str(DATA), "hh_harmless_test_a", "test.jsonl")
    rows = rows_of(kind="hh_rlhf", path=str(file))
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == len(records) == 1156
    assert Counter(row.dropped for row in rows) == {None: 1149, "other_dialogue": 5, "empty_answer": 2}
    for row, record in zip(rows, records, strict=True):
        if row.dropped is None:
            assert row.pair is not None
            said = "".join(f"\n\n{'Human' if turn.role == 'user' else 'Assistant'}: {turn.content}" for turn in row.turns)
            for answer, field in ((row.pair.chosen, "chosen"), (row.pair.rejected, "rejected")):
                assert f"{said}\n\nAssistant: {answer}".split() == record[field].split()
            assert row.turns[-1].role == "user"
    assert {row.origin.labelled_by for row in rows if row.origin} == {"human"}


@REAL
def test_questions_of_gsm8k_have_their_known_answers() -> None:
    file = Path(str(DATA), "gsm8k_test", "test.jsonl")
    rows = rows_of(kind="gsm8k", path=str(file), per_question=3)
    assert len(rows) == 3 * 400
    assert len({row.id for row in rows}) == len(rows)
    for row, line in zip(rows[::3], file.read_text().splitlines(), strict=True):
        assert row.origin is not None
        assert row.origin.answer == json.loads(line)["answer"].split("#### ")[1].replace(",", "")
        assert (row.pair, row.dropped) == (None, None)


def spoken(*texts: str) -> str:
    return "".join(f"\n\n{'Assistant' if place % 2 else 'Human'}: {text}" for place, text in enumerate(texts))


def test_a_dialogue_of_hh_rlhf_and_what_is_none(tmp_path: Path) -> None:
    rows = [
        {"chosen": spoken("a", "b", "c", "better"), "rejected": spoken("a", "b", "c", "worse")},
        {"chosen": spoken("a", "better"), "rejected": spoken("another", "worse")},
        {"chosen": spoken("a", "better"), "rejected": spoken("a")},
        {"chosen": "no dialogue", "rejected": spoken("a", "b")},
        {"chosen": spoken("a", ""), "rejected": spoken("a", "b")},
    ]
    first, *others = rows_of(kind="hh_rlhf", path=written(tmp_path / "train.jsonl", rows))
    assert [(turn.role, turn.content) for turn in first.turns] == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert first.pair is not None
    assert (first.pair.chosen, first.pair.rejected) == ("better", "worse")
    assert [row.dropped for row in others] == ["other_dialogue", "not_a_dialogue", "not_a_dialogue", "empty_answer"]


def test_questions_are_repeated_with_ids_of_their_own(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}, {"question": "r", "answer": "#### 1,000"}]
    read = rows_of(kind="gsm8k", path=written(tmp_path / "train.jsonl", rows), per_question=2)
    assert [row.origin.answer for row in read if row.origin] == ["2", "2", "1000", "1000"]
    assert len({row.id for row in read}) == 4


@pytest.mark.parametrize("kind", ["helpsteer2", "hh_rlhf", "gsm8k"])
def test_of_a_copy_of_a_published_data_set_only_its_training_split_is_read(tmp_path: Path, kind: Any) -> None:
    def records(text: str) -> list[dict[str, Any]]:
        return {
            "helpsteer2": [steered(text, "a", 1, 1, 1, 1, 1), steered(text, "b", 2, 2, 2, 2, 2)],
            "hh_rlhf": [{"chosen": spoken(text, "a"), "rejected": spoken(text, "b")}],
            "gsm8k": [{"question": text, "answer": "#### 1"}],
        }[kind]

    folder = {"hh_rlhf": "harmless-base", "gsm8k": "main"}.get(kind, "")
    for place in {"", folder, "another"} if folder else {""}:
        (tmp_path / place).mkdir(exist_ok=True)
        for split in ("train", "test"):
            if place or not folder:
                written(tmp_path / place / f"{split}-00000-of-00001.jsonl", records(f"{place or 'top'} {split}"))
    assert [row.turns[0].content for row in rows_of(kind=kind, path=str(tmp_path))] == [f"{folder or 'top'} train"]


@pytest.mark.parametrize(
    ("kind", "published", "content"),
    [
        ("hh_rlhf", "Anthropic/hh-rlhf", "Anthropic/hh-rlhf/harmless-base/train.jsonl.gz@main/train"),
        ("gsm8k", "openai/gsm8k", "openai/gsm8k/main@main/train"),
        ("helpsteer2", "nvidia/HelpSteer2", "nvidia/HelpSteer2@main/train"),
    ],
)
def test_a_published_data_set_is_the_same_with_and_without_its_name(kind: Any, published: str, content: str) -> None:
    assert source_content(PairSource(kind=kind)) == source_content(PairSource(kind=kind, path=published)) == content
    assert source_content(PairSource(kind=kind, revision="abc")) == content.replace("@main", "@abc")
    assert preferences_size(PairSource(kind=kind)) == {"hh_rlhf": 42_537, "gsm8k": 7_473, "helpsteer2": 10_162}[kind]


def test_the_better_response_of_helpsteer2_has_the_higher_weighted_sum(tmp_path: Path) -> None:
    rows = [
        steered("q", "long and right", 3, 4, 4, 2, 4),  # 1.95 + 3.2 + 1.8 + 1.1 - 1.6 = 6.45
        steered("q", "short and right", 3, 4, 4, 1, 0),  # 1.95 + 3.2 + 1.8 + .55 = 7.5
        steered("p<extra_id_1>Assistant\na\n<extra_id_1>User\nb", "same", 1, 1, 1, 1, 1),
        steered("p<extra_id_1>Assistant\na\n<extra_id_1>User\nb", "equal", 1, 1, 1, 1, 1),
        steered("r", "better", 4, 4, 4, 4, 0),
        steered("r", "worse", 0, 0, 0, 0, 0),
    ]
    file = written(tmp_path / "train.jsonl", rows)
    first, equal, third = rows_of(kind="helpsteer2", path=file)
    assert first.pair is not None
    assert (first.pair.chosen, first.pair.rejected) == ("short and right", "long and right")
    assert equal.dropped == "equal_scores"
    assert third.pair is not None
    assert third.pair.chosen == "better"
    assert [row.dropped for row in rows_of(kind="helpsteer2", path=file, margin=1.06)] == ["below_margin", "equal_scores", None]
    assert [row.dropped for row in rows_of(kind="helpsteer2", path=file, margin=1.05)] == [None, "equal_scores", None]
    assert preferences_size(PairSource(kind="helpsteer2", path=file)) == 3


def test_a_file_of_pairs_keeps_its_ids_and_tells_where_each_row_is(tmp_path: Path) -> None:
    pairs = [
        {"id": "x", "instruction": "q", "response_a": "a", "response_b": "b", "winner": "B"},
        {"id": "y", "prompt": "q", "chosen": "a", "rejected": "a"},
        {"id": "z", "prompt": "q", "chosen": "a", "rejected": " \u200b"},
        {"id": "t", "prompt": [{"role": "user", "content": ""}], "chosen": "a", "rejected": "b"},
    ]
    file = written(tmp_path / "mine.jsonl", pairs)
    rows = rows_of(kind="pairs", name="mine", path=file)
    assert [row.id for row in rows] == ["preferences/mine/x", "preferences/mine/y", "preferences/mine/z", "preferences/mine/t"]
    assert [row.dropped for row in rows] == [None, "same_answers", "empty_answer", "empty_turn"]
    assert rows[0].pair is not None
    assert (rows[0].pair.chosen, rows[0].pair.rejected) == ("b", "a")
    assert [row.origin.place for row in rows if row.origin] == [f"{file}, line {number}" for number in (1, 2, 3, 4)]


def test_pairs_that_people_could_not_decide_are_left_out(tmp_path: Path) -> None:
    pair = {"prompt": "q", "response_a": "a", "response_b": "b"}
    voted = [
        pair | {"id": "1", "winner": "B", "annotators": {"x": "B", "y": "B"}},
        pair | {"id": "2", "winner": "tie", "annotators": {"x": "tie", "y": "tie"}},
        pair | {"id": "3", "winner": None, "annotators": {"x": "A", "y": "B"}},
    ]
    rows = rows_of(kind="pairs", path=written(tmp_path / "labelled.jsonl", voted))
    assert [row.dropped for row in rows] == [None, "human_tie", "no_winner"]
    assert [row.pair is None for row in rows] == [False, True, True]


@pytest.mark.parametrize("names", [("chosen", "rejected"), ("response_a", "response_b")])
def test_a_pair_with_an_answer_that_max_tokens_cut_is_left_out_whichever_side_it_is(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    reasons = [("stop", "stop"), ("length", "stop"), ("stop", "length"), ("length", "length"), (None, None), ("", "stop")]
    label = {} if names[0] == "chosen" else {"winner": "A"}
    rows = [
        {"prompt": f"q{number}", names[0]: "yes", names[1]: "no", **label}
        | {f"{name}_finish_reason": reason for name, reason in zip(names, ends, strict=True)}
        for number, ends in enumerate(reasons)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = list(read_preferences([PairSource(kind="pairs", path=str(tmp_path / "p.jsonl"))]))
    assert [row.dropped for row in read] == [None, *["answer_truncated"] * 3, None, None]
    assert [row.pair is None for row in read] == [row.dropped is not None for row in read]


def test_a_finish_reason_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "yes", "rejected": "no", "chosen_finish_reason": 3}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    with pytest.raises(SourceError, match=r"p.jsonl, line 1: .*chosen_finish_reason"):
        list(read_preferences([PairSource(kind="pairs", path=str(tmp_path / "p.jsonl"))]))


def test_sources_follow_each_other_and_no_two_rows_have_one_id_or_position(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.jsonl", [{"prompt": str(n), "chosen": "a", "rejected": "b"} for n in range(5)])
    sources = [PairSource(kind="pairs", name=name, path=file, limit=limit) for name, limit in (("one", 2), ("two", None))]
    rows = list(read_preferences([*sources, PairSource()]))
    assert [row.position for row in rows] == list(range(7))
    assert len({row.id for row in rows}) == 7
    assert [row.chain for row in rows] == ["training/one"] * 2 + ["training/two"] * 5


def test_questions_of_any_file_are_asked_if_their_answers_can_be_compared(tmp_path: Path) -> None:
    questions: list[dict[str, Any]] = [
        {"question": "2+2?", "answer": "Two and two.\n#### 4"},
        {"instruction": "How many?", "answer": 1200},
        {"prompt": [{"role": "user", "content": "Half?"}], "answer": 0.5},
        {"question": "Capital?", "answer": " New York "},
        {"question": "Solve it.", "answer": "x^2"},
        {"question": "Is it?", "answer": None},
        {"question": "NaN?", "answer": float("nan")},
        {"question": " ", "answer": "4"},
    ]
    rows = rows_of(kind="questions", path=written(tmp_path / "q.jsonl", questions))
    known = [row.origin.answer for row in rows if row.origin]
    assert known == ["4", "1200", "0.5", "New York", None, None, None, "4"]
    assert [row.dropped for row in rows] == [None] * 4 + ["no_known_answer"] * 3 + ["empty_turn"]
    assert rows[4].detail == "x^2"
    assert {row.origin.labelled_by for row in rows if row.origin} == {"final_answer"}


def test_what_changes_the_rows_changes_the_identity_and_the_weight_does_not(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.jsonl", [{"question": "q", "answer": "#### 1"}])

    def identity(**settings: Any) -> list[dict[str, object]]:
        return preferences_identity([PairSource(kind="gsm8k", path=file, **settings)])

    before = identity()
    assert identity(weight=3) == before
    assert all(identity(**changed) != before for changed in ({"limit": 1}, {"samples": 3}, {"per_question": 2}, {"name": "x"}))
    written(tmp_path / "mine.jsonl", [{"question": "q", "answer": "#### 2"}])
    assert identity() != before


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("pairs", [{"prompt": "q", "chosen": "a"}], "line 1: no field 'rejected'"),
        ("pairs", [{"prompt": "q", "response_a": "a", "response_b": "b"}], "line 1: .*winner"),
        ("pairs", [{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "C>D"}], "line 1: .*'C>D'"),
        ("hh_rlhf", [{"prompt": "q", "response": "a"}], "line 1: no field 'chosen'"),
        ("hh_rlhf", [{"chosen": "a", "rejected": "b"}], "line 1: field 'chosen' is no dialogue of hh_rlhf"),
        ("hh_rlhf", [{"chosen": "\n\nHuman: a", "rejected": "b"}], "line 1: field 'chosen' is no dialogue of hh_rlhf"),
        ("hh_rlhf", [{"chosen": 3, "rejected": "b"}], "line 1: field 'chosen' is int 3"),
        ("gsm8k", [{"question": "q", "answer": "18"}], "line 1: field 'answer' has no final number"),
        ("gsm8k", [{"question": "q", "answer": "#### many"}], "line 1: field 'answer' has no final number"),
        ("gsm8k", [{"question": None, "answer": "#### 1"}], "line 1: field 'question' is NoneType None"),
        ("questions", [{"question": "q"}], "line 1: no field 'answer'"),
        ("questions", [{"task": "q", "answer": "Paris"}], "line 1: no field question or instruction or prompt; .* 'task'"),
        ("questions", [{"question": "q", "answer": True}], "line 1: field 'answer' is bool True"),
        ("questions", [{"question": 3, "answer": "1"}], "line 1: field 'question' is int 3"),
        ("helpsteer2", [steered("q", "a", 1, 1, 1, 1, 1)], "line 1: the next row has another prompt"),
        ("helpsteer2", [{"prompt": "q", "response": "a"}], "line 1: no field 'helpfulness'"),
    ],
)
def test_a_row_in_another_schema_is_one_line(tmp_path: Path, kind: Any, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        rows_of(kind=kind, path=written(tmp_path / "pairs.jsonl", rows))


def test_an_empty_or_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"preferences\[pairs\].path=.*holds no rows; name a file with pairs"):
        rows_of(kind="pairs", path=written(tmp_path / "empty.jsonl", []))
    with pytest.raises(SourceError, match=r"preferences\[gsm8k\].path=.*no such file"):
        rows_of(kind="gsm8k", path=str(tmp_path / "none.jsonl"))
