"""A source that is repaired in the middle of a run: the result is that of a fresh run, and only changed rows are asked."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.errors import ArtifactError
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.loop.status import PhaseState, phase_states
from stj.passes import spec
from stj.passes.spec import Pass
from stj.rows import TRAINING, Row, row_from_dict, rows_to_table
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from tests import ray_here
from tests.kill_driver import MINI, make_engine, train

TORN = '{"instruction": "Question 5'
ROWS = 24


def question(number: int, words: str = "") -> str:
    text = f"Question {number}: how much is {number} + 1{words}?"
    return json.dumps({"instruction": text})


LINES = [question(number) if number != 15 else TORN for number in range(10, 10 + ROWS)]
REPAIRED = [question(15) if line == TORN else line for line in LINES]
REPAIRS: dict[str, list[str]] = {
    "a torn line is repaired": REPAIRED,
    "a line is inserted": [*LINES[:3], question(77), *LINES[3:]],
    "a line is deleted": [*LINES[:8], *LINES[9:]],
    "the lines are in another order": LINES[::-1],
    "a row is edited": [*LINES[:8], question(18, ", please"), *LINES[9:]],
    "all of it": [question(77), *REPAIRED[12:], question(11, ", please"), *REPAIRED[2:11]],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """The questions that engines were asked since the last call."""
    ray_here.install(monkeypatch)
    log = tmp_path / "asked"
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(log))))
    monkeypatch.setattr(TrainingPhase, "run", train)

    def since() -> list[int]:
        numbers = [int(line.split()[2]) for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return numbers

    return since


def config(root: Path, lines: Sequence[str], *overrides: str) -> Config:
    pool = root.parent / f"{root.name}.jsonl"
    pool.write_text("\n".join(lines))
    settings = [f"run_root={root}", f"source.path={pool}", "source.kind=instructions", "source.limit=null"]
    settings += ["heldout.path=null", "iterations=1", "judge.samples=4", "engine.rows_in_flight=8", "engine.max_replicas=1"]
    return load([MINI], [*settings, "engine.min_replicas=1", "select.limit=null", *overrides])


def rows(root: Path, name: str = "pairs") -> list[Row]:
    """The rows of a pass, without what depends on timing: samples that were no longer needed when they ended."""
    records = read_artifact(Folder.at(root / name)).records()
    timing = {"aborted": 0, "surplus_tokens": 0, "output_tokens": 0, "prompt_tokens": 0}
    plain = (replace(row, **timing, detail=_behind_path(row.detail)) for row in map(row_from_dict, records))
    return sorted(plain, key=lambda row: (row.task, row.position))


def _behind_path(detail: str | None) -> str | None:
    return detail and detail.partition(".jsonl")[2]


def break_off(root: Path, name: str = "pairs") -> set[int]:
    """Leaves two thirds of a finished pass, as a kill does, and returns the questions that are finished."""
    artifact = read_artifact(Folder.at(root / name))
    kept = [row for row in map(row_from_dict, artifact.records()) if row.position % 3]
    key = artifact.key
    shutil.rmtree(root)
    artifact = Artifact(Folder.at(root / name), key)
    artifact.begin()
    for start in range(0, len(kept), 5):
        artifact.write_part(f"part-{start}", rows_to_table(kept[start : start + 5]))
    return {_question(row) for row in kept if row.turns}


def _question(row: Row) -> int:
    return int(row.instruction.split()[1].rstrip(":"))


def unchanged(lines: Sequence[str]) -> set[int]:
    """The questions that are in the source before and after its repair."""
    return {int(line.split()[2].rstrip(":")) for line in {*LINES} & {*lines} - {TORN}}


def carried(said: Sequence[object]) -> list[str]:
    """What was said about rows that were carried over."""
    return [str(line) for line in said if "source has changed" in str(line)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("repair", "limit"),
    [
        ("a line is inserted", "6"),
        *(pytest.param(repair, "null", marks=[pytest.mark.long] if repair != "all of it" else []) for repair in REPAIRS),
        pytest.param("all of it", "6", marks=[pytest.mark.long]),
    ],
)
def test_a_repaired_source_gives_the_rows_of_a_fresh_run(
    tmp_path: Path, asked: Callable[[], list[int]], repair: str, limit: str
) -> None:
    lines, root, limited = REPAIRS[repair], tmp_path / "run", f"select.limit={limit}"
    run_all(config(root, LINES, limited), [].append)
    finished = break_off(root) & unchanged(lines)
    asked()
    said: list[object] = []
    run_all(config(root, lines, limited), said.append)
    assert not finished & set(asked()), "asked again for rows that did not change"
    fresh = tmp_path / "fresh"
    run_all(config(fresh, lines, limited), [].append)
    assert rows(root) == rows(fresh)
    [line] = carried(said)
    assert line.startswith(f"pairs: its source has changed: {len(finished)} finished rows are kept, ")
    learned, learned_fresh = (list(read_artifact(Folder.at(run / "iteration_1/examples")).records()) for run in (root, fresh))
    assert learned == learned_fresh


@pytest.mark.slow
def test_a_torn_line_is_counted_and_named(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root, said = tmp_path / "run", list[object]()
    run_all(config(root, LINES), said.append)
    manifest = json.loads((root / "pairs/manifest.json").read_text())
    assert manifest["dropped"]["not_readable"] == 1
    line = next(str(line) for line in said if str(line).startswith("pairs: "))
    assert "1 not_readable" in line
    assert f"WARNING: 1 of 24 rows could not be read; the first: {root}.jsonl, line 6, column 28: not JSON" in line
    [torn] = [row for row in rows(root) if row.dropped == "not_readable"]
    assert (torn.position, torn.id) == (5, "unread/00000005")
    assert str(torn.detail).startswith(", line 6, column 28: not JSON")


@pytest.mark.slow
def test_near_duplicates_are_found_anew(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    near = "source.near_duplicates=0.8"
    words = " and then some more words that make the texts alike, and many more of them, so that they surely are"
    lines = [question(10, words), question(11, words), *LINES[2:]]
    root = tmp_path / "run"
    run_all(config(root, lines, near), [].append)
    assert rows(root)[1].dropped == "near_duplicate"
    finished = break_off(root)
    asked()
    run_all(config(root, lines[1:], near), [].append)
    assert 11 in (now := set(asked()))
    assert not (finished - {10, 11}) & now
    run_all(config(tmp_path / "fresh", lines[1:], near), [].append)
    assert rows(root) == rows(tmp_path / "fresh")


@pytest.mark.slow
def test_later_phases_are_made_again_only_if_the_user_says_so(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root = tmp_path / "run"
    run_all(config(root, LINES, "iterations=2"), [].append)
    asked()
    again = config(root, REPAIRED, "iterations=2")
    before = rows(root)
    with pytest.raises(ArtifactError) as caught:
        run_all(again, [].append)
    said = str(caught.value)
    assert f"{root}/pairs was made from another source (other content: source.path), and later" in said
    assert "rest on it: iteration_1/examples, iteration_1/model, iteration_2/judged and more. Set" in said
    assert "--overwrite: it keeps 23 of its 23 finished rows, which did not change" in said
    assert rows(root) == before
    assert not asked()
    lines: list[object] = []
    run_all(again, lines.append, overwrite=True)
    assert carried(lines)[0].endswith("23 finished rows are kept, 0 are gone or changed, and 1 are to be asked")
    run_all(config(tmp_path / "fresh", REPAIRED, "iterations=2"), [].append)
    for name in ("pairs", "iteration_2/judged"):
        assert rows(root, name) == rows(tmp_path / "fresh", name)


@pytest.mark.slow
def test_judgments_of_a_given_model_are_kept_with_their_pairs(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root, another = tmp_path / "run", "models.generator.max_model_len=1999"  # so that the seed judges in a pass of its own
    run_all(config(root, LINES, another), [].append)
    assert (root / "iteration_1/judged").is_dir()
    for made in ("iteration_1/examples", "iteration_1/model"):
        shutil.rmtree(root / made)
    asked()
    said: list[object] = []
    run_all(config(root, REPAIRED, another), said.append)
    assert set(asked()) == {15}
    assert [line.partition(":")[0] for line in carried(said)] == ["pairs", "iteration_1/judged"]
    run_all(config(tmp_path / "fresh", REPAIRED, another), [].append)
    for name in ("pairs", "iteration_1/judged"):
        assert rows(root, name) == rows(tmp_path / "fresh", name)


@pytest.mark.slow
def test_another_file_under_the_same_name_is_refused(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root = tmp_path / "run"
    run_all(config(root, LINES), [].append)
    break_off(root)
    before = rows(root)
    other = [question(number) for number in range(50, 60)]
    with pytest.raises(
        ArtifactError, match=r"run/pairs was made from another source: only 0 of 1\d finished rows are as they were"
    ):
        run_all(config(root, other), [].append)
    assert rows(root) == before
    run_all(config(root, other), [].append, overwrite=True)
    assert [_question(row) for row in rows(root)] == list(range(50, 60))


@pytest.mark.slow
def test_another_setting_beside_the_source_is_refused_as_before(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root = tmp_path / "run"
    run_all(config(root, LINES), [].append)
    break_off(root)
    with pytest.raises(ArtifactError, match=r"was made with other settings: seed: "):
        run_all(config(root, REPAIRED, "seed=9"), [].append)


@pytest.mark.slow
def test_held_out_pairs_may_be_repaired_too(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    def pairs(last: str) -> str:
        file = tmp_path / "pairs.jsonl"
        texts = [f"Question {number}: which is better?" for number in range(80, 86)]
        records = [{"id": text, "instruction": text, "chosen": "yes", "rejected": "no"} for text in texts]
        file.write_text("\n".join(map(json.dumps, [*records[:-1], {**records[-1], "chosen": last}])))
        return f"heldout.path={file}"

    root = tmp_path / "run"
    run_all(config(root, LINES, pairs("yes")), [].append)
    finished = break_off(root)
    asked()
    repaired = pairs("surely")
    run_all(config(root, LINES, repaired), [].append)
    pairs_asked = {number for number in asked() if number not in range(80, 85)}
    assert 85 in pairs_asked or 85 in finished
    run_all(config(tmp_path / "fresh", LINES, repaired), [].append)
    assert rows(root) == rows(tmp_path / "fresh")
    assert {row.task for row in rows(root)} > {TRAINING}


def pair(number: int, **changes: str) -> dict[str, str]:
    text = f"Question {number}: which is better?"
    return {"id": f"p{number}", "instruction": text, "chosen": f"yes {number}", "rejected": "no", **changes}


PAIRS = [pair(number) for number in range(60, 80)]
PAIR_REPAIRS = {
    "a label is mended": [*PAIRS[:8], pair(68, chosen="no", rejected="yes 68"), *PAIRS[9:]],
    "a line is inserted": [*PAIRS[:3], pair(90), *PAIRS[3:]],
    "a line is deleted": [*PAIRS[:8], *PAIRS[9:]],
    "the lines are in another order": PAIRS[::-1],
    "an id is changed": [*PAIRS[:8], pair(68, id="other"), *PAIRS[9:]],
    "nothing that is read": [{**each, "note": "checked"} for each in PAIRS],
}


def with_pairs(root: Path, pairs: Sequence[dict[str, str]]) -> Config:
    """Pairs of a file, beside synthetic pairs."""
    file = root.parent / f"{root.name}-pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs)))
    return config(root, LINES, f"preferences=[{{}}, {{kind: pairs, path: {file}}}]")


def of_sources(root: Path) -> list[Row]:
    """The rows with the lines of their places, not the files', whose names differ."""
    return [
        row if row.origin is None else replace(row, origin=replace(row.origin, place=row.origin.place.partition(".jsonl")[2]))
        for row in rows(root)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "repair",
    [
        pytest.param(name, marks=[] if name in ("a label is mended", "an id is changed") else [pytest.mark.long])
        for name in PAIR_REPAIRS
    ],
)
def test_a_repaired_file_of_pairs_gives_the_rows_of_a_fresh_run(
    tmp_path: Path, asked: Callable[[], list[int]], repair: str
) -> None:
    pairs, root = PAIR_REPAIRS[repair], tmp_path / "run"
    run_all(with_pairs(root, PAIRS), [].append)
    read = [{name: value for name, value in each.items() if name != "note"} for each in pairs]
    changed = {_number(each) for each in (*PAIRS, *read) if (each in PAIRS) != (each in read)}
    finished = break_off(root) - changed
    asked()
    said: list[object] = []
    run_all(with_pairs(root, pairs), said.append)
    assert not finished & set(asked()), "asked again for rows that did not change"
    run_all(with_pairs(tmp_path / "fresh", pairs), [].append)
    assert of_sources(root) == of_sources(tmp_path / "fresh")
    [line] = carried(said)
    assert line.startswith(f"pairs: its source has changed: {len(finished - {15})} finished rows are kept, ")
    learned, learned_fresh = (
        list(read_artifact(Folder.at(run / "iteration_1/examples")).records()) for run in (root, tmp_path / "fresh")
    )
    assert learned == learned_fresh


