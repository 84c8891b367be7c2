"""`stj init`: a config file for a new run, from a look at its instructions, its models, its held-out pairs and its machine.

The file is loaded and checked as `stj run --dry-run` does before it is written. Nothing is overwritten.
"""

import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from stj.config import Config
from stj.config_loader import load
from stj.errors import ConfigError
from stj.loop.inputs import check_inputs
from stj.loop.new_run_data import InstructionsSeen, PairsSeen
from stj.loop.new_run_fit import Machine, ModelSeen, engines, text_lengths, trainings
from stj.loop.phases import Run
from stj.loop.planning import run_plan
from stj.pair_fields import OWN_FIELDS
from stj.plan import Plan, plan
from stj.plan.memory import count
from stj.storage.folder import explain_write_failure
from stj.text import visible_line

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/|~/)(?:[\w./~@=-]|:(?=/))*", re.ASCII)
"""Text that YAML reads as text, unless it is one of its words."""
_WORDS_OF_YAML = ("true", "false", "null", "yes", "no", "on", "off", "y", "n", "~")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model behind an API, which generates and judges first."""

    url: str
    name: str
    key_variable: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What a new run is made of."""

    out: Path
    """The config file."""
    instructions: InstructionsSeen
    seed: ModelSeen
    generator: ModelSeen | Endpoint
    """The generator and the first judge."""
    pairs: PairsSeen | None
    machine: Machine
    categories: tuple[str, ...] = ()

    @property
    def run_root(self) -> str:
        """Where the run is written."""
        return f"runs/{self.out.stem}"

    def seen(self) -> Iterator[str]:
        """What was seen, in lines for a reader."""
        data = self.instructions
        how = data.not_seen or (f"field '{data.field}'" if data.field else "conversations of WildChat")
        yield f"instructions  {data.place}: {how}"
        yield f"model         {self.seed.path}: {_model_words(self.seed)}"
        if self.generator != self.seed:
            writer = self.generator
            words = (
                f"{writer.name} at {writer.url}" if isinstance(writer, Endpoint) else f"{writer.path}: {_model_words(writer)}"
            )
            yield f"generator     {words}"
        if self.pairs is None:
            yield "pairs         none: no judge is measured"
        else:
            names = {name: value for name, value in asdict(self.pairs.names).items() if value}
            by = f"; fields {', '.join(f'{name}={_scalar(value)}' for name, value in names.items())}" if names else ""
            yield f"pairs         {self.pairs.place}: {_pairs_words(self.pairs)}{by}"
        yield f"machine       {self.machine.name}{'' if self.machine.seen else ', not this one: its memory is assumed'}"


def write_new_run(new: NewRun) -> Plan:
    """Writes the config file of a new run, and returns its plan. Of the ways to fit the machine the first that fits is taken.

    Raises ConfigError if the file exists, or if the run would be refused; then nothing is written.
    """
    check_new(new.out)
    text, planned = _fitting(new)
    with explain_write_failure(str(new.out)):
        try:
            with new.out.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            check_new(new.out)
    return planned


def check_new(out: Path) -> None:
    """Raises ConfigError if the file is there already, or cannot be a config file."""
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{out}: a config file ends with .yaml; name one like {out.stem or 'run'}.yaml")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: exists, and nothing is overwritten; name another file, or remove it")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: the directory {out.absolute().parent} does not exist")


def _fitting(new: NewRun) -> tuple[str, Plan]:
    """The text and the plan of the first way that fits; of the last one if none does."""
    ways = product(engines(_served(new), new.machine), trainings(new.seed, new.machine))
    chosen = None
    for (shared, engine), train in ways:
        text = _text(new, shared, engine, train)
        config = _loaded(text)
        if chosen is None or plan(config).fits:
            chosen = text, config
        if plan(config).fits:
            break
    assert chosen is not None, "there is always a way"
    text, config = chosen
    run = Run(config)
    check_inputs(run.config)
    return text, run_plan(run.config)


def _served(new: NewRun) -> ModelSeen:
    """The larger of the models that engines serve."""
    models = [model for model in (new.seed, new.generator) if isinstance(model, ModelSeen)]
    return max(models, key=lambda model: model.shape.parameters if model.shape else 0)


def _loaded(text: str) -> Config:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return load([file.name])


