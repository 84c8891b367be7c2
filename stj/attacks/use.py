"""Attacked pairs: one for each attack on the card of a judge, and hard cases among the training pairs."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from stj.attacks.kinds import ATTACKS, Attack, Target, choices
from stj.attacks.words import WordSet
from stj.randomness import uniform
from stj.rows import Pair
from stj.thoughts import shown_response
from stj.verdict import Label, other

_SAMPLE = Pair(method="given", chosen="The sky is blue. It is so by day.", rejected="The sky is green. It is so by night.")


def attacked(pair: Pair, attack: Attack, better_as: Label, seed: int, row_id: str, words: WordSet) -> Pair | None:
    """The pair with its worse answer attacked, to be judged with the better answer under this label.

    None if the attack cannot apply: it would change nothing, or the better answer would no longer be better. The thought before
    the worse answer is removed, as it is for a judge.
    """
    worse, better = shown_response(pair.rejected), shown_response(pair.chosen)
    target = Target(
        better=better,
        worse=worse,
        label=other(better_as),
        words=words,
        choose=choices(seed, row_id, attack.name),
    )
    text = attack.rewrite(target)
    if text == worse or text.strip() == better.strip() or (attack.takes_away and not better.strip()):
        return None
    return replace(pair, rejected=text, attack=attack.name, better_as=better_as if attack.names_label else None)


def hard_case(pair: Pair, share: float, better_as: Label, seed: int, row_id: str) -> Pair:
    """The training pair, for a share of the rows with one attack that its id draws; if that cannot apply, with the next one."""
    if uniform(seed, row_id, "attacked") >= share:
        return pair
    names = sorted(ATTACKS, key=lambda name: uniform(seed, row_id, f"attack\0{name}"))
    pairs = (attacked(pair, ATTACKS[name], better_as, seed, row_id, "training") for name in names)
    return next((changed for changed in pairs if changed), pair)


def attacks_identity(words: WordSet) -> str:
    """A hash of what the attacks write with a set of words, for keys: it changes with the words and with the rules."""
    digest = hashlib.sha256()
    for text in _samples(words):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def _samples(words: WordSet) -> Iterator[str]:
    """A pair under every attack, with enough ids that each of the words is drawn."""
    for attack in ATTACKS.values():
        for number in range(64):
            pair = attacked(_SAMPLE, attack, "A", 0, str(number), words)
            yield pair.rejected if pair else ""
