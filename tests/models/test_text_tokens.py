"""The tokens of texts for embedding models."""

from concurrent.futures import ThreadPoolExecutor

from stj.models.text_tokens import TextTokens
from stj.models.tokenizer import load_tokenizer
from tests.pooled_models import CONTEXT, SEED_MODEL

LONG, SHORT = "owl " * 300, "The FOX eats 3 berries"


def test_texts_are_cut_and_counted_also_if_several_threads_ask() -> None:
    """An engine is asked for three batches at once, and a tokenizer of transformers remembers whether it cuts."""
    tokens = TextTokens(load_tokenizer(SEED_MODEL), CONTEXT, lowers=False)
    expected = tokens.of([LONG, SHORT])
    assert [len(ids) for ids in expected[0]] == [CONTEXT, len(expected[0][1])]
    assert expected[1] == 1
    with ThreadPoolExecutor(8) as threads:
        assert all(found == expected for found in threads.map(tokens.of, [[LONG, SHORT]] * 80))


def test_letters_are_made_small_where_a_model_asks_for_it() -> None:
    tokenizer = load_tokenizer(SEED_MODEL)
    lowered = TextTokens(tokenizer, CONTEXT, lowers=True).of([SHORT])
    assert lowered == TextTokens(tokenizer, CONTEXT, lowers=False).of([SHORT.lower()])
    assert lowered != TextTokens(tokenizer, CONTEXT, lowers=False).of([SHORT])
