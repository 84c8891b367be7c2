"""Merges: every number against numpy, the memory they take, what a killed one leaves, and what is refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from stj.cli import main
from stj.config import ModelConfig
from stj.errors import ConfigError, ModelError, StorageFailed
from stj.judging.judge import Judge
from stj.models.check import ModelUse, check_model_use
from stj.models.fetch import held_model
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.train.merge import merge, mix
from stj.use_config import MergeConfig
from tests.models.test_check import SIZES
from tests.train.conftest import SPECIAL, TEMPLATE, llama_config, make_tokenizer

ROOT = Path(__file__).parents[2]
SEED_MODEL = ROOT / "stj/mini/seed_model"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
HALF = MergeConfig()


def make_model(directory: Path, seed: int, dtype: str = "bfloat16", shard: str = "5GB", **changes: Any) -> ModelConfig:
    """A tiny random Llama, whose tokenizer has one token a byte."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(tokenizer, dtype=dtype, **({"vocab_size": 264} | changes))).to(DTYPES[dtype])
    model.save_pretrained(directory, max_shard_size=shard)
    tokenizer.save_pretrained(directory)
    return ModelConfig(path=str(directory))


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelConfig, ModelConfig]:
    """Two Llamas in bf16; the first one's files are several."""
    folder = tmp_path_factory.mktemp("parents")
    return make_model(folder / "a", 1, shard="50KB"), make_model(folder / "b", 2)


def tensors(directory: str | Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in Path(directory).glob("*.safetensors") for name, tensor in load_file(file).items()}


def bits(tensor: torch.Tensor) -> NDArray[Any]:
    """The bits of a tensor's numbers."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def float32(tensor: torch.Tensor) -> NDArray[np.float32]:
    """A tensor in numpy, which has no bf16: its bits are the upper half of a float32's."""
    if tensor.dtype is not torch.bfloat16:
        return tensor.numpy().astype(np.float32)
    return (tensor.view(torch.int16).numpy().astype(np.uint16).astype(np.uint32) << 16).view(np.float32)


def rounded(numbers: NDArray[np.float32], dtype: torch.dtype) -> NDArray[Any]:
    """The bits of float32 numbers, rounded once to a dtype: to the nearest, and of two to the even one."""
    if dtype is torch.bfloat16:
        whole = numbers.reshape(-1).view(np.uint32)
        return ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype(np.uint16).view(np.uint8)
    return numbers.reshape(-1).astype({torch.float16: np.float16, torch.float32: np.float32}[dtype]).view(np.uint8)


def mixed(first: torch.Tensor, second: torch.Tensor, weight: float) -> NDArray[Any]:
    """What a merge must write, by numpy."""
    return rounded(np.float32(weight) * float32(first) + np.float32(1 - weight) * float32(second), first.dtype)


