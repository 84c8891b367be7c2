"""The export: what its files hold, what a killed one leaves, and how much memory it takes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import deepspeed
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.model_settings import ChatOptions
from stj.models.chat import check_chat, encode_chat
from stj.models.template import template_of
from stj.models.tokenizer import load_tokenizer
from stj.rows import Turn
from stj.storage.folder import Folder
from stj.train.export import export_adapter, export_model
from stj.train.model import load_engine
from stj.train.weight_files import plan_shards
from stj.train_config import LoraConfig, TrainConfig
from tests.train.conftest import make_tokenizer

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def test_shards_hold_names_in_order_up_to_their_size() -> None:
    sizes = {"a": 400, "b": 500, "c": 200, "d": 2000, "e": 1}
    assert plan_shards(sizes, shard_gb=1e-6) == [["a", "b"], ["c"], ["d"], ["e"]]


def test_a_small_model_is_one_shard() -> None:
    assert plan_shards({"a": 1, "b": 2}, shard_gb=5) == [["a", "b"]]


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mixtral in bf16; its experts are separate in its files, and one parameter in memory."""
    directory = tmp_path_factory.mktemp("mixture")
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        dtype="bfloat16",
    )
    MixtralForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.engine
@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("shard_gb", [1e-6, 1])  # 1 kB: less than most tensors
def test_the_files_hold_the_weights_bit_by_bit_and_are_what_the_manifest_will_say(
    shard_gb: float, mixture: Path, tmp_path: Path
) -> None:
    model = load_engine(mixture, TrainConfig(device="cpu")).module.language_model
    model.register_buffer("scales", torch.tensor([1.5, 2.5]))
    target, seed_files = tmp_path / "model", shutil.copytree(mixture, tmp_path / "seed")
    settings = json.loads((seed_files / "config.json").read_text())
    quantized = settings | {"quantization_config": {"quant_method": "awq"}, "compression_config": {}}
    (seed_files / "config.json").write_text(json.dumps(quantized))
    exported = export_model(model, seed_files, Folder.at(target), shard_gb)
    assert json.loads((target / "config.json").read_text()) == settings
    written, expected = tensors(target), tensors(mixture) | {"scales": torch.tensor([1.5, 2.5])}
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    files = {path.name: path.read_bytes() for path in target.iterdir()}
    digests = {name: (digest.size, digest.sha256) for name, digest in exported.items()}
    assert digests == {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    loaded, seed = (AutoModelForCausalLM.from_pretrained(directory).state_dict() for directory in (target, mixture))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in seed.items())


