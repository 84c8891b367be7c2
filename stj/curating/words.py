"""The words that set a cluster apart: those with the highest log-odds against all other clusters.

A word's odds in a cluster are smoothed by its frequency in all texts, and divided by their standard error (Monroe, Colaresi and
Quinn, "Fightin' Words", 2008, equation 22). So a name is made of words that are frequent in the cluster and rare elsewhere, and
needs no list of stop words: words that are common everywhere name nothing. A text counts each of its words once.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

_WORDS = re.compile(r"[^\W\d_]{2,}")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # Thai, Japanese, Chinese, Korean
_VOCABULARY = 20_000
_MOST_COUNTED = 200_000  # Different words that are counted before the rarest are forgotten.
_COMMON = 0.1  # No cluster is named by a word of more than this share of the texts, or of twice an equal part of them.
_PRIOR = 500.0  # Weight of all texts against a cluster's own, in words.
_LONGEST = 24  # Longer runs of letters are codes or links.
_TINY = 1e-9  # Instead of no other words at all.


def words_of(text: str) -> set[str]:
    """The different words of a text; of scripts without spaces, pairs of characters."""
    words = set[str]()
    for word in _WORDS.findall(text.casefold()):
        if _UNSPACED.search(word):
            words.update(word[start : start + 2] for start in range(len(word) - 1))
        elif len(word) <= _LONGEST:
            words.add(word)
    return words


def characteristic_words(texts: Iterable[tuple[int, str]], count: int = 3) -> Mapping[int, tuple[str, ...]]:
    """The most characteristic words of each cluster, of texts with the number of their cluster.

    A cluster has fewer than `count` if fewer words are more frequent in it than elsewhere.
    """
    counts: dict[int, Counter[str]] = {}
    everywhere, read = Counter[str](), 0
    for cluster, text in texts:
        words = words_of(text)
        read += 1
        counts.setdefault(cluster, Counter()).update(words)
        everywhere.update(words)
        if len(everywhere) > _MOST_COUNTED:
            everywhere = Counter(dict(everywhere.most_common(_VOCABULARY)))
    most = max(_COMMON, 2 / max(1, len(counts))) * read
    vocabulary = sorted(word for word, texts_with in everywhere.most_common(_VOCABULARY) if texts_with <= max(most, 1))
    if not vocabulary:
        return dict.fromkeys(counts, ())
    total = np.array([everywhere[word] for word in vocabulary], float)
    return {cluster: _highest(vocabulary, here, total, count) for cluster, here in sorted(counts.items())}


def _highest(vocabulary: list[str], here: Counter[str], total: np.ndarray, count: int) -> tuple[str, ...]:
    """The words with the highest z-scores of the log-odds in one cluster against the others."""
    inside = np.array([here[word] for word in vocabulary], float)
    outside = np.maximum(total - inside, 0)
    prior = _PRIOR * total / total.sum()

    def log_odds(words: np.ndarray) -> np.ndarray:
        smoothed = words + prior
        return np.asarray(np.log(smoothed) - np.log(np.maximum(words.sum() + _PRIOR - smoothed, _TINY)))

    z = (log_odds(inside) - log_odds(outside)) / np.sqrt(1 / (inside + prior) + 1 / (outside + prior))
    best = np.argsort(-z, kind="stable")[:count]
    return tuple(vocabulary[index] for index in best if z[index] > 0 and inside[index] > 0)
