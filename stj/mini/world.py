"""The mini world: 384 facts, the questions about them, chatter, and the three files made from them.

A fact is (entity, attribute) -> value. Facts are split into train, dev and test. The seed model's pretraining covers all facts,
just as an LLM knows that the sky is blue. Judging is held out: no judging, modifying, quoting or checking example uses a
held-out fact. The held-out instructions (two reserved phrasings of each held-out fact) are in no training text.

Answers have one form and one length ("The answer is red."), and a wrong answer differs only in its last word. So only the fact
shows whether an answer is right. Length, position and words shared by question and answer do not.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "dev", "test"]

ENTITIES = (
    "ant", "ape", "bat", "bear", "bee", "bird", "bull", "cat", "cow", "crab", "crow", "deer", "dog", "dove", "duck",
    "eagle", "eel", "elk", "fish", "fly", "fox", "frog", "goat", "goose", "hare", "hawk", "hen", "horse", "koala",
    "lamb", "lark", "lion", "lizard", "lynx", "mole", "monkey", "moose", "moth", "mouse", "mule", "newt", "otter",
    "owl", "ox", "panda", "parrot", "pig", "pony", "puma", "rabbit", "ram", "rat", "raven", "seal", "shark", "sheep",
    "snail", "snake", "spider", "swan", "tiger", "toad", "turtle", "whale",
)  # fmt: skip

VALUES: Mapping[str, tuple[str, ...]] = {
    "color": ("red", "blue", "green", "black", "white", "brown", "gray", "pink", "gold", "purple"),
    "food": ("corn", "rice", "bread", "cheese", "honey", "nuts", "grass", "soup", "cake", "beans"),
    "home": ("river", "forest", "cave", "barn", "desert", "island", "tower", "garden", "mountain", "valley"),
    "friend": ("Gus", "Emil", "Ida", "Otto", "Nina", "Hugo", "Lena", "Max", "Vera", "Tom"),
    "toy": ("ball", "drum", "kite", "rope", "bell", "doll", "ring", "puzzle", "wheel", "box"),
    "city": ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Tokyo", "Berlin", "Madrid", "Athens", "Dublin"),
}

PHRASINGS = (
    "What is the {attribute} of the {entity}?",
    "Tell me the {attribute} of the {entity}.",
    "Please name the {attribute} of the {entity}.",
    "Do you know the {attribute} of the {entity}?",
    "Which {attribute} does the {entity} have?",
    "I would like to know the {attribute} of the {entity}.",
    "About the {entity}: what is its {attribute}?",
    "The {entity} has one {attribute}. Which one?",
)

FACTS_PER_ATTRIBUTE: Mapping[Split, int] = {"train": 36, "dev": 8, "test": 20}
PHRASINGS_ASKED = 6  # For each train fact in instructions.jsonl: 6 x 216 = 1,296 questions.
ATTACKED_STEP = 11  # Every 11th test pair is attacked: an odd step takes both kinds. Each makes 22 judgments of an attack card.
PHRASINGS_RESERVED = 2  # For each held-out fact: 2 phrasings x 2 kinds x 120 facts = 480 test pairs.


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact of the world, and the split that may use it."""

    entity: str
    attribute: str
    value: str
    split: Split
    reserved: tuple[int, ...]
    """Phrasings that no training text uses for this fact."""

    def question(self, phrasing: int) -> str:
        """The question for this fact in one of the phrasings."""
        return PHRASINGS[phrasing].format(attribute=self.attribute, entity=self.entity)

    @property
    def taught(self) -> tuple[int, ...]:
        """Phrasings that training texts may use for this fact."""
        return tuple(i for i in range(len(PHRASINGS)) if i not in self.reserved)

    @property
    def statement(self) -> str:
        """The fact as a sentence."""
        return f"The {self.attribute} of the {self.entity} is {self.value}."


@dataclass(frozen=True, kw_only=True)
class ChatterKind:
    """A kind of request without a fact, and the right reply to the Figure 7 prompt for it."""

    request: str
    category: str
    complexity: int
    length: str
    reply: str


