"""`stj init`: strange files, models of any size, machines with and without GPUs; the file it writes passes a dry run."""

import csv
import json
import os
import pty
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.config import Config
from stj.config_loader import load
from stj.errors import SourceError
from stj.loop.new_run import _scalar
from stj.loop.new_run_data import UnknownField, look_at_instructions, look_at_pairs
from stj.loop.new_run_fit import machine_for, text_lengths
from stj.pair_fields import PairFields
from stj.plan import plan

SEED = "package://mini/seed_model"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
WORDS = ("why", "does", "the", "court", "need", "a", "second", "signature", "here")
Records = Sequence[dict[str, Any]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    write("pool.csv", [{"lfd": number, "Anfrage": text(number), "Notiz": "x"} for number in range(12)])
    return tmp_path


def text(number: int, length: int = 12) -> str:
    return " ".join(WORDS[(number * 7 + place * 5) % len(WORDS)] for place in range(length)) + f" {number}"


def write(name: str, rows: Records) -> str:
    if name.endswith(".csv"):
        with open(name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(list(rows)), name)
    else:
        Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return name


def made(*words: str, out: str = "my.yaml", instructions: str = "pool.csv", model: str = SEED) -> Config:
    """The config that `stj init` writes; it passes a dry run."""
    assert main(["init", out, "--instructions", instructions, "--model", model, *words]) == 0
    assert main(["run", out, "--dry-run"]) == 0
    return load([out])


def test_the_file_asks_for_no_categories_and_its_commands_are_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = made()
    printed = capsys.readouterr().out
    assert [line.strip() for line in printed.splitlines() if line.startswith("  stj ")] == [
        "stj doctor my.yaml",
        "stj run my.yaml --dry-run",
        "stj run my.yaml",
    ]
    assert (config.select.categories, config.source.instruction_field, config.run_root) == (None, "Anfrage", "runs/my")
    assert (config.engine.device, config.train.device, config.heldout.path) == ("cpu", "cpu", None)
    assert "pairs         none: no judge is measured" in printed
    assert made("--categories", "Coding", "Other", out="two.yaml").select.categories == ("Coding", "Other")


def test_a_file_is_never_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text("seed: 3\n")
    assert main(["init", "my.yaml", "--instructions", "pool.csv", "--model", SEED]) == 2
    assert "my.yaml: exists, and nothing is overwritten" in capsys.readouterr().err
    assert Path("my.yaml").read_text() == "seed: 3\n"


VOTES = ("A", "B", "tie", "", "2")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl", "pairs.parquet"])
def test_three_annotators_ties_and_odd_names(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            **{
                "Fall Nr.": f"f{number}",
                "Frage": text(number),
                "Antwort links": text(number, 30),
                "Antwort rechts": text(number, 20),
            },
            **{f"rater{place}": VOTES[(number + place * place) % len(VOTES)] for place in range(3)},
            "Domain": ("tax", "sale", "rent")[number % 3],
        }
        for number in range(30)
    ]
    heldout = made("--pairs", write(name, rows)).heldout
    assert heldout.fields == PairFields(
        instruction="Frage",
        response_a="Antwort links",
        response_b="Antwort rechts",
        annotators=("rater0", "rater1", "rater2"),
        subset="Domain",
    )
    assert " of 30 pairs count (" in (out := capsys.readouterr().out)
    assert "no_winner); 3 subsets" in out


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"instruction": "q w", "chosen": "x y", "rejected": "y x"}, {}),
        ({"prompt": "q w", "response_a": "x y", "response_b": "y x", "winner": "A", "id": 1}, {}),
        ({"prompt": [{"role": "user", "content": "q"}], "response_a": "x y", "response_b": "y x", "label": 2}, {}),
        (
            {"query": "q w", "answerA": "x y", "answerB": "y x", "verdict": "B"},
            {"instruction": "query", "response_a": "answerA", "response_b": "answerB", "winner": "verdict"},
        ),
        (
            {"user query": "q w", "output_1": "x y", "output_2": "y x", "preferred_by": "tie"},
            {"instruction": "user query", "response_a": "output_1", "response_b": "output_2", "winner": "preferred_by"},
        ),
        (
            {"question": "q w", "good_answer": "x y", "bad_answer": "y x"},
            {"instruction": "question", "chosen": "good_answer", "rejected": "bad_answer"},
        ),
        (
            {"model_a": "gpt", "model_b": "llama", "prompt": "q w", "reply_a": "x y", "reply_b": "y x", "winner": "model_a"},
            {"response_a": "reply_a", "response_b": "reply_b", "winner": "winner"},
        ),
        (
            {"prompt": "q w", "response_1": "x y", "response_2": "y x", "annotators": {"anna": "A"}},
            {"response_a": "response_1", "response_b": "response_2"},
        ),
    ],
)
def test_fields_are_told_by_names_and_values(here: Path, row: dict[str, Any], names: dict[str, str]) -> None:
    rows = [
        {name: f"{value} {number}" if isinstance(value, str) and " " in value else value for name, value in row.items()}
        for number in range(12)
    ]
    rows = [{**each, "id": number} if "id" in each else each for number, each in enumerate(rows)]
    rows[0] |= {name: "A" for name, value in row.items() if value == "tie"}
    seen = look_at_pairs(write("pairs.jsonl", rows), {})
    assert (seen.names, seen.pairs) == (PairFields(**names), 12)  # type: ignore[arg-type]


