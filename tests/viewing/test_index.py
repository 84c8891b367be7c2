"""The index: sources joined by id, with the right numbers in every column."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ArtifactError, ConfigError
from stj.rows import OPEN, Candidates, Example, Judgment, Pair, Row, Turn, examples_to_table, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.verdict import Label
from stj.viewing import sources
from stj.viewing.columns import UNKNOWN_DIFFERENCE
from stj.viewing.index import NO_PREFERENCE, Index
from stj.viewing.lookup import contradicting, search
from stj.viewing.place import sources_of
from stj.viewing.sources import TableSource
from tests.viewing.conftest import HOSTILE, judged, pair_row, write_rows


def index_of(*rows: Row, judge: str = "judge") -> Index:
    return Index([TableSource(rows_to_table(rows), judge)])


def opened(path: Path) -> Index:
    return Index(sources_of(str(path), None))


def test_a_run_is_joined_by_id(run: Path) -> None:
    index = opened(run)
    assert index.rows == 7
    assert [opinions.judge for opinions in index.opinions] == ["M_0", "M_1"]
    m_0, m_1 = index.opinions
    at = {index.id(number).rpartition("/")[2]: number for number in range(index.rows)}
    assert [m_0.prefers[at[name]] for name in ("t1", "right", "wrong", "biased", "silent")] == [0, 1, 2, NO_PREFERENCE, 1]
    assert [m_1.prefers[at[name]] for name in ("right", "wrong", "biased")] == [1, 1, 0]
    assert m_0.masks[at["silent"]] == 8 | 1 << 4  # unreadable as A, right as B
    plain = index.plain()
    assert plain["difference"][at["wrong"]] == len("a much longer answer than the other") - len("eight")
    assert plain["difference"][at["t1"]] == UNKNOWN_DIFFERENCE
    assert [plain["known"][at[name]] for name in ("t1", "right")] == [0, 1]
    states = plain["facts"]["state"]
    assert states["names"][states["codes"][at["t1"]]] == "dropped: category"
    assert [judge for judge, _ in index.judged(at["wrong"])] == ["M_0", "M_1"]
    assert index.find("heldout/biased") == at["biased"]
    assert index.find("nobody") is None
    assert index.title(at["right"]) == "How many are left, right?"


def test_texts_are_searched_everywhere(run: Path) -> None:
    index = opened(run)

    def found_by(text: str) -> list[str]:
        return [index.id(number) for number in search(index, text)]

    assert found_by("MUCH LONGER") == ["heldout/wrong"]
    assert found_by("sing.") == ["t1"]
    assert found_by("so assistant b") == ["heldout/against"]
    assert found_by("heldout/bia") == ["heldout/biased"]
    assert found_by(".*") == []
    assert found_by(HOSTILE) == ["heldout/hostile"]
    assert [index.id(number) for number in contradicting(index)] == ["heldout/against"]


def test_rows_that_share_an_id_are_all_there() -> None:
    index = index_of(pair_row("x", judged("A")), pair_row("x", judged("B")), pair_row("y"))
    assert [index.id(number) for number in range(index.rows)] == ["heldout/x", "heldout/x (2)", "heldout/y"]
    assert index.opinions[0].prefers.tolist() == [1, 2, 0]


def test_a_number_for_a_repeated_id_hides_no_other_row() -> None:
    index = index_of(*(pair_row(name) for name in ("same", "same", "same (2)")))
    assert index.rows == 3
    assert len(set(index.ids.to_pylist())) == 3
    assert index.title(index.find("heldout/same (2)") or 0) == "How many are left, same (2)?"


def test_the_prompts_of_stj_judge_are_jurors_on_the_same_pairs(tmp_path: Path) -> None:
    pair = Pair(method=OPEN, chosen="a", rejected="b")
    rows = [
        replace(pair_row("p/1", judged(verdict)), id=f"{prompt}/p/1", task=prompt, pair=pair)
        for prompt, verdict in (("figure8", "A"), ("arena", "B"))
    ]
    index = opened(write_rows(tmp_path / "judge_1", rows, step="judge_file").parent)
    assert [index.id(number) for number in range(index.rows)] == ["p/1"]
    assert {each.judge: each.prefers[0] for each in index.opinions} == {"judge_1 figure8": 1, "judge_1 arena": 2}
    assert index.plain()["known"] == [0]


def test_four_answers_and_ratings() -> None:
    four = Candidates(answers=("a", "b", "c", "d"), good=1)
    best = pair_row("best", judged("C", "C"), judged("A", "D"), pair=None, candidates=four)
    rated = pair_row("rated", judged("7", purpose="rating"), judged(None, purpose="rating"), pair=None, candidates=four)
    index = index_of(best, rated)
    assert index.plain()["known"] == [1, 1]
    assert index.opinions[0].masks.tolist() == [1 << 8 | 2 << 12, 4 | 8]


def put_part(path: Path, *tables: pa.Table) -> None:
    """A finished artifact of parts that have row groups of 5,000 rows, and perhaps not all of today's columns."""
    artifact = Artifact(Folder.at(path), {"step": "pass"})
    artifact.begin()
    for number, table in enumerate(tables):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=5000)
        content = sink.getvalue()
        digest = FileDigest.of(content).sha256[:32]
        artifact.folder.write(f"part-{number}-{artifact.fingerprint}-{digest}.parquet", content)
    artifact.finish()