def _number(pair: dict[str, str]) -> int:
    return int(pair["instruction"].split()[1].rstrip(":"))


@pytest.mark.slow
def test_another_kind_of_label_is_no_repair(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root = tmp_path / "run"
    run_all(with_pairs(root, PAIRS), [].append)
    break_off(root)
    sources = with_pairs(root, PAIR_REPAIRS["a line is deleted"]).preferences
    human = [replace(source, human=True) if source.kind == "pairs" else source for source in sources]
    with pytest.raises(ArtifactError, match=r"was made with other settings: source\.preferences: "):
        run_all(replace(with_pairs(root, PAIRS), preferences=human), [].append)


@pytest.mark.slow
def test_status_and_a_dry_run_say_what_would_be_kept(tmp_path: Path, asked: Callable[[], list[int]]) -> None:
    root = tmp_path / "run"
    run_all(config(root, LINES), [].append)

    def of_pairs(*, count_kept: bool) -> PhaseState:
        return phase_states(Run(config(root, REPAIRED)).phases, count_kept=count_kept)[0]

    assert of_pairs(count_kept=False).kept == "a start with --overwrite keeps the finished rows that did not change"
    assert of_pairs(count_kept=True).kept == "a start with --overwrite keeps the 23 of 23 finished rows that did not change"
    finished = break_off(root)
    state = of_pairs(count_kept=True)
    kept = f"a start keeps the {len(finished)} of {len(finished)} finished rows that did not change"
    assert (state.state, state.kept) == ("stale", kept)
    assert str(state.line()).endswith(str(state.kept))
