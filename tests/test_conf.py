"""Every file of conf/ loads, begins with its command and its cost, and holds the paper's numbers."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from stj.config import REASONING_CATEGORIES, Config, ModelConfig
from stj.config_loader import load, load_model
from stj.loop.planning import run_plan
from stj.plan import plan
from stj.sources import read_rows
from stj.sources.heldout import read_pairs

CONF = Path(__file__).parent.parent / "conf"
RUNS = sorted(CONF.glob("*.yaml"))
HARDWARE = sorted((CONF / "hardware").glob("*.yaml"))
MACHINES = ["1x80gb", "8xa100-80", "8xh100-80", "8xh200-141", "laptop"]
NETWORKS = ["efa-400", "ethernet-100", "infiniband-1600", "infiniband-3200", "tcpx-1000"]
MODELS = sorted((CONF / "models").glob("*.yaml"))
ONE_MODEL = {
    *("flow_judge", "laptop_gpu", "mini", "mini_grades", "prometheus1", "prometheus2", "small", "table10"),
    *(f"table6_{ratio}" for ratio in ("1_1", "1_2", "1_5", "2_1", "5_1")),
}
PAPER_TABLES = {
    "iterations",
    "source.kind",
    "source.path",
    "source.near_duplicates",
    "source.keep_out",
    "select.categories",
    "models.generator.path",
    "models.generator.tensor_parallel_size",
    "models.first_judge.path",
    "models.first_judge.tensor_parallel_size",
    "models.seed.path",
    "models.seed.tensor_parallel_size",
    "pairs.method",
    "judge.samples",
    "judge.decoding.temperature",
    "judge.decoding.top_p",
    "heldout.path",
    "heldout.samples",
    "heldout.decoding.temperature",
    "heldout.decoding.top_p",
    "heldout.greedy",
}
"""Defaults that paper.yaml repeats for its readers, besides all of train."""


def name_of(path: Path) -> str:
    return str(path.relative_to(CONF))


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    values: dict[str, Any] = {}
    for key, value in node.items():
        values |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return values


def test_the_configurations_are_there() -> None:
    assert [path.stem for path in RUNS] == [
        *("flow_judge", "laptop_gpu", "mini", "mini_attacks", "mini_grades", "paper", "prometheus1", "prometheus2"),
        *("released", "rise", "small", "table10", "table12", "table4_coding", "table4_math", "table4_safety", "table5"),
        *(f"table6_{ratio}" for ratio in ("1_1", "1_2", "1_5", "2_1", "5_1")),
    ]
    assert [path.stem for path in HARDWARE] == sorted([*MACHINES, *NETWORKS])


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_a_run_loads_and_its_models_fit(path: Path) -> None:
    assert plan(load([path])).fits


@pytest.mark.parametrize("path", MODELS, ids=name_of)
def test_a_model_loads_and_its_head_gives_command_and_cost(path: Path) -> None:
    assert load_model(str(path), ModelConfig()).label
    head = path.read_text().split("\n\n")[0]
    assert "#   stj " in head
    assert "# Cost: " in head


@pytest.mark.slow
@pytest.mark.parametrize("path", HARDWARE, ids=name_of)
def test_a_machine_loads_over_a_run_that_fits_it(path: Path) -> None:
    run = {"laptop": "mini.yaml", "1x80gb": "small.yaml"}.get(path.stem, "paper.yaml")
    assert plan(load([CONF / run, path])).fits


@pytest.mark.parametrize("path", RUNS + HARDWARE, ids=name_of)
def test_a_file_opens_with_its_command_and_its_cost(path: Path) -> None:
    opening = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert re.search(r"^#   (stj|ray job submit) ", opening, re.MULTILINE)
    assert "\n# Cost" in opening


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in RUNS + HARDWARE if "mini" not in path.stem and path.stem != "laptop"], ids=name_of
)
def test_the_cost_that_a_file_states_is_the_plan_s(path: Path) -> None:
    opening = path.read_text().split("\n\n")[0]
    command = next(line.split() for line in opening.splitlines() if re.search(r"stj \w+ conf/", line))
    config = load([CONF.parent / word for word in command if word.endswith(".yaml")])
    stated = re.search(r"Cost: .*?about ([\d,]+) (?:GPU-)?hours", opening)
    assert stated
    assert int(stated[1].replace(",", "")) == planned_hours(config)


def planned_hours(config: Config) -> Any:
    """The plan's GPU-hours, to compare with a rounded number."""
    hours = sum(phase.gpu_hours * sum(phase.times) for phase in run_plan(config).phases if phase.gpu_hours)
    return pytest.approx(hours, rel=0.015, abs=0.6)


