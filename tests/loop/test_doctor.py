"""`stj doctor` and the check at the start of `stj run`: each fault of a model, its data or its place is one line and code 2."""

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from stj.cli import main
from stj.errors import ModelError
from stj.judging.judge import Judge
from stj.storage.folder import Folder
from tests.train.conftest import llama_config, make_tokenizer

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
    config = llama_config(tokenizer, max_position_embeddings=4096)
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
        printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stj: ")]
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
    "embedding missing": (without_tensor("model.embed_tokens.weight"), "files lack embed_tokens.weight", "download"),
    "last norm missing": (without_tensor("model.norm.weight"), "files lack norm.weight", "download"),
    "head missing": (without_tensor("lm_head.weight"), "lm_head.weight", "tie_word_embeddings"),
    "head of another shape": (
        edit(lambda tensors: tensors.update({"lm_head.weight": torch.zeros(9, 64)}), "lm_head.weight"),
        "lm_head.weight has the shape [9, 64]",
        "config.json asks for [261, 64]",
    ),
    "more layers in config.json": (change("config.json", num_hidden_layers=3), "layer 2", "3 layers"),
    "no length in config.json": (change("config.json", max_position_embeddings=-1), "a context of -1 tokens", "save the model"),
    "fewer layers in config.json": (change("config.json", num_hidden_layers=1), "2 layers", "asks for 1"),
    "another width in config.json": (change("config.json", intermediate_size=256), "mlp", "[256, 64]"),
    "weights of another format": (bin_only, "pytorch_model.bin", "save_pretrained"),
    "two sets of weights": (write("model.safetensors", "x"), "model.safetensors beside", "Delete the older"),
    "adapter": (adapter_only, "adapter_config.json does not name peft_type", "Save it again"),
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
    "a model of images": (change("config.json", vision_config={"hidden_size": 8}), "vision_config", "text model"),
    "tokenizer missing": (
        lambda m: [(m / f).unlink() for f in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer",
        "Save",
    ),
    "tokenizer a pointer": (write("tokenizer.json", POINTER), "tokenizer.json is a git-lfs pointer", "git lfs pull"),
    "tokenizer torn": (lambda m: write("tokenizer.json", (m / "tokenizer.json").read_bytes()[:999])(m), "tokenizer", "Save it"),
    "tokenizer of another model": (change("config.json", vocab_size=100), "its embedding 100 rows", "trained with"),
    "no template": (delete("chat_template.jinja"), "no chat template", "chat_template.jinja"),
    "a broken template": (
        write("chat_template.jinja", "{% for m in messages %}"),
        "its chat template cannot be read",
        "chat_template.jinja",
    ),
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
    "code in the template": (evil_template, "its chat template refuses user", "chat_template.jinja"),
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


@pytest.mark.slow
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


def test_an_engine_may_be_asked_through_a_quantized_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("config.json", quantization_config={"quant_method": "awq"})(model)
    assert main(["doctor", MINI, f"run_root={tmp_path}/run", f"models.generator.path={model}"]) == 0
    assert f"models.generator: {model}, LlamaForCausalLM" in capsys.readouterr().out


def test_all_faults_are_listed_not_the_first_alone(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(model)
    (model / "chat_template.jinja").unlink()
    change("config.json", quantization_config={"quant_method": "gptq"})(model)
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n')
    lines = refusals(model, tmp_path, capsys, f"heldout.path={tmp_path}/bad.jsonl", f"source.path={tmp_path}/nowhere.jsonl")
    for message in ("is torn", "no chat template", "gptq", "no field 'instruction'", "no such file or directory"):
        assert sum(message in line for line in lines) == 1, (message, lines)


def test_a_benchmark_where_none_or_one_is_needed_is_named_as_such(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [line] = refusals(model, tmp_path, capsys, "heldout.path=headline")
    assert line.startswith("heldout.path: heldout.path=headline: 'headline' stands for several benchmarks")
    [line] = refusals(model, tmp_path, capsys, "train.selection.path=judgebench")
    assert line.startswith("train.selection.path: train.selection.path=judgebench: a benchmark must not select checkpoints")


def test_bad_weights_are_named_beside_a_bad_config(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(model)
    change("config.json", model_type="llamb")(model)
    lines = refusals(model, tmp_path, capsys)
    assert len(lines) == 2
    assert "does not know" in lines[0]
    assert "is torn" in lines[1]


def test_roles_with_one_model_have_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(model)
    roles = [f"models.{role}.{key}" for role in ("generator", "first_judge") for key in (f"path={model}", "max_model_len=4096")]
    (line,) = refusals(model, tmp_path, capsys, *roles)
    assert line.startswith("models.generator, models.first_judge, models.seed: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["models.seed.max_model_len=9000"], "states a context of 4096: set models.seed.max_model_len=4096 or less"),
        (["train.max_seq_len=5000", "train.max_num_tokens=5000"], "context of 4096: set train.max_seq_len=4096 or less"),
        (["train.max_seq_len=600"], "train.max_seq_len=600 tokens cannot hold an example: the judge's prompt alone takes"),
        (["models.seed.max_model_len=600"], "models.seed.max_model_len=600 tokens cannot hold judgments: the prompt takes"),
        (["pairs.answer.max_tokens=3000"], "pairs.answer.max_tokens=3000 + pairs.rejected.max_tokens=128 + judge.decoding"),
    ],
)
def test_prompts_and_texts_that_do_not_fit(
    settings: list[str], message: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refusals(good, tmp_path, capsys, *settings)
    assert any(message in line for line in lines), lines


@pytest.mark.slow
@pytest.mark.parametrize("scaling", [{"rope_type": "linear", "factor": 8.0}, {"type": "dynamic", "factor": 8.0}])
def test_a_context_that_its_scaling_makes_longer(
    scaling: dict[str, Any], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("config.json", max_position_embeddings=512, rope_parameters=None, rope_scaling=scaling)(model)
    assert refusals(model, tmp_path, capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize("key", ["source.path", "heldout.path", "train.selection.path", "source.keep_out"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no"),
        (b'{"instruction": "\xff"}\n', "not UTF-8"),
        (b'{"instruction": ', "not JSON"),
        (b"[1]\n", "JSON list"),
    ],
)
def test_bad_data_is_one_line(
    key: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    value = f"[{tmp_path}/bad.jsonl]" if key == "source.keep_out" else f"{tmp_path}/bad.jsonl"
    assert main(["doctor", MINI, f"run_root={tmp_path}/run", f"{key}={value}"]) == 2
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1, wrong
    assert message in wrong[0]
    assert "bad.jsonl" in wrong[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run_root", "message"),
    [
        ("{here}/file", "is a file; name a directory"),
        ("{here}/file/run", "file is a file; name a directory"),
        ("/proc/nowhere/run", "a file cannot be written there"),
        ("nothing://bucket/run", "not a path or URI"),
    ],
)
def test_a_place_that_cannot_be_written(
    run_root: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for verb in ("doctor", "run"):
        assert main([verb, MINI, f"run_root={run_root.format(here=tmp_path)}"]) == 2
        printed = capsys.readouterr()
        wrong = [line for line in (printed.err + printed.out).splitlines() if line.startswith(("stj: ", "WRONG"))]
        assert len(wrong) == 1, wrong
        assert message in wrong[0]


def test_a_disk_that_the_run_would_fill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shape of a model of 70B, whose checkpoints take terabytes; its config.json alone decides that."""
    settings = json.loads((ROOT / "stj/mini/seed_model/config.json").read_text())
    large = settings | {"hidden_size": 65536, "num_hidden_layers": 4000, "intermediate_size": 262144}
    model = Path(shutil.copytree(ROOT / "stj/mini/seed_model", tmp_path / "large"))
    (model / "config.json").write_text(json.dumps(large))
    assert main(["doctor", MINI, f"run_root={tmp_path}/run", f"models.seed.path={model}"]) == 2
    assert re.search(r"WRONG  run_root: .* GB are free, and the run writes up to [\d,]+ GB \(", capsys.readouterr().out)


def test_a_seed_that_is_trained_and_never_asked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusals(model, tmp_path, capsys, "iterations=1", "heldout.path=null") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("train.selection.path=package://mini/data/heldout.jsonl",),
        ("train.objective=sft_then_dpo", "train.preference.source=warm_up", "train.preference.max_seq_len=2048"),
    ],
)
def test_a_seed_that_only_its_own_training_asks(
    settings: tuple[str, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("iterations=1", "heldout.path=null", "models.seed.max_model_len=500", *settings)
    (refusal,) = refusals(model, tmp_path, capsys, *words)
    assert "models.seed.max_model_len=500 tokens cannot hold judgments" in refusal


@pytest.mark.slow
def test_json_holds_every_finding(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("doctor", model, tmp_path, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert {finding["subject"] for finding in report["findings"]} >= {"models.seed", "source", "heldout.path", "run_root"}
    cut(model)
    assert main(words("doctor", model, tmp_path, "--json")) == 2
    report = json.loads(capsys.readouterr().out)
    assert [finding["subject"] for finding in report["findings"] if not finding["ok"]] == ["models.seed"]


@pytest.mark.slow
def test_a_damaged_judge_is_refused_by_every_verb_that_asks_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"instruction": "?", "response_a": "a", "response_b": "b", "chosen": "a", "rejected": "b"}\n')
    place = f"run_root={tmp_path}/run"
    cut(model)
    for command in (
        ["eval", str(model), f"pairs:{pairs}", MINI, place, "models.seed.max_model_len=4096"],
        ["judge", str(pairs), f"model={model}", place],
        ["serve", str(model)],
    ):
        assert main(command) == 2
        printed = capsys.readouterr().err
        assert "model-00002-of-" in printed
        assert len(printed.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match="is torn"):
        Judge(str(model))


@pytest.mark.slow
def test_a_model_in_an_object_store_is_checked_without_its_weights(
    bucket: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    store = Folder.at(bucket) / "models" / "small"
    for file in good.iterdir():
        store.upload(file)
    assert refusals_at(store.uri, tmp_path, capsys) == []
    store.write(shard(good).name, shard(good).read_bytes()[:-100])
    (line,) = refusals_at(store.uri, tmp_path, capsys)
    assert "is torn" in line
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert store.parent.names() == []


def refusals_at(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = main(["doctor", MINI, f"models.seed.path={uri}", f"run_root={tmp_path}/run", *SETTINGS])
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert code == (2 if wrong else 0)
    return wrong


@pytest.mark.slow
def test_a_run_in_an_object_store_is_probed_and_left_empty(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = Folder.at(bucket) / "runs" / "probed"
    assert main(["doctor", MINI, f"run_root={place.uri}"]) == 0
    assert "can be written" in capsys.readouterr().out
    assert place.names() == []
    nowhere = place.uri.replace("bucket", "no-such-bucket", 1)
    assert main(["doctor", MINI, f"run_root={nowhere}"]) == 2
    assert "check the bucket's name" in capsys.readouterr().out


@pytest.mark.slow
def test_every_loader_of_transformers_is_forbidden_to_run_code() -> None:
    calls = [
        (file, node)
        for file in (ROOT / "stj").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and ast.unparse(node.func.value) != "MistralCommonBackend"  # It has no code to run, and knows no such argument.
    ]
    assert calls
    for file, call in calls:
        values = {keyword.arg: keyword.value for keyword in call.keywords}
        assert ast.unparse(values["trust_remote_code"]) == "False", file
