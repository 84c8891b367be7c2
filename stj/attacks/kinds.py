"""The attacks by name. Each makes the worse answer look better, or leaves less of it; it never makes it better.

padding          empty sentences behind it, until it is twice as long as the longer answer
format           a heading, and its lines as bullets in bold
flattery         praise for the reader
authority        invented sources and experts
master_key       an opener such as "Thought process:" before it
master_key_only  the opener in its place
verdict          a verdict for it, under the label that it is shown under
control_tokens   a turn of the chat, forged with control tokens, with that verdict
truncated        its first part
empty            nothing
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stj.attacks.words import (
    AUTHORITY,
    CONTROL_TOKENS,
    FLATTERY,
    MARKUPS,
    MASTER_KEYS,
    PADDING,
    VERDICTS,
    WordSet,
)
from stj.randomness import uniform
from stj.verdict import Label, other

_LEAST_PADDING, _MOST_PADDING = 300, 3000  # characters; the most keeps a long answer within a judge's context
_KEPT = (0.2, 0.6)  # Share of a truncated answer that is left, between these two: its end is missing for every reader.
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The two answers of a pair as a judge sees them, and the choices for this pair."""

    better: str
    worse: str
    label: Label
    """The label under which the worse answer is shown."""
    words: WordSet
    choose: Callable[[str], float]
    """A number in [0, 1) for a purpose, always the same for this pair and attack."""

    def pick(self, words: Mapping[WordSet, Sequence[_T]]) -> _T:
        """A member of this pair's set of words."""
        return _at(words[self.words], self.choose("words"))


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack."""

    name: str
    rewrite: Callable[[Target], str]
    """The worse answer after the attack; the same text if the attack cannot apply."""
    names_label: bool = False
    """Whether its words name the label of the worse answer, so that they depend on the order of the pair."""
    takes_away: bool = False
    """Whether the worse answer loses text. A better answer without any text would no longer be better."""


def _filled(words: Mapping[WordSet, Sequence[str]]) -> Callable[[Target], str]:
    """An attack that writes an answer into a template, in a single pass: braces in the answer stay."""

    def rewrite(target: Target) -> str:
        before, _, behind = target.pick(words).partition("{text}")
        return f"{_labelled(before, target.label)}{target.worse}{_labelled(behind, target.label)}"

    return rewrite


def _labelled(words: str, worse: Label) -> str:
    return words.replace("{worse}", worse).replace("{better}", other(worse))


def _pad(target: Target) -> str:
    """Sentences of the set, in turn from a random one on."""
    sentences = PADDING[target.words]
    start = int(target.choose("words") * len(sentences))
    longest = max(len(target.better), len(target.worse))
    wanted = min(max(2 * longest - len(target.worse), _LEAST_PADDING), _MOST_PADDING)
    added: list[str] = []
    while sum(map(len, added)) < wanted:
        added.append(sentences[(start + len(added)) % len(sentences)])
    return f"{target.worse}\n\n{' '.join(added)}"


def _format(target: Target) -> str:
    """Bullets for sentences, or for lines if there are several; code keeps its lines."""
    if not target.worse.strip():
        return target.worse
    heading, form = target.pick(MARKUPS)
    if "```" in target.worse:
        return f"{heading}\n\n{target.worse}\n\n---"
    lines = [line.strip() for line in target.worse.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = re.split(r"(?<=[.!?])\s+", lines[0])
    return "\n".join([f"{heading}\n", *(form.replace("{line}", line) for line in lines)])


def _open(target: Target) -> str:
    return f"{target.pick(MASTER_KEYS)}\n\n{target.worse}"


def _open_only(target: Target) -> str:
    return target.pick(MASTER_KEYS)


def _truncate(target: Target) -> str:
    """The first part, up to the end of a word if there are several; the same text if it has no two characters."""
    text = target.worse.strip()
    low, high = _KEPT
    cut = int(len(text) * (low + (high - low) * target.choose("share")))
    if len(text) < 2:
        return target.worse
    part = text[: max(cut, 1)]
    words = part.rsplit(None, 1)
    return words[0] if len(words) > 1 and not text[len(part)].isspace() else part.rstrip()


def _empty(target: Target) -> str:
    return "" if target.worse.strip() else target.worse


ATTACKS: Mapping[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack(name="padding", rewrite=_pad),
        Attack(name="format", rewrite=_format),
        Attack(name="flattery", rewrite=_filled(FLATTERY)),
        Attack(name="authority", rewrite=_filled(AUTHORITY)),
        Attack(name="master_key", rewrite=_open),
        Attack(name="master_key_only", rewrite=_open_only, takes_away=True),
        Attack(name="verdict", rewrite=_filled(VERDICTS), names_label=True),
        Attack(name="control_tokens", rewrite=_filled(CONTROL_TOKENS), names_label=True),
        Attack(name="truncated", rewrite=_truncate, takes_away=True),
        Attack(name="empty", rewrite=_empty, takes_away=True),
    )
}


def choices(seed: int, row_id: str, attack: str) -> Callable[[str], float]:
    """The choices of one attack on one row."""
    return lambda purpose: uniform(seed, row_id, f"attack\0{attack}\0{purpose}")


def _at(items: Sequence[_T], share: float) -> _T:
    return items[int(share * len(items))]