@pytest.mark.slow
def test_the_costs_on_plain_machines_of_google_are_the_plan_s() -> None:
    text = " ".join((CONF.parent / "cluster" / "README.md").read_text().split())
    stated = re.search(
        r"`hardware\.network_gbs=(\d+)`, `conf/paper\.yaml` takes about (\d+) GPU-hours instead of (\d+)\."
        r"[^.]*\.yaml` and GKE can use GPUDirect-TCPX \((\d+)\)",
        text,
    )
    assert stated
    network, plain, fastest, tcpx = (int(number) for number in stated.groups())
    files = [CONF / "paper.yaml", CONF / "hardware" / "8xh100-80.yaml"]
    assert plain == planned_hours(load(files, [f"hardware.network_gbs={network}"]))
    assert fastest == planned_hours(load(files))
    assert tcpx == planned_hours(load([*files, CONF / "hardware" / "tcpx-1000.yaml"]))


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNS + HARDWARE, ids=name_of)
def test_a_file_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    defaults = leaves(OmegaConf.to_container(OmegaConf.structured(Config)))
    written = leaves(OmegaConf.to_container(OmegaConf.load(path)))
    same = {key for key, value in written.items() if str(defaults.get(key)) == str(value) and "hardware." not in key}
    # Models' defaults differ by role, and a file writes one model for several roles.
    same = {key for key in same if not (path.stem in ONE_MODEL and key.startswith("models."))}
    tables = {"paper": ("train.", *PAPER_TABLES), "released": ("train.preference.", "iterations")}  # Repeated for readers.
    assert not {key for key in same if not key.startswith(tables.get(path.stem, ()))}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_named_by_its_speed_in_gigabits_and_changes_nothing_else(name: str) -> None:
    machine = CONF / "hardware" / "8xh100-80.yaml"
    with_it = load([CONF / "paper.yaml", machine, CONF / "hardware" / f"{name}.yaml"])
    assert with_it.hardware.network_gbs == int(name.rpartition("-")[2]) / 8
    without = load([CONF / "paper.yaml", machine])
    assert replace(with_it.hardware, network_gbs=without.hardware.network_gbs) == without.hardware


def test_an_8b_learns_on_one_card_of_24_gb_only_by_adapters() -> None:
    config = load([CONF / "laptop_gpu.yaml"])
    assert (config.hardware.gpus, config.hardware.gpu_memory_gb, config.train.workers) == (1, 24, 1)
    training = plan(config).training
    assert training is not None
    assert training.fits
    assert training.line().endswith(": fits")
    assert training.rank_gb < 0.95 * 24
    assert not plan(load([CONF / "laptop_gpu.yaml"], ["train.lora=null"])).fits


def test_table_7() -> None:
    train = load([CONF / "paper.yaml"]).train
    assert (train.max_seq_len, train.max_num_tokens, train.activation_checkpointing) == (4096, 8192, True)
    assert (train.lr, train.betas, train.final_lr_ratio) == (1e-6, (0.9, 0.95), 0.2)
    assert (train.weight_decay, train.warmup_steps, train.gradient_accumulation) == (0.1, 100, 1)
    assert (train.max_epochs, train.checkpoint_every_steps, train.seed) == (2, 100, 2)


def test_the_released_recipe() -> None:
    train = load([CONF / "released.yaml"]).train
    assert (train.objective, train.lr, train.lr * train.final_lr_ratio) == ("sft_then_dpo", 1e-6, pytest.approx(1e-7))
    pairs = train.stage("dpo")
    assert (pairs.preference.beta, pairs.preference.nll_scale, pairs.lr) == (0.1, 1.5, 5.5e-8)
    assert (pairs.max_seq_len, pairs.gradient_accumulation, pairs.max_grad_norm, pairs.max_steps) == (2048, 4, 1.0, 3000)