def _text(new: NewRun, shared: int, engine: Mapping[str, Any], train: Mapping[str, Any]) -> str:
    blocks = [
        _head(new),
        [f"run_root: {_scalar(new.run_root)}  # On a cluster: a directory or URI that all machines share.", "iterations: 3"],
        _source(new.instructions),
        _select(new.categories),
        _models(new, shared),
        _group("engine", engine),
        *_lengths(new),
        _train(new, train),
        ["ray:", "  address: local  # This machine. auto joins a running cluster."],
        _hardware(new.machine),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _head(new: NewRun) -> list[str]:
    name = shlex.quote(str(new.out))
    return [
        "# A run of the self-taught judge. Every setting: docs/settings.md",
        "#",
        f"#   stj doctor {name}           reads models, data, disk and GPUs; starts nothing",
        f"#   stj run {name} --dry-run    prints phases, memory, time and what each rule drops",
        f"#   stj run {name}",
    ]


def _source(seen: InstructionsSeen) -> list[str]:
    lines = ["source:", f"  kind: {seen.kind}", f"  path: {_scalar(_place(seen.place))}"]
    if seen.field is not None:
        there = f"The fields there: {', '.join(seen.fields)}." if seen.fields else ""
        lines.append(f"  instruction_field: {_scalar(seen.field)}{_comment(there)}")
    if seen.not_seen:
        lines.append(f"  # The data was {seen.not_seen}.")
    return [*lines, "  near_duplicates: 0.8  # Drops what nearly repeats an earlier instruction; null keeps all."]


def _select(categories: Sequence[str]) -> list[str]:
    if categories:
        return [
            "select:",
            f"  categories: {_scalar(categories)}  # Only instructions that the generator sorts into these become pairs.",
        ]
    return [
        "select:",
        "  categories: null  # All instructions become pairs. The paper keeps two categories of reasoning.",
        "  limit: null  # A number makes pairs of only so many instructions, the first ones: for a first try.",
    ]


def _models(new: NewRun, shared: int) -> list[str]:
    largest = _served(new)

    def local(seen: ModelSeen) -> list[str]:
        return [
            f"    path: {_scalar(_place(seen.path))}{_comment(_model_words(seen))}",
            f"    max_model_len: {seen.max_model_len}",
            f"    tensor_parallel_size: {shared if seen == largest else 1}  # GPUs of one engine",
        ]

    if isinstance(new.generator, Endpoint):
        given = {"endpoint": new.generator.url, "name": new.generator.name, "key_variable": new.generator.key_variable}
        api = [f"    {name}: {_scalar(value)}" for name, value in given.items() if value is not None]
        return ["models:", "  generator: &api", *api, "  first_judge: *api", "  seed:", *local(new.seed)]
    if new.generator == new.seed:
        same = ["  generator: &model", *local(new.seed), "  first_judge: *model", "  seed: *model"]
        return ["models:  # Roles with the same settings share their passes.", *same]
    return ["models:", "  generator: &writer", *local(new.generator), "  first_judge: *writer", "  seed:", *local(new.seed)]


def _model_words(seen: ModelSeen) -> str:
    unknown = "of unknown shape, so check the settings of memory"
    size = f"{count(seen.shape.parameters)} parameters" if seen.shape else unknown
    context = f", a context of {seen.context:,} tokens" if seen.context else ""
    return f"{size}{context}{f'; {seen.not_seen}' if seen.not_seen else ''}"


def _lengths(new: NewRun) -> list[list[str]]:
    """The most tokens of each text, and the held-out pairs."""
    context = min(model.max_model_len for model in (new.seed, new.generator) if isinstance(model, ModelSeen))
    lengths = text_lengths(context)
    decoding = lengths.pop("heldout", {})
    blocks = [_group(name, values) for name, values in lengths.items()]
    if new.pairs is None:
        none = ["heldout:", "  path: null  # Without held-out pairs no judge is measured.", *_inner(decoding)]
        return [*blocks, none]
    seen = new.pairs
    lines = ["heldout:  # How every judge is measured.", f"  path: {_scalar(_place(seen.place))}{_comment(_pairs_words(seen))}"]
    if seen.names != OWN_FIELDS:
        lines += ["  fields:", *_inner({name: value for name, value in asdict(seen.names).items() if value}, "    ")]
    tied = seen.dropped.get("human_tie", 0)
    lines.append(f"  ties: skip  # {tied:,} pairs are ties. count: right if the judge calls a tie too. half: one half each.")
    return [*blocks, [*lines, *_inner(decoding)]]


def _pairs_words(seen: PairsSeen) -> str:
    parts = [f"{seen.pairs:,} pairs"] if seen.pairs else []
    if seen.dropped:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(seen.dropped.items()))
        parts = [f"{seen.pairs - sum(seen.dropped.values()):,} of {seen.pairs:,} pairs count ({reasons})"]
    if len(seen.subsets) > 1:
        parts.append(f"{len(seen.subsets)} subsets")
    return "; ".join([*parts, *([seen.not_seen] if seen.not_seen else [])])


def _train(new: NewRun, train: Mapping[str, Any]) -> list[str]:
    how = "all weights"
    if "lora" in train:
        how = "adapters (LoRA): the machine has no room for all weights and their optimizer"
    elif "offload" in train:
        how = "all weights, with the optimizer in host memory, 16 bytes a parameter"
    return _group("train", train, how)


def _hardware(machine: Machine) -> list[str]:
    known = "" if machine.seen else "Assumed: this machine has fewer GPUs. Files of usual machines are in conf/hardware/."
    gpus = {"gpus": machine.gpus, **({"gpu_memory_gb": machine.gpu_memory_gb} if machine.gpus else {})}
    return _group("hardware", {"name": machine.name, **gpus, "host_memory_gb": machine.host_memory_gb}, known)


def _group(name: str, values: Mapping[str, Any], comment: str = "") -> list[str]:
    return [f"{name}:{_comment(comment)}", *_inner(values)]


def _inner(values: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            inside = ", ".join(f"{key}: {_scalar(each)}" for key, each in value.items())
            yield f"{indent}{name}: {{{inside}}}"
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value as YAML writes it; text in quotes if YAML would read it as something else."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML
        quoted: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=sys.maxsize).rstrip("\n")
        return value if plain else quoted
    return json.dumps(value)


def _comment(words: str) -> str:
    return f"  # {visible_line(words)}" if words else ""


def _place(place: str) -> str:
    return os.path.expanduser(place) if place.startswith("~") else place
