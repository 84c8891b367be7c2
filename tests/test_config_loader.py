"""The config: the paper's numbers as defaults, files from left to right, and one clear line for each error."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from stj.config import Config
from stj.config_loader import from_plain, load, load_eval, load_model, load_use
from stj.errors import ConfigError
from stj.setting_text import fields_of
from stj.train_config import TrainConfig
from stj.use_config import UseConfig

CONF = Path(__file__).parent.parent / "conf"
ODD_TEXTS = (
    *(
        "010",
        "1e3",
        "yes",
        "no",
        "on",
        "1_000",
        "0x10",
        "1:30",
        "12:30:45",
        ".5",
        ".inf",
        "2024-01-01",
        "2024_05_01",
        "8601e45",
    ),
    *(
        "a=b",
        "a b",
        "数据",
        "a #b",
        "#a",
        "a: b",
        "~/x",
        "~x",
        "[a]",
        "{a",
        "'a'",
        '"a"',
        "a%20b",
        "*a",
        "&a",
        "!a",
        "- a",
        "a\\b",
    ),
    *(
        "true",
        "nan",
        "null and void",
        "None",
        " a ",
        "a\tb",
        "é",
        "e\u0301",
        "👩‍🚀",
        "=",
        "<<",
        "?",
        "a?b",
        "|",
        ">",
        "@a",
        "`a",
        "$x",
        "---",
    ),
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.sampled_from(ODD_TEXTS)
SAFE_TEXT = ANY_TEXT.filter(lambda text: "${" not in text and text not in {"???", "~", "null", "Null", "NULL"})
YAML_TEXT = SAFE_TEXT.filter(lambda text: not {unicodedata.category(c) for c in text} & {"Cc", "Zl", "Zp", "Cn", "Co"})
"""YAML itself refuses control characters, or reads them as blanks."""


FAST = settings(phases=[Phase.explicit, Phase.generate])  # a config takes 50 ms, and shrinking hundreds


def read_file(content: str | bytes) -> Config:
    """The config of a file with this content."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "conf.yaml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return load([file])


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


def test_what_is_read_once_does_not_change_what_is_read_next() -> None:
    words = ["models.seed.chat_template_kwargs={effort: low}", "source.keep_out=[a]", "models.generator.endpoint=http://x"]
    for rejected in ("train.lr=fast", "models.seed={dtype: float16, max_model_len: x}"):
        with pytest.raises(ConfigError):
            load([], [*words, "models.generator.name=x", rejected])
    assert load([], [*words, "models.generator.name=x"]) != Config()
    assert load([]) == Config()


@pytest.mark.slow
@FAST
@given(SAFE_TEXT)
@example("010")
def test_text_in_a_word_stays_as_it_is_written(text: str) -> None:
    words = [f"{key}={text}" for key in ("run_root", "models.seed.revision", "heldout.path")]
    config = load([], words)
    assert (config.run_root, config.models.seed.revision, config.heldout.path) == (text, text, text)
    assert load_use([], [f"model.path={text}"]).model.path == text


@pytest.mark.slow
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_text_in_a_file_stays_as_it_is_written_if_yaml_can_hold_it_without_quotes(text: str) -> None:
    try:
        node = yaml.compose(f"run_root: {text}\n")
    except yaml.YAMLError:
        return
    value = node.value[0][1]
    if isinstance(value, yaml.ScalarNode):
        texts = (
            f"run_root: {text}\nheldout: {{path: {json.dumps(text)}}}\nsource:\n  revision: {text}\n  keep_out:\n  - {text}\n"
        )
        if value.value != "":
            config = read_file(texts)
            read = (config.run_root, config.source.revision, *config.source.keep_out)
            assert set(read) == {value.value}
            assert config.heldout.path == text


@pytest.mark.slow
@FAST
@given(YAML_TEXT, YAML_TEXT)
def test_what_a_yaml_library_writes_is_read_back(first: str, second: str) -> None:
    written = {"run_root": first, "source": {"revision": second, "keep_out": [first, second]}, "train.lr": 1e-6}
    for content in (yaml.safe_dump(written, allow_unicode=True), json.dumps(written)):
        config = read_file(content)
        assert (config.run_root, config.source.revision, config.source.keep_out) == (first, second, (first, second))
        assert config.train.lr == 1e-6