@pytest.mark.slow
@given(
    st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 2), min_size=1),
    st.floats(0, 1).filter(lambda weight: 0 < weight < 1),
    st.sampled_from([*DTYPES.values()]),
    st.sampled_from([*DTYPES.values()]),
)
def test_a_mix_is_that_of_numpy_bit_for_bit(
    pairs: list[tuple[float, float]], weight: float, first: torch.dtype, second: torch.dtype
) -> None:
    a, b = (torch.tensor(numbers) for numbers in zip(*pairs, strict=True))
    a, b = a.to(first), b.to(second)
    assert np.array_equal(bits(mix(a, b, weight)), mixed(a, b, weight))


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.5, 0.3, 1 / 3])
def test_every_weight_of_a_merged_model_is_that_of_numpy(
    weight: float, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.train.merge._NUMBERS_AT_ONCE", 1000)  # many parts to a tensor, and a shorter last one
    merged = merge(*parents, str(tmp_path / "out"), MergeConfig(weight=weight, shard_gb=1e-4))
    first, second, written = (tensors(place) for place in (parents[0].path, parents[1].path, tmp_path / "out"))
    assert written.keys() == first.keys()
    assert len(list((tmp_path / "out").glob("model-*"))) > 1
    for name, tensor in written.items():
        assert (tensor.dtype, tensor.shape) == (first[name].dtype, first[name].shape)
        assert np.array_equal(bits(tensor), mixed(first[name], second[name], weight)), name
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in written.items())
    assert merged.numbers == sum(tensor.numel() for tensor in written.values())
    assert merged.size == 2 * merged.numbers


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "parent"), [(1, 0), (0, 1)])
def test_a_weight_of_1_or_0_gives_one_parent_bit_for_bit(weight: float, parent: int, tmp_path: Path) -> None:
    """Also zeros with a sign, which a sum would lose."""
    models = []
    for number in range(2):
        models.append(make_model(tmp_path / str(number), number))
        weights = tensors(models[-1].path)
        weights["model.norm.weight"][:2] = torch.tensor([-0.0, 0.0])
        save_file(weights, tmp_path / str(number) / "model.safetensors", metadata={"format": "pt"})
    merge(models[0], models[1], str(tmp_path / "out"), MergeConfig(weight=weight))
    expected, written = tensors(models[parent].path), tensors(tmp_path / "out")
    assert written.keys() == expected.keys()
    assert all(np.array_equal(bits(written[name]), bits(tensor)) for name, tensor in expected.items())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What both parents were trained from."""
    pytest.importorskip("mergekit", reason="the extra `merge` is not installed")
    return make_model(tmp_path_factory.mktemp("base") / "base", 3).path


def merged_from(base: str, parents: tuple[ModelConfig, ModelConfig], out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    merge(*parents, str(out), MergeConfig(base=base, **settings))
    return tensors(out)


def test_task_arithmetic_is_that_of_numpy(base: str, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    written = merged_from(base, parents, tmp_path / "out", method="task_arithmetic", weight=0.7)
    first, second, start = (tensors(place) for place in (parents[0].path, parents[1].path, base))
    for name, tensor in written.items():
        a, b, zero = (float32(weights[name]) for weights in (first, second, start))
        expected = zero + (np.float32(0.7) * (a - zero) + np.float32(1 - 0.7) * (b - zero))
        assert np.array_equal(bits(tensor), rounded(expected, torch.bfloat16)), name


@pytest.mark.usefixtures("base")
def test_ties_keeps_the_largest_changes_of_the_sign_that_weighs_more(tmp_path: Path) -> None:
    a, b, c = (make_model(tmp_path / name, seed, dtype="float32") for seed, name in enumerate("abc"))
    written = merged_from(c.path, (a, b), tmp_path / "out", method="ties", weight=0.5, density=0.25)
    first, second, start = (tensors(model.path) for model in (a, b, c))
    compared = []
    for name, tensor in written.items():
        zero = float32(start[name]).reshape(-1)
        changes = [float32(weights[name]).reshape(-1) - zero for weights in (first, second)]
        for change in changes:
            last = np.sort(np.abs(change))[change.size - change.size // 4]
            change[np.abs(change) < last] = 0
        if any(np.count_nonzero(change) != change.size // 4 for change in changes):
            continue  # of equal numbers, no rule says which are kept
        sign = np.where(changes[0] + changes[1] >= 0, 1, -1)
        kept = [np.where(np.sign(change) == sign, change, 0) for change in changes]
        several = np.maximum(sum((part != 0).astype(np.float32) for part in kept), 1)
        assert np.allclose(float32(tensor).reshape(-1), zero + (kept[0] + kept[1]) / several, atol=1e-6)
        compared.append(name)
    assert len(compared) == len(written) - 5  # all but norms, which have not changed


@pytest.mark.slow
def test_dare_keeps_random_changes_by_the_seed_and_the_tensor_s_name(
    base: str, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path
) -> None:
    """All of the weight is on the first parent, so each number is the base's, or its change made larger."""
    settings: dict[str, Any] = {"method": "dare_linear", "weight": 1, "density": 0.3}
    written = merged_from(base, parents, tmp_path / "out", **settings)
    torch.rand(3)  # a generator in another state
    again = merged_from(base, parents, tmp_path / "again", **settings, shard_gb=1e-4)
    other = merged_from(base, parents, tmp_path / "other", **settings, seed=1)
    assert all(torch.equal(again[name], tensor) for name, tensor in written.items())
    assert not all(torch.equal(other[name], tensor) for name, tensor in written.items())
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1)]
    first, start = tensors(parents[0].path), tensors(base)
    dropped = []
    for name in names:
        a, zero, result = (float32(weights[name]) for weights in (first, start, written))
        dropped.append((result == zero) & (a != zero))
        assert abs(dropped[-1].mean() - 0.7) < 0.03
        change, kept = a - zero, (a != zero) & ~dropped[-1]
        scale = np.abs(change).sum() / np.abs(change[kept]).sum()
        assert np.allclose(result[kept], (zero + scale * change)[kept], rtol=2**-8, atol=1e-6)
    assert not np.array_equal(*dropped)


