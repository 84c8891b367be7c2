"""The training texts of the seed model, kind by kind, without torch.

Facts of all splits appear in statements and in plain questions with answers; held-out facts only in phrasings that are not
reserved. Every other kind (modify, quote, check, judge ...) uses train facts only.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from stj.mini.world import (
    CHATTER,
    ENTITIES,
    FACT_CATEGORY,
    FACT_LENGTH,
    VALUES,
    Fact,
    answer,
    complexity,
    facts_of,
    heldout_rows,
    neighbour,
    world_facts,
)
from stj.prompts import CATEGORIZE, JUDGE_SYSTEM, JUDGE_USER, MODIFIED_INSTRUCTION, WORSE_ANSWER, fill, prompt
from stj.rows import Turn

CLAUSES = (2, 4, 8)  # Clauses of an equality drill: few, so that a value seen twice in one text is mostly a match.
DECISION_WEIGHT = 5.0  # Loss weight of the token that decides: "good" or "not" in a drill or check, a value in Figure 2.


@dataclass(frozen=True, kw_only=True)
class Document:
    """One training text: the given messages, and the pieces to learn, each with its weight in the loss.

    Pieces are tokenised separately, so a piece begins with the space before its first word, as tokens do.
    """

    kind: str = ""
    messages: tuple[Turn, ...] = ()
    pieces: tuple[tuple[str, float], ...]

    @property
    def completion(self) -> str:
        """The text to learn."""
        return "".join(text for text, _ in self.pieces)

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts of this document that the model reads."""
        return (*(turn.content for turn in self.messages), self.completion)


def documents(mix: Mapping[str, int], seed: str) -> list[Document]:
    """The documents of a mix, shuffled. Each kind has its own stream of randomness, so a kind does not depend on the others."""
    corpus: list[Document] = []
    for kind, count in mix.items():
        rng = random.Random(f"{kind} {seed}")
        corpus += [replace(_KINDS[kind](rng), kind=kind) for _ in range(count)]
    random.Random(f"order {seed}").shuffle(corpus)
    return corpus


def figure_8_messages(instruction: str, answer_a: str, answer_b: str) -> tuple[Turn, ...]:
    """The Figure 8 prompt for one pair in one order."""
    return (
        Turn(role="system", content=prompt(JUDGE_SYSTEM)),
        Turn(role="user", content=_shown(instruction, answer_a, answer_b)),
    )


def judgment(fact: Fact, value_a: str, value_b: str) -> str:
    """A sound judgment: it states the fact, compares each answer with it, and ends with the verdict."""
    return "".join(text for text, _ in judgment_pieces(fact, value_a, value_b))