def leaves(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its type."""
    for name, hint in fields_of(schema).items():
        if fields_of(hint):
            yield from leaves(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint


LEAVES = dict(leaves(Config))


def written(hint: Any, draw: st.DataObject) -> Any:
    """A value of a type, as a user may write it."""
    if get_origin(hint) is Literal:
        return draw.draw(st.sampled_from(get_args(hint)))
    if get_origin(hint) is tuple:
        count = draw.draw(st.integers(0, 3)) if ... in get_args(hint) else len(get_args(hint))
        return [written(get_args(hint)[0], draw) for _ in range(count)]
    if get_origin(hint) is list:
        return [written(get_args(hint)[0], draw) for _ in range(draw.draw(st.integers(0, 2)))]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return {name: written(hints[name], draw) for name in draw.draw(st.sets(st.sampled_from(sorted(hints)), max_size=3))}
    if get_origin(hint) is dict:
        return draw.draw(st.dictionaries(st.sampled_from(["effort", "level"]), st.booleans() | st.integers() | st.just("低")))
    if NoneType in get_args(hint):
        options = [option for option in get_args(hint) if option is not NoneType]
        return draw.draw(st.none()) if draw.draw(st.booleans()) else written(options[0], draw)
    values = {bool: st.booleans(), int: st.integers(-5, 10**6), float: st.floats(0, 1e6), str: YAML_TEXT}
    return draw.draw(values[hint])


def outcome(read: Callable[[], Config]) -> Config | str:
    """The config, or the message of its error without the place."""
    try:
        return read()
    except ConfigError as error:
        return re.sub(r"^\S*conf\.yaml, line \d+: ", "", str(error))


@pytest.mark.slow
@FAST
@given(st.sampled_from(sorted(LEAVES)), st.data())
def test_a_file_and_a_word_agree_on_every_setting_and_config_json_reads_back_exactly(key: str, data: st.DataObject) -> None:
    value = written(LEAVES[key], data)
    word = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    by_word = outcome(lambda: load([], [f"{key}={word}"]))
    assert outcome(lambda: read_file(json.dumps({key: value}))) == by_word
    assert outcome(lambda: read_file(yaml.safe_dump({key: value}, allow_unicode=True))) == by_word
    if isinstance(by_word, Config):
        assert from_plain(json.loads(json.dumps(asdict(by_word)))) == by_word


@pytest.mark.parametrize("word", ["null", "~"])
def test_null_is_no_value_for_a_setting_that_may_have_none_and_an_error_for_another(word: str) -> None:
    assert load([], ["source.id_field=x", f"source.id_field={word}"]).source.id_field is None
    assert read_file(f"source: {{id_field: {word}, revision: '{word}'}}").source.revision == word
    with pytest.raises(ConfigError, match="run_root=null: must have a value"):
        load([], [f"run_root={word}"])
    with pytest.raises(ConfigError, match="line 1: run_root=null: must have a value"):
        read_file(f"run_root: {word}")


def test_numbers_and_switches_may_be_written_in_any_usual_way() -> None:
    config = read_file("train: {lr: 1e-6, workers: 1_000, warmup_steps: 010, activation_checkpointing: off, betas: [0.9, .95]}")
    train = config.train
    assert (train.lr, train.workers, train.warmup_steps, train.activation_checkpointing) == (1e-6, 1000, 10, False)
    assert train.betas == (0.9, 0.95)


def test_a_key_may_be_flat_or_nested_and_mappings_may_be_merged() -> None:
    flat = read_file("train.lr: 2e-6\ntrain:\n  workers: 3\n  preference.lr: 1e-7\n")
    assert (flat.train.lr, flat.train.workers, flat.train.preference.lr) == (2e-6, 3, 1e-7)
    merged = read_file("models:\n  generator: &m {path: x, dtype: float16}\n  seed: {<<: *m, path: y}\n").models
    assert (merged.seed.path, merged.seed.dtype) == ("y", "float16")


@pytest.mark.slow
@given(
    path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), min_size=1).filter(str.strip),
    indent=st.sampled_from([None, 1, "\t"]),
    wide=st.booleans(),
)
@example(path="a \u2028 b\x7f\x85/", indent="\t", wide=True)
def test_json_is_read_as_json_with_tabs_and_every_character(path: str, indent: Any, wide: bool) -> None:
    content = json.dumps({"heldout": {"path": path}, "source": {"keep_out": [path]}}, indent=indent, ensure_ascii=not wide)
    config = read_file(content)
    assert (config.heldout.path, config.source.keep_out) == (path, (path,))


def test_a_fault_of_json_has_the_line_of_the_file() -> None:
    with pytest.raises(ConfigError, match=r"line 5: train\.lr=fast: must be a number"):
        read_file('{\n\t"run_root": "\u2028é",\n\t"train":\n\t{\n\t\t"lr": "fast"\n\t}\n}')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: 1\nseed: 2\n", "line 2: seed is set twice; the other is .*line 1: seed"),
        ("train:\n  lr: 1\ntrain.lr: 2\n", "line 3: train.lr is set twice; the other is .*line 2"),
        ("train: {}\ntrain.lr: 2\n", "line 2: train.lr is set twice; the other is .*line 1: train"),
        ("train.lr: 2\ntrain:\n", "line 2: train is set twice"),
        ("train:\n  place:\n    a: b\n    a: c\n", "line 4: a is set twice; the other is .*line 3. Keep one"),
        ("train:\n  deepspeed:\n    x: {a: b, a: c}\n", "line 3: a is set twice; the other is .*line 3. Keep one"),
        ("train:\n  lr:\n    x: 1\n", "line 3: train.lr=.*: must be a number"),
        ("train.lr.x: 1", "line 1: unknown key 'train.lr.x'; did you mean 'train.lr'"),
        ("train: {lr: fast}", "line 1: train.lr=fast: must be a number"),
        ("train:\n\n  workers: 1.5", "line 3: train.workers=1.5: must be a whole number"),
        ("train: {activation_checkpointing: maybe}", "activation_checkpointing=maybe: must be true or false"),
        ("train: {offload: off}", "train.offload=off: must be one of 'none', 'optimizer'"),
        ("train: 3", "line 1: train has one value instead of a group"),
        ("train:\n", "train=null: is an empty group"),
        ("run_root: [a]", "run_root=.*: must be text"),
        ("run_root: {a: b}", "run_root=.*: must be text"),
        ("source: {keep_out: a.jsonl}", "keep_out=a.jsonl: must be a list"),
        ("source: {keep_out: [~]}", "must have a value"),
        ("a: 1", "line 1: unknown key 'a'"),
        ("[a]: 1", "line 1: a key that is not text"),
        ("run_root: !!python/object/apply:os.system [echo]", "line 1: the tag .* is not read"),
        ("run_root: !x y", "line 1: the tag !x is not read"),
        ("a: &a {b: *a}", "nested too deeply|unknown key"),
        ("train: &a {preference: *a}", "nested too deeply|unknown key"),
        ("[" * 100_000, "nested too deeply"),
        ("seed: 1\n---\nseed: 2\n", "not YAML"),
        ('run_root: "a\\0b"', r"holds the character U\+0000"),
        ('run_root: "a\\ud800b"', r"holds the character U\+D800"),
        ("run_root: x-${oc.env:HF_TOKEN}", "run_root=.*HF_TOKEN sounds like a secret"),
        ("seed: ${oc.decode:${oc.env:MY_PASSWORD,1}}", "seed=.*MY_PASSWORD sounds like a secret"),
        ("run_root: ${nope}", "run_root: Interpolation key 'nope' not found"),
        ("run_root: a\\${b", "no setting may hold"),
        ("run_root: ''", "run_root is empty"),
        ("- 1", "not a mapping of keys to values"),
        ("just text", "not a mapping of keys to values"),
    ],
)
def test_an_error_of_a_file_is_one_line_that_names_the_line(content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_file(content)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@FAST
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.text("seda:{}[]&*!<,'\"\n -#|>?%", max_size=40).map(str.encode)
)
def test_any_bytes_are_a_config_or_one_line(content: bytes) -> None:
    with suppress(ConfigError):
        read_file(content)


def test_an_empty_file_and_one_in_another_encoding_are_read() -> None:
    assert read_file("# nothing\n") == Config()
    assert read_file("run_root: 数据\n".encode("utf-16")).run_root == "数据"
    assert read_file(b"\xef\xbb\xbfrun_root: x\n").run_root == "x"
    with pytest.raises(ConfigError, match="not YAML"):
        read_file("run_root: é\n".encode("latin-1"))


def test_a_model_in_use_may_be_written_short_or_as_a_group(tmp_path: Path) -> None:
    assert load_use([], ["model=a=b #c"]).model.path == "a=b #c"
    assert load_use([], ["model={path: m, dtype: float16}"]).model.dtype == "float16"
    assert load_use([], ["model=m", "run_root="]).run_root is None
    (tmp_path / "conf.yaml").write_text("run_root: ''")
    with pytest.raises(ConfigError, match="run_root is empty"):
        load_use([tmp_path / "conf.yaml"], ["model=m"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=1", "unknown key 'train.learning_rate'"),
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("trian.lr=1", "did you mean 'train'"),
        ("train.lr=fast", "^train.lr=fast: must be a number$"),
        ("train.lr=-1", r"train.lr=-1.0: must be above 0"),
        (
            "train={activation_checkpointing: false, activation_checkpointing_every: 2}",
            "every=2 recomputes nothing with train.activation_checkpointing=false: set that to true",
        ),
        ("train.max_seq_len=9000", "train.max_seq_len=9000 tokens does not fit in train.max_num_tokens=8192 tokens"),
        ("pairs.method=magic", "modified_instruction"),
        ("judge.samples=0", "judge.samples=0 judgments a pair"),
        ("iterations=0", "iterations=0 rounds of judging and training: must be 1 to 1000; the paper has 5$"),
        ("iterations=100000000000", "iterations=100000000000 rounds of judging and training: must be 1 to 1000"),
        ("train.workers=0", "train.workers=0 ranks: must be 1 to 100000; set the number of GPUs that train$"),
        ("train.workers=100000000000", "train.workers=100000000000 ranks: must be 1 to 100000"),
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
        ("engine.gpu_memory_utilization=7", "engine.gpu_memory_utilization=7.0: must be a share above 0, up to 1"),
        ("engine.gpu_memory_utilization=0", "engine.gpu_memory_utilization=0.0: must be a share above 0, up to 1"),
        ("hardware.gpu_tflops=0", "hardware.gpu_tflops=0.0: must be above 0"),
        ("select.categories=[]", r"select.categories=\[\]: no row can pass"),
        ("select.max_turns=0", "select.max_turns=0 user turns: min must be at most max"),
        ("seed=100000000000000000000", "seed=100000000000000000000: must be 0 to"),
        ("train", "key=value"),
        ("train=3", "one value instead of a group of settings"),
        ("train.betas=[0.9,x]", r'^train.betas=\["0.9", "x"\]: must be a number$'),
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
    with pytest.raises(ConfigError, match="not YAML") as caught:
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


@pytest.mark.slow
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
        (["endpoint=http://h/v1", "name=x", "load_format=dummy"], "load_format=dummy has no effect"),
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


def test_a_seed_of_random_weights_is_refused_and_a_generator_of_them_is_not() -> None:
    with pytest.raises(ConfigError, match=r"models\.seed\.load_format=dummy: the seed is fine-tuned"):
        load([], ["models.seed.load_format=dummy"])
    assert load([], ["models.generator.load_format=dummy"]).models.generator.load_format == "dummy"


def test_a_judge_in_use_may_be_a_file_of_its_settings(tmp_path: Path) -> None:
    file = api_file(tmp_path, "endpoint: http://h/v1\nname: judge-1\nparallel_requests: 4\n")
    assert load_use([], [f"model={file}"]).model.parallel_requests == 4
    assert load_use([], ["model.endpoint=http://h/v1", "model.name=x"]).model.label == "x at http://h/v1"
    local = load_use([], ["model=/model", "model.max_model_len=9"]).model
    assert load_model(file, local).label == "judge-1 at http://h/v1"
    assert load_model("/other", local) == replace(local, path="/other")


@pytest.mark.parametrize("value", ["[low]", "low", "[[low]]"])
def test_a_mapping_is_wanted_where_a_setting_is_one(value: str, tmp_path: Path) -> None:
    key = "models.seed.chat_template_kwargs"
    (tmp_path / "c.yaml").write_text(f"{key}: {value}\n")
    for files, words in (([], [f"{key}={value}"]), ([tmp_path / "c.yaml"], [])):
        with pytest.raises(ConfigError, match=rf"{key}=.*low.*: must be a mapping, as in {{name: value}}"):
            load(files, words)


def test_mappings_inside_a_mapping_are_merged_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train.deepspeed:\n  wall_clock_breakdown: true\n  zero_optimization: {a: 1, b: x}\n")
    words = ["train.deepspeed.zero_optimization.a=2e8", "train.deepspeed={zero_optimization: {c: {d: [1]}}}"]
    merged = load([tmp_path / "a.yaml"], words)
    assert merged.train.deepspeed == {
        "wall_clock_breakdown": True,
        "zero_optimization": {"a": 2e8, "b": "x", "c": {"d": [1]}},
    }
    assert from_plain(json.loads(json.dumps(asdict(merged)))) == merged


def test_a_word_may_hold_a_group_or_a_list_at_any_depth_of_a_mapping() -> None:
    assert load([], ["train.deepspeed.aio={}"]).train.deepspeed == {"aio": {}}
    nested = load([], ["train.deepspeed.flops_profiler.detail={modules: [A], names: []}"]).train.deepspeed
    assert nested == {"flops_profiler": {"detail": {"modules": ["A"], "names": []}}}
    model = load_use(
        [], ["model=m", "model.chat_template_kwargs.tools=[a, 1]", "model.chat_template_kwargs.text={no YAML"]
    ).model
    assert model.chat_template_kwargs == {"tools": ["a", 1], "text": "{no YAML"}


def test_only_a_mapping_is_merged(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("train:\n  <<: [{lr: 1e-6}, 3]\n")
    with pytest.raises(ConfigError, match=r"c.yaml, line 2: `<<` merges a mapping"):
        load([tmp_path / "c.yaml"])


def test_an_error_shows_the_start_of_a_long_value() -> None:
    with pytest.raises(ConfigError, match=r"^seed=9{200}\.\.\.: must be a whole number$"):
        load([], ["seed=" + "9" * 5000])


@pytest.mark.parametrize("key", ["gsk_8aB3cD4eF5gH6iJ7kL8m", "sk-8aB3", "hf_abcdefghijklmnopqrstuvwxyz1"])
def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="the key itself is no setting") as error:
        load_use([], ["model.endpoint=http://host/v1", "model.name=m", f"model.key_variable={key}"])
    assert key not in str(error.value)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("train.betas=[0.9]", r'train.betas=\["0.9"\]: must be a list of 2 values'),
        ("train.betas={a: b}", r'train.betas={"a": "b"}: must be a list, as in \[a, b\]'),
        ("train.trackers={a: b}", r'train.trackers={"a": "b"}: must be a list, as in \[a, b\]'),
        ("train.trackers=[[wandb]]", r"a list of texts holds a list or a group"),
        ("source.keep_out=[{a: b}]", r"a list of texts holds a list or a group"),
    ],
)
def test_what_is_wrong_with_a_list_is_told(word: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load([], [word])


@pytest.mark.slow
@pytest.mark.parametrize("group", ["engine", "train"])
@pytest.mark.parametrize("wanted", ["in()", "!!spot", "-spot", "in(a,!b)", "a b", "", "[a]", "{a: b}"])
def test_a_place_that_ray_cannot_read_is_refused_with_its_label(group: str, wanted: str) -> None:
    value = wanted if wanted.startswith(("[", "{")) else f'"{wanted}"'
    with pytest.raises(
        ConfigError, match=rf"{group}.place={{zone: .*: not a label selector of Ray; write a label with value, !va"
    ):
        load([], [f"{group}.place={{zone: {value}}}"])


@given(st.from_regex(r"!?(in\([a-zA-Z0-9_.-]{1,5}(, ?[a-zA-Z0-9_.-]{1,5}){0,2}\)|[a-zA-Z0-9_.,()-]{1,8})", fullmatch=True))
def test_a_place_is_refused_exactly_if_ray_refuses_it(wanted: str) -> None:
    from ray._private.label_utils import validate_label_selector_value

    try:
        TrainConfig(place={"zone": wanted})
    except ConfigError:
        refused = True
    else:
        refused = False
    listed = wanted.removeprefix("!").startswith("(")  # Ray also takes a list without its `in`
    assert refused == (validate_label_selector_value(wanted) is not None) or listed


def test_a_part_of_a_machine_before_the_machine_is_refused(tmp_path: Path) -> None:
    """The machine's file would replace a narrow network in silence, and a plan would cost a third."""
    machine, network = CONF / "hardware" / "8xh100-80.yaml", CONF / "hardware" / "ethernet-100.yaml"
    assert load([CONF / "paper.yaml", machine, network]).hardware.network_gbs == 12.5
    with pytest.raises(ConfigError) as error:
        load([CONF / "paper.yaml", network, machine])
    assert str(error.value) == f"{machine} names a machine, and replaces hardware.network_gbs of {network}: put {network} last"
    (tmp_path / "disk.yaml").write_text("hardware.disk_gb: 500\n")
    (tmp_path / "machine.yaml").write_text("hardware: {name: mine, gpus: 4}\n")
    with pytest.raises(ConfigError, match=r"replaces hardware\.disk_gb of .*disk\.yaml last$"):
        load([tmp_path / "disk.yaml", tmp_path / "machine.yaml"])
    with pytest.raises(ConfigError) as error:
        load([network, tmp_path / "disk.yaml", machine])
    disk = tmp_path / "disk.yaml"
    assert str(error.value) == (
        f"{machine} names a machine, and replaces hardware.network_gbs of {network}, hardware.disk_gb of {disk}: "
        f"put {network} and {disk} last"
    )
    (tmp_path / "price.yaml").write_text("hardware.dollars_per_gpu_hour: 2\n")
    assert load([tmp_path / "price.yaml", machine]).hardware.dollars_per_gpu_hour == 2


@pytest.mark.parametrize("written", ["true", "1.10", "010", "1e3", "2024_05_01", "no"])
def test_a_label_is_text_as_it_is_written(tmp_path: Path, written: str) -> None:
    """Kubernetes has labels such as cloud.google.com/gke-spot=true; `True` is another one, which no machine has."""
    (tmp_path / "place.yaml").write_text(f"train: {{place: {{cloud.google.com/gke-spot: {written}}}}}\n")
    in_file = load([tmp_path / "place.yaml"])
    assert in_file.train.place == {"cloud.google.com/gke-spot": written}
    assert load([], [f"train.place={{cloud.google.com/gke-spot: {written}}}"]).train.place == in_file.train.place
    assert load([], [f"train.place.gke-spot={written}"]).train.place == {"gke-spot": written}


@pytest.mark.parametrize("word", ["train.place={a: null}", "train.place.a=null", "engine.place={a.b/c: ~}"])
def test_a_label_without_a_value_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"must have a value; in quotes, 'null' is text$"):
        load([], [word])


