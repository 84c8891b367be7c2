"""Engines that embed, as actors of a real Ray: a scripted one for what may go wrong, and vLLM against transformers."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stj.config import EngineConfig, ModelConfig
from stj.config_loader import load
from stj.curating.embedding import Vectors, normalized
from stj.engine.wire import Embedded
from stj.errors import CapacityError, ConfigError, ModelError, PassFailed
from stj.generate import Usage
from stj.passes.embedding import EmbeddingSpec, EngineEmbedding
from tests.pooled_models import CONTEXT, bert, llama

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ray_local")]

CPU: EngineConfig = load([Path(__file__).parents[2] / "conf" / "mini.yaml"]).engine
TWO = EngineConfig(device="cpu", max_replicas=2, start_attempts=2)


class Scripted:
    """An engine whose vectors are the length of a text and one; some texts are special."""

    def __init__(self, died: Path) -> None:
        self._died = died

    async def embed(self, texts: Sequence[str]) -> Embedded:
        await asyncio.sleep(0.05 * len(texts[0]) / 100)  # longer ones are answered later
        if "kill once" in texts and not self._died.exists():
            self._died.touch()
            os._exit(1)
        if "kill" in texts:
            os._exit(1)
        vectors = np.array([[len(text), 1 if text else 0] for text in texts], np.float32)
        return Embedded(vectors=vectors * np.nan if "nan" in texts else vectors, cut=sum(len(text) > 50 for text in texts))

    @property
    def usage(self) -> Usage:
        return Usage(prompt_tokens=7)

    def close(self) -> None:
        pass


def scripted(died: Path, config: EngineConfig = TWO) -> EngineEmbedding:
    async def make(model: ModelConfig, config: EngineConfig) -> Scripted:
        return Scripted(died)

    model = ModelConfig(path="scripted")
    return EngineEmbedding(EmbeddingSpec(model=model, identity="", config=config, capacity_deadline_s=0, make_engine=make))


def test_vectors_come_in_order_and_a_dead_engine_starts_again(tmp_path: Path) -> None:
    batches = [["a" * (100 - number), "", "kill once" if number == 7 else "b"] for number in range(20)]
    read: list[int] = []

    def noted() -> Any:
        for number, batch in enumerate(batches):
            read.append(number)
            yield batch

    with scripted(tmp_path / "died") as embedding:
        assert embedding.dimensions == 2
        vectors = embedding.embed_all(noted())
        first = next(vectors)
        assert len(read) <= 2 * 3 + 1  # memory is bounded: three batches of each engine, and the one that was just read
        together = np.concatenate([first, *vectors])
        assert embedding.cut == 20
        assert embedding._engines == []  # they end with the last text
    texts = [text for batch in batches for text in batch]
    expected = normalized(np.array([[len(text), 1 if text else 0] for text in texts], np.float32))
    assert (tmp_path / "died").exists()
    assert embedding.spent.usage.prompt_tokens >= 3 * 7  # two engines, and the one that died
    assert embedding.spent.engine_seconds > 0
    np.testing.assert_array_equal(together, expected)


@pytest.mark.long
def test_what_cannot_be_embedded_ends_with_one_line(tmp_path: Path) -> None:
    with scripted(tmp_path / "died") as embedding:
        with pytest.raises(ConfigError, match=r"^curate\.embedding_model=scripted: its vectors hold NaN"):
            list(embedding.embed_all([["nan"]]))
        with pytest.raises(PassFailed, match="died again and again with the same texts"):
            list(embedding.embed_all([["kill"]]))


def test_an_engine_without_a_machine_or_with_other_files_is_named(tmp_path: Path) -> None:
    nowhere = EngineConfig(device="cpu", place={"market-type": "none"})
    with pytest.raises(CapacityError, match=r"found no room within ray\.capacity_deadline_s=0 s"), scripted(tmp_path, nowhere):
        pass
    model = ModelConfig(path=str(llama(tmp_path / "model")))
    spec = EmbeddingSpec(model=model, identity="of other files", config=CPU, capacity_deadline_s=0)
    with pytest.raises(ModelError, match="this machine has others than the driver's"), EngineEmbedding(spec):
        pass


TEXTS = ("What is the color of the fox?", "", "owl " * 300, "The fox eats 3 + 4 berries", "日本語 \u2028 text")


@pytest.mark.parametrize(
    ("make", "pooling", "dtype", "tolerance"),
    [
        (llama, "lasttoken", "float32", 1e-5),
        (bert, "mean", "float32", 1e-5),
        (bert, "cls", "bfloat16", 2e-2),
    ],
)
def test_vectors_are_those_of_transformers(
    make: Callable[..., Path], pooling: str, dtype: str, tolerance: float, tmp_path: Path
) -> None:
    path = make(tmp_path / "model", {"pooling_mode": pooling})
    model = ModelConfig(path=str(path), dtype=dtype)  # type: ignore[arg-type]
    spec = EmbeddingSpec(model=model, identity="", config=CPU, capacity_deadline_s=60)
    with EngineEmbedding(spec) as embedding:
        [vectors] = embedding.embed_all([TEXTS])
        assert (embedding.dimensions, embedding.cut) == (64, 1)
        assert embedding.spent.usage.prompt_tokens > CONTEXT
    np.testing.assert_allclose(vectors, by_transformers(path, pooling), atol=tolerance)


def by_transformers(path: Path, pooling: str) -> Vectors:
    """The hidden states of each text by itself, pooled here and scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).float().eval()
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=CONTEXT)["input_ids"]
        if not ids:
            rows.append(np.zeros(64, np.float32))
            continue
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        rows.append({"lasttoken": states[-1], "mean": states.mean(0), "cls": states[0]}[pooling].numpy())
    return normalized(np.stack(rows))
