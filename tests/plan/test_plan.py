"""The plan against known figures."""

import json
import math
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stj.config import Config, JudgeConfig, ModelConfig
from stj.config_loader import load
from stj.errors import SourceError
from stj.models.shapes import Shape, shape_of
from stj.models.zero import ZeroSizes
from stj.plan import Plan, plan
from stj.plan.assumptions import Assumptions
from stj.plan.cost import GivenPairs
from stj.plan.memory import kv_room
from stj.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


def planned(*overrides: str, files: tuple[str, ...] = ("paper.yaml",)) -> Plan:
    return plan(load([CONF / name for name in files], overrides))


def shape(path: str) -> Shape:
    known = shape_of(ModelConfig(path=path))
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("path", "parameters", "active"),
    [
        ("meta-llama/Meta-Llama-3-70B-Instruct", 70.6e9, 70.6e9),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03e9, 8.03e9),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", 140.6e9, 39.1e9),
    ],
)
def test_published_sizes(path: str, parameters: float, active: float) -> None:
    assert shape(path).parameters == pytest.approx(parameters, rel=0.005)
    assert shape(path).active_parameters == pytest.approx(active, rel=0.005)


def test_a_local_config_json_gives_the_shape(tmp_path: Path) -> None:
    config = {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "vocab_size": 1000,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    tiny = shape(str(tmp_path))
    assert (tiny.kv_heads, tiny.head_dim) == (6, 32)
    assert tiny.parameters == 1000 * 192 + 4 * (4 * 192 * 192 + 3 * 192 * 512 + 2 * 192) + 192


def test_a_mixture_of_equal_layers_is_known_and_others_are_not_guessed(tmp_path: Path) -> None:
    config = {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "mlp_only_layers": [],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    mixture = shape(str(tmp_path))  # Qwen3-30B-A3B: 30.5B parameters, 3.3B for a token
    assert mixture.parameters == pytest.approx(30.5e9, rel=0.005)
    assert mixture.active_parameters == pytest.approx(3.3e9, rel=0.02)
    for other in ({"n_shared_experts": 1}, {"decoder_sparse_step": 2}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **other}))
        assert shape_of(ModelConfig(path=str(tmp_path))) is None


@pytest.mark.parametrize("content", ["{}", "not json", "[1]"])
def test_a_config_json_without_a_shape_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert shape_of(ModelConfig(path=str(tmp_path))) is None


def test_the_70b_needs_four_gpus_of_80_gb() -> None:
    seed = planned().roles[2]
    assert seed.weights_gb * seed.gpus == pytest.approx(141, rel=0.005)
    assert seed.kv_bytes_per_token == 327_680
    assert seed.fits
    too_small = planned("models.seed.tensor_parallel_size=2").roles[2]
    assert not too_small.fits
    assert too_small.remedy == "set models.seed.tensor_parallel_size=4"
    assert "DOES NOT FIT: set models.seed.tensor_parallel_size=4" in too_small.line()


def test_a_larger_batch_leaves_less_room_for_the_cache_as_measured() -> None:
    """Qwen3-8B on an RTX 4090: room for 40,464 tokens if vLLM reads 2,048 at once, for 36,720 if it reads 8,192."""
    shape = Shape(layers=36, hidden=4096, mlp=12_288, heads=32, kv_heads=8, head_dim=128, vocab=151_936)
    model = ModelConfig(path="Qwen/Qwen3-8B", max_model_len=2048)
    small, usual = (
        kv_room(shape, model, load([], ["hardware.gpu_memory_gb=24", f"engine.max_num_seqs={sequences}"]))
        for sequences in (1, 256)
    )
    assert small - usual == pytest.approx(40_464 - 36_720, rel=0.01)


def test_the_70b_needs_two_gpus_of_141_gb() -> None:
    files = ("paper.yaml", "hardware/8xh200-141.yaml")
    assert planned("models.seed.tensor_parallel_size=2", files=files).roles[2].fits
    assert planned("models.seed.tensor_parallel_size=1", files=files).roles[2].remedy.endswith("=2")


