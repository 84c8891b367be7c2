"""Small embedding models of random weights, in the layout of sentence-transformers."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel, set_seed

SEED_MODEL = Path(__file__).parents[1] / "stj/mini/seed_model"
CONTEXT = 64
_PARTS = "sentence_transformers.models"


def llama(to: Path, pooling: dict[str, Any] | None = None, **changed: Any) -> Path:
    """A decoder of two layers, by default pooled by its last token."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(SEED_MODEL)
    config = LlamaConfig(**_sizes(len(tokenizer)), num_key_value_heads=2, tie_word_embeddings=True, **changed)
    return _saved(LlamaModel(config), tokenizer, to, pooling or {"pooling_mode": "lasttoken"})


def bert(to: Path, pooling: dict[str, Any] | None = None) -> Path:
    """An encoder of two layers, by default pooled by the mean of its tokens."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(SEED_MODEL)
    model = BertModel(BertConfig(**_sizes(len(tokenizer)), pad_token_id=tokenizer.pad_token_id), add_pooling_layer=False)
    return _saved(model, tokenizer, to, pooling or {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})


def _sizes(vocabulary: int) -> dict[str, int]:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "vocab_size": vocabulary, "max_position_embeddings": CONTEXT}


def _saved(model: Any, tokenizer: Any, to: Path, pooling: dict[str, Any]) -> Path:
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"idx": n, "name": str(n), "path": path, "type": f"{_PARTS}.{part}"} for n, (path, part) in enumerate(parts)]
    (to / "modules.json").write_text(json.dumps(modules))
    (to / "1_Pooling").mkdir()
    (to / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 64, **pooling}))
    return to
