"""The config: the paper's numbers as defaults, files from left to right, and one clear line for each error."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import Config
from stj.config_loader import load, load_model, load_use
from stj.errors import ConfigError


def test_the_defaults_are_the_papers_numbers() -> None:
    config = Config()
    train, judge = config.train, config.judge
    assert (train.max_seq_len, train.max_num_tokens, train.lr, train.betas) == (4096, 8192, 1e-6, (0.9, 0.95))
    assert (train.final_lr_ratio, train.weight_decay, train.warmup_steps, train.seed) == (0.2, 0.1, 100, 2)
    assert (train.gradient_accumulation, train.max_epochs, train.checkpoint_every_steps) == (1, 2, 100)
    assert (judge.samples, judge.decoding.temperature, judge.decoding.top_p) == (15, 0.7, 0.9)


def test_later_files_and_then_the_command_line_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("seed: 1\ntrain: {lr: 1e-5, workers: 4}\n")
    (tmp_path / "b.yaml").write_text("train: {lr: 2e-5}\n")
    config = load([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["seed=3", "select.categories=[Coding,Other]"])
    assert (config.seed, config.train.lr, config.train.workers) == (3, 2e-5, 4)
    assert config.select.categories == ("Coding", "Other")


@pytest.mark.parametrize("text", ["010", "1e3", "yes", "1_000", "0x10", "1:30", ".5", "2024-01-01", "a=b", "a b", "数据"])
def test_text_stays_as_it_is_written(text: str) -> None:
    assert load([], [f"run_root={text}"]).run_root == text
    assert load_use([], [f"model={text}"]).model.path == text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=1", "unknown key 'train.learning_rate'"),
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("trian.lr=1", "did you mean 'train'"),
        ("train.lr=fast", "Value 'fast' of type 'str' could not be converted to Float"),
        ("train.lr=-1", r"train.lr=-1.0: must be above 0"),
        ("train.max_seq_len=9000", "train.max_seq_len=9000 tokens does not fit in train.max_num_tokens=8192 tokens"),
        ("pairs.method=magic", "modified_instruction"),
        ("judge.samples=0", "judge.samples=0 judgments a pair"),
        ("iterations=0", "iterations=0"),
        ("select.lengths=[x]", "select.lengths=x: no such length"),
        ("select.categories=[Maths]", "select.categories=Maths: no such category; Figure 7 has Coding; Mathematical reasoning"),
        ("judge.decoding.temperature=-1", "temperature=-1.0: must be 0"),
        ("judge.decoding.temperature=nan", "temperature=nan: must be 0"),
        ("judge.decoding.top_p=7", "top_p=7.0: must be a share above 0"),
        ("judge.decoding.max_tokens=0", "max_tokens=0 tokens: must be 1 or more"),
        ("models.seed.max_model_len=-5", "max_model_len=-5: must be 1 or more"),
        ("models.seed.tensor_parallel_size=0", "tensor_parallel_size=0: must be 1 or more"),
        ("heldout.limit=-1", "heldout.limit=-1: must be 1 or more"),
        ("train.betas=[5,-7]", "train.betas=5.0: must be 0 or more, and below 1"),
        ("train.lr=inf", "train.lr=inf: must be above 0"),
        ("train.weight_decay=nan", "train.weight_decay=nan"),
        ("engine.kv_cache_gib=inf", "engine.kv_cache_gib=inf"),
        ("engine.gpu_memory_utilization=7", "engine.gpu_memory_utilization=7.0: must be a share between 0 and 1"),
        ("hardware.gpu_tflops=0", "hardware.gpu_tflops=0.0: must be above 0"),
        ("select.categories=[]", r"select.categories=\[\]: no row can pass"),
        ("select.max_turns=0", "select.max_turns=0 user turns: min must be at most max"),
        ("seed=100000000000000000000", "seed=100000000000000000000: must be 0 to"),
        ("train", "key=value"),
        ("train=3", "one value instead of a group of settings"),
        ("train.betas=[0.9,x]", "Value 'x'|a value"),
        ("seed={", "seed"),
        ("seed=???", r"seed=\?\?\? is OmegaConf's word for no value"),
    ],
)
def test_an_error_is_one_line_that_names_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load([], [override])
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_broken_file_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load([tmp_path / "none.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [1\nb: }")
    with pytest.raises(ConfigError, match="not a YAML file") as caught:
        load([tmp_path / "broken.yaml"])
    assert "\n" not in str(caught.value)
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match=r"list.yaml"):
        load([tmp_path / "list.yaml"])


API = "endpoint: https://api.example.com/v1\n    name: judge-1"


def api_file(folder: Path, text: str) -> str:
    (folder / "api.yaml").write_text(text)
    return str(folder / "api.yaml")


def test_an_endpoint_replaces_the_path_of_earlier_layers_and_a_path_an_endpoint(tmp_path: Path) -> None:
    file = api_file(tmp_path, f"models:\n  generator:\n    {API}\n")
    generator = load([file]).models.generator
    assert (generator.path, generator.label, generator.gpus) == ("", "judge-1 at https://api.example.com/v1", 0)
    again = load([file], ["models.generator.path=/model"]).models.generator
    assert (again.path, again.endpoint, again.name) == ("/model", None, None)
    words = ["models.first_judge.endpoint=http://h/v1", "models.first_judge.name=x", "models.first_judge.key_variable=K"]
    assert load([], words).models.first_judge.label == "x at http://h/v1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["endpoint=http://h/v1", "name=x", "path=/model"], "keep path or endpoint"),
        (["path=/model", "endpoint=http://h/v1", "name=x"], "keep path or endpoint"),
        (["endpoint=http://h/v1"], "set name"),
        (["endpoint=ftp://h/v1", "name=x"], "not a URL"),
        (["endpoint=h/v1", "name=x"], "not a URL"),
        (["endpoint=https://user:hunter2@h/v1", "name=x"], "key_variable"),
        (["endpoint=https://h/v1?key=hunter2", "name=x"], "key_variable"),
        (["endpoint=http://h/v1", "name=x", "key_variable=sk-hunter2"], "key_variable"),
        (["endpoint=http://h/v1", "name=x", "requests_per_minute=0"], "above 0"),
        (["endpoint=http://h/v1", "name=x", "parallel_requests=0"], "1 or more"),
        (["name=x"], "set endpoint"),
    ],
)
def test_wrong_settings_of_an_endpoint_are_one_line_without_secrets(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load([], [f"models.generator.{word}" for word in words])
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_both_places_in_one_file_and_a_seed_behind_an_api_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keep path or endpoint"):
        load([api_file(tmp_path, f"models:\n  generator:\n    path: /model\n    {API}\n")])
    with pytest.raises(ConfigError, match=r"set models\.seed\.path"):
        load([api_file(tmp_path, f"models:\n  seed:\n    {API}\n")])
    with pytest.raises(ConfigError, match=r"api\.yaml"):
        load([api_file(tmp_path, "models: [1]\n")])


def test_a_judge_in_use_may_be_a_file_of_its_settings(tmp_path: Path) -> None:
    file = api_file(tmp_path, "endpoint: http://h/v1\nname: judge-1\nparallel_requests: 4\n")
    assert load_use([], [f"model={file}"]).model.parallel_requests == 4
    assert load_use([], ["model.endpoint=http://h/v1", "model.name=x"]).model.label == "x at http://h/v1"
    local = load_use([], ["model=/model", "model.max_model_len=9"]).model
    assert load_model(file, local).label == "judge-1 at http://h/v1"
    assert load_model("/other", local) == replace(local, path="/other")
