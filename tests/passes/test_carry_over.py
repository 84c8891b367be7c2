"""Finished rows under a repaired source: what is kept, at which place, and after which kill."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.passes.carry_over import CarriedOver, SourceRows, carry_over, differs_only_by_content, survey
from stj.rows import HELDOUT, Category, Origin, Pair, Row, Turn, row_from_dict, rows_to_table
from stj.sources.ids import ContentIds
from stj.storage.artifacts import Artifact, Key
from stj.storage.folder import Folder

ASKED = Category(name="Coding", complexity=5, length="b")
TEXTS = st.sampled_from(["a", "b", "c", "d", "e", "", "torn"])


def without_source(key: Key) -> Key:
    return {name: value for name, value in key.items() if name != "source"}


def key(source: str, **more: object) -> Key:
    return {"step": "pass", "source": source, **more}


def source_rows(texts: Sequence[str]) -> list[Row]:
    """The rows of a source: an empty text is a tombstone, and one that cannot be read is another."""
    ids = ContentIds()
    rows = []
    for position, text in enumerate(texts):
        turns = (Turn(role="user", content=text),)
        if text == "torn":
            rows.append(Row(id=f"unread/{position}", position=position, turns=()).drop("not_readable"))
        else:
            row = Row(id=ids.of(turns), position=position, turns=turns)
            rows.append(row if text else row.drop("empty_turn"))
    return rows


def finished(row: Row) -> Row:
    """What a model that is a function of the prompt makes of a row."""
    if row.dropped:
        return row
    row = replace(row, category=ASKED, prompt_tokens=7, output_tokens=len(row.id))
    if row.instruction == "c":
        return row.drop("category")
    return replace(row, pair=Pair(method="made", chosen=f"good {row.id}", rejected="bad"))


def write(folder: Path, source: str, rows: Sequence[Row], *, done: bool = False, parts: int = 3) -> Artifact:
    artifact = Artifact(Folder.at(folder), key(source))
    artifact.begin()
    for number in range(parts):
        if some := rows[number::parts]:
            artifact.write_part(f"part-{number}", rows_to_table(some))
    if done:
        artifact.finish()
    return artifact


def rows_of(artifact: Artifact) -> list[Row]:
    return sorted(map(row_from_dict, artifact.records()), key=lambda row: row.position)


def accept(carried: CarriedOver) -> None:
    """Whatever is kept is enough."""


def moved(folder: Path, rows: Sequence[Row], source: str = "new") -> tuple[Artifact, CarriedOver]:
    artifact = Artifact(Folder.at(folder), key(source))
    return artifact, carry_over(artifact, SourceRows(rows, with_pairs=False), accept)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, max_size=9), st.lists(TEXTS, max_size=9), st.randoms(use_true_random=False), st.booleans())
def test_what_is_kept_and_what_is_asked_make_the_rows_of_a_fresh_run(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str], dice: random.Random, done: bool
) -> None:
    folder = tmp_path_factory.mktemp("pass")
    before = [finished(row) for row in source_rows(old)]
    done_rows = before if done else [row for row in before if dice.random() < 0.6]
    dice.shuffle(done_rows)
    write(folder, "old", done_rows, done=done)
    now = source_rows(new)
    seen = survey(Artifact(Folder.at(folder), key("new")), SourceRows(now, with_pairs=False))
    artifact, carried = moved(folder, now)
    assert (artifact.state(), carried) == (("partial", []), seen)
    kept = rows_of(artifact)
    at = {row.position for row in kept}
    asked = [row for row in now if row.position not in at]
    assert sorted([*kept, *map(finished, asked)], key=lambda row: row.position) == list(map(finished, now))
    known = {row.id for row in done_rows if not row.dropped or row.dropped == "category"}
    assert not known & {row.id for row in asked if not row.dropped}, "asked for rows that did not change"
    assert carried.kept == len(kept) == len(known & {row.id for row in now})
    assert carried.left == sum(row.dropped is None for row in asked)


def test_rows_that_failed_or_were_never_asked_are_left_out(tmp_path: Path) -> None:
    rows = [finished(row) for row in source_rows(["a", "b", "c"])]
    rows[0] = replace(rows[0], error="no")
    rows[2] = replace(source_rows(["a", "b", "c"])[2]).drop("near_duplicate", "it repeated a row that is gone")
    write(tmp_path, "old", rows)
    artifact, carried = moved(tmp_path, source_rows(["a", "b", "c"]))
    assert [row.id for row in rows_of(artifact)] == [rows[1].id]
    assert (carried.kept, carried.finished, carried.left) == (1, 1, 2)


def test_all_that_the_source_says_of_a_row_must_be_as_it_was(tmp_path: Path) -> None:
    row = source_rows(["a"])[0]
    for number, changed in enumerate(
        [
            {"language": "Dutch"},
            {"toxic": True},
            {"redacted": False},
            {"id": "other"},
            {"turns": (Turn(role="user", content="A"),)},
        ]
    ):
        write(tmp_path / str(number), "old", [finished(row)])
        _, carried = moved(tmp_path / str(number), [replace(row, **changed)])  # type: ignore[arg-type]
        assert (carried.kept, carried.left) == (0, 1), changed


def test_a_given_pair_is_content_and_a_made_one_is_not(tmp_path: Path) -> None:
    given_pair = Row(id="heldout/1", position=0, task=HELDOUT, turns=(), pair=Pair(method="given", chosen="x", rejected="y"))
    changed = replace(given_pair, pair=Pair(method="given", chosen="x", rejected="z"))
    write(tmp_path, "old", [finished(source_rows(["a"])[0]), given_pair])
    artifact, carried = moved(tmp_path, [*source_rows(["a"]), changed])
    assert ([row.task for row in rows_of(artifact)], carried.kept) == (["training"], 1)


def test_a_judgment_is_kept_only_with_its_pair(tmp_path: Path) -> None:
    rows = [finished(row) for row in source_rows(["a", "b"])]
    write(tmp_path, "old", rows)
    pairs = [rows[0], replace(rows[1], pair=Pair(method="made", chosen="another", rejected="bad"))]
    artifact = Artifact(Folder.at(tmp_path), key("new"))
    assert carry_over(artifact, SourceRows(pairs, with_pairs=True), accept).kept == 1


def test_only_another_source_is_carried_over(tmp_path: Path) -> None:
    write(tmp_path, "old", [])

    def differs(asked: Key) -> bool:
        return differs_only_by_content(Artifact(Folder.at(tmp_path), asked), without_source)

    assert differs(key("new"))
    assert not differs(key("old"))
    assert not differs(key("new", seed=1))
    assert not differs_only_by_content(Artifact(Folder.at(tmp_path / "nothing"), key("new")), without_source)


def test_a_refusal_changes_nothing(tmp_path: Path) -> None:
    old = write(tmp_path, "old", [finished(row) for row in source_rows(["a", "b"])], done=True)
    before = rows_of(old)

    def refuse(carried: CarriedOver) -> None:
        assert not carried.keeps_most
        raise ValueError(carried.words())

    with pytest.raises(ValueError, match="0 finished rows are kept, 2 are gone or changed, and 1 are to be asked"):
        carry_over(Artifact(Folder.at(tmp_path), key("new")), SourceRows(source_rows(["x"]), with_pairs=False), refuse)
    again = Artifact(Folder.at(tmp_path), key("old"))
    assert (again.state()[0], rows_of(again)) == ("done", before)


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kills before the n-th change of a file from now on."""
    left = [-1]

    def watch(change: Any) -> Any:
        def watched(*words: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return change(*words, **options)

        return watched

    for name in ("write", "delete"):
        monkeypatch.setattr(Folder, name, watch(getattr(Folder, name)))

    def kill_after(changes: int) -> None:
        left[0] = changes

    return kill_after


def kills(folder: Path, killed: Callable[[int], None], work: Callable[[], object]) -> bool:
    """Whether work was killed at a point; False once it has no such point."""
    try:
        work()
    except Killed:
        killed(-1)
        return True
    killed(-1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("done", [True, False])
def test_a_kill_at_any_point_loses_no_row_that_did_not_change(
    tmp_path: Path, killed: Callable[[int], None], done: bool
) -> None:
    old, new = ["a", "b", "c", "d", "torn"], ["x", "e", "d", "c", "b", "a"]
    expected = [finished(row) for row in source_rows(new) if row.instruction in "abcd"]
    for point in range(99):
        folder = tmp_path / str(point)
        before = list(map(finished, source_rows(old)))
        write(folder, "old", before, done=done)
        killed(point)
        ended = not kills(folder, killed, lambda: moved(folder, source_rows(new)))  # noqa: B023
        old_again = Artifact(Folder.at(folder), key("old"))
        if old_again.state()[0] != "stale":  # the source is as it was: nothing has changed
            assert rows_of(old_again) == before
        artifact = Artifact(Folder.at(folder), key("new"))
        if artifact.state()[0] == "stale":
            moved(folder, source_rows(new))
            artifact = Artifact(Folder.at(folder), key("new"))
        assert artifact.begin()
        assert rows_of(artifact) == expected
        assert len(list(folder.rglob("*.parquet"))) == len(artifact.parts())
        if ended:
            break
    assert ended
    assert point > 5


def test_a_driver_that_was_taken_for_dead_adds_nothing_to_the_new_rows(tmp_path: Path) -> None:
    suspended = write(tmp_path, "old", list(map(finished, source_rows(["a", "b"]))))
    artifact, _ = moved(tmp_path, source_rows(["b", "a"]))
    before = rows_of(artifact)
    suspended.write_part("part-late", rows_to_table([finished(row) for row in source_rows(["z"])]))
    assert rows_of(Artifact(Folder.at(tmp_path), key("new"))) == before
    again = Artifact(Folder.at(tmp_path), key("new"))
    assert again.begin()
    again.write_part("part-new", rows_to_table(source_rows(["b", "a", "n"])[2:]))
    again.finish(again.parts())
    assert [row.position for row in rows_of(Artifact(Folder.at(tmp_path), key("new")))] == [0, 1, 2]


def test_the_source_may_be_repaired_again_and_again(tmp_path: Path) -> None:
    write(tmp_path, "1", list(map(finished, source_rows(list("abc")))))
    for number, texts in enumerate(["xabc", "cba", "abc", "abc"], start=2):
        artifact, carried = moved(tmp_path, source_rows(list(texts)), str(number))
        assert carried.kept == 3
        assert rows_of(artifact) == [finished(row) for row in source_rows(list(texts)) if row.instruction != "x"]


def test_a_part_of_an_older_version_lacks_columns(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), key("old"))
    artifact.begin()
    table = rows_to_table(map(finished, source_rows(["a", "b"])))
    artifact.write_part("part-0", table.drop_columns(["subset", "toxic", "candidates", "reference"]))
    artifact, carried = moved(tmp_path, source_rows(["b", "a"]))
    assert carried.kept == 2
    assert [row.position for row in rows_of(artifact)] == [0, 1]


def asked_question(number: int, place: int, answer: str = "7") -> Row:
    """A question of a source of questions: it enters without a pair."""
    origin = Origin(source="gsm8k", place=f"q.jsonl, line {place}", labelled_by="final_answer", answer=answer)
    return Row(id=f"q{number}", position=place - 1, turns=(Turn(role="user", content=f"Question {number}"),), origin=origin)


def test_a_question_keeps_the_answers_that_were_sampled_for_it_and_gets_its_new_place(tmp_path: Path) -> None:
    before = [asked_question(number, number) for number in range(1, 9)]
    answered = [
        replace(row, pair=Pair(method="sampled_answers", chosen="It is 7", rejected="It is 8"), output_tokens=5)
        for row in before
    ]
    write(tmp_path, "old", answered, done=True)
    repaired = [
        asked_question(9, 1),
        *(asked_question(number, number + 1, "8" if number == 3 else "7") for number in range(1, 9)),
    ]
    artifact = Artifact(Folder.at(tmp_path), key("new"))
    carry_over(artifact, SourceRows(repaired, with_pairs=False), lambda carried: None)
    kept = {row.id: row for row in map(row_from_dict, artifact.records())}
    assert kept.keys() == {f"q{number}" for number in range(1, 9)} - {"q3"}
    for row in kept.values():
        assert row.origin
        assert row.pair
        assert row.origin.place == f"q.jsonl, line {row.position + 1}"
        assert (row.id, row.pair.chosen) == (f"q{row.position}", "It is 7")


@given(places=st.lists(st.one_of(st.text(), st.integers(0).map("f.jsonl, line {}".format)), max_size=8))
def test_a_place_of_any_words_is_kept(places: list[str]) -> None:
    def row(number: int, place: str) -> Row:
        given = Origin(source="mine", place=place, labelled_by="human")
        pair = Pair(method="given", chosen=f"{number}", rejected="no")
        return Row(id=f"p{number}", position=number, turns=(Turn(role="user", content="hi"),), pair=pair, origin=given)

    source = SourceRows([row(number, place) for number, place in enumerate(places)], with_pairs=False)
    seats = [source.take(row(number, "elsewhere")) for number in range(len(places))]
    assert [seat and seat.position for seat in seats] == list(range(len(places)))
    assert [seat and seat.place for seat in seats] == places