def test_the_recipes_that_warm_up_as_the_paper_trains_exchange_gradients_as_it_does() -> None:
    assert {load([CONF / f"{name}.yaml"]).train.gradient_dtype for name in ("paper", "released", "rise")} == {"bf16"}


def test_rise_warms_up_and_then_prefers_among_what_it_misjudges() -> None:
    config = load([CONF / "rise.yaml"])
    assert (config.train.objective, config.train.preference.source, config.iterations) == ("sft_then_dpo", "warm_up", 1)
    assert config.select.limit == 2 * 20_000


@pytest.mark.parametrize("ratio", ["1_1", "1_2", "1_5", "2_1", "5_1"])
def test_table_6_mixes_synthetic_pairs_of_llama_3_with_helpsteer2_s_in_the_ratio_of_its_name(ratio: str) -> None:
    config = load([CONF / f"table6_{ratio}.yaml"])
    weights = {source.kind: source.weight for source in config.preferences}
    synthetic, labelled = map(int, ratio.split("_"))
    assert weights == {"synthetic": synthetic, "helpsteer2": labelled}
    assert {config.models.generator.path, config.models.seed.path} == {"meta-llama/Meta-Llama-3-70B-Instruct"}
    assert (config.iterations, config.select.limit, config.select.categories) == (1, 20_582, REASONING_CATEGORIES)


def test_tables_4_and_5_train_on_one_source_each() -> None:
    def kinds(name: str) -> list[str]:
        return [source.kind for source in load([CONF / f"{name}.yaml"]).preferences]

    assert [kinds(f"table4_{name}") for name in ("safety", "math", "coding")] == [["hh_rlhf"], ["gsm8k"], []]
    assert load([CONF / "table4_coding.yaml"]).select.categories == ("Coding",)
    assert (kinds("table5"), load([CONF / "table5.yaml"]).iterations) == (["helpsteer2"], 4)


def test_tables_10_and_12_change_who_judges_first() -> None:
    tenth, twelfth = (load([CONF / f"{name}.yaml"]).models for name in ("table10", "table12"))
    assert (tenth.generator.path, tenth.first_judge) == ("mistralai/Mixtral-8x22B-Instruct-v0.1", tenth.seed)
    assert twelfth.first_judge.path == "runs/table5/iteration_1/model"
    assert load([CONF / "table12.yaml"]).iterations == 2


def test_table_8() -> None:
    config = load([CONF / "paper.yaml"])
    assert (config.judge.decoding.temperature, config.judge.decoding.top_p) == (0.7, 0.9)
    assert (config.heldout.decoding.temperature, config.heldout.decoding.top_p) == (0.7, 0.9)
    assert (config.heldout.samples, config.heldout.greedy) == (3, True)


def test_section_4_1() -> None:
    config = load([CONF / "paper.yaml"])
    assert (config.iterations, config.judge.samples, config.select.limit) == (5, 15, 20582)
    assert config.source.path == "allenai/WildChat-1M"
    assert config.models.generator.path == config.models.first_judge.path == "mistralai/Mixtral-8x22B-Instruct-v0.1"
    assert config.models.seed.path == "meta-llama/Meta-Llama-3-70B-Instruct"
    assert config.models.seed.dtype == "bfloat16"
    assert config.pairs.method == "modified_instruction"


def test_the_paper_s_numbers_are_the_defaults() -> None:
    paper = load([CONF / "paper.yaml"])
    assert replace(paper.train, gradient_dtype="fp32") == Config().train  # What machines exchange is not in the paper.
    assert replace(paper.judge, decoding=Config().judge.decoding) == Config().judge


def test_the_mini_run_shares_one_engine_and_reads_what_stj_carries() -> None:
    mini = load([CONF / "mini.yaml"])
    assert mini.models.generator == mini.models.first_judge == mini.models.seed
    assert mini.models.seed.gpus == 1
    assert sum(row.dropped is None for row in read_rows(mini.source)) > 500
    assert sum(row.dropped is None for row in read_pairs(mini.heldout)) > 100
