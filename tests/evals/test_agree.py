"""`stj agree` as a user and a program see it: tables, JSON, one line for an error, and pairs that other commands take."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stj.cli import main
from stj.config import HeldoutConfig
from stj.errors import ConfigError
from stj.evals.agree import agree_settings
from stj.evals.benchmarks.refs import benchmark_ref
from stj.sources.heldout import read_pairs
from stj.sources.responses import read_labels

ROOT = Path(__file__).parents[2]
Output = Callable[..., tuple[int, str, str]]

ANNA = "AABBABABtuAABBABABt"
BOB_ = "AABBABABttABBBAAABA"
CARL = "AABBtBAutuAABAABuBB"
NAMES = {"A": "A", "B": "B", "t": "tie", "u": "unsure"}


def rows(name: str, labels: str) -> list[dict[str, Any]]:
    """What an annotator writes: a row a pair, in two subsets."""
    return [
        {
            "id": number,
            "instruction": f"Question {number}?",
            "response_a": f"No. {number}",
            "response_b": f"Yes. {number}",
            "subset": "odd" if number % 2 else "even",
            "annotator": name,
            "label": NAMES[label],
        }
        for number, label in enumerate(labels)
    ]


def written(file: Path, records: Sequence[object]) -> str:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    given = (("anna", ANNA), ("bob", BOB_), ("carl", CARL))
    return [written(tmp_path / f"{name}.jsonl", rows(name, labels)) for name, labels in given]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Output:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["agree", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def figures(run: Output, *words: str) -> dict[str, Any]:
    code, out, err = run(*words, "--json")
    assert (code, err.count("\n")) == (0, 1 if "--out" in words else 0)
    record: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return record


def test_the_json_has_every_figure_with_its_interval(files: list[str], run: Output) -> None:
    record = figures(run, *files)
    assert (record["pairs"], record["unsure"], record["replaced"], record["labels"]) == (19, 4, 0, ["A", "tie", "B"])
    assert list(record["groups"]) == ["even", "odd"]
    assert list(record["annotators"]) == ["anna", "bob", "carl"]
    assert sum(group["labels"] for group in record["groups"].values()) == record["overall"]["labels"] == 19 * 3 - 4
    assert [two["annotators"] for two in record["overall"]["kappas"]] == [["anna", "bob"], ["anna", "carl"], ["bob", "carl"]]
    whole = [record["overall"], *record["groups"].values(), *record["annotators"].values(), *record["overall"]["kappas"]]
    for part in whole:
        for name, ends in part["ci95"].items():
            assert ends is None or ends[0] <= part[name] <= ends[1]
            assert (ends is None) == (name in part["undefined"] or f"ci95.{name}" in part["undefined"])
    bob = record["annotators"]["bob"]
    assert (bob["labels"], bob["unsure"], bob["shares"]["tie"]) == (19, 0, pytest.approx(2 / 19))
    assert "aggregation" not in record


def test_the_tables_fit_a_terminal_and_explain_their_dashes(files: list[str], run: Output) -> None:
    code, out, err = run(*files, "aggregate=dawid_skene")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in (
        "overall",
        "even",
        "odd",
        "alpha",
        "kappa",
        "anna, bob",
        "with the others'",
        "estimated",
        "fewer than 10 pairs",
    ):
        assert words in out
    assert "19 pairs, 3 annotators, 53 labels, 4 unsure" in out.splitlines()
    assert out.splitlines()[-1].startswith("dawid_skene: A ")


def test_longest_names_and_numbers_still_fit(tmp_path: Path, run: Output) -> None:
    labels = [
        {"id": n, "category": "c" * 90, "annotators": {f"{'x' * 90}{who}": "AB"[(n + n // 7 * who) % 2] for who in range(3)}}
        for n in range(1_500)
    ]
    code, out, _ = run(written(tmp_path / "rows.jsonl", labels), "by=category", "aggregate=dawid_skene")
    assert code == 0
    assert [f"xxxxxxxx…xxxxxx{who}" in out for who in range(3)] == [True] * 3
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_many_groups_and_annotators_are_only_in_the_json(tmp_path: Path, run: Output) -> None:
    labels = [
        {"id": n, "subset": f"s{n % 41}", "annotators": {f"ann{n % 50}": "A", f"ann{(n + 1) % 50}": "AB"[n % 2]}}
        for n in range(400)
    ]
    file = written(tmp_path / "rows.jsonl", labels)
    out = run(file)[1]
    assert "41 groups: their figures are in the JSON, --json" in out
    assert "50 annotators: their figures are in the JSON, --json" in out
    assert len(out.splitlines()) < 30
    record = figures(run, file)
    assert (len(record["groups"]), len(record["annotators"])) == (41, 50)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"anna": "AB" * 10}, "all 20 labels are by one annotator, 'anna'; agreement needs two or more: give the files of the"),
        ({"anna": "AB" * 10, "bob": "u" * 20}, "all 20 labels are by one annotator, 'anna'"),
        (
            {"anna": "t" * 20, "bob": "t" * 20},
            "all 40 labels are 'tie'; if all are equal, agreement beyond chance has no",
        ),
        ({"anna": "A" * 9, "bob": "u" + "A" * 8}, "all 17 labels are 'A'; if all are equal"),
        ({"anna": "u" * 20, "bob": "u" * 20}, "of 20 pairs none has a label other than 'unsure': nothing to compare"),
    ],
)
def test_labels_that_cannot_be_compared_are_one_line(labels: dict[str, str], message: str, tmp_path: Path, run: Output) -> None:
    file = written(tmp_path / "rows.jsonl", [row for name, given in labels.items() for row in rows(name, given)])
    out = tmp_path / "out.jsonl"
    for words in ([file], [file, "--json"], [file, "aggregate=dawid_skene", "--out", str(out)]):
        code, printed, err = run(*words)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert f"{file}: {message}" in err
    assert not out.exists()


def test_annotators_without_a_pair_in_common_are_refused(tmp_path: Path, run: Output) -> None:
    anna = written(tmp_path / "anna.jsonl", rows("anna", "ABAB"))
    bob = written(tmp_path / "bob.jsonl", [row | {"id": f"b{row['id']}"} for row in rows("bob", "ABAB")])
    code, _, err = run(anna, bob)
    assert code == 2
    assert "no pair has labels by two annotators, so none can be compared; a pair has the same id, and the same subset" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["by=subset"], "no file given; name the files of two or more annotators"),
        (["nowhere.jsonl"], "FILE=nowhere.jsonl: no such file or directory"),
        (["{}", "aggregate=mean"], "aggregate=mean: must be majority or dawid_skene"),
        (["{}", "agregate=majority"], "did you mean 'aggregate'?"),
        (["{}", "by="], "by=: `stj agree` takes by=FIELD, labels=SET, aggregate=METHOD and order=ORDER"),
        (["{}", "order=rank"], "order=rank: must be nominal or ordinal"),
        (
            ["{}", "order=ordinal", "labels=any"],
            "order=ordinal: the order of labels=any is not known; list them from low to high",
        ),
        (["{}", "labels=yes"], "labels=yes: must be pair, any, or two or more labels as yes,no"),
        (["{}", "by=topic"], "has this field; the fields of the first row are 'id', 'instruction'"),
        (["{}", "labels=A,B"], "line 9: field 'label' is str 'tie'; it must be one of 'A', 'B' or 'unsure'"),
        (["{}", "--out", "{}"], "the command reads {}, and would write over it or into it; name another file"),
        (["{}", "--out", "/nowhere/out.jsonl"], "--out /nowhere/out.jsonl: the directory /nowhere does not exist"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], message: str, files: list[str], run: Output) -> None:
    code, out, err = run(*(word.format(files[0]) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message.format(files[0]) in err


def test_an_empty_file_and_an_empty_directory_are_refused(tmp_path: Path, run: Output) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    for name, message in (("empty", "the directory holds no file to read"), ("empty.jsonl", "holds no annotations")):
        code, _, err = run(str(tmp_path / name))
        assert (code, err.count("\n")) == (2, 1)
        assert message in err


def test_settings_are_read_from_words() -> None:
    settings = agree_settings(["by=turn", "labels=no,yes", "aggregate=dawid_skene"])
    assert (settings.by, settings.allowed.names, settings.aggregate) == ("turn", ("no", "yes"), "dawid_skene")
    with pytest.raises(ConfigError, match=r"seed=1: `stj agree` takes by=FIELD"):
        agree_settings(["seed=1"])


def test_out_holds_pairs_that_every_other_command_takes(files: list[str], tmp_path: Path, run: Output) -> None:
    out = str(tmp_path / "labelled.jsonl")
    _, _, err = run(*files, "--out", out)
    assert err == f"stj: wrote {out}: 19 pairs, 1 of them without a winner\n"
    pairs = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert pairs[0] == {
        "id": 0,
        "subset": "even",
        "instruction": "Question 0?",
        "response_a": "No. 0",
        "response_b": "Yes. 0",
        "winner": "A",
        "probability": 1.0,
        "annotators": {"anna": "A", "bob": "A", "carl": "A"},
    }
    winners = {pair["id"]: pair["winner"] for pair in pairs}
    assert [number for number, winner in winners.items() if winner == "tie"] == [8, 9]  # 9: one tie, two unsure
    assert [number for number, winner in winners.items() if winner is None] == [18]
    assert pairs[9]["annotators"] == {"anna": "unsure", "bob": "tie", "carl": "unsure"}

    evaluated = list(benchmark_ref(f"pairs:{out}").rows(None))
    assert [row.dropped for row in evaluated if row.dropped] == ["human_tie", "human_tie", "no_winner"]
    assert all(row.pair and row.pair.chosen.startswith("Yes" if winners[row.position] == "B" else "No") for row in evaluated)
    heldout = list(read_pairs(HeldoutConfig(path=out)))
    assert [row.dropped for row in heldout] == [row.dropped for row in evaluated]
    labels = read_labels(out)
    assert [label.winner for label in labels.values()] == [None if winner == "tie" else winner for winner in winners.values()]


def test_out_can_be_read_again(files: list[str], tmp_path: Path, run: Output) -> None:
    out = str(tmp_path / "labelled.jsonl")
    first = figures(run, *files, "aggregate=dawid_skene", "--out", out)
    again = figures(run, out, "aggregate=dawid_skene")
    assert {**again, "files": first["files"]} == first
    posterior = [json.loads(line)["probability"] for line in Path(out).read_text().splitlines()]
    assert all(share is None or 1 / 3 < share <= 1 for share in posterior)


@pytest.mark.slow
def test_out_is_whole_or_not_there(files: list[str], tmp_path: Path) -> None:
    """The system refuses to write more than 1,000 bytes to a file."""
    out = tmp_path / "labelled.jsonl"
    out.write_text("what was there\n")
    code = (
        "import resource, sys; from stj.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))\n"
        f"sys.exit(main(['agree', *{files!r}, '--out', {str(out)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "cannot write: File too large" in ran.stderr
    assert out.read_text() == "what was there\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.jsonl", "bob.jsonl", "carl.jsonl", "labelled.jsonl"]


def test_out_may_be_a_link(files: list[str], tmp_path: Path, run: Output) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert run(*files, "--out", str(tmp_path / "link.jsonl"))[0] == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len((tmp_path / "real.jsonl").read_text().splitlines()) == 19


@pytest.mark.slow
def test_out_may_be_a_pipe(files: list[str]) -> None:
    words = [sys.executable, "-m", "stj.cli", "agree", *files, "--json", "--out", "/dev/stderr"]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert len([line for line in ran.stderr.splitlines() if line.startswith('{"id"')]) == 19
    assert json.loads(ran.stdout)["pairs"] == 19


def test_labels_without_texts_are_no_pairs_and_said_so(tmp_path: Path, run: Output) -> None:
    given = [{"id": n, "annotators": ["yes", "yes" if n % 3 else "no"]} for n in range(12)]
    out = str(tmp_path / "out.jsonl")
    _, _, err = run(written(tmp_path / "rows.jsonl", given), "labels=any", "--out", out)
    assert "12 pairs, 4 of them without a label; 12 have no response_a and response_b, so no judge can read them" in err
    assert json.loads(Path(out).read_text().splitlines()[0]) == {
        "id": 0,
        "label": None,
        "probability": None,
        "annotators": {"1": "yes", "2": "no"},
    }


@pytest.mark.slow
def test_it_needs_neither_ray_nor_torch(files: list[str]) -> None:
    code = (
        "import sys; from stj.cli import main\n"
        f"assert main(['agree', *{files!r}, 'aggregate=dawid_skene']) == 0\n"
        "print(sorted({'ray', 'torch', 'vllm', 'datasets', 'transformers', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_xstest_s_two_annotators(test_data: Path, run: Output) -> None:
    """443 of 450 agree, by the file's own column."""
    file = str(test_data / "xstest_gpt4" / "xstest_v2_completions_gpt4_gpteval.csv")
    record = figures(run, file, "labels=any", "by=type")
    assert record["overall"]["agreement"] == pytest.approx(443 / 450)
    assert record["overall"]["kappas"][0]["kappa"] == pytest.approx(record["overall"]["alpha"], abs=1e-3)
    assert len(record["groups"]) == 18
    assert {group["pairs"] for group in record["groups"].values()} == {25}


@pytest.mark.slow
def test_mt_bench_s_people(test_data: Path, run: Output) -> None:
    """The paper's Table 5 has 63% for people with each other, ties included, for the first turn of all questions."""
    file = str(test_data / "mtbench_human_odd" / "human.jsonl")
    record = figures(run, file, "by=turn", "aggregate=dawid_skene")
    assert record["groups"]["1"]["agreement"] == pytest.approx(0.63, abs=0.03)
    assert len(record["annotators"]) == 65


def test_a_category_with_one_pair_has_no_number_of_chance(files: list[str], tmp_path: Path, run: Output) -> None:
    alone = [
        {"id": "x", "category": "rare", "annotator": name, "label": label} for name, label in (("anna", "A"), ("bob", "B"))
    ]
    rare = figures(run, *files, written(tmp_path / "rare.jsonl", alone))["groups"]["rare"]
    assert (rare["pairs"], rare["agreement"], rare["alpha"], rare["kappas"][0]["kappa"]) == (1, 0.0, None, None)
    assert rare["undefined"] == {"alpha": "a single pair"}
    assert rare["ci95"]["agreement"] == [0.0, pytest.approx(0.975)]