def test_a_replica_that_no_machine_holds() -> None:
    role = planned(files=("paper.yaml", "hardware/1x80gb.yaml")).roles[2]
    assert role.remedy == "models.seed.tensor_parallel_size=4 GPUs, and a machine has 1: lower it or take larger machines"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (
            ("models.seed.tensor_parallel_size=8", "models.seed.pipeline_parallel_size=2"),
            "models.seed.tensor_parallel_size=8 x models.seed.pipeline_parallel_size=2 are 16 GPUs, and a machine has 8: lower "
            "it or take larger machines",
        ),
        (
            ("models.seed.path=nobody/unknown", "models.seed.tensor_parallel_size=16"),
            "models.seed.tensor_parallel_size=16 GPUs, and a machine has 8: lower it or take larger machines",
        ),
        (
            ("models.seed.tensor_parallel_size=1", "models.seed.pipeline_parallel_size=100", "hardware.gpus=256"),
            "models.seed.pipeline_parallel_size=100 is more than the model's 80 layers: lower it",
        ),
        (
            ("models.seed.tensor_parallel_size=3",),
            "models.seed.tensor_parallel_size=3 must divide the model's 64 attention heads and 8 KV heads",
        ),
        (
            ("engine.gpu_memory_utilization=0.4",),
            "set models.seed.tensor_parallel_size=8, or engine.gpu_memory_utilization=0.9",
        ),
        (("engine.gpu_memory_utilization=0.1",), "set engine.gpu_memory_utilization=0.9"),
        (
            ("engine.gpu_memory_utilization=0.1", "models.seed.tensor_parallel_size=2"),
            "set models.seed.tensor_parallel_size=4 and engine.gpu_memory_utilization=0.9",
        ),
        (
            ("models.seed.tensor_parallel_size=1", "models.seed.pipeline_parallel_size=8", "hardware.gpu_memory_gb=16"),
            "take larger machines, or lower models.seed.max_model_len",
        ),
    ],
)
def test_an_engine_that_no_machine_holds_says_which_setting_is_wrong(words: tuple[str, ...], remedy: str) -> None:
    planned_run = planned(*words)
    assert planned_run.roles[2].remedy == remedy
    assert f"DOES NOT FIT: {remedy}" in planned_run.roles[2].line()
    assert not planned_run.fits


def test_training_states_activations_and_logits_of_the_70b() -> None:
    training = planned().training
    assert training is not None
    assert training.states_gb * training.ranks == pytest.approx(1130, rel=0.005)
    assert training.logits_gb == pytest.approx(0.42, rel=0.01)
    at_work = 68.5 * 8192  # what one layer keeps and its gradients, in bytes a token (tests/plan/test_activations.py)
    assert training.activations_gb == pytest.approx((1.31e6 + at_work) * 8192 / 1e9, rel=0.01)
    assert training.fits


def test_the_settings_that_spare_the_network_are_counted() -> None:
    """A second copy on each machine of eight, gradients in bf16, and what DeepSpeed is set to gather and to sum."""
    plain, copied, bf16, given = (
        planned(*words).training
        for words in (
            ("train.gradient_dtype=fp32",),
            ("train.gradient_dtype=fp32", "train.shard_within_machine=true"),
            ("train.gradient_dtype=bf16",),
            (
                "train.gradient_dtype=fp32",
                "train.deepspeed={zero_optimization: {reduce_bucket_size: 100000000, stage3_max_live_parameters: 5e9}}",
            ),
        )
    )
    assert plain is not None
    assert copied is not None
    assert bf16 is not None
    assert given is not None
    assert copied.copy_gb == pytest.approx(2 * 70.55 / 8, rel=0.001)
    assert copied.rank_gb == pytest.approx(plain.rank_gb + copied.copy_gb)
    assert "18 second copy of the weights" in copied.line()
    assert not copied.fits  # on 80 GB
    assert plain.update_gb - bf16.update_gb == pytest.approx(1.0)  # half of a bucket of 500M
    embedding = 128_256 * 8192  # larger than the bucket: it is padded in bf16 before it is summed
    assert plain.gradients_gb - bf16.gradients_gb == pytest.approx(1.0 - 2 * embedding / 1e9)
    assert plain.update_gb - given.update_gb == pytest.approx(1.6)
    assert given.gathered_gb == pytest.approx(10)