def test_the_manifest_of_a_merge_from_a_base_names_it(
    base: str, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["merge", *(model.path for model in parents), str(tmp_path / "out"), "method=dare_ties", f"base={base}"]
    assert main(words) == 0
    assert f", by dare_ties from {base}: " in capsys.readouterr().out
    model = read_artifact(Folder.at(tmp_path / "out")).manifest()["model"]
    assert (model["method"], model["base"]["path"], model["density"], model["seed"]) == ("dare_ties", base, 0.5, 0)
    assert [parent["path"] for parent in model["parents"]] == [parent.path for parent in parents]
    assert held_model(ModelConfig(path=str(tmp_path / "out"))) == tmp_path / "out"


def test_a_base_of_another_kind_is_refused(base: str, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    edited(other, "config.json", rms_norm_eps=1e-3)
    with pytest.raises(ModelError, match=r"other cannot be merged: their config.json differ in rms_norm_eps, 1e-06 in one"):
        merged_from(str(other), parents, tmp_path / "out", method="ties")


def test_a_method_whose_library_is_missing_is_refused(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "mergekit").exists()])
    monkeypatch.delitem(sys.modules, "mergekit", raising=False)
    with pytest.raises(ConfigError, match=r"method=ties: mergekit computes it, and is not installed: install the extra"):
        merged_from(parents[0].path, parents, tmp_path / "out", method="ties")


def test_other_dtypes_become_the_first_one_s_and_the_manifest_says_so(tmp_path: Path) -> None:
    first, second = make_model(tmp_path / "a", 1), make_model(tmp_path / "b", 2, dtype="float32")
    merged = merge(first, second, str(tmp_path / "out"), HALF)
    a, b, written = (tensors(place) for place in (first.path, second.path, tmp_path / "out"))
    assert all(np.array_equal(bits(tensor), mixed(a[name], b[name], 0.5)) for name, tensor in written.items())
    assert f"numbers in BF16 ({second.path} has F32)" in merged.line()
    manifest = read_artifact(Folder.at(tmp_path / "out")).manifest()
    assert [parent["dtypes"] for parent in manifest["model"]["parents"]] == [["BF16"], ["F32"]]


