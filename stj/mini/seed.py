"""Builds the seed model of the mini world from nothing: a tokenizer, a Llama of two million parameters and a curriculum.

The curriculum is scaffolding. It gives a tiny model the skills of a pretrained LLM. These are the facts of its world, the
formats of the paper's prompts, copying from its context, and comparing two words. Stage by stage:

1. `facts`: statements, questions with answers, dialogues, small talk; sorting requests, asking another question.
2. `copy`: quoting two answers, naming the topic of a question.
3. `compare`: drills in "says x, expected y: good or not", and judgments of two answers with the right answer given.
4. `formats`: categories (Figure 7), modified instructions (Figure 2), worse answers (Figure 10), dialogues.
5. `judge`: a few hundred demonstrations of a judgment with nothing given (Figure 8), beside a replay of the rest.

The loop must teach the rest: to recall a fact inside a judgment. The seed answers the same question correctly if it is asked,
and compares well with a given answer. But `judge` ends when the model recalls the facts of dev pairs with a mean probability of
0.5, measured every five steps. So the seed is a weak judge for lack of practice.

The same seed gives the same model on the same machine with the same number of threads.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stj.mini.corpus import Document, documents, recall_probes
from stj.mini.curriculum import CURRICULUM, CurriculumStage
from stj.mini.grading import DRILL, GRADE, drill_documents, grade_documents, grade_probes
from stj.mini.thinking import THINK, THINKING_TEMPLATE, thinking_documents
from stj.storage.folder import Folder
from stj.thoughts import CLOSE, OPEN

log = logging.getLogger(__name__)

BEGIN, SYSTEM, USER, ASSISTANT, END, PAD = "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
SPECIAL_TOKENS = (BEGIN, SYSTEM, USER, ASSISTANT, END, PAD)
VOCABULARY = 1280  # Room for every entity and value as one token, and for the words of the paper's prompts.
TOKENIZER_SAMPLE = {
    "statement": 2_000,
    "question": 2_000,
    "chatter": 60,
    "categorize": 60,
    "modify": 60,
    "worsen": 60,
    "judge": 60,
}

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class WeightedTokens:
    """A document as token ids; `weights[i]` is the loss weight of token i."""

    ids: list[int]
    weights: list[float]


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template, trained on a sample of the curriculum."""
    sample = documents(TOKENIZER_SAMPLE, str(seed))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for document in sample for text in document.texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD, chat_template=CHAT_TEMPLATE
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """The untrained Llama."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=512,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> WeightedTokens:
    """Token ids of a document in the chat template; only the completion and its end have a weight."""
    encoded = tokenizer.backend_tokenizer
    ids: list[int] = [encoded.token_to_id(BEGIN)]
    for turn in document.messages:
        ids += [encoded.token_to_id(f"<|{turn.role}|>"), *encoded.encode(turn.content).ids]
        ids += [encoded.token_to_id(END)] if turn.role == "assistant" else []
    ids += [encoded.token_to_id(ASSISTANT)] if document.messages else []
    weights = [0.0] * len(ids)
    for text, weight in document.pieces:
        piece = encoded.encode(text).ids
        ids += piece
        weights += [weight] * len(piece)
    return WeightedTokens(ids=[*ids, encoded.token_to_id(END)], weights=[*weights, 1.0])


def train_stage(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: CurriculumStage, seed: int
) -> dict[str, float]:
    """Trains on all documents of a stage once, in random order, and returns its figures."""
    return train_documents(model, tokenizer, stage, documents(stage.mix, stage.corpus_seed(seed)), recall_probes())


def train_documents(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: CurriculumStage,
    corpus: Iterable[Document],
    probes: Sequence[Document] = (),
) -> dict[str, float]:
    """Trains on these documents once, in their order, with the learning rate of a stage; returns the figures.

    The facts of the probes are those that a stage must recall to end early.
    """
    started = time.monotonic()
    sequences = [encode(tokenizer, document) for document in corpus]
    steps = list(_steps(sequences, stage.step_tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    losses: list[float] = []
    tokens = 0
    for number, step in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * _schedule(number, len(steps))
        losses.append(_train_step(model, optimizer, step))
        tokens += sum(len(sequence.ids) for sequence in step)
        if stage.enough_recall and number % 5 == 4 and recall(model, tokenizer, probes) >= stage.enough_recall:
            break
    seconds = time.monotonic() - started
    loss = sum(losses[-50:]) / len(losses[-50:])
    log.info("%s: %d tokens in %d steps, %d tokens/s, loss %.4f", stage.name, tokens, len(losses), tokens / seconds, loss)
    return {"tokens": tokens, "steps": len(losses), "loss": round(loss, 4), "seconds": round(seconds, 1)}


@torch.inference_mode()
def recall(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, probes: Sequence[Document]) -> float:
    """Mean probability, at temperature 0.7, that what is asked for in the probes begins with the right fact."""
    sequences = [encode(tokenizer, document) for document in probes]
    last = torch.tensor([len(sequence.ids) - 3 for sequence in sequences])  # The value, the full stop and the end follow.
    ids = _padded([sequence.ids for sequence in sequences])
    hidden = model.model(ids).last_hidden_state[torch.arange(len(ids)), last - 1]
    probabilities = (model.lm_head(hidden) / 0.7).softmax(dim=-1)
    values = ids[torch.arange(len(ids)), last]
    return float(probabilities[torch.arange(len(ids)), values].mean())


def build_seed(out: Path, seed: int = 0) -> None:
    """Trains the seed model and writes it to `out` as a Hugging Face model directory."""
    out.mkdir(parents=True, exist_ok=True)  # Fails here, not after the hour of training.
    (out / "recipe.json").touch()
    tokenizer = build_tokenizer(seed)
    model = build_model(tokenizer, seed)
    stages = {stage.name: asdict(stage) | train_stage(model, tokenizer, stage, seed) for stage in CURRICULUM}
    write_model(model, tokenizer, {"seed": seed, "stages": stages}, out)


def build_thinking_seed(out: Path, seed: int = 0) -> None:
    """Teaches the seed model that stj carries to think before it answers (stj/mini/thinking.py), and writes it to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").touch()
    tokenizer, model = _carried(seed)
    tokenizer.add_tokens([OPEN, CLOSE])
    tokenizer.chat_template = THINKING_TEMPLATE
    model.resize_token_embeddings(len(tokenizer))
    figures = train_documents(model, tokenizer, THINK, thinking_documents(seed))
    write_model(model, tokenizer, {"seed": seed, "stages": {THINK.name: asdict(THINK) | figures}}, out)