@pytest.mark.parametrize(
    ("workers", "gpus", "copies"),
    [(8, 8, 4 + 0.5), (32, 8, 4 + 6 / 8 + 2 / 32), (32, 1, 4 + 6 + 2 / 32), (1, 8, 4 + 4)],
)
def test_sums_in_bf16_take_more_copies_the_fewer_ranks_a_machine_has(workers: int, gpus: int, copies: float) -> None:
    words = (f"train.workers={workers}", f"hardware.gpus={gpus}", "models.seed.path=meta-llama/Meta-Llama-3-8B")
    bucket = "train.deepspeed={zero_optimization: {reduce_bucket_size: 4000000000}}"  # Large beside the padded embedding.
    training = planned(*words, bucket, "train.gradient_dtype=bf16").training
    assert training is not None
    sums, layer = 2 * 8.03 / workers, 2 * 0.2181
    assert training.gradients_gb - layer - sums == pytest.approx(4 * (2 + copies), rel=0.001)  # 2 is the bucket itself


@pytest.mark.slow
def test_one_machine_has_no_second_copy() -> None:
    for words in (("train.workers=8",), ("hardware.gpus=1",)):
        training = planned("train.shard_within_machine=true", *words).training
        assert training is not None
        assert training.copy_gb == 0


def test_large_layers_are_gathered_twice_and_counted() -> None:
    """A layer of Mixtral's is larger than what DeepSpeed keeps by default."""
    mixtral, llama = shape("mistralai/Mixtral-8x22B-Instruct-v0.1"), shape("meta-llama/Meta-Llama-3-8B")
    layer = mixtral.layer_parameters(8)
    assert ZeroSizes.of(layer, TrainConfig()).stage3_max_reuse_distance == pytest.approx(2.2 * layer)
    assert ZeroSizes.of(llama.layer_parameters(1), TrainConfig()).stage3_max_reuse_distance == 1e9
    training = planned("models.seed.path=mistralai/Mixtral-8x22B-Instruct-v0.1").training
    assert training is not None
    assert training.gathered_gb == pytest.approx(2 * 2.2 * layer / 1e9)


def test_the_70b_s_export_gathers_one_tensor_at_a_time() -> None:
    """The largest is the embedding, 128,256 words of 8,192 numbers in bf16; in Mixtral, a layer's gates and inputs."""
    for path, largest in (("meta-llama/Meta-Llama-3-70B-Instruct", 2.1), ("mistralai/Mixtral-8x22B-Instruct-v0.1", 3.2)):
        training = planned(f"models.seed.path={path}", "train.workers=64").training
        assert training is not None
        bucket = 1.0  # 500M gradients in bf16
        sums = 2 * shape(path).parameters / 64 / 1e9  # In fp32; 2 bytes of each are among the states.
        assert training.export_gb == pytest.approx(bucket + sums + largest, rel=0.01)
        assert training.export_gb < training.rank_gb - training.states_gb


def test_an_offloaded_optimizer_leaves_the_gpu_its_weights_and_the_bucket() -> None:
    training = planned("train.offload=optimizer").training
    assert training is not None
    assert training.states_gb * training.ranks == pytest.approx(141, rel=0.005)
    assert training.update_gb == pytest.approx(1.0)