ASKED = ("日本の首都はどこですか", "Wie heißt die Hauptstadt von Peru?", "Какая столица у Грузии?")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"№": "q-1", "body": {"Frage": ASKED, "lang": "de"}}, "body.Frage"),  # an id is not taken for the text
        ({"№": "q-1", "Anfrage": ASKED}, "Anfrage"),  # Japanese has no spaces
        ({"Wort": "Peru"}, "Wort"),
        ({"№": "q-1", "body": {"Frage": ASKED, "note": "two words"}}, None),
    ],
)
def test_the_field_of_the_instruction_is_the_one_that_holds_sentences(
    here: Path, row: dict[str, Any], field: str | None
) -> None:
    def value(given: Any, number: int) -> Any:
        if isinstance(given, dict):
            return {name: value(member, number) for name, member in given.items()}
        return given[number % len(given)] if isinstance(given, tuple) else given

    file = write("pool.jsonl", [value(row, number) for number in range(6)])
    assert look_at_instructions(file, None).field == field


def test_members_are_told_with_labels_that_name_them(here: Path) -> None:
    rows = [
        {
            "q": text(n),
            "cand": {"left": text(n, 20), "right": text(n, 21)},
            "ann": {"anna": "left", "ben": ["right", "left"][n % 2]},
        }
        for n in range(12)
    ]
    seen = look_at_pairs(write("pairs.jsonl", rows), {})
    assert seen.names == PairFields(
        instruction="q", response_a="cand.left", response_b="cand.right", annotators=("ann.anna", "ann.ben")
    )
    assert seen.dropped == {"no_winner": 6}


def test_what_cannot_be_told_is_said_with_the_fields_that_are_there(here: Path) -> None:
    rows = [{"x": text(number), "y": text(number + 1), "z": text(number + 2)} for number in range(12)]
    file = write("odd.jsonl", rows)
    with pytest.raises(UnknownField, match=r"the two responses; the fields there are 'x', 'y', 'z'. Name it: --pair-fields"):
        look_at_pairs(file, {})
    with pytest.raises(UnknownField, match="which response is better"):
        look_at_pairs(file, {"response_a": "x", "response_b": "y"})
    with pytest.raises(SourceError, match="no field 'w'; the fields there are 'x', 'y', 'z'"):
        look_at_pairs(file, {"response_a": "x", "response_b": "w"})
    assert look_at_pairs(file, {"chosen": "x", "rejected": "y"}).names.instruction == "z"
    assert look_at_instructions(file, None).field is None
    assert main(["init", "--instructions", file, "--model", SEED]) == 2
    assert not Path("run.yaml").exists()


def test_pairs_without_any_winner_are_refused(here: Path) -> None:
    rows = [{"prompt": text(n), "response_a": text(n, 20), "response_b": text(n, 21), "winner": "tie"} for n in range(12)]
    with pytest.raises(SourceError, match="none of its 12 pairs has a better response"):
        look_at_pairs(write("ties.jsonl", rows), {})


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
@pytest.mark.parametrize("memory", [24, 80])
def test_an_8b_model_fits_on_any_number_of_gpus(here: Path, gpus: int, memory: int) -> None:
    config = made("--gpus", str(gpus), "--gpu-memory", str(memory), model=LLAMA)
    assert plan(config).fits
    assert (config.train.workers, config.hardware.gpus, config.hardware.gpu_memory_gb) == (gpus, gpus, memory)
    assert config.engine.max_replicas * config.models.seed.tensor_parallel_size == gpus
    if memory == 80 and gpus >= 4:
        assert (config.train.lora, config.train.offload) == (None, "none")


def test_a_hub_that_does_not_answer_is_said_and_its_names_are_taken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api = ("--endpoint", "http://host:8000/v1", "--endpoint-name", "big", "--key-variable", "BIG_KEY")
    config = made("--field", "text", "--gpus", "8", *api, instructions="org/data", model="org/unknown-13b")
    assert (config.source.path, config.source.instruction_field) == ("org/data", "text")
    assert (config.models.generator.name, config.models.first_judge.key_variable) == ("big", "BIG_KEY")
    assert (config.models.seed.path, config.models.generator.path) == ("org/unknown-13b", "")
    printed = capsys.readouterr().out
    assert "not seen, as the hub did not answer" in printed
    assert "of unknown shape" in printed


