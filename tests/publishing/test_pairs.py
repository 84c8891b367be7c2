"""`stj export --pairs`: what the data set holds, and that `datasets` reads it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from stj.cli import main
from stj.loop.run_folder import RunFolder
from stj.publishing import pairs
from stj.publishing.policies import policies_of
from stj.rows import Origin, Pair, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from tests.conftest import make_row
from tests.finished_run import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("published")
    finished_run(place / "run")
    return place / "run"


@pytest.mark.slow
def test_datasets_reads_the_pairs_of_each_judge(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_ROWS_PER_FILE", 5)
    monkeypatch.setattr(pairs, "_ROWS_AT_ONCE", 2)
    assert main(["export", str(run), str(tmp_path / "out"), "--pairs"]) == 0
    assert "12 judged by M_0, 12 judged by M_1" in capsys.readouterr().out
    assert [path.name for path in sorted((tmp_path / "out/data").iterdir())][:3] == [f"M_0-0000{n}.parquet" for n in range(3)]
    data = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in data.items()} == {"M_0": 12, "M_1": 12}
    rows = {row.id: row for row in map(row_from_dict, read_artifact(Folder.at(run / "iteration_2/judged")).records())}
    for record in data["M_1"]:
        row = rows[record["id"]]
        assert row.pair
        assert (record["chosen"], record["rejected"]) == (row.pair.chosen, row.pair.rejected)
        assert record["turns"] == [{"role": "user", "content": row.turns[0].content}]
        kept = [judgment["text"] for judgment in record["judgments"] if judgment["kept"]]
        assert kept == ([] if row.kept is None else [row.judgments[row.kept].text])
        assert all(
            judgment["right"] == (judgment["verdict"] == judgment["better_shown_as"]) for judgment in record["judgments"]
        )


def test_neither_held_out_pairs_nor_paths_go_along(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), str(tmp_path / "out"), "--pairs"])
    ids = [name for file in (tmp_path / "out/data").iterdir() for name in pq.read_table(file)["id"].to_pylist()]
    assert ids
    assert not any(name.startswith("heldout") for name in ids)
    text = (tmp_path / "out/README.md").read_text()
    assert str(run) not in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert [split["split"] for split in metadata["configs"][0]["data_files"]] == ["M_0", "M_1"]
    assert metadata["size_categories"] == ["n<1K"]
    assert "| synthetic | construction | – | 12 | 12 |" in text


def test_policies_and_sources_are_named_with_their_counts(run: Path) -> None:
    generator, judge = {"path": "/home/me/models/writer/"}, {"path": "org/first"}
    config = {
        "models": {"generator": generator, "first_judge": judge},
        "preferences": [
            {"kind": "gsm8k", "model": {"path": "/home/me/models/policy"}},
            {"kind": "questions", "name": "exam", "model": {"path": "", "endpoint": "https://host/v1", "name": "hosted"}},
            {"kind": "questions", "name": "by the generator", "model": None},
            {"kind": "hh_rlhf"},
        ],
    }
    policies = policies_of(config)
    assert policies == {"gsm8k": "policy", "exam": "hosted", "by the generator": "writer"}
    origin = Origin(source="gsm8k", place="gsm8k:0", labelled_by="final_answer", policy="/home/me/models/policy (abc)")
    row = make_row(origin=origin, pair=Pair(method="sampled_answers", chosen="2", rejected="3"))
    record = pairs.record_of(row, policies)
    assert (record["origin"], record["policy"]) == ("gsm8k", "policy")
    assert "/home/me" not in str(record)
    folder = RunFolder(Folder.at(run))
    folder.config = {**folder.config, **config}
    counts = pairs.SplitCounts(judge="M_0")
    for _ in range(3):
        counts.add(row)
    text = pairs._card(folder, [counts], "org/pairs").decode()
    assert "| gsm8k | final answer | policy | 3 |" in text
    assert "Written by: `writer`" in text
    assert "/home/me" not in text


@pytest.mark.parametrize(
    ("where", "code", "line"), [("nothing", 2, "no run here"), ("new", 1, "no training pairs are judged yet")]
)
def test_what_has_no_pairs_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, code: int, line: str
) -> None:
    finished_run(tmp_path / "new", until="pairs")
    assert main(["export", str(tmp_path / where), str(tmp_path / "out"), "--pairs"]) == code
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_file_of_rows_publishes_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path(finished_run(tmp_path / "broken").folder.path)
    file = next((broken / "iteration_2/judged/rows").glob("part-*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert main(["export", str(broken), str(tmp_path / "out"), "--pairs"]) == 1
    assert "damaged" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}