@pytest.mark.slow
def test_adapters_leave_a_rank_the_frozen_weights_and_little_else() -> None:
    whole, adapters = (planned("train.workers=8", *words).training for words in ((), ("train.lora={}",)))
    assert whole is not None
    assert adapters is not None
    # Rank 16 on the seven matrices of each of 80 layers.
    heads, mlp = 2 * (8192 + 8192) + 2 * (8192 + 1024), 3 * (8192 + 28672)
    assert (whole.adapters, adapters.adapters) == (0, 16 * 80 * (heads + mlp))
    assert adapters.states_gb == pytest.approx((2 * 70.6 + 16 * 0.207) / 8, rel=0.005)
    assert whole.checkpoint_gb == pytest.approx(12 * 70.6, rel=0.005)
    assert adapters.checkpoint_gb == pytest.approx(12 * 0.207, rel=0.005)
    assert (adapters.model_gb, whole.activations_gb) == (whole.model_gb, adapters.activations_gb)
    assert "adapters of 207.1M parameters" in adapters.line()


@pytest.mark.parametrize(
    ("targets", "of_a_layer"),
    [
        (None, 2 * 128 + 2 * 96 + 3 * 192),
        (("q_proj",), 128),
        (("self_attn.q_proj", "layers.1.mlp.up_proj"), 128 + 192),
        (("c_attn",), 2 * 128 + 2 * 96 + 3 * 192),  # Llama has no such layer: all are counted
    ],
)
def test_targets_decide_how_many_parameters_adapters_have(targets: tuple[str, ...] | None, of_a_layer: int) -> None:
    small = Shape(layers=3, hidden=64, mlp=128, heads=4, kv_heads=2, head_dim=16, vocab=100)
    assert small.adapter_parameters(5, targets) == 5 * 3 * of_a_layer


def test_an_adapter_alone_takes_little_disk_and_merging_takes_memory_only_for_a_whole_model() -> None:
    merged, alone = (
        planned("train.lora={}", f"train.lora.export={export}", files=("laptop_gpu.yaml",)).training
        for export in ("merged", "adapter")
    )
    assert merged is not None
    assert alone is not None
    assert (merged.model_gb, alone.model_gb) == (pytest.approx(16.1, rel=0.005), pytest.approx(0.084, rel=0.005))
    assert merged.export_gb > alone.export_gb


def test_fine_tuning_adapters_takes_three_quarters_of_the_work() -> None:
    """6 FLOPs a frozen parameter instead of 8, if activations are recomputed; and 8 for each parameter of the adapters.

    Attention, 1/30 of the work of all weights, stays as it is.
    """
    whole, adapters = (
        next((phase.gpu_hours or 0) - phase.waiting for phase in planned(*words).phases if phase.name == "fine-tuning")
        for words in ((), ("train.lora={}",))
    )
    assert adapters / whole == pytest.approx(6 / 8 + 0.207 / 70.6, rel=0.02)


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.parametrize("size", ["48M", "48M-bf16"])
def test_real_ranks_hold_what_the_plan_says(size: str) -> None:
    code = f"import json, plan_check; print(json.dumps(plan_check.measure({size!r})))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True)
    measured = json.loads(ran.stdout.splitlines()[-1])
    assert measured["over_plan"] == pytest.approx(1, abs=0.15), measured


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (("train.workers=8",), "raise train.workers, or set train.offload=optimizer"),
        (("train.workers=8", "train.offload=optimizer", "hardware.host_memory_gb=1000"), "the host's memory is too small"),
        (("train.max_num_tokens=65536",), "lower train.max_num_tokens"),
        (("train.activation_checkpointing=false",), "lower train.max_num_tokens"),
        (("train.activation_checkpointing_every=2",), "set train.activation_checkpointing_every=1, or lower train.max_num_tok"),
        (("train.shard_within_machine=true",), "set train.shard_within_machine=false"),
        (
            ("train.workers=28",),
            "train.gradient_dtype=bf16 needs equally many ranks on each machine, and train.workers=28 have 8, 8, 8, 4 ranks on "
            "theirs: set train.workers to a multiple of a machine's GPUs, or train.gradient_dtype=fp32",
        ),
        (
            ("train.workers=12", "train.gradient_dtype=fp32", "train.shard_within_machine=true"),
            "train.shard_within_machine=true needs equally many ranks on each machine, and train.workers=12 have 8, 4 ranks",
        ),
        (
            ("train.workers=12", "train.shard_within_machine=true"),
            "train.shard_within_machine=true and train.gradient_dtype=bf16 need equally many ranks on each machine, and "
            "train.workers=12 have 8, 4 ranks on theirs: set train.workers to a multiple of a machine's GPUs, or "
            "train.shard_within_machine=false and train.gradient_dtype=fp32",
        ),
        (("train.shard_within_machine=true", "train.workers=16"), "raise train.workers, or set train.offload=optimizer"),
        (("models.seed.path=mistralai/Mixtral-8x22B-Instruct-v0.1", "train.workers=64"), "each rank loads the whole mixture"),
    ],
)
def test_training_that_does_not_fit_says_what_to_change(overrides: tuple[str, ...], remedy: str) -> None:
    training = planned(*overrides).training
    assert training is not None
    assert not training.fits
    assert training.remedy.startswith(remedy)