@pytest.mark.slow
def test_another_generator_is_a_model_of_its_own(here: Path) -> None:
    config = made("--generator", "meta-llama/Meta-Llama-3-70B-Instruct", "--gpus", "8", model=LLAMA)
    assert config.models.generator == config.models.first_judge
    assert (config.models.generator.tensor_parallel_size, config.models.seed.tensor_parallel_size) == (4, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--instructions is missing"),
        (["--instructions", "no.jsonl"], "source.path=no.jsonl: no such file"),
        (["--instructions", "pool.csv"], "--model is missing"),
        (["--instructions", "pool.csv", "--field", "Anfragen"], "no field 'Anfragen'; the fields there are 'lfd', 'Anfrage'"),
        (["--instructions", "pool.csv", "--model", "./none"], "./none"),
        (["--instructions", "pool.csv", "--model", SEED, "--pairs", "pool.csv"], "no field is known to hold the two responses"),
        (["--instructions", "pool.csv", "--model", SEED, "--gpus", "999"], "--gpus 999: must be"),
        (["--instructions", "pool.csv", "--model", SEED, "--endpoint-name", "x"], "there is no --endpoint"),
        (["--instructions", "pool.csv", "--model", SEED, "--endpoint", "ftp://x", "--endpoint-name", "y"], "not a URL"),
        (["--instructions", "pool.csv", "--model", SEED, "--categories", "Cooking"], "no such category"),
        (["--gpus", "0", "--gpu-memory", "40"], "--gpu-memory 40 GB: --gpus 0 takes none"),
        (["--pair-fields", "{winner: x}"], "--pair-fields {winner: x}: there is no --pairs"),
        (["--instructions", "pool.csv", "--model", SEED, "--pair-fields", "{winnr: x}", "--pairs", "p"], "unknown key"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(
    here: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "new.yaml", *words]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("new.yaml").exists()


@pytest.mark.parametrize("out", ["run.txt", "no/such/run.yaml"])
def test_a_place_where_no_config_can_be_is_refused(here: Path, out: str) -> None:
    assert main(["init", out, "--instructions", "pool.csv", "--model", SEED]) == 2


def test_a_place_of_any_name_is_written_so_that_yaml_reads_it_again(here: Path) -> None:
    folder = Path("a: #b 'c' \"ü\"")
    folder.mkdir()
    place = str(folder / "on.csv")
    Path("pool.csv").rename(place)
    assert made(instructions=place).source.path == place


@given(
    st.one_of(st.text(), st.sampled_from(["no", "1e3", "0x1f", "2024-01-01", "~", "a: b", "a:", "null", "1_000", ".5", "y"]))
)
def test_text_is_read_again_as_it_was(value: str) -> None:
    assert yaml.safe_load(f"key: [{_scalar(value)}]")["key"] == [value]


@given(context=st.integers(1024, 9000))
def test_lengths_leave_room_for_a_prompt(context: int) -> None:
    lengths = text_lengths(context)
    written = [tokens for group in lengths.values() for tokens in _tokens(group)]
    assert not written or sum(written[:3]) <= 0.65 * context


def _tokens(group: dict[str, Any]) -> list[int]:
    return [value["max_tokens"] for value in group.values()]


def test_the_machine_that_is_not_here_has_the_memory_of_a_usual_one() -> None:
    assert machine_for(0, None).gpus == 0
    assert (machine_for(64, None).seen, machine_for(64, 141).gpu_memory_gb) == (False, 141)


@pytest.mark.slow
def test_questions_on_a_terminal_are_asked_again_until_an_answer_is_right(here: Path) -> None:
    answers = ["nowhere.jsonl", "pool.csv", SEED, "none", "0"]
    shown, code = _on_a_terminal([sys.executable, "-m", "stj.cli", "init", "asked.yaml"], answers)
    assert code == 0, shown
    assert "no such file or directory" in shown
    assert shown.count("Your instructions (") == 2
    assert load(["asked.yaml"]).source.path == "pool.csv"


def _on_a_terminal(command: Sequence[str], answers: Sequence[str]) -> tuple[str, int]:
    """What a command shows that is answered whenever it waits behind a question, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], list(command))
    shown, left, deadline = "", list(answers), time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the other side is closed
                break
        if left and shown.rstrip(" ").endswith((":", "]")) and shown.rstrip(" ")[-1] == ":":
            os.write(terminal, f"{left.pop(0)}\n".encode())
            shown += " "
            time.sleep(0.1)
    return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
