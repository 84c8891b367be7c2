"""`stj compare` of whole runs: settings, each judge on the same pairs, and what is not compared."""

import json
import shutil
from pathlib import Path

import pytest

from stj.cli import main
from stj.evals.compare import compare_examples
from stj.loop.compare_runs import same_pairs
from stj.loop.run_folder import RunFolder
from stj.mini import __file__ as mini
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, write_sealed
from tests.finished_run import finished_run, write_pairs_file


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of two and three iterations with a benchmark; from M_2 on the second is right on nothing. Tests only read them."""
    place = tmp_path_factory.mktemp("compared")
    benchmark = f"benchmarks=[{write_pairs_file(place / 'pairs.jsonl')}]"
    finished_run(place / "a", benchmark)
    finished_run(place / "b", benchmark, "iterations=3", "train.lr=0.001", "heldout.samples=5", worse_from=2)
    return place / "a", place / "b"


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[dict[str, object]]]:
    assert main(["compare", *words, "--json"]) == 0
    record: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return record


@pytest.mark.slow
def test_two_runs_are_compared_setting_by_setting_and_judge_by_judge(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = runs
    record = compared(capsys, str(first), str(second))
    assert record["settings"] == ["heldout.samples: 3 -> 5", "iterations: 2 -> 3", "train.lr: 0.0005 -> 0.001"]
    by_name = {str(each["benchmark"]): each for each in record["comparisons"]}
    names = ["M_0", "M_1", "M_2", "M_2/M_3"]
    assert list(by_name) == [f"{what}, {name}" for what in ("held-out", "pairs") for name in names]
    assert by_name["held-out, M_1"]["difference"] == 0
    worse = by_name["held-out, M_2"]
    of_a, of_b = (RunFolder(Folder.at(run)).measured(2) for run in runs)
    assert of_a
    assert of_b
    by_hand = compare_examples("", of_a.results, of_b.results)
    assert (worse["examples"], worse["difference"], worse["ci95"]) == (20, by_hand.difference, list(by_hand.ci95))
    assert (worse["only_a"], worse["only_b"]) == (11, 0)
    changed = worse["changed"]
    assert isinstance(changed, dict)
    assert [row["id"] for row in changed["only_a"]] == sorted(f"heldout/{n}" for n in range(20) if n % 6 <= 2)
    assert record["notes"] == ["held-out pairs were measured with other settings: heldout.samples: 3 -> 5"]


@pytest.mark.slow
def test_the_text_names_settings_figures_and_flipped_rows(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--rows", "2"]) == 0
    out = capsys.readouterr().out
    assert "settings that differ, A -> B: 3\n  heldout.samples: 3 -> 5\n" in out
    assert "held-out, M_2/M_3, right in A, not in B: 11 rows; the first 2" in out
    assert out.count("  heldout/") == 2
    assert "How many sheep are left of 0, heldout?" in out
    assert main(["compare", *map(str, runs), "--wide"]) == 0


def test_the_same_run_differs_in_nothing(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    record = compared(capsys, str(runs[0]), str(runs[0]))
    assert (record["settings"], record["notes"]) == ([], [])
    assert {each["difference"] for each in record["comparisons"]} == {0}


def test_grading_beside_the_pairs_is_no_other_way_to_measure_them(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graded = Path(shutil.copytree(runs[0], tmp_path / "graded"))
    for manifest in graded.rglob("manifest.json"):
        record = read_sealed(folder := Folder.at(manifest.parent), "manifest.json", "")
        if "heldout" in record["key"]:
            record["key"]["heldout"] |= {"grades": "1e07", "grading": {"rubric": "e865"}}
            write_sealed(folder, "manifest.json", record)
    record = compared(capsys, str(runs[0]), str(graded))
    assert [each["benchmark"] for each in record["comparisons"]][:3] == ["held-out, M_0", "held-out, M_1", "held-out, M_2"]
    assert record["notes"] == []


def test_a_setting_that_an_older_version_did_not_have_is_at_its_default(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(runs[0], tmp_path / "old"))
    record = read_sealed(Folder.at(old), "config.json", "")
    for name in ("grading", "preferences", "keep_models"):
        del record["config"][name]
    write_sealed(Folder.at(old), "config.json", record)
    assert compared(capsys, str(runs[0]), str(old))["settings"] == []
    record["config"]["of_a_newer_version"] = "x" * 1000
    write_sealed(Folder.at(old), "config.json", record)
    assert main(["compare", str(runs[0]), str(old)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 130


@pytest.mark.slow
def test_pairs_are_the_same_by_what_they_hold_not_by_their_ids(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.finished_run._FIRST_HELDOUT", 15)
    finished_run(tmp_path / "shifted")
    record = compared(capsys, str(runs[0]), str(tmp_path / "shifted"))
    assert {each["examples"] for each in record["comparisons"]} == {5}
    monkeypatch.setattr("tests.finished_run._FIRST_HELDOUT", 20)
    finished_run(tmp_path / "apart")
    record = compared(capsys, str(runs[0]), str(tmp_path / "apart"))
    assert record["comparisons"] == []
    assert record["notes"] == ["held-out pairs: no judge of both runs was measured on the same ones"]


def test_pairs_with_the_same_texts_are_compared_each_with_itself() -> None:
    """A file may hold a pair twice: crossed over, a run would differ from itself."""
    once, twice = {"a": b"1", "b": b"2", "c": b"2"}, {"c": b"2", "b": b"2", "x": b"2", "y": b"1"}
    assert dict(same_pairs(once, once)) == {"a": "a", "b": "b", "c": "c"}
    assert dict(same_pairs(once, twice)) == {"a": "y", "b": "b", "c": "c"}
    assert dict(same_pairs({"p": b"2"}, twice)) == {"p": "b"}


def test_runs_are_compared_as_far_as_both_have_come(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(tmp_path / "new", until="pairs")
    finished_run(tmp_path / "begun", until="iteration_1/model")
    assert compared(capsys, str(runs[0]), str(tmp_path / "new"))["comparisons"] == []
    names = [each["benchmark"] for each in compared(capsys, str(tmp_path / "begun"), str(runs[0]))["comparisons"]]
    assert names == ["held-out, M_0"]


def test_a_run_and_something_else_are_refused(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([runs[0], runs[1] / "benchmarks_1/pairs"], [Path(mini).parent / "data/heldout.jsonl", runs[0]]):
        assert main(["compare", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert "is a run and" in error
        assert error.count("\n") == 1
