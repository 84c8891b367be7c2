"""How probable each verdict was, from the log-probabilities of the tokens that write it (`vote.aggregate=distribution`).

A verdict is a label or, for a judge that grades, a point of a scale.

    written      Both are fine, but the first is right.  [[   A   ]]
    alternatives                                          **   B   ]
    read as                                               -   [[B]]

A tokenizer may cut the verdict anywhere, and each prompt has its own format. So nothing here knows a format: an alternative
token takes the place of the written one, and the judgment's parser reads the verdict again. In a verdict that names both
labels, such as [[A>>B]], what follows an alternative is turned round with it: [[B>>A]]. In a grade of two digits, the second
may be missing, or come first: [[10]], [[1]], [[2]]. And one may come in the place of what ends the tag. Otherwise what follows
is taken as written.

The probabilities are the model's own, before temperature and top_p. They are given the text up to the verdict, and given that
some verdict follows. If the other label is not among the alternatives, its probability is at most the lowest one of them, and
at most what they leave. This bound is taken, so a judge never seems surer than it is known to be. A point of a scale that is
not among the alternatives counts as not probable: five of them hold nearly all.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from stj.generate import Token
from stj.verdict import TIE, Verdict

Read = Callable[[str], Verdict | None]
"""The parser of the judgment."""

CHOICES = 5
"""Alternatives to ask for at each place: the most that many APIs give."""
_LONGEST_TAG = 40
"""Most tokens of a verdict in any format: a tokenizer of single characters needs 20 for "Output (a) is better"."""
_TURNED = str.maketrans("ABab12", "BAba21")
_POINTS = {"A": 1.0, TIE: 0.5, "B": 0.0}
_DIGITS = "0123456789"


def probability_of_a(tokens: Sequence[Token], text: str, read: Read) -> float | None:
    """The probability that a judgment prefers the response shown as A; a tie counts half. None if it has no such verdict.

    `tokens` end with those of `text`. If they do not show where the verdict is written, it counts as certain.
    """
    shares = _shares_in(tokens, text, _Written(read, _POINTS, labels=True))
    return sum(share * _POINTS[label] for label, share in shares.items()) if shares else None


def grade_shares(tokens: Sequence[Token], text: str, read: Read, points: Sequence[int]) -> tuple[float, ...]:
    """The probability of each point of a scale, in the scale's order; empty if the judgment has no grade on it.

    `tokens` end with those of `text`. If they do not show where the grade is written, it counts as certain.
    """
    shares = _shares_in(tokens, text, _Written(read, [str(point) for point in points], labels=False))
    return tuple(shares.get(str(point), 0.0) for point in points) if shares else ()


@dataclass(frozen=True)
class _Written:
    """How verdicts are read, which ones count, and what may follow an alternative to a token."""

    read: Read
    known: Collection[Verdict]
    labels: bool
    """Whether verdicts are labels, so that each has an opposite, and not points of a scale."""

    def between(self, before: str, token: str, text: str, after: str) -> Verdict | None:
        """The verdict with a text in the place of the written token."""
        verdicts = (self.read(before + text + ending) for ending in self._endings(before + token + after, after))
        return next((verdict for verdict in verdicts if verdict in self.known), None)

    def opposite(self, before: str, text: str, after: str) -> Verdict | None:
        """The verdict with the token turned round; None if that is the same token, or if verdicts have no opposite."""
        turned = text.translate(_TURNED)
        return self.between(before, text, turned, after) if self.labels and turned != text else None

    def _endings(self, tag: str, after: str) -> Iterable[str]:
        if self.labels:
            return after, after.translate(_TURNED)
        return after, after.lstrip(_DIGITS), re.split("[0-9]", tag)[-1]


def _shares_in(tokens: Sequence[Token], text: str, written: _Written) -> Mapping[Verdict, float]:
    """The probability of each verdict; empty if the text has none that counts."""
    verdict = written.read(text)
    if verdict is None or verdict not in written.known:
        return {}
    tag = _tag(_behind_thought(tokens, text), written.read, verdict)
    return _shares(tag, written, verdict) if tag else {verdict: 1.0}


def _behind_thought(tokens: Sequence[Token], text: str) -> Sequence[Token]:
    """The last tokens, as many as the text is long."""
    lengths = list(accumulate((len(token.text) for token in reversed(tokens)), initial=0))
    return tokens[max(0, len(tokens) - bisect_left(lengths, len(text))) :]


def _tag(tokens: Sequence[Token], read: Read, verdict: Verdict) -> Sequence[Token]:
    """The tokens that write the verdict; none if the tokens do not give it.

    Behind the last of them the parser reads the verdict, and before it does not. The tag is the shortest end of that text in
    which the parser reads it.
    """
    written = "".join(token.text for token in tokens)
    ends = list(accumulate((len(token.text) for token in tokens), initial=0))
    if read(written) != verdict:
        return ()
    last = bisect_left(range(1, len(tokens)), True, key=lambda count: read(written[: ends[count]]) == verdict) + 1
    for first in range(last - 1, max(-1, last - 1 - _LONGEST_TAG), -1):
        if read(written[ends[first] : ends[last]]) == verdict:
            return tokens[first:last]
    return ()


def _shares(tag: Sequence[Token], written: _Written, verdict: Verdict) -> Mapping[Verdict, float]:
    """The probability of each verdict: at each token of the tag some of it leaves the written path."""
    shares = defaultdict[Verdict, float](float)
    on_path = 1.0
    for place, token in enumerate(tag):
        before, after = ("".join(other.text for other in part) for part in (tag[:place], tag[place + 1 :]))
        here = _verdicts_here(token, before, after, written, verdict)
        total = sum(here.values())
        for other, probability in here.items():
            if other != verdict:
                shares[other] += on_path * probability / total
        on_path *= here[verdict] / total
    shares[verdict] += on_path
    return shares


def _verdicts_here(token: Token, before: str, after: str, written: _Written, verdict: Verdict) -> dict[Verdict, float]:
    """The probabilities of the verdicts that the alternatives of one token lead to."""
    here = {verdict: 0.0}
    for text, probability in token.choices:
        leads_to = verdict if text == token.text else written.between(before, token.text, text, after)
        if leads_to is not None:
            here[leads_to] = here.get(leads_to, 0.0) + probability
    other = written.opposite(before, token.text, after)
    if other is not None and other not in here:
        probabilities = [probability for _, probability in token.choices]
        here[other] = max(0.0, min([*probabilities, 1 - sum(probabilities)]))
    return here if sum(here.values()) > 0 else {verdict: 1.0}
