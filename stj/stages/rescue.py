"""Rescues a pair that the judge never gets right: reasons for the known label, filtered by judging again without it.

    1. the hint       the judge sees the pair as before, and prompts/rescue_hint.txt behind it, which tells the label
    2. the rules      its judgment is whole, ends with the label, has reasons, and does not say that the label was known
    3. the checks     the judge sees the pair without the label, its own reasons without their verdict, and is asked for the
                      verdict (prompts/rescue_check.txt); enough of these verdicts must be the label
    4. the lesson     the judgment behind the ordinary prompt, as if it had been sampled there

Steps 1 and 4 are STaR's rationalization (Zelikman et al. 2022, https://arxiv.org/abs/2203.14465). STaR keeps what ends with the
known label. A judge that knows the label can write it behind any reasons, so that says little here.

"Judged again without the label" has two readings. To ask the ordinary prompt anew says nothing about the reasons: it is one
more sample, of a pair whose N samples were all wrong, and if it were right it could be learned itself. So step 3 shows the
reasons. What it finds are reasons that speak for the other answer, or for none. It cannot find false reasons that the judge
believes: they lead it to the label as well.
"""

import re
from dataclasses import replace
from functools import partial

from stj.config import JudgeConfig
from stj.errors import PromptTooLong
from stj.generate import Generate
from stj.prompts import RESCUE_CHECK, RESCUE_HINT, fill, prompt
from stj.rescue import RescueConfig
from stj.rows import MOST_DETAIL, Judgment, Pair, Rationale, Row, Turn
from stj.stages.judge import NO_CORRECT_JUDGMENT, judge, judge_messages, label_of_winner, sample_judgment
from stj.stages.runner import together
from stj.verdict import PAIR, Label, parse, plainly

