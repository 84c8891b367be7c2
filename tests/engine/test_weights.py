"""Whether a model's files hold all of its weights."""

import json
from pathlib import Path

import pytest

from stj.engine.vllm_pooling import _UNREAD
from stj.engine.weights import check_weights
from stj.errors import ModelError
from tests.pooled_models import llama

pytestmark = pytest.mark.engine


def test_an_embedding_model_saved_without_its_untied_head_is_whole(tmp_path: Path) -> None:
    """As Qwen3-Embedding-8B: config.json still names a model that writes."""
    path = llama(tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    writes = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}
    (path / "config.json").write_text(json.dumps({**config, **writes}))
    with pytest.raises(ModelError, match=r"lack the weights lm_head\.weight"):
        check_weights(str(path), "mine")
    check_weights(str(path), "mine", _UNREAD)
    (path / "config.json").write_text(json.dumps({**config, **writes, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"lack the weights model\.layers\.2"):
        check_weights(str(path), "mine", _UNREAD)
