"""The rows that go into a pass: what is known before a start, and what ends the reading later."""

import gzip
import json
import os
from pathlib import Path

import pytest

from stj.errors import ConfigError, SourceError
from stj.loop.inputs import check_inputs, input_findings
from stj.loop.phases import Run
from tests.loop.test_phases import config, rows_into


@pytest.mark.parametrize(
    ("line", "setting", "message"),
    [
        (
            '{"instructions": "x"}',
            "limit=9",
            "no field 'instruction'; the fields there are 'instructions'; did .*all of",
        ),
        ("torn", "limit=9", "line 1, column 1: not JSON .*; all of the first rows are like that"),
        ('{"instruction": "x", "kind": "a"}', "id_field=kind", "line 2: field 'kind' is 'a', which .* too; .*; most of"),
    ],
)
def test_a_source_that_is_misread_is_refused_before_anything_starts(
    tmp_path: Path, line: str, setting: str, message: str
) -> None:
    (tmp_path / "pool.jsonl").write_text(f"{line}\n" * 3)
    source = (f"source.path={tmp_path}/pool.jsonl", "source.kind=instructions", f"source.{setting}")
    with pytest.raises(SourceError, match=message):
        check_inputs(Run(config(tmp_path, *source)).config)


def test_the_check_names_the_first_row_that_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text('{"instruction": "x"}\n{"instruc\n{"instruction": "y"}\n')
    source = (f"source.path={tmp_path}/pool.jsonl", "source.kind=instructions", "source.limit=null")
    [finding] = [found for found in input_findings(Run(config(tmp_path, *source)).config) if found.subject == "source"]
    assert "about 3 rows; 1 of the first 3 cannot be read and are left out" in finding.words
    assert "pool.jsonl, line 2, column 10: not JSON" in finding.words


def test_a_source_that_changes_while_it_is_read_ends_the_pass(tmp_path: Path) -> None:
    """Its rows would be mixed with others, under a key that names neither file."""
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(f'{{"instruction": "{number}"}}\n' for number in range(9)))
    run = Run(config(tmp_path, f"source.path={file}", "source.kind=instructions", "source.limit=null", "heldout.path=null"))
    assert len(list(run.pairs.read_training())) == 9
    reading = run.pairs.read_training()
    next(reading)
    file.write_text(file.read_text() + '{"instruction": "10"}\n')
    with pytest.raises(SourceError, match=r"pool.jsonl: was changed while it was read. Finished rows are kept: once"):
        list(reading)
    with pytest.raises(SourceError, match="was changed while it was read"):
        next(run.pairs.read_training())


def test_an_error_in_the_middle_of_a_source_says_that_finished_rows_are_kept(tmp_path: Path) -> None:
    content = b"".join(json.dumps({"instruction": f"{os.urandom(99).hex()}"}).encode() + b"\n" for _ in range(999))
    (tmp_path / "pool.jsonl.gz").write_bytes(gzip.compress(content)[:-999])
    source = (f"source.path={tmp_path}/pool.jsonl.gz", "source.kind=instructions", "source.limit=null")
    with pytest.raises(SourceError, match=r"gz: cannot be read: .*\. Finished rows are kept: once"):
        list(rows_into(Run(config(tmp_path, *source)).pairs))


def test_pairs_that_no_judge_is_asked_about_are_counted_and_all_of_them_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    rows = [{"q": "2 + 2?", "l": "4", "r": "5", "w": word} for word in ("l", "tie", "", "tie")]
    names = ("heldout.fields={instruction: q, response_a: l, response_b: r, winner: w}", f"heldout.path={file}")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def heldout(*more: str) -> str:
        findings = input_findings(Run(config(tmp_path, *names, *more)).config)
        return next(finding.words for finding in findings if finding.subject == "heldout.path")

    assert heldout() == "4 pairs, not judged: 2 human_tie, 1 no_winner"
    assert heldout("heldout.ties=half") == "4 pairs, not judged: 1 no_winner"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    assert "none of its 3 pairs can be judged (2 human_tie, 1 no_winner)" in heldout()
    with pytest.raises(ConfigError, match="helpsteer2 has fields of its own: leave them out"):
        Run(config(tmp_path, "heldout.path=helpsteer2", "heldout.ties=half"))