def test_an_artifact_of_an_older_stj_and_one_without_rows(tmp_path: Path) -> None:
    table = rows_to_table([pair_row("x", judged("A"))])
    old = table.drop_columns(["candidates", "dropped", "error", "subset", "detail"])
    put_part(tmp_path / "old", old)
    index = opened(tmp_path / "old")
    assert index.rows == 1
    assert index.plain()["facts"]["subset"]["codes"] == [-1]
    assert search(index, "nine") == [0]
    empty = opened(write_rows(tmp_path / "empty", []))
    assert empty.rows == 0
    assert empty.plain()["judges"] == []
    assert opened(write_rows(tmp_path / "judge_1", [], step="judge_file")).rows == 0


def test_training_examples(tmp_path: Path) -> None:
    example = Example(
        id="e", winner="B", messages=(Turn(role="user", content="Judge."),), completion="So [[B]]", rejected="So [[A]]"
    )
    artifact = Artifact(Folder.at(tmp_path), {"step": "examples"})
    artifact.begin()
    artifact.write_part("examples", examples_to_table([example]))
    artifact.finish()
    index = opened(tmp_path)
    [(judge, row)] = index.judged(0)
    assert judge == "training examples"
    assert [judgment.correct for judgment in row.judgments] == [True, False]


def test_a_place_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no rows here"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="nowhere: no such file or directory"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--pairs"):
        sources_of(str(tmp_path), "pairs.jsonl")


@pytest.mark.slow
def test_any_row_of_any_part_is_read(tmp_path: Path) -> None:
    """Rows in several parts and row groups, more than one batch of them."""
    rows = [pair_row(str(number)) for number in range(9000)]
    put_part(tmp_path, rows_to_table(rows[:3]), rows_to_table(rows[3:]))
    index = opened(tmp_path)
    for number in (0, 2, 3, 4098, 4099, 5002, 5003, 8999):
        assert [row.id for _, row in index.judged(number)] == [f"heldout/{number}"]


VERDICTS = st.sampled_from([None, "A", "B", "tie"])


@given(st.lists(st.lists(st.tuples(VERDICTS, st.sampled_from(["A", "B"])), max_size=5), max_size=6))
def test_columns_agree_with_the_rows_themselves(rows: list[list[tuple[str | None, Label]]]) -> None:
    made = [pair_row(str(number), *(judged(*given) for given in row)) for number, row in enumerate(rows)]
    index = index_of(*made)
    for opinions in index.opinions:
        for number, row in enumerate(made):
            assert opinions.masks[number] == sum(
                {_bit(judgment) << 4 * "AB".index(judgment.winner) for judgment in row.judgments}
            )
            right = sum(judgment.correct for judgment in row.judgments)
            wrong = sum(judgment.verdict in ("A", "B") and not judgment.correct for judgment in row.judgments)
            expected = 1 if right > wrong else 2 if wrong > right else NO_PREFERENCE
            assert opinions.prefers[number] == (expected if row.judgments else 0)
    assert bool(index.opinions) == any(rows)


def _bit(judgment: Judgment) -> int:
    if judgment.verdict is None:
        return 8
    return 1 if judgment.correct else 2 if judgment.verdict in ("A", "B") else 4


def test_many_rows_are_indexed_as_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns of many rows come from Arrow: no row becomes a Python object."""
    single = rows_to_table([pair_row("x", judged("A"), judged("A", "B"))])
    many = pa.concat_tables([single] * 2000).combine_chunks().set_column(0, "id", pa.array([str(i) for i in range(2000)]))

    def refuse(record: dict[str, object]) -> Row:
        raise AssertionError("a row was made an object")

    monkeypatch.setattr(sources, "row_from_dict", refuse)
    index = Index([TableSource(many, "judge")])
    assert np.unique(index.opinions[0].masks).tolist() == [1 | 2 << 4]
    assert len(index.plain()["difference"]) == 2000
    with pytest.raises(AssertionError, match="made an object"):
        list(index.judged(0))
