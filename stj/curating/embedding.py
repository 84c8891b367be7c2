"""From a text to a vector of length 1, so that a dot product is a cosine similarity.

The default is the embedding of the package wordllama: the mean of its vectors for the tokens of a text. Its files are read
from the installed package. Its own loader is not used, for three reasons: it looks for the tokenizer in a folder that its
wheel does not have, and then asks the hub; it pads all texts of a batch to the longest; and it sets up logging on import.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stj.curation import VLLM, WORDLLAMA
from stj.errors import ConfigError
from stj.hub_log import quiet_hub
from stj.models.hub import hub_snapshots, is_hub_id
from stj.storage.folder import absolute_path
from stj.storage.known_digests import content_identity

Vectors = npt.NDArray[np.float32]
"""Shape (texts, dimensions); each row has length 1, or 0 if a text has no tokens."""

_CHARACTERS = 2000  # Half of them from the start of a text and half from its end, where a long prompt puts its question.
_MOST_WORDS = 400_000  # Words whose tokens are remembered: about 100 MB.
_LATIN = re.compile(r"[A-Za-z\u00aa\u00ba\u00c0-\u024f]")
_WEIGHTS, _TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
_MODULES = "modules.json"  # What every sentence-transformers model has.
_REINSTALL = f"pip install --force-reinstall {WORDLLAMA}==0.4.0.post1"


class Embedder(Protocol):
    """Turns texts into vectors."""

    dimensions: int

    @property
    def cut(self) -> int | None:
        """Texts that were longer than it reads, so far; None if it does not count them."""

    def embed_all(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """The vectors of each batch of texts, in order. It may read a few batches ahead."""

    def tells_apart(self, text: str) -> bool:
        """Whether different texts like this one have different vectors."""


class EmbedderHere(ABC):
    """An embedding in this process, one batch at a time."""

    cut: int | None = None
    dimensions: int

    def embed_all(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """The vectors of each batch of texts, in order."""
        return map(self.embed, batches)

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in order."""

    @abstractmethod
    def tells_apart(self, text: str) -> bool:
        """Whether different texts like this one have different vectors."""


def embedder(name: str) -> EmbedderHere:
    """The embedding of a setting, in this process. Raises ConfigError if it cannot be loaded."""
    check_embedding(name)
    return WordLlama() if name == WORDLLAMA else SentenceTransformer(name)


def check_embedding(name: str) -> str:
    """Words on what the embedding is. Raises ConfigError if its package or directory is missing; loads nothing."""
    if name == WORDLLAMA:
        weights, _ = _wordllama_files()
        return f"{WORDLLAMA} {version(WORDLLAMA)}, from {weights.parent.parent}"
    if find_spec("sentence_transformers") is None:
        raise ConfigError(
            f"curate.embedding={name}: needs the package sentence-transformers, which is not installed: "
            "pip install 'stj[sentence-transformers]', or set curate.embedding=wordllama"
        )
    if is_hub_id(name):
        return f"{name} on the hub"
    if not (Path(name) / _MODULES).is_file():
        raise ConfigError(
            f"curate.embedding={name}: no sentence-transformers model there (no {_MODULES}); name its directory, an id on "
            "the hub, or wordllama"
        )
    return name


def check_on_hub(name: str) -> None:
    """Asks the hub about an embedding that is not in its cache. Raises ConfigError if the hub has no such model."""
    if not is_hub_id(name) or any(hub_snapshots(name).glob(f"*/{_MODULES}")):
        return
    from huggingface_hub import HfApi

    quiet_hub()
    try:
        files = HfApi().list_repo_files(name)
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise ConfigError(
            f"curate.embedding={name}: not a local directory, and the hub does not deliver it ({_cause(error)}). Check the "
            "name, the network and HF_TOKEN, or set curate.embedding=wordllama"
        ) from None
    if _MODULES not in files:
        raise ConfigError(
            f"curate.embedding={name}: the hub has it, but it is no sentence-transformers model (no {_MODULES}); name another"
        )


def embedding_identity(name: str) -> str:
    """What the vectors depend on, for keys. Raises ConfigError if the package or directory is missing."""
    check_embedding(name)
    if name == WORDLLAMA:
        weights, tokenizer = _wordllama_files()
        return content_identity(weights.parent.parent, [weights, tokenizer])
    if is_hub_id(name):
        return f"{name}@main"
    files = sorted(path for path in Path(name).rglob("*") if path.is_file())
    return content_identity(Path(name), files)


def absolute_embedding(name: str) -> str:
    """The setting with the absolute path of a local directory."""
    return name if name in (WORDLLAMA, VLLM) or is_hub_id(name) else absolute_path(name)


