"""The training texts that teach the seed model to think before it answers, without torch.

They are the documents of stj/mini/corpus.py with a thought before each answer. A judgment's reasons move into its thought; only
its last sentence, with the verdict, stays behind it. The thoughts of all other kinds say nothing about the answer.

The chat template opens the thought, so the model writes only what follows `<think>`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from stj.mini.corpus import Document, documents
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
    mix={"question": 400, "dialogue": 80, "chatter": 80, "categorize": 160, "modify": 160, "judge": 120},
    lr=3e-3,
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
_VERDICT = " So assistant"
"""Begins the sentence of a judgment that stays behind the thought."""


def thinking_documents(seed: int) -> Iterator[Document]:
    """The documents of the stage, each with a thought."""
    return map(_thinking, documents(THINK.mix, THINK.corpus_seed(seed)))


def _thinking(document: Document) -> Document:
    """The document with its thought. The prompt ends behind the first piece; the answer begins with its line breaks."""
    thought, answer = _THOUGHTS.get(document.kind), document.pieces
    if thought is None:
        thought, _, verdict = document.completion.partition(_VERDICT)
        answer = ((f"{_VERDICT.lstrip()}{verdict}", 1.0),)
    (first, weight), *rest = answer
    pieces = ((f"{OPEN}\n", 0.0), (f"{thought}\n{CLOSE}", 1.0), (f"\n\n{first}", weight), *rest)
    return replace(document, pieces=pieces)
