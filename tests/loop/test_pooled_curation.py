"""A run whose instructions are embedded by engines: settings, keys, and what is found out before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.curation import CurateConfig, EmbeddingModelConfig
from stj.errors import ConfigError
from stj.loop.doctor import diagnose_here
from stj.loop.phases import Run
from stj.plan import plan
from tests.pooled_models import bert, llama

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
KMEANS = ("curate.clustering=kmeans", "curate.clusters=2")
ROLE = "curate.embedding_model"


def config(folder: Path, *overrides: str) -> Config:
    (folder / "pool.jsonl").write_text("".join(json.dumps({"instruction": f"Question {n}"}) + "\n" for n in range(20)))
    settings = [f"run_root={folder}/run", f"source.path={folder}/pool.jsonl", "source.kind=instructions", "heldout.path=null"]
    return load([MINI], [*settings, *KMEANS, *overrides])


def pooled(folder: Path, model: str, *overrides: str) -> Config:
    return config(folder, "curate.embedding=vllm", f"{ROLE}={{path: {model}}}", *overrides)


def refusal(settings: Config) -> str:
    """The only thing that is wrong."""
    [wrong] = [finding for finding in diagnose_here(settings) if not finding.ok]
    assert wrong.subject == ROLE
    return wrong.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embedding": "vllm"}, r"curate\.embedding=vllm: set curate\.embedding_model={path: MODEL}"),
        (
            {"embedding_model": {"path": "a"}},
            r"embedding_model=a: curate.embedding=wordllama uses no such model; set it to vllm",
        ),
        ({"embedding": "vllm", "embedding_model": {"path": ""}}, r"curate\.embedding_model\.path is empty"),
        ({"embedding": "vllm", "embedding_model": {"path": "a", "max_model_len": 0}}, r"embedding_model\.max_model_len=0"),
        ({"clustering": None, "embedding": "vllm", "embedding_model": {"path": "a"}}, "nothing uses it"),
        ({"clustering": None, "embedding_model": {"path": "a"}}, "uses no such model"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        curated(**{"clustering": "kmeans", **changes})


def curated(embedding_model: dict[str, Any] | None = None, **settings: Any) -> CurateConfig:
    return CurateConfig(embedding_model=embedding_model and EmbeddingModelConfig(**embedding_model), **settings)


@pytest.mark.slow
def test_the_check_names_the_model_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    model = llama(tmp_path / "model")
    [good] = [finding for finding in diagnose_here(pooled(tmp_path, str(model))) if finding.subject == ROLE]
    assert "LlamaModel, lasttoken pooling" in good.words
    assert "a context of 64 tokens" in good.words
    assert "the directory does not exist" in refusal(pooled(tmp_path, str(tmp_path / "nowhere")))
    assert "it has no modules.json" in refusal(pooled(tmp_path, "package://mini/seed_model"))
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "architectures": ["LlamaForSequenceClassification"]}))
    assert "LlamaForSequenceClassification gives no vectors of texts" in refusal(pooled(tmp_path, str(model)))
    (model / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    assert "its files lack all tensors of layer 2" in refusal(pooled(tmp_path, str(model)))


@pytest.mark.slow
def test_an_adapter_and_a_limit_without_room_for_a_text_are_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    base = bert(tmp_path / "base")
    named = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(named))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert "engines embed with whole models: merge it first" in refusal(pooled(tmp_path, str(adapter)))
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    begin = {"id": "begin", "type_id": 0}
    around = {"special_tokens": {"begin": {"id": "begin", "ids": [3], "tokens": ["begin"]}}, "pair": []}
    single = [{"SpecialToken": begin}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": single, **around}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    small = config(tmp_path, "curate.embedding=vllm", f"{ROLE}={{path: {base}, max_model_len: 1}}")
    assert "puts 1 around each text: set 2 or more" in refusal(small)


def test_an_encoder_passes_and_more_gpus_than_it_has_heads_for_do_not(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    assert all(finding.ok for finding in diagnose_here(pooled(tmp_path, str(model))))
    three = f"{ROLE}={{path: {model}, tensor_parallel_size: 3}}"
    assert "cannot share its 2 attention heads" in refusal(config(tmp_path, "curate.embedding=vllm", three))


def test_the_plan_has_its_engine_and_the_phase_asks_for_its_machine(tmp_path: Path) -> None:
    settings = pooled(tmp_path, str(llama(tmp_path / "model")))
    [role] = [role for role in plan(settings).roles if role.role == ROLE]
    assert role.fits
    assert role.parameters == 164_160
    [encoder] = [role for role in plan(pooled(tmp_path, str(bert(tmp_path / "bert")))).roles if role.role == ROLE]
    assert encoder.parameters is None  # the plan knows layers with gates alone, and shows no guess
    assert settings.named_models[ROLE] == settings.curate.pooled_model
    curation = Run(settings).curation
    assert curation is not None
    assert curation.engine_model == settings.curate.pooled_model
    alone = Run(config(tmp_path)).curation
    assert alone is not None
    assert alone.engine_model is None


def test_a_key_holds_every_file_of_the_model_and_only_what_changes_vectors(tmp_path: Path) -> None:
    model = llama(tmp_path / "model")

    def key(*more: str) -> dict[str, object]:
        return Run(pooled(tmp_path, str(model), *more)).phases[0].artifact.key

    before = key()
    assert key(f"{ROLE}.tensor_parallel_size=2") == before
    assert key(f"{ROLE}.dtype=float32") != before
    assert key(f"{ROLE}.max_model_len=32") != before
    file = model / "1_Pooling/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pooling_mode": "mean"}))
    assert key() != before
    assert "embedding_model" not in Run(config(tmp_path)).phases[0].artifact.key["curate"]
