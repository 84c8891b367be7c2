"""`stj doctor` and the check at the start of `stj run`: each fault of a model, its data or its place is one line and code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from stj.cli import main
from tests.train.conftest import make_tokenizer

ROOT = Path(__file__).parents[2]
MINI = str(ROOT / "conf" / "mini.yaml")
INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n"
MARKER = "remote_code_ran"


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers in 4 or more files, whose head is its own, in a directory with blanks and Chinese in its name."""
    directory = tmp_path_factory.mktemp("models") / "my model 数据"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory, max_shard_size="50KB")
    tokenizer.save_pretrained(directory)
    assert len(list(directory.glob("*.safetensors"))) >= 4
    return directory


@pytest.fixture
def model(good: Path, tmp_path: Path) -> Path:
    """A copy for damage."""
    return Path(shutil.copytree(good, tmp_path / "seed"))


# The world's prompts are longer in the tokens of this model, one for each byte.
SETTINGS = ("train.max_seq_len=4096", "train.max_num_tokens=4096", "ray.address=127.0.0.1:1", "models.seed.max_model_len=4096")


def words(verb: str, seed: Path, tmp_path: Path, *more: str) -> list[str]:
    return [verb, MINI, f"models.seed.path={seed}", f"run_root={tmp_path}/run", *SETTINGS, *more]


def refusals(seed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """What `stj doctor` finds wrong; `stj run` says the same before it starts anything, and writes nothing."""
    code = main(words("doctor", seed, tmp_path, *more))
    shown = capsys.readouterr().out.splitlines()
    wrong = [line.partition("WRONG  ")[2] for line in shown if line.startswith("WRONG  ")]
    assert code == (2 if wrong else 0)
    if wrong:
        assert main(words("run", seed, tmp_path, *more)) == 2
        printed = capsys.readouterr().err.splitlines()
        assert [line.removeprefix("stj: ") for line in printed] == [line.partition(": ")[2] for line in wrong]
    assert not (tmp_path / "run").exists()
    return wrong


def change(file: str, **values: Any) -> Callable[[Path], None]:
    """Changes settings in a JSON file; None deletes one."""

    def damage(model: Path) -> None:
        settings = json.loads((model / file).read_text()) | values
        (model / file).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))

    return damage


