"""How probable each verdict was, from the log-probabilities of the tokens that write it (`vote.aggregate=distribution`).

    written      Both are fine, but the first is right.  [[   A   ]]
    alternatives                                          **   B   ]
    read as                                               -   [[B]]

A tokenizer may cut the verdict anywhere, and each prompt has its own format. So nothing here knows a format: an alternative
token takes the place of the written one, and the judgment's parser reads the verdict again. In a verdict that names both
labels, such as [[A>>B]], what follows an alternative is turned round with it: [[B>>A]]. Otherwise it is taken as written.

The probabilities are the model's own, before temperature and top_p. They are given the text up to the verdict, and given that
some verdict follows. If the other label is not among the alternatives, its probability is at most the lowest one of them, and
at most what they leave. This bound is taken, so a judge never seems surer than it is known to be.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
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


def probability_of_a(tokens: Sequence[Token], text: str, read: Read) -> float | None:
    """The probability that a judgment prefers the response shown as A; a tie counts half. None if it has no such verdict.

    `tokens` end with those of `text`. If they do not show where the verdict is written, it counts as certain.
    """
    verdict = read(text)
    if verdict not in _POINTS:
        return None
    tag = _tag(_behind_thought(tokens, text), read, verdict)
    shares = _shares(tag, read, verdict) if tag else {verdict: 1.0}
    return sum(share * _POINTS[label] for label, share in shares.items())


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


def _shares(tag: Sequence[Token], read: Read, verdict: Verdict) -> Counter[Verdict]:
    """The probability of each verdict: at each token of the tag some of it leaves the written path."""
    shares: Counter[Verdict] = Counter()
    on_path = 1.0
    for place, token in enumerate(tag):
        before, after = ("".join(other.text for other in part) for part in (tag[:place], tag[place + 1 :]))
        here = _verdicts_here(token, partial(_read_between, read, before, after), verdict)
        total = sum(here.values())
        for other, probability in here.items():
            if other != verdict:
                shares[other] += on_path * probability / total  # type: ignore[assignment]
        on_path *= here[verdict] / total
    shares[verdict] += on_path  # type: ignore[assignment]
    return shares


def _verdicts_here(token: Token, read: Read, verdict: Verdict) -> dict[Verdict, float]:
    """The probabilities of the verdicts that the alternatives of one token lead to."""
    here = {verdict: 0.0}
    for text, probability in token.choices:
        leads_to = verdict if text == token.text else read(text)
        if leads_to in _POINTS:
            here[leads_to] = here.get(leads_to, 0.0) + probability
    turned = token.text.translate(_TURNED)
    other = read(turned) if turned != token.text else None
    if other in _POINTS and other not in here:
        probabilities = [probability for _, probability in token.choices]
        here[other] = max(0.0, min([*probabilities, 1 - sum(probabilities)]))
    return here if sum(here.values()) > 0 else {verdict: 1.0}


def _read_between(read: Read, before: str, after: str, text: str) -> Verdict | None:
    """The verdict with another token in the place of the written one, and what follows turned round if that needs it."""
    return read(before + text + after) or read(before + text + after.translate(_TURNED))
