"""The training texts that teach the seed model to think before it answers, without torch.

They are the documents of stj/mini/corpus.py with a thought before each answer. The thought of a judgment is all of its reasons;
the answer behind it only repeats which assistant is better. The thoughts of all other kinds say nothing about the answer.

The chat template opens the thought, so the model writes only what follows `<think>`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from stj.mini.corpus import DECISION_WEIGHT, Document, documents
from stj.mini.curriculum import CurriculumStage
from stj.thoughts import CLOSE, OPEN

THINKING_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' + '<think>\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
"""The seed model's template, which opens the thought, or closes it at once if `enable_thinking` is false."""

THINK = CurriculumStage(
    name="think",
    mix={"question": 300, "dialogue": 80, "chatter": 80, "categorize": 160, "modify": 160, "check": 120, "judge": 120},
    lr=2e-3,
    step_tokens=1024,
)
"""The only stage after the curriculum, about a minute of training."""

_THOUGHTS: Mapping[str, str] = {
    "question": "The question asks for a fact.",
    "dialogue": "The question asks for a fact.",
    "chatter": "It asks for no fact.",
    "categorize": "It asks for the category.",
    "modify": "It asks for another question.",
}
_CONCLUSION = " So assistant"
"""Ends the reasons of a judgment; a letter follows."""

_Pieces = tuple[tuple[str, float], ...]


def thinking_documents(seed: int) -> Iterator[Document]:
    """The documents of the stage, each with a thought."""
    return map(_thinking, documents(THINK.mix, THINK.corpus_seed(seed)))


def _thinking(document: Document) -> Document:
    """The document with its thought. The template writes the first piece; the answer begins with its line breaks."""
    thought = _THOUGHTS.get(document.kind)
    pieces = _judgment(document.completion) if thought is None else _behind(thought, document.pieces)
    return replace(document, pieces=((f"{OPEN}\n", 0.0), *pieces))


def _behind(thought: str, answer: _Pieces) -> _Pieces:
    (first, weight), *rest = answer
    return ((f"{thought}\n{CLOSE}", 1.0), (f"\n\n{first}", weight), *rest)


def _judgment(text: str) -> _Pieces:
    reasons, conclusion, verdict = text.partition(_CONCLUSION)
    letter = verdict[:2]  # With the space before it.
    return (
        (f"{reasons}{conclusion}", 1.0),
        (letter, DECISION_WEIGHT),
        (f" is better.\n{CLOSE}", 1.0),
        ("\n\nAssistant", 1.0),
        (f"{letter}{verdict[2:]}", 1.0),
    )