def recall_probes() -> list[Document]:
    """One judgment for each dev fact, up to the statement of the fact. They measure the judge and are never trained on."""
    probes = []
    rows = heldout_rows("dev")
    for i, fact in enumerate(facts_of("dev")):
        row = rows[i * len(rows) // len(facts_of("dev"))]
        shown = [row["chosen"], row["rejected"]]
        messages = figure_8_messages(row["instruction"], *(shown if i % 2 else shown[::-1]))
        probes.append(Document(messages=messages, pieces=_text(fact.statement)))
    return probes


def _text(text: str) -> tuple[tuple[str, float], ...]:
    return ((text, 1.0),)


def _user(content: str) -> tuple[Turn, ...]:
    return (Turn(role="user", content=content),)


def train_fact(rng: random.Random) -> Fact:
    """A fact that every text may use."""
    return rng.choice(facts_of("train"))


def _question(fact: Fact, rng: random.Random) -> str:
    return fact.question(rng.choice(fact.taught))


def _other_fact(fact: Fact, rng: random.Random) -> Fact:
    return neighbour(fact, facts_of("train"), rng)


def instruction_for(fact: Fact, rng: random.Random) -> str:
    """The instruction of a prompt: a question or, one time in twelve, a dialogue that ends with it."""
    question = _question(fact, rng)
    if rng.random() > 1 / 12:
        return question
    before = _other_fact(fact, rng)
    return f"User: {_question(before, rng)}\n\nAssistant: {answer(before.value)}\n\nUser: {question}"


def _statement(rng: random.Random) -> Document:
    return Document(pieces=_text(rng.choice(world_facts()).statement))


def _question_answer(rng: random.Random) -> Document:
    fact = rng.choice(world_facts())
    return Document(messages=_user(_question(fact, rng)), pieces=_text(answer(fact.value)))


def _dialogue(rng: random.Random) -> Document:
    fact = train_fact(rng)
    before = _other_fact(fact, rng)
    opening = (*_user(_question(before, rng)), Turn(role="assistant", content=answer(before.value)))
    return Document(messages=(*opening, *_user(_question(fact, rng))), pieces=_text(answer(fact.value)))


def _chatter(rng: random.Random) -> Document:
    kind, entity = rng.choice(CHATTER), rng.choice(ENTITIES)
    return Document(messages=_user(kind.request.format(entity=entity)), pieces=_text(kind.reply.format(entity=entity)))


def _sort(rng: random.Random) -> Document:
    """Figure 7 with a short prompt: the category of a request."""
    instruction, reply = _sorted(rng)
    return Document(messages=_user(f"{instruction}\n\nName the category."), pieces=_text(reply))


def _categorize(rng: random.Random) -> Document:
    """Figure 7."""
    instruction, reply = _sorted(rng)
    return Document(messages=_user(fill(CATEGORIZE, {"instruction": instruction})), pieces=_text(reply))


def _sorted(rng: random.Random) -> tuple[str, str]:
    """A request, and the text of its category, complexity and length. Half of the requests are questions, half are chatter."""
    if rng.random() < 0.5:
        fact = train_fact(rng)
        instruction, category, score, length = instruction_for(fact, rng), FACT_CATEGORY, complexity(fact), FACT_LENGTH
    else:
        kind = rng.choice(CHATTER)
        instruction = kind.request.format(entity=rng.choice(ENTITIES))
        category, score, length = kind.category, kind.complexity, kind.length
    return instruction, f"Category: {category}\nComplexity: {score}\nLength: ({length})"


def _ask(rng: random.Random) -> Document:
    """Figure 2 with a short prompt: the model answers a new question of its own."""
    fact = train_fact(rng)
    request = f"{_question(fact, rng)}\n\n{answer(fact.value)}\n\nAsk another question."
    return Document(messages=_user(request), pieces=_modified(_other_fact(fact, rng), rng))


def _modify(rng: random.Random) -> Document:
    """Figure 2: a question for a neighbouring fact, and the right answer to it."""
    fact = train_fact(rng)
    request = fill(MODIFIED_INSTRUCTION, {"Instruction": instruction_for(fact, rng), "Baseline Response": answer(fact.value)})
    return Document(messages=_user(request), pieces=_modified(_other_fact(fact, rng), rng))


def _modified(fact: Fact, rng: random.Random) -> tuple[tuple[str, float], ...]:
    return modified(_question(fact, rng), fact.value)


def modified(question: str, value: str) -> tuple[tuple[str, float], ...]:
    """What Figure 2 asks for: another question, and the answer to it."""
    heading = "The start of Assistant’s answer to the modified instruction\nThe answer is"
    return (
        (f"User Question Modified\n{question}\n\n{heading}", 1.0),
        (f" {value}", DECISION_WEIGHT),
        (".\nThe end of Assistant’s answer to the modified instruction", 1.0),
    )


def _worsen(rng: random.Random) -> Document:
    """Figure 10: the same answer made incorrect."""
    fact = train_fact(rng)
    request = fill(WORSE_ANSWER, {"Instruction": instruction_for(fact, rng), "Baseline Response": answer(fact.value)})
    worse = answer(_other_fact(fact, rng).value)
    reply = (
        "The worse answer is incorrect.\n\n"
        f"[The start of a rewritten worse answer]\n{worse}\n[The end of a rewritten worse answer]"
    )
    return Document(messages=_user(request), pieces=_text(reply))


def _shown(instruction: str, answer_a: str, answer_b: str) -> str:
    return fill(JUDGE_USER, {"instruction": instruction, "response A": answer_a, "response B": answer_b})


def _two_values(rng: random.Random) -> tuple[str, str]:
    """Two different values, three times in four of one attribute. Either may be true, as in answers under judgment."""
    near, far = rng.choice(list(VALUES)), rng.choice(list(VALUES))
    first = rng.choice(VALUES[near])
    pool = VALUES[near if rng.random() < 0.75 else far]
    return first, rng.choice([value for value in pool if value != first])


def _quote(rng: random.Random) -> Document:
    """Repeats what each of two answers says."""
    value_a, value_b = _two_values(rng)
    shown = _shown(instruction_for(train_fact(rng), rng), answer(value_a), answer(value_b))
    reply = f"Assistant A says {value_a}. Assistant B says {value_b}."
    return Document(messages=_user(f"{shown}\n\nQuote both answers."), pieces=_text(reply))


def _topic(rng: random.Random) -> Document:
    """Names the topic of a question, not its answer. Half of the questions stand above two answers."""
    fact = train_fact(rng)
    value_a, value_b = _two_values(rng)
    asked = instruction_for(fact, rng)
    shown = asked if rng.random() < 0.5 else _shown(asked, answer(value_a), answer(value_b))
    return Document(messages=_user(f"{shown}\n\nName the topic."), pieces=_text(f"The {fact.attribute} of the {fact.entity}."))


def _clause(name: str, says: str, expected: str) -> tuple[tuple[str, float], ...]:
    decision = " good" if says == expected else " not"
    return ((f" Assistant {name} says {says}, expected {expected}, that is", 1.0), (decision, DECISION_WEIGHT), (".", 1.0))


def judgment_pieces(fact: Fact, value_a: str, value_b: str) -> tuple[tuple[str, float], ...]:
    """A sound judgment of two answers, in pieces: the first states the fact."""
    better = "A" if value_a == fact.value else "B"
    return (
        (fact.statement, 1.0),
        *_clause("A", value_a, fact.value),
        *_clause("B", value_b, fact.value),
        (f" So assistant {better} is better. [[{better}]]", 1.0),
    )


def _equality(rng: random.Random) -> Document:
    """Many decisions whether two values are equal. The values are random and have no weight."""
    pieces: list[tuple[str, float]] = []
    for i in range(rng.choice(CLAUSES)):
        says, other = _two_values(rng)
        expected = says if rng.random() < 0.5 else other
        (comparison, _), (decision, weight), (stop, _) = _clause("AB"[i % 2], says, expected)
        pieces += [(comparison, 0.0), (decision, weight), (stop, 0.0)]
    return Document(pieces=tuple(pieces))


def _check(rng: random.Random) -> Document:
    """Compares two answers with a given answer, which may be false. Nothing has to be recalled."""
    fact = train_fact(rng)
    value_a, value_b = _two_values(rng)
    given = replace(fact, value=rng.choice((value_a, value_b)))
    shown = _shown(instruction_for(fact, rng), answer(value_a), answer(value_b))
    return Document(messages=_user(f"{shown}\n\nIt is {given.value}."), pieces=judgment_pieces(given, value_a, value_b))


def _judge(rng: random.Random) -> Document:
    """Figure 8: one demonstration of a judgment."""
    fact = train_fact(rng)
    values = [fact.value, _other_fact(fact, rng).value]
    rng.shuffle(values)
    messages = figure_8_messages(instruction_for(fact, rng), answer(values[0]), answer(values[1]))
    return Document(messages=messages, pieces=_text(judgment(fact, values[0], values[1])))


_KINDS: Mapping[str, Callable[[random.Random], Document]] = {
    "statement": _statement,
    "question": _question_answer,
    "dialogue": _dialogue,
    "chatter": _chatter,
    "sort": _sort,
    "categorize": _categorize,
    "ask": _ask,
    "modify": _modify,
    "worsen": _worsen,
    "quote": _quote,
    "topic": _topic,
    "equality": _equality,
    "check": _check,
    "judge": _judge,
}