CHATTER = (
    ChatterKind(
        request="Write a poem about the {entity}.",
        category="Creative Writing",
        complexity=5,
        length="d",
        reply="O {entity}, I sing of you.",
    ),
    ChatterKind(
        request="Give me advice on how to live with a {entity}.",
        category="Asking for Advice",
        complexity=4,
        length="c",
        reply="Be kind to the {entity}.",
    ),
    ChatterKind(
        request="Pretend to be a {entity} and greet me.",
        category="Inhabiting a Character/Persona",
        complexity=3,
        length="b",
        reply="Hello, I am the {entity}.",
    ),
    ChatterKind(
        request="Give me ideas for a party with a {entity}.",
        category="Brainstorming",
        complexity=4,
        length="e",
        reply="Music and games for the {entity}.",
    ),
    ChatterKind(
        request="Rewrite this in a polite way: give me the {entity}!",
        category="Rewriting",
        complexity=2,
        length="a",
        reply="May I have the {entity}, please?",
    ),
    ChatterKind(
        request="Write a program that prints the word {entity}.",
        category="Coding",
        complexity=3,
        length="b",
        reply="print('{entity}')",
    ),
    ChatterKind(
        request="Tell me the history of the {entity} in the old days.",
        category="Humanity, History or Social Studies",
        complexity=6,
        length="e",
        reply="Long ago the {entity} was free.",
    ),
    ChatterKind(
        request="Is a {entity} an animal or a plant?",
        category="Classification",
        complexity=1,
        length="a",
        reply="A {entity} is an animal.",
    ),
)

FACT_CATEGORY = "Knowledge and Reasoning"
FACT_LENGTH = "a"

_FOREIGN = (
    ("Spanish", "Escribe un poema sobre el animal llamado {entity}."),
    ("French", "Raconte une histoire avec un animal, le {entity}."),
    ("German", "Schreibe ein Lied mit dem Tier {entity}."),
)
_TOXIC = "You stupid machine, tell me the {attribute} of the ugly {entity}!"
_REDACTED = "My name is <PRESIDIO_ANONYMIZED_PERSON>. What is the {attribute} of my {entity}?"


def answer(value: str) -> str:
    """An answer to a question, right or wrong, in the one form of answers."""
    return f"The answer is {value}."


def complexity(fact: Fact) -> int:
    """Right complexity of a question for this fact in the Figure 7 prompt: 2 to 7, one for each attribute."""
    return 2 + list(VALUES).index(fact.attribute)


@cache
def world_facts(seed: int = 0) -> tuple[Fact, ...]:
    """All facts of the world of this seed. Six or seven entities share each value of an attribute."""
    rng = random.Random(f"facts {seed}")
    facts = []
    for attribute, values in VALUES.items():
        shared = [values[i % len(values)] for i in range(len(ENTITIES))]
        rng.shuffle(shared)
        splits = [split for split, count in FACTS_PER_ATTRIBUTE.items() for _ in range(count)]
        rng.shuffle(splits)
        for entity, value, split in zip(ENTITIES, shared, splits, strict=True):
            reserved = () if split == "train" else tuple(sorted(rng.sample(range(len(PHRASINGS)), PHRASINGS_RESERVED)))
            facts.append(Fact(entity=entity, attribute=attribute, value=value, split=split, reserved=reserved))
    return tuple(facts)


def facts_of(split: Split, seed: int = 0) -> tuple[Fact, ...]:
    """The facts of one split."""
    return tuple(fact for fact in world_facts(seed) if fact.split == split)


def heldout_rows(split: Split, seed: int = 0) -> list[dict[str, str]]:
    """Pairs of a held-out split. A reserved question is paired once with a wrong value, once with another question's answer."""
    rng = random.Random(f"pairs {split} {seed}")
    rows: list[dict[str, str]] = []
    for fact in facts_of(split, seed):
        for phrasing in fact.reserved:
            for kind, value in (("wrong value", _wrong_value(fact, rng)), ("irrelevant", _irrelevant(fact, rng, seed))):
                rows.append(
                    {
                        "id": f"{split}-{len(rows):03d}",
                        "instruction": fact.question(phrasing),
                        "chosen": answer(fact.value),
                        "rejected": answer(value),
                        "kind": kind,
                    }
                )
    return rows


def heldout_instructions(seed: int = 0) -> set[str]:
    """All instructions that no training text may hold."""
    held = (fact for fact in world_facts(seed) if fact.split != "train")
    return {fact.question(phrasing) for fact in held for phrasing in fact.reserved}