def test_many_machines_of_unequal_ranks_are_not_listed_one_by_one() -> None:
    training = planned("train.workers=1003").training
    assert training is not None
    assert "train.workers=1003 have 3 to 8 ranks on theirs: " in training.remedy


@pytest.mark.parametrize("words", [("train.workers=7",), ("train.workers=24",), ("train.workers=3", "hardware.gpus=1")])
def test_ranks_of_one_machine_or_equally_many_on_each_are_not_uneven(words: tuple[str, ...]) -> None:
    training = planned("train.shard_within_machine=true", "train.lora={}", *words).training
    assert training is not None
    assert "equally many" not in training.remedy


def test_a_model_larger_than_the_memory_of_a_machine_without_gpus_does_not_fit() -> None:
    seed = planned("models.seed.path=meta-llama/Meta-Llama-3-8B", files=("mini.yaml",)).roles[-1]
    assert seed.remedy == "take a machine with more memory"
    assert seed.line().endswith("DOES NOT FIT: take a machine with more memory")


def test_one_gpu_trains_the_8b_with_its_optimizer_on_the_host() -> None:
    training = planned(files=("small.yaml",)).training
    assert training is not None
    assert training.fits
    assert training.host_gb == pytest.approx(128, rel=0.01)


def test_a_mixture_is_in_host_memory_once_a_rank_while_it_loads() -> None:
    mixture = ("models.seed.path=mistralai/Mixtral-8x22B-Instruct-v0.1", "train.workers=128", "hardware.host_memory_gb=2300")
    training = planned(*mixture).training
    assert training is not None
    assert training.fits
    assert training.host_gb == pytest.approx(8 * 2 * 140.6, rel=0.005)
    assert "and 2,250 GB of host memory a machine" in training.line()
    dense = planned().training
    assert dense is not None
    assert dense.host_gb == 0


def test_draws_until_the_first_right_judgment() -> None:
    assumed = Assumptions(right=0.5)
    assert assumed.kept(2) == 0.75
    assert assumed.draws(JudgeConfig(samples=2)) == 1.5
    assert Assumptions(right=0.7).draws(JudgeConfig()) == pytest.approx(1 / 0.7, rel=1e-6)


def test_draws_until_a_right_and_a_wrong_judgment() -> None:
    rng, right = random.Random(0), 0.7
    drawn = [[rng.random() < right for _ in range(5)] for _ in range(20_000)]
    until = [next((i for i in range(1, 5) if len(set(judgments[:i])) == 2), 5) for judgments in drawn]
    judge = JudgeConfig(samples=5, sampling="first_pair")
    assert Assumptions(right=right).draws(judge) == pytest.approx(sum(until) / len(until), rel=0.02)
    both = sum(len(set(judgments)) == 2 for judgments in drawn) / len(drawn)
    assert Assumptions(right=right).paired(judge) == pytest.approx(both, rel=0.02)
    assert Assumptions(right=right).paired(replace(judge, sampling="all")) == pytest.approx(both, rel=0.02)
    assert Assumptions().draws(JudgeConfig(sampling="all")) == 15


