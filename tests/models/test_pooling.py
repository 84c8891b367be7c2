"""How an embedding model pools, read from its files: all that vLLM would pass over without a word is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.errors import ModelError
from stj.model_settings import ModelConfig
from stj.models.pooling import pooled_directory, pooling_of

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
        ({"pooling_mode": ["cls"], "include_prompt": True}, "cls"),
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
        ([TRANSFORMER, POOLING], {"pooling_mode": ["cls", "mean"]}, r"pools by cls\+mean"),
        ([TRANSFORMER, POOLING], {"pooling_mode_cls_token": False}, "pools by nothing"),
        ([TRANSFORMER, POOLING], {"pooling_mode_mean_sqrt_len_tokens": True}, "pools by pooling_mode_mean_sqrt_len_tokens"),
        ([TRANSFORMER, POOLING], [], "pools by nothing"),
        ([TRANSFORMER], {"pooling_mode": "cls"}, r"modules\.json names no pooling"),
        ({}, {}, r"modules\.json names no pooling"),
        ([TRANSFORMER, POOLING, {"type": f"{PARTS}.LayerNorm"}], {}, "a part sentence_transformers.models.LayerNorm, which"),
        ([{"type": "custom_st.Transformer"}, POOLING], {}, r"a part custom_st\.Transformer, which vLLM does not compute"),
        ([TRANSFORMER, {**POOLING, "path": "elsewhere"}], {}, r"its elsewhere/config\.json is missing"),
    ],
)
def test_what_vllm_would_pass_over_is_refused(modules: Any, pooling: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        pooling_of(written(tmp_path, modules, pooling), "mine")


def test_no_layout_damaged_files_and_object_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model mine: it has no modules\.json, which says how its vectors are pooled"):
        pooling_of(tmp_path, "mine")
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"its modules\.json is not JSON"):
        pooling_of(tmp_path, "mine")
    with pytest.raises(ModelError, match="not fetched from an object store"):
        pooled_directory(ModelConfig(path="s3://bucket/model"), weights=False)