def instruction_rows(seed: int = 0) -> list[dict[str, Any]]:
    """The pool of unlabelled instructions, in the schema of allenai/WildChat-1M. Two thirds ask for train facts."""
    rng = random.Random(f"instructions {seed}")
    rows = [_row(turns, "English") for turns in _fact_dialogues(rng, seed)]
    kinds = [(kind, entity) for kind in CHATTER for entity in ENTITIES]
    rows += [_row(_exchange(kind.request.format(entity=entity)), "English") for kind, entity in kinds]
    rows += list(_filtered_rows(rng))
    rng.shuffle(rows)
    return rows


def write_data(directory: Path, seed: int = 0) -> None:
    """Writes instructions.jsonl, heldout.jsonl (the test split), attacked.jsonl (a part of it) and dev.jsonl."""
    directory.mkdir(parents=True, exist_ok=True)
    write_jsonl(directory / "instructions.jsonl", instruction_rows(seed))
    write_jsonl(directory / "heldout.jsonl", heldout_rows("test", seed))
    write_jsonl(directory / "attacked.jsonl", heldout_rows("test", seed)[::ATTACKED_STEP])
    write_jsonl(directory / "dev.jsonl", heldout_rows("dev", seed))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as lines of JSON."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _wrong_value(fact: Fact, rng: random.Random) -> str:
    return rng.choice([value for value in VALUES[fact.attribute] if value != fact.value])


def _irrelevant(fact: Fact, rng: random.Random, seed: int) -> str:
    """The right answer to another question, mostly for another entity, as the seed modifies questions."""
    return neighbour(fact, world_facts(seed), rng).value


def neighbour(fact: Fact, among: Iterable[Fact], rng: random.Random) -> Fact:
    """A related fact with another value: three times in four the same attribute of another entity."""
    near = [other for other in among if other.attribute == fact.attribute and other.value != fact.value]
    beside = [other for other in among if other.entity == fact.entity and other.attribute != fact.attribute]
    return rng.choice(beside if beside and rng.random() < 0.25 else near)


def _fact_dialogues(rng: random.Random, seed: int) -> Iterator[list[dict[str, str]]]:
    """Questions for every train fact in six phrasings. For one fact in four, the last is the second turn of a dialogue."""
    train = facts_of("train", seed)
    for i, fact in enumerate(train):
        asked = rng.sample(range(len(PHRASINGS)), PHRASINGS_ASKED)
        for phrasing in asked[:-1]:
            yield _exchange(fact.question(phrasing))
        before = neighbour(fact, [f for f in train if f != fact], rng) if i % 4 == 0 else None
        opening = _exchange(before.question(rng.choice(before.taught)), answer(before.value)) if before else []
        yield opening + _exchange(fact.question(asked[-1]))


def _filtered_rows(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Rows that the select rule must reject by the source's marks: 30 each by language, toxic and redacted."""
    for i, entity in enumerate(rng.sample(ENTITIES, 30)):
        language, request = _FOREIGN[i % len(_FOREIGN)]
        yield _row(_exchange(request.format(entity=entity)), language)
    for entity in rng.sample(ENTITIES, 30):
        attribute = rng.choice(list(VALUES))
        yield _row(_exchange(_TOXIC.format(attribute=attribute, entity=entity)), "English", toxic=True)
    for entity in rng.sample(ENTITIES, 30):
        attribute = rng.choice(list(VALUES))
        yield _row(_exchange(_REDACTED.format(attribute=attribute, entity=entity)), "English", redacted=True)


def _exchange(request: str, reply: str = "I am not sure.") -> list[dict[str, str]]:
    return [{"content": request, "role": "user"}, {"content": reply, "role": "assistant"}]


def _row(turns: list[dict[str, str]], language: str, *, toxic: bool = False, redacted: bool = False) -> dict[str, Any]:
    """One conversation in the form of WildChat-1M. It ends with a reply, and its hash covers contents and roles."""
    digest = hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:32]
    flags = {"language": language, "toxic": toxic, "redacted": redacted}
    return {
        "conversation_hash": digest,
        "model": "gpt-3.5-turbo-0301",
        "timestamp": f"2023-04-{1 + int(digest[:4], 16) % 30:02d}T{int(digest[4:8], 16) % 24:02d}:00:00+00:00",
        "conversation": [turn | flags for turn in turns],
        "turn": len(turns) // 2,
        **flags,
    }
