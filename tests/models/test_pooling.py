"""How an embedding model pools, read from its files: all that vLLM would pass over without a word is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from stj.errors import ModelError
from stj.model_settings import ModelConfig
from stj.models.pooling import Reading, pooled_directory, pooling_of, reading_of

PARTS = "sentence_transformers.models"
TRANSFORMER, POOLING = {"type": f"{PARTS}.Transformer", "path": ""}, {"type": f"{PARTS}.Pooling", "path": "1_Pooling"}


def written(to: Path, modules: Any, pooling: Any) -> Path:
    (to / "1_Pooling").mkdir()
    (to / "modules.json").write_text(json.dumps(modules))
    (to / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return to


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls", "pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True, "include_prompt": True}, "lasttoken"),
    ],
)
def test_both_forms_of_its_config_are_read(pooling: Any, mode: str, tmp_path: Path) -> None:
    newer = {"type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling", "path": "1_Pooling"}
    normalize = {"type": f"{PARTS}.Normalize", "path": "2_Normalize"}
    assert pooling_of(written(tmp_path, [TRANSFORMER, newer, normalize], pooling), "mine") == mode


@pytest.mark.parametrize(
    ("modules", "pooling", "words"),
    [
        # vLLM would pool the first three by the architecture's default, and the fourth by the plain mean.
        ([TRANSFORMER, POOLING], {"pooling_mode": "max"}, "pools by max, and vLLM by one of cls, mean, lasttoken"),
        ([TRANSFORMER, POOLING], {"pooling_mode": ["cls", "mean"]}, r"pools by a list \(cls\+mean\)"),
        ([TRANSFORMER, POOLING], {"pooling_mode": ["mean"]}, r"pools by a list \(mean\)"),  # vLLM: the last token of a Llama
        ([TRANSFORMER, POOLING], {"pooling_mode": "mean", "pooling_mode_cls_token": True}, r"pools by cls\+mean"),  # vLLM: cls
        ([TRANSFORMER, POOLING], {"pooling_mode_cls_token": False}, "pools by nothing"),
        ([TRANSFORMER, POOLING], {"pooling_mode_mean_sqrt_len_tokens": True}, "pools by pooling_mode_mean_sqrt_len_tokens"),
        ([TRANSFORMER, POOLING], [], "pools by nothing"),
        ([TRANSFORMER], {"pooling_mode": "cls"}, r"modules\.json names no pooling"),
        ({}, {}, r"modules\.json names no pooling"),
        ([TRANSFORMER, POOLING, {"type": f"{PARTS}.LayerNorm"}], {}, "a part sentence_transformers.models.LayerNorm, which"),
        ([TRANSFORMER, {"type": f"{PARTS}.WeightedLayerPooling"}, POOLING], {}, "part sentence_transformers.models.Weighted"),
        ([TRANSFORMER, POOLING, {"type": f"{PARTS}.more.Dense"}], {}, r"a part sentence_transformers\.models\.more\.Dense"),
        ([TRANSFORMER, POOLING, POOLING], {"pooling_mode": "cls"}, "names 2 pooling"),
        ([{"type": "custom_st.Transformer"}, POOLING], {}, r"a part custom_st\.Transformer, which vLLM does not compute"),
        ([TRANSFORMER, {**POOLING, "path": "elsewhere"}], {}, r"its elsewhere/config\.json is missing"),
    ],
)
def test_what_vllm_would_pass_over_is_refused(modules: Any, pooling: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        pooling_of(written(tmp_path, modules, pooling), "mine")


SAME = {"in_features": 2, "out_features": 2}
TANH = "torch.nn.modules.activation.Tanh"


def test_a_dense_layer_that_vllm_would_leave_out_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [TRANSFORMER, POOLING, {"type": f"{PARTS}.Dense", "path": "2_Dense"}], {"pooling_mode": "mean"})

    def refused(config: Any) -> str:
        (tmp_path / "2_Dense/config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError) as refusal:
            pooling_of(tmp_path, "mine")
        return str(refusal.value)

    with pytest.raises(ModelError, match=r"its 2_Dense/config\.json is missing, which describes a dense layer"):
        pooling_of(tmp_path, "mine")
    (tmp_path / "2_Dense").mkdir()
    assert "does not name in_features and out_features" in refused([])
    assert "the activation torch.nn.modules.activation.Mish" in refused({**SAME, "activation_function": f"{TANH[:-4]}Mish"})
    assert "has use_residual=True" in refused({**SAME, "use_residual": True})
    assert "its 2_Dense has no model.safetensors" in refused({**SAME, "activation_function": TANH})
    assert pooling_of(tmp_path, "mine", weights=False) == "mean"  # of a model on the hub whose weights are not fetched yet
    (tmp_path / "2_Dense/model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert "git-lfs pointer" in refused(SAME)
    save_file({"linear.weight": np.eye(2, dtype=np.float32)}, tmp_path / "2_Dense/model.safetensors")
    assert pooling_of(tmp_path, "mine") == "mean"


def test_a_text_is_as_long_as_the_positions_that_its_model_can_reach(tmp_path: Path) -> None:
    def reading(settings: Any = None, **config: Any) -> Reading:
        (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 514, **config}))
        if settings is not None:
            (tmp_path / "sentence_bert_config.json").write_text(json.dumps(settings))
        return reading_of(tmp_path, ModelConfig(path=str(tmp_path)))

    assert reading(model_type="bert") == Reading(tokens=514, lowers=False)
    assert reading(model_type="xlm-roberta", pad_token_id=1).tokens == 512  # one more token ends the engine
    assert reading({"do_lower_case": True}, model_type="bert") == Reading(tokens=514, lowers=True)
    assert reading({"max_seq_length": 256}, model_type="bert") == Reading(tokens=256, lowers=False)
    assert reading({"max_seq_length": 8192}, model_type="bert").tokens == 514
    for length in (None, 0, True, "256"):
        with pytest.raises(ModelError, match="which vLLM cannot read"):
            reading({"max_seq_length": length}, model_type="bert")


def test_no_layout_damaged_files_and_object_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model mine: it has no modules\.json, which says how its vectors are pooled"):
        pooling_of(tmp_path, "mine")
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"its modules\.json is not JSON"):
        pooling_of(tmp_path, "mine")
    with pytest.raises(ModelError, match="not fetched from an object store"):
        pooled_directory(ModelConfig(path="s3://bucket/model"), weights=False)