RESCUE_PROMPTS = (RESCUE_HINT, RESCUE_CHECK)
"""The prompt files of a rescue, beside those of a judgment."""
CUT, OTHER_LABEL, NO_REASONS, TOLD = "cut", "not_the_label", "no_reasons", "says_it_was_told"
NOT_CONFIRMED, TOO_LONG = "not_confirmed", "check_too_long"
"""Why a rationale is not learned."""
_COPIED = 7  # Words in a row: "Assistant A gave the better answer" has six, and needs no hint.
_TELLING = re.compile(
    r"""\b(?:i|we)(?:['’](?:m|ve\ been|re)|\ (?:was|were|am|are|have\ been|had\ been))\ (?:already\ )?
        (?:told|informed|instructed)\b
    |\b(?:known|given|stated|provided|predetermined|settled|official)\ (?:label|verdict|winner)\b
    |\bknown\ outcome\b|\b(?:correct|right|true|reference)\ (?:label|verdict|judge?ment)\b
    |\b(?:outcome|verdict|label|winner)\ (?:is|was|has\ been)\ (?:already\ )?(?:known|given|told|settled|decided)\b
    |\bas\ told\b|\bthe\ hint\b|\b(?:the|this)\ note\b|\bnote\ to\ the\ judge\b|\bground[ -]truth\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a judge writes that was told the label. It counts only if the pair does not say the same itself."""
_STATES_VERDICT = re.compile(
    r"\b(?:better|best|prefer\w*|superior|stronger|winn?er|wins?|verdict|judge?ment|choose|chosen|pick|favou?rs?)\b",
    re.IGNORECASE,
)
_NAMES_ANSWER = re.compile(r"\b(?i:assistant|response|answer|model)s?(?:['’]s)? [AB]\b|\b[AB](?:['’]s|,? is| was| wins)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?:]) ")


async def judge_or_rescue(row: Row, generate: Generate, config: JudgeConfig, seed: int) -> Row:
    """The judged row; one without a right judgment is not dropped if reasons for its label pass the rules and the checks."""
    assert config.rescue is not None, "nobody asked to rescue pairs"
    judged = await judge(row, generate, config, seed)
    if judged.dropped != NO_CORRECT_JUDGMENT:
        return judged
    rationales: list[Rationale] = []
    for index in range(config.rescue.samples):  # one after another: few rows come here, and the first may pass
        try:
            rationales.append(await _rationale(judged, generate, config, config.rescue, seed, index))
        except PromptTooLong as error:
            judged = replace(judged, detail=f"no rationale: {error}"[:MOST_DETAIL])
            break
        if rationales[-1].rejected is None:
            return replace(judged, dropped=None, rationales=tuple(rationales))
    return replace(judged, rationales=tuple(rationales))


async def _rationale(
    row: Row, generate: Generate, config: JudgeConfig, rescue: RescueConfig, seed: int, index: int
) -> Rationale:
    """One try. Raises PromptTooLong if the hint leaves no room for an answer."""
    assert row.pair is not None, f"row {row.id} has no pair"
    winner = row.pair.better_as or label_of_winner(seed, row.id)
    read = partial(parse, wording=PAIR, parser=config.parser)
    ask = partial(sample_judgment, generate, sampling=config.decoding, purpose="training", winner=winner)
    judgment = await ask(hinted_messages(row.instruction, row.pair, winner), index=index, read=read)
    if (reason := rejected_by_rule(row, judgment)) is not None:
        return Rationale(judgment=judgment, rejected=reason)
    messages = check_messages(row.instruction, row.pair, winner, reasons_of(judgment.text))
    verdict = partial(parse, wording=PAIR, parser="distinct")  # whatever `judge.parser`: "paper" reads B in any text
    try:
        checks = await together(ask(messages, index=number, read=verdict) for number in range(rescue.checks))
    except PromptTooLong:
        return Rationale(judgment=judgment, rejected=TOO_LONG)
    confirmed = sum(check.correct for check in checks) / rescue.checks >= rescue.agree
    return Rationale(judgment=judgment, checks=tuple(checks), rejected=None if confirmed else NOT_CONFIRMED)


def hinted_messages(instruction: str, pair: Pair, winner: Label) -> list[Turn]:
    """The judge's ordinary prompt, with the label of the better answer behind it."""
    *before, user = judge_messages(instruction, pair, winner)
    return [*before, replace(user, content=f"{user.content}\n\n{fill(RESCUE_HINT, {'label': winner})}")]


def check_messages(instruction: str, pair: Pair, winner: Label, reasons: str) -> list[Turn]:
    """The judge's ordinary prompt, the reasons as its own answer, and the question for the verdict. Nothing tells the label."""
    asked = Turn(role="user", content=prompt(RESCUE_CHECK))
    return [*judge_messages(instruction, pair, winner), Turn(role="assistant", content=reasons), asked]


def rejected_by_rule(row: Row, judgment: Judgment) -> str | None:
    """Why a judgment with the hint is not learned, whatever the checks say; None if nothing is wrong with it."""
    if judgment.finish_reason != "stop":
        return CUT
    if not judgment.correct or parse(judgment.text, PAIR, "strict") != judgment.winner:
        return OTHER_LABEL
    if not re.search(r"\w", reasons_of(judgment.text)):
        return NO_REASONS
    return TOLD if says_it_was_told(row, judgment) else None


def says_it_was_told(row: Row, judgment: Judgment) -> bool:
    """Whether a judgment, or its thought, says that the label was known, or repeats words of the hint.

    Words that the instruction or an answer holds are about the pair.
    """
    assert row.pair is not None, f"row {row.id} has no pair"
    about = "\n".join((row.instruction, row.pair.chosen, row.pair.rejected))
    wrote = f"{judgment.thought}\n{judgment.text}"
    if _tellings(wrote) - _tellings(about):
        return True
    hint = _phrases(fill(RESCUE_HINT, {"label": judgment.winner}))
    return bool(hint & _phrases(wrote) - _phrases(about))


def reasons_of(text: str) -> str:
    """A judgment without its verdict: its tags, its conclusion, and all sentences that say which of the answers is better.

    A sentence that gives the verdict and a reason goes as a whole, so that the checks see too little rather than too much.
    """
    lines = [_SENTENCE_END.split(line) for line in plainly(text).split("\n")]
    kept = [[sentence for sentence in line if sentence.strip() and not _gives_verdict(sentence)] for line in lines]
    kept = [line for line in kept if line]
    while kept and _STATES_VERDICT.search(kept[-1][-1]):
        kept[-1].pop()
        kept = kept if kept[-1] else kept[:-1]
    return "\n".join(" ".join(line) for line in kept)


def _gives_verdict(sentence: str) -> bool:
    names = _NAMES_ANSWER.search(sentence) and _STATES_VERDICT.search(sentence)
    return bool(names or PAIR.tag.search(sentence))


def _tellings(text: str) -> set[str]:
    return {" ".join(match[0].casefold().split()) for match in _TELLING.finditer(" ".join(text.split()))}


def _phrases(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[start : start + _COPIED]) for start in range(len(words) - _COPIED + 1)}
