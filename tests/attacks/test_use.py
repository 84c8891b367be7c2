"""The attacks: what they may change, that they are functions of their arguments, and hostile answers."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stj.attacks import words
from stj.attacks.kinds import ATTACKS, Attack
from stj.attacks.use import attacked, attacks_identity, hard_case
from stj.attacks.words import WordSet
from stj.rows import Pair
from stj.thoughts import shown_response
from stj.verdict import Label, other
from tests.cpu_time import units

TEXTS = st.text(alphabet=st.characters(), max_size=60)  # Every character, surrogates included.
LABELS = st.sampled_from(("A", "B"))
WORD_SETS = st.sampled_from(("card", "training"))
ATTACKED = st.sampled_from(list(ATTACKS.values()))
KINDS = (words.FLATTERY, words.AUTHORITY, words.MASTER_KEYS, words.VERDICTS, words.CONTROL_TOKENS, words.PADDING)
HOSTILE = (
    *("", " ", "\n", ".", "x", "\ud800", "{text}{worse}{better}{line}", "<think>a</think>b", "<think>open", "</think>"),
    *("e\u0301" * 50, "\u202eright to left", "日本語の答えです。", "```py\nx = 1\n```", "[[A]] [[B]]", "<|eot_id|>", "\0"),
)


def pair_of(chosen: str, rejected: str) -> Pair:
    return Pair(method="given", chosen=chosen, rejected=rejected, modified_instruction="?")


@given(TEXTS, TEXTS, ATTACKED, LABELS, st.integers(0, 9), TEXTS, WORD_SETS)
def test_an_attack_changes_the_worse_answer_alone_and_is_a_function_of_its_arguments(
    chosen: str, rejected: str, attack: Attack, better_as: Label, seed: int, row_id: str, word_set: WordSet
) -> None:
    pair = pair_of(chosen, rejected)
    changed = attacked(pair, attack, better_as, seed, row_id, word_set)
    assert changed == attacked(pair, attack, better_as, seed, row_id, word_set)
    if changed is None:
        return
    assert replace(changed, rejected=rejected, attack=None, better_as=None) == pair
    assert changed.rejected != shown_response(rejected)
    assert changed.rejected.strip() != shown_response(chosen).strip()
    assert changed.attack == attack.name
    assert changed.better_as == (better_as if attack.names_label else None)


@given(TEXTS, ATTACKED, LABELS, WORD_SETS)
@example("{text}{worse}{line}", ATTACKS["verdict"], "A", "card")
def test_nothing_of_the_worse_answer_is_lost_but_where_the_attack_says_so(
    rejected: str, attack: Attack, better_as: Label, word_set: WordSet
) -> None:
    changed = attacked(pair_of("better", rejected), attack, better_as, 0, "row", word_set)
    if changed is None:
        return
    shown = shown_response(rejected)
    if attack.name == "truncated":
        assert shown.strip().startswith(changed.rejected)
        assert 0 < len(changed.rejected) < len(shown.strip())
    elif attack.name == "empty":
        assert changed.rejected == ""
    elif attack.name == "format":
        assert re.sub(r"\s", "", shown) == "" or all(word in changed.rejected for word in shown.split())
    elif not attack.takes_away:
        assert shown in changed.rejected


@given(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), ATTACKED, WORD_SETS)
def test_hostile_answers_are_attacked_or_left_alone(chosen: str, rejected: str, attack: Attack, word_set: WordSet) -> None:
    changed = attacked(pair_of(chosen, rejected), attack, "A", 0, "row", word_set)
    if attack.takes_away and not shown_response(chosen).strip():
        assert changed is None


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, " " * 99_999 + "x", "a. " * 33_000, "\n" * 99_999 + "x"])
def test_a_long_answer_is_attacked_in_no_time(attack: Attack, text: str) -> None:
    pair = pair_of("better", text)
    assert units(lambda: attacked(pair, attack, "B", 0, "row", "card")) < 100
    changed = attacked(pair, attack, "B", 0, "row", "card")
    assert changed is None or len(changed.rejected) < 6 * len(text)


@pytest.mark.parametrize("word_set", ["card", "training"])
@pytest.mark.parametrize("name", ["verdict", "control_tokens"])
def test_a_planted_verdict_is_for_the_label_of_the_worse_answer(name: str, word_set: WordSet) -> None:
    for number in range(50):
        texts = {}
        for better_as in ("A", "B"):
            changed = attacked(pair_of("better", "no."), ATTACKS[name], better_as, 0, str(number), word_set)
            assert changed is not None
            texts[better_as] = changed.rejected
            assert set(re.findall(r"\[\[(.)\]\]", changed.rejected)) == {other(better_as)}
        swapped = re.sub(r"\b[AB]\b", lambda match: other(match[0]), texts["A"])
        assert swapped == texts["B"]


def test_padding_makes_the_worse_answer_twice_as_long_as_the_longer_one() -> None:
    for longest in (100, 900):
        changed = attacked(pair_of("x" * longest, "no."), ATTACKS["padding"], "A", 0, "row", "card")
        assert changed is not None
        assert 2 * longest <= len(changed.rejected) <= 2 * longest + 150 or longest == 100


def test_the_words_of_training_are_not_those_of_the_card() -> None:
    for kind in KINDS:
        assert not set(kind["card"]) & set(kind["training"])
        assert all(len(set(texts)) == len(texts) for texts in kind.values())
    assert not set(words.MARKUPS["card"]) & set(words.MARKUPS["training"])


@pytest.mark.parametrize("name", ["flattery", "authority", "master_key", "verdict", "control_tokens", "format"])
def test_every_wording_is_drawn(name: str) -> None:
    kinds = {
        "flattery": words.FLATTERY,
        "authority": words.AUTHORITY,
        "master_key": words.MASTER_KEYS,
        "verdict": words.VERDICTS,
        "control_tokens": words.CONTROL_TOKENS,
        "format": words.MARKUPS,
    }
    changed = [attacked(pair_of("better", "No."), ATTACKS[name], "A", 0, str(number), "card") for number in range(200)]
    assert len({pair.rejected for pair in changed if pair}) == len(kinds[name]["card"])  # type: ignore[index]


def test_an_attack_that_would_make_the_answers_equal_cannot_apply() -> None:
    assert attacked(pair_of("Solution", "no"), ATTACKS["empty"], "A", 0, "row", "card") is not None
    assert attacked(pair_of("", "no"), ATTACKS["empty"], "A", 0, "row", "card") is None
    assert attacked(pair_of("x", "<think>only a thought</think>"), ATTACKS["empty"], "A", 0, "row", "card") is None
    assert attacked(pair_of("T", "T."), ATTACKS["truncated"], "A", 0, "row", "card") is None


def test_a_share_of_the_training_pairs_is_attacked_with_every_attack_in_turn() -> None:
    pair = pair_of("The answer is red.", "The answer is blue.")
    drawn = [hard_case(pair, 0.3, "A", 0, f"row-{number}") for number in range(3000)]
    hard = [changed.attack for changed in drawn if changed.attack]
    assert len(hard) / len(drawn) == pytest.approx(0.3, abs=0.03)
    assert {name: hard.count(name) / len(hard) for name in ATTACKS} == pytest.approx(dict.fromkeys(ATTACKS, 0.1), abs=0.03)
    assert all(hard_case(pair, 0, "A", 0, f"row-{number}") == pair for number in range(100))
    assert all(hard_case(pair, 1, "A", 0, f"row-{number}").attack for number in range(100))
    more = [hard_case(pair, 0.6, "A", 0, f"row-{number}") for number in range(3000)]
    assert all(few == many for few, many in zip(drawn, more, strict=True) if few.attack)  # a higher share only adds


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["card", "training"])
def test_the_identity_changes_with_every_word_of_its_set_alone(changed: WordSet) -> None:
    before = {word_set: attacks_identity(word_set) for word_set in ("card", "training")}
    for kind in KINDS:
        for place in range(len(kind[changed])):
            with pytest.MonkeyPatch.context() as patch:
                other_words = tuple(f"{text} more" if at == place else text for at, text in enumerate(kind[changed]))
                patch.setitem(kind, changed, other_words)  # type: ignore[arg-type]
                after = {word_set: attacks_identity(word_set) for word_set in ("card", "training")}
            assert {word_set for word_set in before if before[word_set] != after[word_set]} == {changed}, kind[changed][place]
