"""A trace as a person reads it in 80 columns, and as JSON values."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stj.loop.show import checks_words
from stj.prompts import is_prompt, prompt_hash
from stj.rows import Grade, Judgment, Rationale, Row
from stj.text import Passage, Span, duration, visible_line
from stj.viewing.not_learned import NOT_FINISHED, NOT_JUDGED
from stj.viewing.trace import Learned, RowTrace, Step, Trace

_WIDTH = 80  # columns
_LABEL = 10  # columns of the word before a fact
_LONGEST = 400  # characters of a text; `stj show` and --json have all of it
_REASONS = {
    NOT_JUDGED: "not judged",
    NOT_FINISHED: "the training set is not finished",
}


def passages(found: Trace) -> Iterator[Passage]:
    """The rows one after another: source, then what each pass made of it, then what was learned."""
    for number, row in enumerate(found.rows):
        if number:
            yield _plain("")
        yield from _row(row)


def _row(found: RowTrace) -> Iterator[Passage]:
    yield _plain(found.id, "bold cyan")
    yield from _fact("source", f"{found.place.source}{_labelled_by(found.place.labelled_by)}")
    yield from _fact("place", found.place.place or f"not known: {found.place.note}") if _has_place(found) else ()
    yield from _fact("cluster", found.cluster) if found.cluster else ()
    if found.absent:
        yield from _fact("NOT THERE", found.absent, "bold yellow")
    for number, step in enumerate(found.steps):
        yield _plain("")
        yield from _step(step, first=number == 0)
    for learned in found.learned:
        yield _plain("")
        yield from _learned(learned)


def _has_place(found: RowTrace) -> bool:
    return bool(found.place.place or found.place.note)


def _labelled_by(who: str | None) -> str:
    return f", labelled by {who.replace('_', ' ')}" if who else ""


def _step(step: Step, *, first: bool) -> Iterator[Passage]:
    row = step.row
    yield _plain(f"{step.name} ({'finished' if step.state == 'done' else 'NOT FINISHED'})", "bold")
    gone = f", weights removed {step.weights.removed}" if step.weights.removed else ""
    yield from _fact("model", f"{step.weights.name} {step.weights.path}{gone}")
    yield from _fact("weights", step.weights.identity)
    if step.prompts:
        yield from _fact("prompts", ", ".join(_prompt(name, digest) for name, digest in step.prompts.items()))
    if first:
        yield from _texts(row)
    for judgment in row.judgments:
        kept = row.kept is not None and judgment is row.judgments[row.kept]
        yield from _fact("sample", _sample(judgment, kept=kept, is_open=bool(row.pair and not row.pair.ranked)))
    if row.kept is not None:
        yield _text("kept judgment", row.judgments[row.kept].text)
    for opinion in row.opinions:
        yield from _fact("opinion", f"{opinion.member}: {_sample(opinion.judgment, kept=False, is_open=False)}")
    for rationale in row.rationales:
        yield from _fact("rationale", _rationale(rationale))
    if row.rescued is not None:
        yield _text("rescued judgment", row.rescued.text)
    for grade in row.grades:
        yield from _fact("grade", _grade(grade, kept=grade.index == row.kept_grades and grade.answer != "response"))
    yield from _outcome(row)
    yield from _cost(step)


def _prompt(name: str, digest: str) -> str:
    changed = " (changed since)" if is_prompt(name) and prompt_hash(name) != digest else ""
    return f"{name} {digest[:8]}{changed}"


def _texts(row: Row) -> Iterator[Passage]:
    """What the first pass read and wrote, up to the pair."""
    if row.turns:
        yield _text("instruction", row.instruction)
    if row.category:
        category = row.category
        yield from _fact("category", f"{category.name}, complexity {category.complexity}, length {category.length}")
    if row.pair is None:
        return
    if row.pair.modified_instruction:
        yield _text("modified instruction", row.pair.modified_instruction)
    made = f"{row.pair.method}, attacked: {row.pair.attack}" if row.pair.attack else row.pair.method
    yield from _fact("pair", made)
    known = row.pair.ranked
    yield _text("chosen" if known else "response A", row.pair.chosen)
    yield _text("rejected" if known else "response B", row.pair.rejected)


def _sample(judgment: Judgment, *, kept: bool, is_open: bool) -> str:
    """The order, the verdict and whether it is right, in a line."""
    verdict = f"verdict {judgment.verdict}" if judgment.verdict else "no verdict"
    right = "" if is_open or judgment.purpose == "rating" or not judgment.verdict else _right(judgment)
    cut = "" if judgment.finish_reason == "stop" else f", ended by {judgment.finish_reason}"
    first = "response A" if is_open else "chosen"
    shown = "" if judgment.purpose == "rating" else f", {first} as {judgment.winner}"
    words = f"{judgment.index}, {judgment.purpose}{shown}: {verdict}{right}, {judgment.output_tokens or 0:,} tokens{cut}"
    return f"{words}, KEPT" if kept else words


def _rationale(rationale: Rationale) -> str:
    """What became of a judgment that knew the label, in a line."""
    judgment = rationale.judgment
    outcome = f"not learned: {rationale.rejected}" if rationale.rejected else "RESCUED"
    told = f"{judgment.index}, told that {judgment.winner} is better{checks_words(rationale)}"
    return f"{told}, {judgment.output_tokens:,} tokens: {outcome}"


def _right(judgment: Judgment) -> str:
    return ", right" if judgment.correct else ", wrong"


def _grade(grade: Grade, *, kept: bool) -> str:
    score = "no score" if grade.score is None else f"score {grade.score}"
    cut = "" if grade.finish_reason == "stop" else f", ended by {grade.finish_reason}"
    words = f"{grade.index}, {grade.purpose}, {grade.answer} by {grade.rubric}: {score}, {grade.output_tokens:,} tokens{cut}"
    return f"{words}, KEPT" if kept else words


def _outcome(row: Row) -> Iterator[Passage]:
    if row.dropped:
        yield from _fact("DROPPED", row.dropped, "bold yellow")
    if row.detail:
        yield _text("because of", row.detail)
    if row.error:
        yield from _fact("FAILED", row.error, "bold red")


def _cost(step: Step) -> Iterator[Passage]:
    row = step.row
    surplus = f", {row.surplus_tokens:,} of them for samples that were not needed" if row.surplus_tokens else ""
    yield from _fact("tokens", f"{row.prompt_tokens:,} of prompts, {row.output_tokens:,} written{surplus}")
    if step.cost is not None:
        dollars = "" if step.cost.dollars is None else f", ${step.cost.dollars:.4g}"
        seconds = step.cost.engine_seconds
        spent = f"{seconds:.2g} s" if seconds < 60 else duration(seconds)
        yield from _fact("cost", f"{spent} of engines{dollars} ({step.cost.share:.2%} of what the pass wrote)")


def _learned(learned: Learned) -> Iterator[Passage]:
    yield _plain(f"{learned.name}{f', selected from {learned.judged}' if learned.judged else ''}", "bold")
    for example in learned.examples:
        about = f"score {example.score}" if example.winner is None else f"better answer shown as {example.winner}"
        against = ", against a wrong one" if example.rejected is not None else ""
        yield from _fact("learned", f"a {example.kind}, {about}{against}", "green")
    if learned.reason:
        yield from _fact("NOT", _not_learned(learned.reason, learned.rules), "yellow")
    if learned.examples and learned.model:
        steps = "" if learned.steps is None else f", {learned.steps:,} steps"
        gone = f", weights removed {learned.removed}" if learned.removed else ""
        state = "" if learned.state == "done" else ", NOT FINISHED"
        yield from _fact("by", f"{learned.model}{steps}{state}{gone}")


def _not_learned(reason: str, rules: Sequence[str]) -> str:
    return f"left out: by {' or '.join(rules)}" if rules else _REASONS.get(reason, reason)


def _plain(text: str, style: str = "") -> Passage:
    return Passage(line=[Span(text, style)])


def _text(title: str, text: str) -> Passage:
    left_out = len(text) - _LONGEST
    cut = f"{text[:_LONGEST]}… (+{left_out:,} characters)" if left_out > 0 else text
    return Passage(line=[Span(f"  {title}")], text=cut, width=_WIDTH)


def _fact(label: str, words: str, style: str = "") -> Iterator[Passage]:
    """A label and its words, on as many lines as they need; a path is never broken."""
    wrapped = textwrap.wrap(visible_line(words), _WIDTH - _LABEL - 2, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(wrapped):
        yield Passage(line=[Span(f"  {label if number == 0 else '':<{_LABEL}}", style), Span(line)])


def plain(found: Trace) -> dict[str, Any]:
    """The trace as JSON values, with every text whole."""
    return {"run": found.run, "asked": found.asked, "rows": [_plain_row(row) for row in found.rows]}


def _plain_row(found: RowTrace) -> dict[str, Any]:
    return {
        "id": found.id,
        "source": asdict(found.place),
        "cluster": found.cluster,
        "absent": found.absent,
        "steps": [_plain_step(step) for step in found.steps],
        "training_sets": [asdict(learned) for learned in found.learned],
    }


def _plain_step(step: Step) -> Mapping[str, Any]:
    return {
        "name": step.name,
        "state": step.state,
        "fingerprint": step.fingerprint,
        "makes_pairs": step.makes_pairs,
        "weights": asdict(step.weights),
        "prompts": dict(step.prompts),
        "cost": None if step.cost is None else asdict(step.cost),
        "row": dict(step.record),
    }