def test_if_sampling_stops_at_the_first_right_judgment_a_wrong_one_came_before_it() -> None:
    rng, right = random.Random(0), 0.7
    drawn = [[rng.random() < right for _ in range(3)] for _ in range(20_000)]
    both = sum(not judgments[0] and any(judgments) for judgments in drawn) / len(drawn)
    assert Assumptions(right=right).paired(JudgeConfig(samples=3)) == pytest.approx(both, rel=0.02)


def test_the_share_of_pairs_follows_the_sampling_of_their_judge() -> None:
    """A warmed-up model stops at a right and a wrong judgment; a judge's pass stops, by default, at a right one."""
    assert planned("train.objective=dpo").paired == pytest.approx(0.3, abs=0.001)
    assert planned(files=("released.yaml",)).paired == pytest.approx(0.995, abs=0.001)
    assert planned(files=("rise.yaml",)).paired == pytest.approx(0.995, abs=0.001)
    assert planned().paired is None


@pytest.mark.parametrize("file", ["paper.yaml", "mini.yaml"])
def test_a_training_that_would_drop_every_example_does_not_fit(file: str) -> None:
    empty = planned("train.max_seq_len=1", files=(file,))
    assert empty.training is not None
    assert empty.training.remedy == "all examples are longer than train.max_seq_len=1 tokens and dropped: raise it"
    assert not empty.fits
    preferring = planned("train.preference.max_seq_len=9", files=("released.yaml",)).training
    assert preferring is not None
    assert preferring.remedy.startswith("all examples are longer than train.preference.max_seq_len=9 tokens")


@pytest.mark.slow
def test_texts_that_are_too_long_are_dropped() -> None:
    """Compared with drawn lengths: a prompt of 1,800 tokens and two judgments of 500, each with its spread."""
    rng = random.Random(0)

    def draw(mean: float, spread: float) -> float:
        variance = math.log1p(spread**2)
        return rng.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))

    pairs = []
    for _ in range(20_000):
        prompt = 250 + draw(350, 1.0) + draw(600, 0.6) + draw(600, 0.6)
        pairs.append([prompt + draw(500, 0.5), prompt + draw(500, 0.5)])
    for texts, limit in ((1, 4096), (1, 2048), (2, 2048)):
        fit = [pair[:texts] for pair in pairs if max(pair[:texts]) <= limit]
        share, text = Assumptions().fitting(texts, limit)
        assert share == pytest.approx(len(fit) / len(pairs), abs=0.03)
        assert text == pytest.approx(sum(map(sum, fit)) / (texts * len(fit)), rel=0.05)
    released = planned(files=("released.yaml",)).phases
    assert released[-1].line().endswith("69% of examples are longer than train.preference.max_seq_len=2048 tokens and dropped")
    assert released[-2].line().endswith("1% of examples are longer than train.max_seq_len=4096 tokens and dropped")
    longer = planned("train.preference.max_seq_len=8192", "train.max_num_tokens=16384", files=("released.yaml",))
    assert not longer.phases[-1].dropped


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "15% of instructions pass the rule"),
        (("select.categories=null",), "100% of instructions pass, as select.* has no rule"),
        (("select.categories=null", "select.min_complexity=5"), "15% of instructions pass the rule"),
    ],
)
def test_all_instructions_pass_without_a_rule(overrides: tuple[str, ...], words: str) -> None:
    run = planned(*overrides)
    assert f"assuming     {words};" in "\n".join(run.lines())
    read = 20582 / run.assumptions.passing
    assert run.phases[0].tokens_in == pytest.approx(700 * read)


