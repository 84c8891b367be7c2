"""A run whose instructions are embedded by engines: settings, keys, and what is found out before anything starts."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stj.config import Config
from stj.config_loader import load
from stj.curating.embedding import EmbedderHere, Vectors, normalized
from stj.curation import CurateConfig, EmbeddingModelConfig
from stj.errors import ConfigError, ModelError, PassFailed
from stj.generate import Usage
from stj.loop.curated import DECISION_SCHEMA, Decision
from stj.loop.curation import CurationPhase
from stj.loop.curation_watch import CurationWatch
from stj.loop.doctor import diagnose_here
from stj.loop.inputs import check_inputs
from stj.loop.phases import Run
from stj.loop.report.costs import Costs
from stj.passes.ledger import Ledger
from stj.plan import plan
from stj.plan.assumptions import Assumptions
from stj.storage.arrow import table_of
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


def test_a_dry_run_refuses_a_model_that_cannot_be_pooled(tmp_path: Path) -> None:
    check_inputs(pooled(tmp_path, str(bert(tmp_path / "bert"))))
    check_inputs(pooled(tmp_path, "org/on-the-hub"))  # which only `stj doctor` and the run ask
    with pytest.raises(ModelError, match=r"it has no modules\.json"):
        check_inputs(pooled(tmp_path, "package://mini/seed_model"))


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


class Engines(EmbedderHere):
    """Engines that embed by one machine's own rules, and cost 30 tokens a batch."""

    dimensions = 2

    def __init__(self, fault: Exception | None = None) -> None:
        self.spent, self._fault = Ledger(), fault

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.spent += Ledger(engine_seconds=40, usage=Usage(prompt_tokens=30))
        if self._fault:
            raise self._fault
        return normalized(np.array([[1, len(text) % 2] for text in texts], np.float32))

    def tells_apart(self, text: str) -> bool:
        return True


def embeds_by(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    def embedding(phase: CurationPhase, watch: CurationWatch) -> Any:
        watch.watch_engines(engines)
        return nullcontext(engines)

    monkeypatch.setattr(CurationPhase, "_embedding", embedding)


def test_its_cost_is_kept_over_failed_and_killed_starts_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(tmp_path / "model")
    run = Run(pooled(tmp_path, str(model), "hardware.dollars_per_gpu_hour=90", "engine.device=gpu", "hardware.gpus=1"))
    phase = run.curation
    assert phase is not None
    phase.artifact.begin()
    embeds_by(Engines(PassFailed("no room")), monkeypatch)
    with pytest.raises(PassFailed):
        phase.run()
    assert phase.artifact.state()[0] == "absent"  # other settings need no --overwrite
    assert phase.artifact.begin()
    killed = phase.artifact.write_part("rows-00000", table_of([Decision(id="of a killed start", position=0)], DECISION_SCHEMA))
    embeds_by(Engines(), monkeypatch)
    phase.run()
    manifest = phase.artifact.manifest()
    assert not phase.artifact.folder.exists(killed)  # readers of all files of the folder would take it for rows
    assert manifest["ledger"]["prompt_tokens"] == 2 * 30
    assert (manifest["ledger"]["engine_seconds"], manifest["ledger"]["dollars"], manifest["ledger"]["starts"]) == (80, 2, 2)
    assert "60 tokens read, 1m of engines, $2.00" in phase.summary()
    [cost] = Costs.of(run).phases
    assert (cost.phase, cost.prompt_tokens, cost.dollars, cost.missing) == ("curated", 60, 2, ())


def test_the_plan_counts_its_tokens_and_gpu_hours(tmp_path: Path) -> None:
    model = llama(tmp_path / "model")
    gpus = ("hardware.gpus=1", "engine.device=gpu", "hardware.dollars_per_gpu_hour=3")
    settings = pooled(tmp_path, str(model), *gpus)
    planned = plan(settings, Assumptions(instruction=40))
    [embedding] = [phase for phase in planned.phases if phase.name == "embedding"]
    assert (embedding.tokens_in, embedding.tokens_out) == (20 * 40, 0)
    work = 20 * 40 * 2 * 164_160
    assert embedding.gpu_hours == pytest.approx(work / (settings.hardware.gpu_tflops * 1e12 * 0.4) / 3600, rel=0.3)
    long = plan(pooled(tmp_path, str(model), f"{ROLE}.max_model_len=32"), Assumptions(instruction=900))
    assert next(phase.tokens_in for phase in long.phases if phase.name == "embedding") == 20 * 32
    assert "embedding" not in {phase.name for phase in plan(config(tmp_path)).phases}