@pytest.mark.engine
@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("name", ["mixture", "seed_directory"])  # the second has tied embeddings, and weights in fp32
def test_merged_weights_are_the_seed_s_with_their_adapters_and_all_others_the_seed_s_bit_by_bit(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed: Path = request.getfixturevalue(name)
    lora = LoraConfig(rank=4, alpha=12, targets=("q_proj", "layers.1.self_attn.o_proj"))
    model = load_engine(seed, TrainConfig(device="cpu", lora=lora)).module.language_model
    fill_adapters(model)
    export_model(model, seed, Folder.at(tmp_path / "merged"), shard_gb=1e-5)
    export_adapter(model, ModelConfig(path=str(seed), revision="abc"), seed, Folder.at(tmp_path / "adapter"))
    written, before, adapters = (tensors(folder) for folder in (tmp_path / "merged", seed, tmp_path / "adapter"))
    assert written.keys() == before.keys()
    adapted = {f"model.layers.{layer}.self_attn.{part}_proj" for layer, part in ((0, "q"), (1, "q"), (1, "o"))}
    assert adapters.keys() == {f"base_model.model.{layer}.lora_{half}.weight" for layer in adapted for half in "AB"}
    for tensor, weight in written.items():
        layer = tensor.removesuffix(".weight")
        if layer in adapted:
            a, b = (adapters[f"base_model.model.{layer}.lora_{half}.weight"].float() for half in "AB")
            expected = before[tensor].bfloat16().float() + 12 / 4 * (b @ a)
            assert not torch.equal(weight, before[tensor].bfloat16())
            assert torch.allclose(weight.float(), expected, rtol=2**-8, atol=1e-6)  # one rounding to bf16
        else:
            assert torch.equal(weight, before[tensor].bfloat16())
    assert same_answers(tmp_path / "merged", seed, tmp_path / "adapter")


def fill_adapters(model: torch.nn.Module) -> None:
    """Gives B values, as training does."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0):
                parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(1))


def same_answers(merged: Path, seed: Path, adapter: Path) -> bool:
    """Whether transformers loads the whole model, and peft the adapter over the seed, and they compute alike."""
    ids = torch.arange(12)[None]
    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(seed, dtype=torch.float32)
    with torch.no_grad():
        before = base(ids).logits
        first, second = whole(ids).logits, PeftModel.from_pretrained(base, adapter)(ids).logits
    return bool((first - second).norm() < 0.02 * (second - before).norm())


@pytest.mark.engine
@pytest.mark.usefixtures("one_rank")
def test_a_trained_model_keeps_the_date_and_the_variables_of_its_prompts(seed_directory: Path, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    shutil.copytree(seed_directory, seed)
    tokenizer = load_tokenizer(seed)
    tokenizer.chat_template = "{{ strftime_now('%d %b') }}{% if enable_thinking is false %}quick{% endif %}" + template_of(
        tokenizer
    )
    tokenizer.save_pretrained(seed)
    options = ChatOptions(thinking="off", date="2024-03-05")
    model = load_engine(seed, TrainConfig(device="cpu")).module.language_model
    exported = export_model(model, seed, Folder.at(tmp_path / "model"), 1, options)
    trained, turns = load_tokenizer(tmp_path / "model"), [Turn(role="user", content="Hi")]
    assert encode_chat(trained, turns) == encode_chat(tokenizer, turns, options)
    assert tokenizer.decode(encode_chat(trained, turns)).startswith("05 Marquick")
    check_chat(trained, options)
    with pytest.raises(ModelError, match="keeps the date 2024-03-05, with which it was trained"):
        check_chat(trained, ChatOptions(date="2025-01-01"))
    content = (tmp_path / "model/chat_template.jinja").read_bytes()
    assert exported["chat_template.jinja"].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.engine
@pytest.mark.usefixtures("one_rank")
def test_an_export_that_is_killed_is_no_model_and_the_next_one_is(seed_directory: Path, tmp_path: Path) -> None:
    """An older model, with other shards, lay in the place of the killed export."""
    target = tmp_path / "model"
    model = load_engine(seed_directory, TrainConfig(device="cpu")).module.language_model
    export_model(model, seed_directory, Folder.at(target), shard_gb=1)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.train.test_export", str(seed_directory), str(target), str(tmp_path)],
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(target.glob("model-*.safetensors"))
    assert not (target / "config.json").exists()
    assert not (target / "model.safetensors.index.json").exists()
    export_model(model, seed_directory, Folder.at(target), shard_gb=1)
    assert [path.name for path in target.glob("*model*")] == ["model.safetensors"]
    assert not list(target.glob(".*"))
    assert AutoModelForCausalLM.from_pretrained(target).dtype == torch.bfloat16


@pytest.mark.engine
def test_no_rank_holds_more_than_a_shard() -> None:
    code = "import json, export_memory; print(json.dumps(export_memory.measure(layers=2)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    measured = json.loads(ran.stdout.splitlines()[-1])
    assert measured["raw"]["files"] > 1
    assert measured["export_peak_over_shard"] <= 1.1
    assert 2 * measured["raw"]["gathered_bytes"] == measured["raw"]["model_bytes"]


def main(seed: Path, target: Path, folder: Path) -> None:
    """Exports in shards of 1 kB, and is killed while it commits the third one."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    model = load_engine(seed, TrainConfig(device="cpu")).module.language_model
    commits = count()
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(commits) == 2 else None
    export_model(model, seed, Folder.at(target), shard_gb=1e-6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
