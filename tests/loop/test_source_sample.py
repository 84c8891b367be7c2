"""The plan looks at the first instructions: their lengths, and what share each rule drops, before anything starts."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stj.cli import main
from stj.config import Config, ModelConfig
from stj.config_loader import load
from stj.loop.planning import run_plan
from stj.loop.source_sample import source_sample
from stj.models.token_count import token_counter
from stj.plan.assumptions import Assumptions
from stj.plan.sample import SourceSample, with_sample

ROOT = Path(__file__).parents[2]
SEED = "package://mini/seed_model"


def own(tmp_path: Path, texts: Sequence[object], *settings: str) -> Config:
    """The mini configuration on instructions of one's own."""
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    words = ("source.kind=instructions", "source.instruction_field=question", f"source.path={file}", f"run_root={tmp_path}/run")
    return load([ROOT / "conf" / "mini.yaml"], [*words, *settings])


def test_own_instructions_in_the_mini_world_are_not_planned_to_be_dropped(tmp_path: Path) -> None:
    plan = run_plan(own(tmp_path, [f"Which color does ant number {number} have?" for number in range(20)]))
    assert plan.fits
    assert not any("longer than" in line for line in plan.lines())
    assert plan.assumptions.longest is not None
    assert plan.assumptions.longest < 1024


@pytest.mark.slow
def test_instructions_that_fill_an_example_are_said_to_be_dropped(tmp_path: Path) -> None:
    texts = ["the red ant " * 500] * 15 + ["the red ant"] * 5
    words = "\n".join(run_plan(own(tmp_path, texts)).lines())
    assert "of examples are longer than train.max_seq_len=1024 tokens and dropped" in words
    sample = source_sample(own(tmp_path, texts, *(f"models.{role}.max_model_len=1024" for role in ("generator", "seed"))))
    assert sample is not None
    assert sample.dropped == {"prompt_too_long": 15}


def test_the_sample_says_what_each_rule_drops(tmp_path: Path) -> None:
    """Of 10 rows one is empty, one is no text, three repeat another, and one repeats a held-out pair."""
    held_out = " ".join(f"word{number}" for number in range(14))
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"instruction": held_out, "chosen": "x", "rejected": "y"}) + "\n")
    texts = [
        " ",
        7,
        *["the same long question of four"] * 4,
        held_out,
        *(f"another {number}{'abcdefgh' * number}" for number in range(3)),
    ]
    config = own(
        tmp_path, texts, f"heldout.path={tmp_path}/pairs.jsonl", "source.near_duplicates=0.9", "select.categories=null"
    )
    sample, plan = source_sample(config), run_plan(config)
    assert sample is not None
    assert sample.dropped == {"empty_turn": 1, "content_not_text": 1, "near_duplicate": 3, "benchmark_overlap": 1}
    assert (sample.rows, len(sample.tokens), plan.assumptions.passing) == (10, 4, 0.4)
    [line] = [line for line in plan.lines() if "the rules drop" in line]
    assert "10.0% benchmark_overlap, 10.0% content_not_text, 10.0% empty_turn, 30.0% near_duplicate" in line


@pytest.mark.slow
def test_categories_that_drop_are_said_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(tmp_path, ["q"] * 3)
    words = [f"source.path={tmp_path}/own.jsonl", "source.kind=instructions", "source.instruction_field=question"]
    assert main(["run", str(ROOT / "conf/mini.yaml"), *words, f"run_root={tmp_path}/run", "--dry-run"]) == 0
    assert "select.categories keeps 2 of 15. null keeps all; the plan takes 15% to pass" in capsys.readouterr().out
    assert main(["plan", str(ROOT / "conf/mini.yaml"), *words, "select.categories=null", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["sample"]["rows"] == 3
    assert plan["passing"] == "100% of instructions pass, as select.* has no rule"
    assert not any("generator sorts" in line for line in plan["sample_words"])


def test_a_source_without_any_usable_row_is_planned_without_an_error(tmp_path: Path) -> None:
    plan = run_plan(own(tmp_path, [" "] * 4))
    assert plan.assumptions.passing == 0
    assert "of them the rules drop 100.0% empty_turn before a model is asked" in "\n".join(plan.lines())


def test_the_tokenizer_counts_or_characters_do(tmp_path: Path) -> None:
    exact, estimate = token_counter(ModelConfig(path=SEED)), token_counter(ModelConfig(path="org/not-here"))
    assert exact.exact
    assert exact.tokens(["ant", "the red ant"])[0] < exact.tokens(["the red ant"])[0]
    assert (estimate.exact, estimate.tokens(["", "abcd", "abcde"])) == (False, [0, 1, 2])
    (tmp_path / "tokenizer.json").write_text("{")
    assert not token_counter(ModelConfig(path=str(tmp_path))).exact


@given(tokens=st.lists(st.integers(1, 30_000), min_size=1, max_size=20), limit=st.integers(1, 40_000))
@example(tokens=[290], limit=1)
def test_what_surely_fits_is_never_planned_to_be_dropped(tokens: list[int], limit: int) -> None:
    sample = SourceSample(rows=len(tokens), size=None, tokens=tuple(tokens), prompt=250, exact=True)
    a = with_sample(Assumptions(), sample, Config())
    share, text = a.fitting(1, limit)
    assert a.longest == 250 + max(tokens) + 3 * 2048
    assert share == 1 if a.longest <= limit else 0 <= share <= 1
    assert text > 0


@pytest.mark.parametrize("setting", ["heldout.path=org/mypairs", "source.keep_out=[rewardbench]"])
def test_a_plan_asks_no_hub_and_says_what_it_did_not_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("stj.evals.benchmarks.refs.read_hub", refuse)
    words = run_plan(own(tmp_path, ["Which color does the ant have?"] * 3, setting)).sample_words
    assert any(line.startswith("not looked for: texts on the hub, ") for line in words)