class WordLlama(EmbedderHere):
    """The mean of the vectors of a text's tokens, from the files of the package wordllama.

    Words between spaces are made into tokens one by one, and remembered: a text of the same words costs next to nothing.
    """

    def __init__(self) -> None:
        from safetensors import safe_open
        from tokenizers import Tokenizer

        weights, tokenizer = _wordllama_files()
        with safe_open(weights, framework="np") as file:
            self._vectors: Vectors = file.get_tensor("embedding.weight").astype(np.float32)
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokens: dict[str, list[int]] = {}
        self.dimensions: int = self._vectors.shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in order."""
        words = [shortened(text).split() for text in texts]
        self._learn(word for text in words for word in text)
        tokens, ends = list[int](), [0]
        for text in words:
            for word in text:
                tokens += self._tokens[word]
            ends.append(len(tokens))
        counts = csr_matrix((np.ones(len(tokens), np.float32), tokens, ends), (len(words), len(self._vectors)))
        return normalized(np.asarray(counts @ self._vectors, np.float32))

    def tells_apart(self, text: str) -> bool:
        """Whether nine of ten letters are Latin. It learned from English: texts in one other script have almost one vector."""
        if text.isascii():
            return True
        letters = sum(map(str.isalpha, text))
        return letters == 0 or len(_LATIN.findall(text)) >= 0.9 * letters

    def _learn(self, words: Iterable[str]) -> None:
        """Looks up the tokens of all words that are not known yet."""
        if len(self._tokens) > _MOST_WORDS:
            self._tokens.clear()
        new = list(dict.fromkeys(word for word in words if word not in self._tokens))
        known = len(self._vectors) - 1
        for word, encoding in zip(new, self._tokenizer.encode_batch_fast(new, add_special_tokens=False), strict=True):
            self._tokens[word] = [min(token, known) for token in encoding.ids]


class SentenceTransformer(EmbedderHere):
    """A sentence-transformers model: a local directory, or an id on the hub."""

    def __init__(self, name: str) -> None:
        import sentence_transformers

        try:
            self._model = sentence_transformers.SentenceTransformer(name)
        except Exception as error:  # a missing file, an unreachable hub, bad JSON: the package raises many kinds
            raise ConfigError(f"curate.embedding={name}: cannot be loaded ({_cause(error)})") from None
        self._name = name
        self.dimensions: int = self.embed(["a text"]).shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in order. The model itself cuts texts that are longer than it can read."""
        try:
            encoded = self._model.encode([shortened(text) for text in texts], convert_to_numpy=True, show_progress_bar=False)
        except Exception as error:  # too little memory, a text that is too long: the package raises many kinds
            raise ConfigError(f"curate.embedding={self._name}: cannot embed the texts ({_cause(error)})") from None
        return usable_vectors(np.asarray(encoded, np.float32), f"curate.embedding={self._name}")

    def tells_apart(self, text: str) -> bool:
        """What a model reads is its user's choice."""
        return True


def shortened(text: str) -> str:
    """A text of at most 2,000 characters: the first and the last thousand of a longer one. No character is a lone surrogate."""
    half = _CHARACTERS // 2
    short = text if len(text) <= _CHARACTERS else f"{text[:half]} {text[-half:]}"
    return short.encode("utf-8", "replace").decode()


def usable_vectors(vectors: Vectors, setting: str, dimensions: int | None = None) -> Vectors:
    """A model's vectors with length 1.

    Raises ConfigError, which begins with the setting, if they are not finite, or not of this many dimensions.
    """
    if not np.isfinite(vectors).all():
        raise ConfigError(f"{setting}: its vectors hold NaN or infinity; name another model")
    if dimensions is not None and vectors.shape[1:] != (dimensions,):
        raise ConfigError(f"{setting}: a vector has {vectors.shape[1:]} numbers, and an earlier one {dimensions}; name another")
    return normalized(vectors)


def normalized(vectors: Vectors) -> Vectors:
    """The vectors with length 1; zeros stay zeros."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)  # its square may be no number of 32 bits
    scaled = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(np.divide(scaled, lengths, out=scaled, where=lengths > 0))


def _cause(error: Exception) -> str:
    """What happened, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _wordllama_files() -> tuple[Path, Path]:
    """The weights and the tokenizer in the installed package. Raises ConfigError if they are not there."""
    spec = find_spec(WORDLLAMA)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if not places:
        raise ConfigError(f"curate.embedding={WORDLLAMA}: the package {WORDLLAMA} is not installed: pip install {WORDLLAMA}")
    weights, tokenizer = places[0] / _WEIGHTS, places[0] / _TOKENIZER
    missing = next((path for path in (weights, tokenizer) if not path.is_file()), None)
    if missing:
        raise ConfigError(f"curate.embedding={WORDLLAMA}: its package has no {missing.name}: {_REINSTALL}")
    return weights, tokenizer