def test_every_pass_and_training_of_a_warm_up_with_selection_is_counted() -> None:
    rise = planned("train.selection.path=package://mini/data/dev.jsonl", "iterations=2", files=("rise.yaml",))
    by_name = {phase.name: phase for phase in rise.phases}
    kinds = ("judged again", "selection", "warm-up", "preference")
    assert [name for name in by_name if name in kinds] == list(kinds)
    assert by_name["judged again"].times == (1, 1)
    assert by_name["judged again"].tokens_out > by_name["judgments 1"].tokens_out  # A wrong judgment takes more draws.
    checkpoints, same = by_name["selection"].times
    assert checkpoints == same
    step = 32 * 8192
    assert checkpoints == math.ceil(by_name["warm-up"].tokens_in / step / 100) + math.ceil(
        by_name["preference"].tokens_in / step / 4 / 100
    )
    assert all(phase.gpu_hours for phase in rise.phases)


def test_preference_training_ends_at_its_steps() -> None:
    short = planned("train.preference.max_steps=10", files=("rise.yaml",)).phases[-1]
    assert short.tokens_in == 10 * 32 * 4 * 8192


def test_the_first_judge_judges_once_and_trained_judges_four_times() -> None:
    phases = {phase.name: phase for phase in planned().phases}
    assert [(name, phase.times) for name, phase in phases.items()] == [
        ("categories", (1, 0, 0, 0, 0)),
        ("pairs", (1, 0, 0, 0, 0)),
        ("judgments 1", (1, 0, 0, 0, 0)),
        ("judgments 2+", (0, 1, 1, 1, 1)),
        ("evaluation", (1, 1, 1, 1, 2)),
        ("benchmarks", (1, 1, 1, 1, 2)),
        ("first starts", (1, 0, 0, 0, 0)),
        ("later starts", (0, 1, 1, 1, 2)),
        ("rank starts", (1, 1, 1, 1, 1)),
        ("checkpoints", (3, 3, 3, 3, 3)),
        ("export", (1, 1, 1, 1, 1)),
        ("fine-tuning", (1, 1, 1, 1, 1)),
    ]
    assert phases["judgments 1"].tokens_in == 20582 * Assumptions().judged


def test_an_iteration_is_the_sum_of_its_phases() -> None:
    held_out = "heldout.path=package://mini/data/heldout.jsonl"
    run = planned(held_out, "benchmarks=[]", "hardware.dollars_per_gpu_hour=2")
    phases = {phase.name: phase for phase in run.phases}
    assert phases["evaluation"].times == (1, 1, 1, 1, 2)  # The last iteration also measures M_5.
    assert [(part.first, part.last) for part in run.iterations] == [(1, 1), (2, 4), (5, 5)]
    middle, last = run.iterations[1:]
    names = ("judgments 2+", "evaluation", "later starts", "rank starts", "checkpoints", "export", "fine-tuning")
    parts = [(phases[name].times[1], phases[name]) for name in names]
    assert middle.tokens_in == pytest.approx(sum(times * part.tokens_in for times, part in parts))
    assert middle.gpu_hours == pytest.approx(sum(times * (part.gpu_hours or 0) for times, part in parts))
    assert middle.dollars == pytest.approx(2 * (middle.gpu_hours or 0))
    assert last.tokens_out == pytest.approx(middle.tokens_out + phases["evaluation"].tokens_out)
    whole = sum((part.last - part.first + 1) * (part.gpu_hours or 0) for part in run.iterations)
    assert f"in all       {whole:,.1f} GPU-hours, ${2 * whole:,.0f}" in run.lines()


def test_benchmarks_of_unknown_size_are_assumed_and_named() -> None:
    a = Assumptions()
    unknown = planned("benchmarks=[rewardbench,pairs:mine.jsonl]")
    [phase] = [phase for phase in unknown.phases if phase.name == "benchmarks"]
    assert phase.tokens_in == 2 * 2 * a.benchmark * a.judged
    assert phase.tokens_out == 2 * 2 * a.benchmark * a.judgment
    assert "3,000 pairs each in heldout.path, rewardbench, pairs:mine.jsonl;" in "\n".join(unknown.lines())
    given = GivenPairs(heldout=0, benchmarks=(("rewardbench", 100, 1), ("helpsteer2", 10, 3)))
    config = load([CONF / "paper.yaml"], [])
    sized = plan(config, given=given)
    [phase] = [phase for phase in sized.phases if phase.name == "benchmarks"]
    assert phase.tokens_in == 2 * 110 * a.judged
    assert phase.tokens_out == 2 * 130 * a.judgment
    assert not [line for line in sized.lines() if "pairs each in" in line]