def test_tied_heads_stay_tied_and_buffers_stay_as_they_are(tmp_path: Path) -> None:
    models = [make_model(tmp_path / str(number), number, tie_word_embeddings=True) for number in range(2)]
    positions = torch.arange(7)
    for model in models:
        file = Path(model.path) / "model.safetensors"
        save_file(load_file(file) | {"model.positions": positions}, file, metadata={"format": "pt"})
    merge(models[0], models[1], str(tmp_path / "out"), HALF)
    written = tensors(tmp_path / "out")
    assert "lm_head.weight" not in written
    assert torch.equal(written["model.positions"], positions)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_the_manifest_names_both_parents_and_every_file(parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(*parents, str(out), MergeConfig(weight=0.25))
    model = read_artifact(Folder.at(out)).manifest()["model"]
    assert [(parent["path"], parent["weight"]) for parent in model["parents"]] == [
        (parents[0].path, 0.25),
        (parents[1].path, 0.75),
    ]
    assert len({parent["identity"] for parent in model["parents"]}) == 2
    assert model["files"].keys() == {path.name for path in out.iterdir()} - {"manifest.json"}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (Path(parents[0].path) / name).read_bytes()
    merged = ModelConfig(path=str(out), max_model_len=2048)
    (finding,) = check_model_use(ModelUse(roles=("models.seed",), model=merged, trained=True, max_seq_len=1024))
    assert finding.ok, finding.words
    assert held_model(merged) == out
    with (out / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(ModelError, match="is damaged or was changed"):
        held_model(merged)


@pytest.mark.slow
def test_models_of_the_package_and_at_uris_are_parents_too(tmp_path: Path) -> None:
    shutil.copytree(SEED_MODEL, tmp_path / "other")
    command = ["merge", "package://mini/seed_model", f"file://{tmp_path}/other", str(tmp_path / "out"), "weight=0.4"]
    assert main(command) == 0
    seed, written = tensors(SEED_MODEL), tensors(tmp_path / "out")
    assert all(np.array_equal(bits(written[name]), mixed(tensor, tensor, 0.4)) for name, tensor in seed.items())


KINDS = ["mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3", "gpt2", "gpt_neox"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_models_of_many_families_are_merged(kind: str, tied: bool, tmp_path: Path) -> None:
    special = {"n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "gpt2" else {}
    ends = {"eos_token_id": 259, "bos_token_id": None}
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        config = CONFIG_MAPPING[kind](**SIZES | special | ends, tie_word_embeddings=tied)
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
    first, second = (ModelConfig(path=str(tmp_path / name)) for name in "ab")
    merge(first, second, str(tmp_path / "out"), HALF)
    a, b, written = (tensors(tmp_path / name) for name in ("a", "b", "out"))
    assert all(np.array_equal(bits(written[name]), mixed(a[name], b[name], 0.5)) for name in a)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.tie_word_embeddings is tied


def test_a_tokenizer_that_a_training_saved_again_is_the_same(parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    """It pads and cuts in another way, which changes no answer."""
    other = tmp_path / "other"
    shutil.copytree(parents[1].path, other)
    tokenizer = AutoTokenizer.from_pretrained(other, padding_side="left", pad_token="<|pad|>")
    tokenizer("text", padding="max_length", truncation=True, max_length=8)
    tokenizer.save_pretrained(other)
    assert json.loads((other / "tokenizer.json").read_text())["truncation"] is not None
    merge(parents[0], ModelConfig(path=str(other)), str(tmp_path / "out"), HALF)


@pytest.mark.slow
def test_parents_on_the_hub_are_named_by_their_commits(parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    """Both are in the cache of a machine without network."""
    commits = "a" * 40, "b" * 40
    for commit, model in zip(commits, parents, strict=True):
        repository = tmp_path / f"hub/models--org--{commit[0]}"
        shutil.copytree(model.path, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(commit)
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "STJ_CACHE": str(tmp_path / "stj")}
    words = [sys.executable, "-m", "stj.cli", "merge", "org/a", "org/b", str(tmp_path / "out")]
    subprocess.run(words, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True)
    named = read_artifact(Folder.at(tmp_path / "out")).manifest()["model"]["parents"]
    assert [(parent["path"], parent["revision"]) for parent in named] == [("org/a", commits[0]), ("org/b", commits[1])]


def test_a_parent_in_a_store_is_fetched(bucket: str, parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    place = Folder.at(bucket) / "parents/a"
    for file in Path(parents[0].path).iterdir():
        place.write(file.name, file.read_bytes())
    merge(ModelConfig(path=place.uri), parents[1], str(tmp_path / "out"), HALF)
    merge(*parents, str(tmp_path / "same"), HALF)
    assert all(torch.equal(tensor, tensors(tmp_path / "same")[name]) for name, tensor in tensors(tmp_path / "out").items())


MEMORY = """
import sys
from pathlib import Path
from stj.config import ModelConfig
from stj.use_config import MergeConfig
from stj.train.merge import merge

def memory(key):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

a, b, big_a, big_b, out = sys.argv[1:]
merge(ModelConfig(path=a), ModelConfig(path=b), out + "/small", MergeConfig(shard_gb=0.05))
Path("/proc/self/clear_refs").write_text("5")  # forgets the highest memory so far, which a child has from its parent
before = memory("VmRSS")
merge(ModelConfig(path=big_a), ModelConfig(path=big_b), out + "/big", MergeConfig(shard_gb=0.05))
print(memory("VmHWM") - before)
"""


@pytest.mark.long
def test_a_merge_takes_the_memory_of_one_file_and_not_of_the_model(tmp_path: Path) -> None:
    """The peak grows by less than a file of 50 MB (26 were measured); parents and the result have more than 200 MB each."""
    small = [make_model(tmp_path / name, seed).path for seed, name in enumerate("ab")]
    wide = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
    big = [make_model(tmp_path / name, seed, shard="5GB", **wide).path for seed, name in enumerate("cd")]
    size = (tmp_path / "c/model.safetensors").stat().st_size
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, *small, *big, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert size > 2e8
    assert len(list((tmp_path / "big").glob("model-*"))) >= 4
    assert int(ran.stdout.splitlines()[-1]) < 5e7


@pytest.mark.long
def test_a_merge_that_is_killed_leaves_no_model_and_the_next_one_makes_it(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path
) -> None:
    """It is killed at every file that it commits, until one comes to its end; each finds what the one before it left."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "tests.train.test_merge", parents[0].path, parents[1].path, str(out)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    kills = [line for line in ran.stdout.splitlines() if line.startswith("killed")]
    assert kills == ["killed: left .out.merging"] * len(kills)
    assert len(kills) > 8
    assert not list(tmp_path.glob(".out.merging/*"))
    assert held_model(ModelConfig(path=str(out))) == out


def kill_at_every_commit(first: str, second: str, out: Path) -> None:
    """Merges in processes that are killed, each one file later, and prints what each leaves."""
    for commit in count():
        child = os.fork()
        if child == 0:
            os.fsync = killing(commit)
            os._exit(main(["merge", first, second, str(out), "shard_gb=0.0001"]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0 or out.exists():  # the last commit is that of the new name
            return
        assert code == -signal.SIGKILL, code
        print("killed: left", *(path.name for path in out.parent.iterdir()), flush=True)


def killing(at: int) -> Callable[[int], None]:
    """Synchronises files, and ends the process at one of them."""
    commits, sync = count(), os.fsync
    return lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(commits) == at else sync(file)


def edited(directory: Path, file: str, **changes: Any) -> None:
    """Changes keys of a JSON file."""
    path = directory / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewritten(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes the tensors of a model of one file."""
    weights = tensors(directory)
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def with_tokenizer(directory: Path, **changes: Any) -> None:
    make_tokenizer(**changes).save_pretrained(directory)


def as_mistral(directory: Path) -> None:
    """The same shapes under another architecture."""
    text = json.loads((directory / "config.json").read_text())
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    MistralForCausalLM(MistralConfig(**{name: text[name] for name in names})).to(torch.bfloat16).save_pretrained(directory)


def with_space_before(directory: Path) -> None:
    """A tokenizer with the same tokens, which splits text in another way."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))


def with_one_more_token(directory: Path) -> None:
    """An added token in a row of the embedding that the other model does not use."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(directory)


def without_head(directory: Path) -> None:
    edited(directory, "config.json", tie_word_embeddings=True)
    rewritten(directory, lambda weights: weights.pop("lm_head.weight"))


def adapter(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(SEED_MODEL), "r": 4}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    save_file({"x": torch.zeros(2)}, directory / "adapter_model.safetensors")


def torn(directory: Path) -> None:
    os.truncate(directory / "model.safetensors", 5000)


BROKEN = [
    (as_mistral, r"the architecture is LlamaForCausalLM in one and MistralForCausalLM in the other"),
    (
        lambda d: edited(d, "config.json", rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
        r"rope_theta.* 10000.0 in one and 500000.0 in the other",
    ),
    (
        lambda d: edited(d, "config.json", rms_norm_eps=1e-3),
        r"config.json differ in rms_norm_eps, 1e-06 in one and 0.001 in the other",
    ),
    (without_head, r"config.json differ in tie_word_embeddings, false in one and true in the other"),
    (
        lambda d: with_tokenizer(d, special=[*SPECIAL[:-1], "<|none|>"]),
        r"vocabularies of 261 and 261 tokens differ in 2, '<\|none\|>' is no token of \S+ and '<\|none\|>' is token 260 of",
    ),
    (
        lambda d: with_tokenizer(d, special=[SPECIAL[1], SPECIAL[0], *SPECIAL[2:]]),
        r"'<\|system\|>' is token 256 of \S+ and '<\|system\|>' is token 257 of",
    ),
    (with_one_more_token, r"'<more>' is no token of \S+ and '<more>' is token 261 of"),
    (
        lambda d: with_tokenizer(d, eos="<|user|>"),
        r"special tokens differ in eos_token, \"<\|end\|>\" in one and \"<\|user\|>\" in the other",
    ),
    (with_space_before, r"way to split text differ in pre_tokenizer.add_prefix_space, false in one and true in the other"),
    (
        lambda d: edited(d, "generation_config.json", eos_token_id=[259, 260]),
        r"tokens that end an answer is \[259\] in one and \[259, 260\] in the other",
    ),
    (
        lambda d: with_tokenizer(d, template=TEMPLATE.replace("<|assistant|>{% endif", "<|assistant|>\n{% endif")),
        r"the chat template in line 1 is .* in one and .* in the other: if both",
    ),
    (lambda d: (d / "chat_template.jinja").unlink(), r"the chat template in line 1 is .* in one and '' in the other: if both"),
    (
        lambda d: rewritten(d, lambda weights: weights.update(extra=torch.zeros(2))),
        r"1 tensors of \S+ are not in \S+ \(extra\): merge models that were",
    ),
    (
        lambda d: rewritten(d, lambda weights: weights.update(positions=torch.arange(3))),
        r"1 tensors of \S+ are not in \S+ \(positions\)",
    ),
    (
        lambda d: edited(d, "config.json", quantization_config={"quant_method": "awq"}),
        r"has a quantization_config \(awq\), and quantized weights cannot be merged",
    ),
    (
        lambda d: rewritten(
            d, lambda weights: weights.update({"model.norm.weight": torch.ones(64, dtype=torch.float8_e4m3fn)})
        ),
        r"hold model.norm.weight in F8_E4M3, and quantized weights cannot be merged",
    ),
    (
        lambda d: rewritten(d, lambda weights: weights["model.norm.weight"].fill_(torch.inf)),
        r"the tensor model.norm.weight holds NaN or infinity: copy or make the model again",
    ),
    (lambda d: (d / "model.safetensors").unlink(), r"holds no safetensors weights: copy or download them"),
    (torn, r"model.safetensors is torn"),
    (adapter, r"is an adapter of \S+, and a merge needs whole models: train it with train.lora.export=merged"),
    (shutil.rmtree, r"the directory does not exist"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_models_that_differ_or_are_no_parents_are_refused_in_one_line(
    damage: Callable[[Path], object],
    message: str,
    parents: tuple[ModelConfig, ModelConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    shutil.copytree(parents[1].path, other)
    damage(other)
    assert main(["merge", parents[0].path, str(other), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()
    lines = [line for line in error if line.startswith("stj: ")]
    assert len(lines) == 1, error
    assert re.search(message, lines[0])
    assert "Traceback" not in "".join(error)
    assert {path.name for path in tmp_path.iterdir()} <= {"other"}


def test_models_without_a_chat_template_are_merged(parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    base = [ModelConfig(path=str(shutil.copytree(parent.path, tmp_path / Path(parent.path).name))) for parent in parents]
    for model in base:
        (Path(model.path) / "chat_template.jinja").unlink()
    merge(base[0], base[1], str(tmp_path / "out"), MergeConfig(weight=0.3))
    first, second, written = (tensors(place) for place in (base[0].path, base[1].path, tmp_path / "out"))
    assert all(np.array_equal(bits(tensor), mixed(first[name], second[name], 0.3)) for name, tensor in written.items())


def test_a_head_that_only_one_of_two_tied_models_has_is_refused(tmp_path: Path) -> None:
    first, second = (make_model(tmp_path / str(number), number, tie_word_embeddings=True) for number in range(2))
    rewritten(tmp_path / "1", lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    with pytest.raises(ModelError, match=r"1 are not in \S+ \(lm_head.weight, a head that the other ties to its embedding\)"):
        merge(first, second, str(tmp_path / "out"), HALF)


def test_numbers_too_large_for_the_first_dtype_are_refused(tmp_path: Path) -> None:
    first, second = make_model(tmp_path / "a", 1, dtype="float16"), make_model(tmp_path / "b", 2)
    rewritten(tmp_path / "b", lambda weights: weights["model.norm.weight"].fill_(1e6))
    with pytest.raises(ModelError, match=r"b: the tensor model.norm.weight has numbers too large for F16, the dtype of \S+a"):
        merge(first, second, str(tmp_path / "out"), HALF)
    merge(second, first, str(tmp_path / "out"), HALF)


def test_buffers_of_whole_numbers_must_be_equal(parents: tuple[ModelConfig, ModelConfig], tmp_path: Path) -> None:
    copies = [ModelConfig(path=str(shutil.copytree(parents[1].path, tmp_path / name))) for name in "ab"]
    for number, copy in enumerate(copies):
        positions = torch.arange(number, number + 3)
        rewritten(Path(copy.path), lambda weights, positions=positions: weights.update(positions=positions))  # type: ignore[misc]
    with pytest.raises(ModelError, match="the tensor positions holds other whole numbers in one than in the other"):
        merge(copies[0], copies[1], str(tmp_path / "out"), HALF)


def test_a_parent_that_was_changed_after_it_was_made_is_refused(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    merge(*parents, str(made), HALF)
    rewritten(made, lambda weights: weights["model.norm.weight"].fill_(2))
    with pytest.raises(ModelError, match=r"made/model.safetensors is damaged or was changed"):
        merge(ModelConfig(path=str(made)), parents[0], str(tmp_path / "out"), HALF)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("weight=1.5", "weight=1.5: must be a share between 0 and 1"),
        ("weight=-0.1", "weight=-0.1: must be a share between 0 and 1"),
        ("weight=nan", "weight=nan: must be a share between 0 and 1"),
        ("weight=half", "weight=half: must be a number"),
        ("weight=", "weight="),
        ("shard_gb=0", "shard_gb=0.0: must be above 0"),
        ("method=slerp", "method=slerp: must be one of"),
        ("method=dare_ties", "base=null: method=dare_ties counts from the base of both models: name it"),
        ("base=c", "base=c: method=linear reads no base: leave it out, or name another method"),
        ("density=0", "density=0.0: must be above 0"),
        ("density=0.3", "density=0.3, seed=0: method=linear keeps all numbers"),
        ("wieght=0.5", "unknown key 'wieght'; did you mean 'weight'?"),
    ],
)
def test_a_wrong_setting_is_named(word: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "a", "b", str(tmp_path / "out"), word]) == 2
    assert message in capsys.readouterr().err


def test_the_place_of_the_result_must_be_free_and_outside_of_the_parents(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").touch()
    (tmp_path / "link").symlink_to(parents[0].path)
    inside = f"lies in the model {re.escape(parents[0].path)}, which is read"
    for out, message in (
        (str(tmp_path / "file"), "file: a file; name a directory"),
        (str(tmp_path / "taken"), r"taken: holds 1 files \(notes.txt\): name a new directory, or empty this one"),
        (parents[0].path, inside),
        (f"{parents[0].path}/merged", inside),
        (str(tmp_path / "link/merged"), inside),
        ("s3://bucket/merged", "the result is written to a directory of this machine"),
        ("", "the result is written to a directory of this machine"),
    ):
        with pytest.raises(ConfigError, match=message):
            merge(*parents, out, HALF)
    (tmp_path / "empty").mkdir()
    merge(*parents, str(tmp_path / "empty"), HALF)
    merge(*parents, f"file://{tmp_path}/new/merged", HALF)
    assert (tmp_path / "empty/manifest.json").exists()
    assert (tmp_path / "new/merged/manifest.json").exists()


def test_settings_of_a_judge_in_use_are_no_settings_of_a_parent(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path
) -> None:
    for model, message in (
        (replace(parents[1], thinking="off"), "are settings of a judge in use"),
        (ModelConfig(endpoint="http://127.0.0.1:1/v1", name="m"), "runs behind an API, and a merge needs weights"),
    ):
        with pytest.raises(ModelError, match=message):
            merge(parents[0], model, str(tmp_path / "out"), HALF)


def test_a_disk_without_room_is_refused_before_anything_is_written(
    parents: tuple[ModelConfig, ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageFailed, match=r"out: 2\d\d kB must be written there, and 1 kB are free"):
        merge(*parents, str(tmp_path / "out"), HALF)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
def test_a_merged_model_judges(tmp_path: Path) -> None:
    merge(ModelConfig(path=str(SEED_MODEL)), ModelConfig(path=str(SEED_MODEL)), str(tmp_path / "out"), HALF)
    with Judge(tmp_path / "out") as judge:
        merged = judge.compare("What is the colour of Ada?", "red", "blue")
    with Judge(SEED_MODEL) as judge:
        assert judge.compare("What is the colour of Ada?", "red", "blue") == merged


if __name__ == "__main__":
    kill_at_every_commit(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