def build_grading_seed(out: Path, seed: int = 0) -> None:
    """Teaches the seed model that stj carries to grade, weakly (stj/mini/grading.py), and writes it to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").touch()
    tokenizer, model = _carried(seed)
    stages = {}
    for stage, corpus in ((DRILL, drill_documents(seed)), (GRADE, grade_documents(seed))):
        stages[stage.name] = asdict(stage) | train_documents(model, tokenizer, stage, corpus, list(grade_probes()))
    write_model(model, tokenizer, {"seed": seed, "stages": stages}, out)


def _carried(seed: int) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """The seed model that stj carries."""
    carried = Path(__file__).parent / "seed_model"
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(carried, dtype=torch.float32, trust_remote_code=False)
    return PreTrainedTokenizerFast.from_pretrained(carried, trust_remote_code=False), model


def write_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Mapping[str, object], out: Path) -> None:
    """Writes the weights in bf16, the tokenizer, the chat template, and the recipe with its figures."""
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors makes the file private.
    Folder.at(out).write_json("recipe.json", recipe)


def _steps(sequences: Sequence[WeightedTokens], step_tokens: int) -> Iterator[list[WeightedTokens]]:
    step: list[WeightedTokens] = []
    tokens = 0
    for sequence in sequences:
        step.append(sequence)
        tokens += len(sequence.ids)
        if tokens >= step_tokens:
            yield step
            step, tokens = [], 0


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 30)
    return warm * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))


def _train_step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: Sequence[WeightedTokens]) -> float:
    """One update. Short and long sequences are in separate batches, to keep padding small."""
    total = sum(sum(sequence.weights) for sequence in step)
    loss = 0.0
    for low, high in ((0, 48), (48, 176), (176, 4096)):
        batch = [sequence for sequence in step if low < len(sequence.ids) <= high]
        if batch:
            part = _loss(model, batch) / total
            torch.autograd.backward(part)
            loss += part.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def _computes_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices about as fast as float32 ones. Without AVX-512 it is many times slower."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _padded(rows: Sequence[list[int]]) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def _loss(model: LlamaForCausalLM, batch: Sequence[WeightedTokens]) -> Tensor:
    """Summed weighted loss. The head runs only on tokens with a weight. Right padding needs no mask in a causal model."""
    longest = max(len(sequence.ids) for sequence in batch)
    ids = _padded([sequence.ids for sequence in batch])  # (B, T)
    weights = torch.tensor([sequence.weights + [0.0] * (longest - len(sequence.ids)) for sequence in batch])
    learnt = weights[:, 1:] > 0
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_computes_bf16()):
        hidden = model.model(ids[:, :-1]).last_hidden_state[learnt]  # (N, 192)
        logits = model.lm_head(hidden)
    losses = cross_entropy(logits.float(), ids[:, 1:][learnt], reduction="none")
    return (losses * weights[:, 1:][learnt]).sum()