@pytest.mark.parametrize("written", ["8", "2", "-1", "1", "0", "+1", "1_0", " 1", "1.0", "maybe", "t"])
def test_a_number_is_not_true(tmp_path: Path, written: str) -> None:
    (tmp_path / "switch.yaml").write_text(f"train:\n  shard_within_machine: {written}\n")
    for files, words in (([tmp_path / "switch.yaml"], []), ([], [f"train.shard_within_machine={written}"])):
        with pytest.raises(ConfigError, match=r"train\.shard_within_machine=.*: must be true or false$"):
            load(files, words)


@pytest.mark.parametrize(("written", "value"), [("on", True), ("Yes", True), ("TRUE", True), ("off", False), ("no", False)])
def test_a_switch_has_yaml_s_words(written: str, value: bool) -> None:
    assert load([], [f"train.shard_within_machine={written}"]).train.shard_within_machine is value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grading.by_category={Coding: [a]}"], "grading.by_category={Coding: ['a']}: must be the name of a rubric or file"),
        (["grading.by_category={Coding: {a: b}}"], "must be the name of a rubric or file"),
        (["grading.scale=1-3"], "grading.scale=1-3: a rubric by its name has its own scale"),
        (["judge.task=absolute", "judge.sampling=first_pair"], "set judge.sampling=first_correct"),
        (
            ["judge.task=absolute", "examples.verdicts=0.5"],
            "examples.verdicts=0.5, examples.deductions=0.0: are made of judgments",
        ),
        (["examples.labelled=[a.jsonl, b.jsonl, a.jsonl]"], "examples.labelled: a.jsonl comes twice"),
    ],
)
def test_settings_of_grades_that_would_be_ignored_are_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load([CONF / "mini.yaml"], words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_evaluation_without_a_config_file_has_the_defaults_of_a_judge_in_use() -> None:
    config, use = load_eval([], ["model.max_model_len=4096", "votes=3"]), UseConfig()
    assert (config.engine, config.ray) == (use.engine, use.ray)
    assert (config.models.seed.gpus, config.models.seed.max_model_len, config.votes) == (1, 4096, 3)
    assert load_eval([CONF / "paper.yaml"]) == load([CONF / "paper.yaml"])
    assert load_eval([], ["ray.address=auto", "engine.max_replicas=2"]).ray.address == "auto"