def test_a_line_of_the_plan_has_one_time_and_then_all_times() -> None:
    line = next(line for line in planned("hardware.dollars_per_gpu_hour=2").lines() if line.startswith("judgments 2+"))
    spent = "6.6 GPU-hours, $13, 12 min on 32 GPUs, bound by engines; 4 times: 26.6 GPU-hours, $53"
    assert line == f"judgments 2+ 37.0M tokens in, 14.7M out, {spent}"
    assert planned(files=("mini.yaml",)).phases[3].line().endswith(" out; 2 times")


def test_dollars_are_hours_at_a_price() -> None:
    priced = planned("hardware.dollars_per_gpu_hour=2").phases[0]
    assert priced.gpu_hours is not None
    assert priced.dollars == 2 * priced.gpu_hours
    assert planned().phases[0].dollars is None


def test_an_unknown_model_leaves_its_lines_open_and_nothing_else() -> None:
    unknown = planned("models.seed.path=nobody/unknown-7b")
    assert unknown.training is None
    assert unknown.fits
    text = "\n".join(unknown.lines())
    assert "seed         nobody/unknown-7b: unknown shape" in text
    assert "models.seed has an unknown shape" in text
    assert unknown.phases[0].gpu_hours is not None
    assert unknown.phases[-1].gpu_hours is None
    (total,) = (line for line in unknown.lines() if line.startswith("in all"))
    assert "at least" in total
    assert total.endswith("fine-tuning, whose shape or price is unknown")


def test_a_cpu_run_has_no_gpu_hours_and_counts_its_own_instructions() -> None:
    mini = planned(files=("mini.yaml",))
    assert all(phase.gpu_hours is None for phase in mini.phases)
    assert mini.phases[0].tokens_out == 30 * 1000
    pairs = mini.phases[2].tokens_in / mini.assumptions.judged
    assert pairs == pytest.approx(617, rel=0.02)  # As in README.md.
    assert not mini.phases[-1].dropped
    assert not any(line.startswith("in all") for line in mini.lines())


def test_the_plan_reports_a_missing_source() -> None:
    with pytest.raises(SourceError, match="no such file"):
        planned("source.path=/nowhere/pool.jsonl")


def test_the_plan_is_json_and_a_line_a_fact() -> None:
    assert json.loads(json.dumps(asdict(planned())))["training"]["ranks"] == 32
    assert all("\n" not in line for line in plan(Config()).lines())


def behind_api(*words: str) -> Plan:
    place = ["endpoint=https://api.example.com/v1", "name=large", *words]
    return planned(*(f"models.generator.{word}" for word in place), "hardware.dollars_per_gpu_hour=2")


def test_a_model_behind_an_api_takes_no_gpu_and_costs_its_tokens() -> None:
    bought = behind_api("dollars_per_million_prompt_tokens=2", "dollars_per_million_output_tokens=10")
    assert bought.fits
    assert "generator    large at https://api.example.com/v1: behind an API, so it takes no GPU" in bought.lines()
    pairs = bought.phases[1]
    assert pairs.gpu_hours == 0
    assert pairs.dollars == pytest.approx((pairs.tokens_in * 2 + pairs.tokens_out * 10) / 1e6)
    (whole,) = (line for line in bought.lines() if line.startswith("in all"))
    assert "at least" not in whole


def test_an_api_without_a_price_leaves_the_sum_open() -> None:
    (whole,) = (line for line in behind_api().lines() if line.startswith("in all"))
    assert whole.endswith("without categories, pairs, whose shape or price is unknown")
