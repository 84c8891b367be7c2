"""The embedding of the package wordllama, read without its loader and without any network."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.curating import embedding
from stj.curating.embedding import (
    SentenceTransformer,
    WordLlama,
    absolute_embedding,
    check_embedding,
    check_on_hub,
    embedder,
    embedding_identity,
    normalized,
    shortened,
)
from stj.errors import ConfigError

WORDS = WordLlama()


def test_it_loads_without_any_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert embedder("wordllama").embed(["a text"]).shape == (1, 256)
    assert "wordllama" not in sys.modules  # its import sets up logging, and its loader asks the hub


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "How do I sort a list of numbers in Python?",
        "naïve café déjà-vu",
        "def f(x): return x**2",
        "Что это такое",
        "日本語 の 文",
    ],
)
def test_a_vector_is_that_of_the_package(text: str) -> None:
    """The package's own pooling over the tokens of the whole text."""
    from wordllama.inference import WordLlamaInference

    theirs = WordLlamaInference(WORDS._vectors, embedding_tokenizer()).embed([text], norm=True)
    assert WORDS.embed([text]) == pytest.approx(theirs, abs=1e-5)


def embedding_tokenizer() -> object:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(embedding._wordllama_files()[1]))


@given(st.lists(st.text(max_size=200), max_size=8))
def test_any_texts_have_vectors_of_length_1_or_0_that_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    vectors = WORDS.embed(texts) if texts else np.zeros((0, 256))
    assert vectors.shape == (len(texts), 256)
    for text, vector in zip(texts, vectors, strict=True):
        length = float(np.linalg.norm(vector))
        assert length == pytest.approx(1 if text.split() else 0, abs=1e-4)
        assert WORDS.embed([text])[0] == pytest.approx(vector, abs=1e-6)


def test_meaning_counts() -> None:
    sort, sorting, france = WORDS.embed(
        ["How do I sort a list in Python?", "Sorting lists with python", "The capital of France"]
    )
    assert sort @ sorting > 0.7 > 0.3 > sort @ france


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "a" * 5000 + "z" * 5000
    assert shortened(text) == "a" * 1000 + " " + "z" * 1000
    assert shortened("short \ud800") == "short ?"


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("What is 2 + 2?", True),
        ("12 + 45", True),
        ("où est l'été", True),
        ("Что это", False),
        ("翻译 translate", False),
        ("", True),
    ],
)
def test_texts_of_other_scripts_are_not_told_apart(text: str, apart: bool) -> None:
    assert WORDS.tells_apart(text) == apart


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("org/model", "needs the package sentence-transformers, which is not installed"),
        ("/no/such/directory", "needs the package sentence-transformers"),
    ],
)
def test_a_missing_package_is_named(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=words):
        check_embedding(name)
    with pytest.raises(ConfigError, match=words):
        embedding_identity(name)


def test_an_id_that_neither_the_cache_nor_the_hub_has_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"curate.embedding=org/none: not a local directory, and the hub does not deliver it"):
        check_on_hub("org/none")
    (tmp_path / "models--org--none/snapshots/abc").mkdir(parents=True)
    (tmp_path / "models--org--none/snapshots/abc/modules.json").touch()
    check_on_hub("org/none")
    check_on_hub("wordllama")


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda texts, **_: np.full((len(texts), 2), np.nan), "its vectors hold NaN or infinity"),
        (lambda texts, **_: 1 / 0, r"cannot embed the texts \(division by zero\)"),
    ],
)
def test_a_model_that_fails_on_a_text_is_named(encode: Callable[..., object], words: str) -> None:
    broken = object.__new__(SentenceTransformer)
    broken._name, broken._model = "mine", SimpleNamespace(encode=encode)
    with pytest.raises(ConfigError, match=f"curate.embedding=mine: {words}"):
        broken.embed(["a text"])


def test_a_missing_wordllama_and_missing_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wordllama").mkdir()
    (tmp_path / "wordllama/__init__.py").touch()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), *sys.path])
        patch.delitem(sys.modules, "wordllama", raising=False)
        with pytest.raises(
            ConfigError, match=r"its package has no l2_supercat_256\.safetensors: pip install --force-reinstall"
        ):
            embedder("wordllama")
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(ConfigError, match=r"the package wordllama is not installed: pip install wordllama"):
        embedder("wordllama")


def test_a_directory_is_made_absolute_and_other_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert absolute_embedding("model") == str(tmp_path / "model")
    assert absolute_embedding("wordllama") == "wordllama"
    assert absolute_embedding("org/model") == "org/model"


@pytest.mark.slow
def test_a_sentence_transformers_model_of_the_same_vectors_gives_the_same_vectors(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    static = modules.StaticEmbedding(embedding_tokenizer(), embedding_weights=WORDS._vectors)
    sentence_transformers.SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "model"))
    theirs = embedder(str(tmp_path / "model"))
    texts = ["How do I sort a list of numbers in Python?", "", "The capital of France"]
    assert theirs.embed(texts) == pytest.approx(WORDS.embed(texts), abs=1e-5)
    before = embedding_identity(str(tmp_path / "model"))
    (tmp_path / "model/modules.json").write_text((tmp_path / "model/modules.json").read_text() + " ")
    assert embedding_identity(str(tmp_path / "model")) != before
    (tmp_path / "model/modules.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot be loaded"):
        embedder(str(tmp_path / "model"))
    (tmp_path / "model/modules.json").unlink()
    with pytest.raises(ConfigError, match=r"no sentence-transformers model there \(no modules\.json\)"):
        embedder(str(tmp_path / "model"))


def test_vectors_of_any_size_get_length_1() -> None:
    """Their squares are beyond numbers of 32 bits, and bfloat16 has them."""
    huge = normalized(np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32))
    np.testing.assert_allclose(huge, [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)