def write(file: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda model: (model / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def delete(file: str) -> Callable[[Path], None]:
    return lambda model: (model / file).unlink()


def shard(model: Path, number: int = 1) -> Path:
    return sorted(model.glob("*.safetensors"))[number]


def cut(model: Path) -> None:
    shard(model).write_bytes(shard(model).read_bytes()[:-100])


def lengthen(model: Path) -> None:
    shard(model).write_bytes(shard(model).read_bytes() + b"\0" * 8)


def edit(change_tensors: Callable[[dict[str, torch.Tensor]], object], ending: str) -> Callable[[Path], None]:
    """Writes the file with a tensor whose name has this ending again, with other tensors."""

    def damage(model: Path) -> None:
        name = next(name for name in json.loads((model / INDEX).read_text())["weight_map"] if name.endswith(ending))
        file = model / json.loads((model / INDEX).read_text())["weight_map"][name]
        tensors = load_file(file)
        tensors[ending] = tensors.pop(name)
        change_tensors(tensors)
        if ending in tensors:
            tensors[name] = tensors.pop(ending)
        save_file(tensors, file, metadata={"format": "pt"})

    return damage


def without_tensor(ending: str) -> Callable[[Path], None]:
    """Takes a tensor out of its file and out of the index."""

    def damage(model: Path) -> None:
        edit(lambda tensors: tensors.pop(ending), ending)(model)
        index = json.loads((model / INDEX).read_text())
        index["weight_map"] = {name: file for name, file in index["weight_map"].items() if not name.endswith(ending)}
        (model / INDEX).write_text(json.dumps(index))

    return damage


def header(change_facts: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Changes what a file's header says of its first tensor."""

    def damage(model: Path) -> None:
        content = shard(model).read_bytes()
        length = int.from_bytes(content[:8], "little")
        facts = json.loads(content[8 : 8 + length])
        change_facts(next(value for key, value in facts.items() if key != "__metadata__"))
        text = json.dumps(facts).encode()
        shard(model).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return damage


def bin_only(model: Path) -> None:
    for file in model.glob("*.safetensors*"):
        file.unlink()
    (model / "pytorch_model.bin").write_bytes(b"x" * 1000)


def adapter_only(model: Path) -> None:
    for file in (*model.glob("*.safetensors*"), model / "config.json"):
        file.unlink()
    (model / "adapter_config.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(b"x" * 1000)


def remote(file: str, key: str, code: str) -> Callable[[Path], None]:
    """Code beside the weights that would leave a mark if it ran."""

    def damage(model: Path) -> None:
        line = f"open({str(model.parent / MARKER)!r}, 'w').close()\n"
        for name in ("evil.py", "configuration_evil.py", "modeling_evil.py", "tokenization_evil.py"):
            (model / name).write_text(f"{line}class Evil: pass\n")
        change(file, auto_map={key: code})(model)

    return damage


def evil_type(model: Path) -> None:
    remote("config.json", "AutoConfig", "configuration_evil.Evil")(model)
    change("config.json", model_type="evil", architectures=["EvilForCausalLM"])(model)


def evil_template(model: Path) -> None:
    mark = str(model.parent / MARKER)
    (model / "chat_template.jinja").write_text(
        f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}{{{{ open('{mark}', 'w') }}}}"
    )


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "shard cut": (cut, "model-00002-of-", "is torn"),
    "shard longer": (lengthen, "model-00002-of-", "is longer than its tensors"),
    "shard empty": (lambda model: shard(model).write_bytes(b""), "model-00002-of-", "is empty"),
    "shard a pointer": (lambda model: shard(model).write_text(POINTER), "model-00002-of-", "run `git lfs pull`"),
    "shard missing": (lambda model: shard(model).unlink(), "model-00002-of-", "is missing, of"),
    "shard of text": (
        lambda model: shard(model).write_text("<html>Not found</html>"),
        "model-00002-of-",
        "no safetensors file",
    ),
    "header damaged": (lambda model: shard(model).write_bytes((20).to_bytes(8, "little") + b"{" * 40), "model-00002", "header"),
    "header of another dtype": (header(lambda facts: facts.update(dtype="F32")), "model-00002", "in F32 has"),
    "header of an unknown dtype": (header(lambda facts: facts.update(dtype="X9")), "model-00002", "unknown dtype X9"),
    "header with a gap": (header(lambda facts: facts.update(data_offsets=[8, 16])), "model-00002", "the header is damaged"),
    "index a pointer": (write(INDEX, POINTER), INDEX, "run `git lfs pull`"),
    "index without a map": (write(INDEX, "{}"), INDEX, "has no weight_map"),
    "index missing": (delete(INDEX), INDEX, "is missing"),
    "index names a tensor too many": (
        edit(lambda tensors: tensors.pop("k_proj.weight"), "k_proj.weight"),
        INDEX,
        "lacks",
    ),
    "tensor missing everywhere": (without_tensor("1.mlp.up_proj.weight"), "mlp.up_proj.weight of layer 1", "download"),
    "head missing": (without_tensor("lm_head.weight"), "lm_head.weight", "tie_word_embeddings"),
    "head of another shape": (
        edit(lambda tensors: tensors.update({"lm_head.weight": torch.zeros(9, 64)}), "lm_head.weight"),
        "lm_head.weight has the shape [9, 64]",
        "config.json asks for [261, 64]",
    ),
    "more layers in config.json": (change("config.json", num_hidden_layers=3), "layer 2", "3 layers"),
    "fewer layers in config.json": (change("config.json", num_hidden_layers=1), "2 layers", "asks for 1"),
    "another width in config.json": (change("config.json", intermediate_size=256), "mlp", "[256, 64]"),
    "weights of another format": (bin_only, "pytorch_model.bin", "save_pretrained"),
    "adapter": (adapter_only, "an adapter without its base model", "merge_and_unload"),
    "unfinished download": (write("model-00002.safetensors.incomplete", "x"), ".incomplete", "unfinished download"),
    "config a pointer": (write("config.json", POINTER), "config.json", "run `git lfs pull`"),
    "config empty": (write("config.json", ""), "config.json is empty", "download"),
    "config no object": (write("config.json", "[1]"), "config.json is not a JSON object", "save the model again"),
    "config missing": (delete("config.json"), "holds no config.json", "Give a directory"),
    "config of deep brackets": (write("config.json", "[" * 100_000), "config.json is not a JSON object", "save"),
    "config with text for a number": (change("config.json", hidden_size="wide"), "config.json", "Save it again"),
    "unknown architecture": (change("config.json", model_type="llamb"), "model_type=llamb", "does not know"),
    "no architecture": (change("config.json", architectures=None), "names no architectures", "save_pretrained"),
    "a classifier": (change("config.json", architectures=["LlamaForSequenceClassification"]), "Classification", "causal"),
    "an encoder": (change("config.json", model_type="bert", architectures=["BertModel"]), "BertModel", "causal language model"),
    "a short context": (change("config.json", max_position_embeddings=512), "context of 512", "max_model_len=512"),
    "quantized": (
        change("config.json", quantization_config={"quant_method": "awq"}),
        "quantization_config (awq)",
        "unquantized",
    ),
    "a model of images": (change("config.json", vision_config={}), "vision_config", "text model"),
    "tokenizer missing": (
        lambda m: [(m / f).unlink() for f in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer",
        "Save",
    ),
    "tokenizer a pointer": (write("tokenizer.json", POINTER), "tokenizer.json is a git-lfs pointer", "git lfs pull"),
    "tokenizer torn": (lambda m: write("tokenizer.json", (m / "tokenizer.json").read_bytes()[:999])(m), "tokenizer", "Save it"),
    "tokenizer of another model": (change("config.json", vocab_size=100), "its embedding 100 rows", "trained with"),
    "no template": (delete("chat_template.jinja"), "no chat template", "chat_template.jinja"),
    "a broken template": (write("chat_template.jinja", "{% for m in messages %}"), "chat template", "chat_template.jinja"),
    "a template without messages": (write("chat_template.jinja", "Hello"), "chat template shows only", "every message"),
    "code for the config": (
        remote("config.json", "AutoConfig", "configuration_evil.Evil"),
        "configuration_evil.Evil",
        "never runs",
    ),
    "code for the model": (
        remote("config.json", "AutoModelForCausalLM", "modeling_evil.Evil"),
        "modeling_evil.Evil",
        "never runs",
    ),
    "code for the tokenizer": (
        remote("tokenizer_config.json", "AutoTokenizer", ["tokenization_evil.Evil", None]),  # type: ignore[arg-type]
        "tokenization_evil.Evil",
        "never runs",
    ),
    "code for an unknown type": (evil_type, "configuration_evil.Evil", "never runs"),
    "code in the template": (evil_template, "chat template", "chat_template.jinja"),
}


def test_a_good_model_in_a_folder_with_blanks_and_chinese_passes(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("doctor", good, tmp_path)) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(line.startswith("ok     ") for line in shown.out.splitlines())
    assert f"models.seed: {good}, LlamaForCausalLM" in shown.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_its_file_and_the_remedy(
    fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, name, remedy = FAULTS[fault]
    damage(model)
    lines = refusals(model, tmp_path, capsys)
    assert lines, fault
    assert any(name in line and remedy in line and str(model) in line for line in lines), lines
    assert len(lines) == 1, lines
    assert not (tmp_path / MARKER).exists()
