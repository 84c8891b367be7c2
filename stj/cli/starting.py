"""The verb that begins a run of one's own: init."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stj.cli.app import verb, whole_number
from stj.cli.asking import ask, can_ask
from stj.config import SelectConfig
from stj.config_loader import load
from stj.errors import ConfigError
from stj.text import show

if TYPE_CHECKING:
    from stj.loop.new_run import Endpoint, NewRun
    from stj.loop.new_run_data import InstructionsSeen, PairsSeen
    from stj.loop.new_run_fit import ModelSeen
    from stj.plan import Plan

_NONE = "none"
_MOST_GPUS = 64


@verb(
    "init",
    "stj init",
    "stj init my.yaml --instructions pool.csv --model org/8b --pairs votes.csv",
    docs="start data-and-models",
)
def _init(
    out: Annotated[Path, typer.Argument(metavar="OUT.yaml", help="The config file to write. It must not exist yet.")] = Path(
        "run.yaml"
    ),
    instructions: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Your instructions: a file, a directory, or a data set on the hub.")
    ] = None,
    field: Annotated[str | None, typer.Option(metavar="NAME", help="The field of the instruction, if it is not plain.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model to train: a directory, a URI, or an id on the hub.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model that writes the pairs and judges first, if it is another.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="The same behind an OpenAI-compatible API.")] = None,
    endpoint_name: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name at the endpoint.")] = None,
    key_variable: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the endpoint's key.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(metavar="PLACE", help=f"Held-out pairs with a better response; '{_NONE}' measures no judge.")
    ] = None,
    pair_fields: Annotated[
        str | None,
        typer.Option(metavar="FIELDS", help="Their fields, as heldout.fields: '{response_a: left, response_b: right}'."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", parser=whole_number, help="GPUs to use, 0 for a CPU; all of this machine's.")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Memory of a GPU, if it is not in this machine; 80 if left out.")
    ] = None,
    categories: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Keep only instructions of these categories; all if left out.")
    ] = None,
) -> None:
    """Writes a config file for your data, models and machine.

    Looks at the files and at the model's config. Asks for what is missing if stdin is a terminal.
    """
    from stj.loop.new_run import NewRun, check_new, write_new_run
    from stj.loop.new_run_fit import look_at_model, machine_for

    check_new(out)
    if pair_fields is not None and pairs in (None, _NONE) and not can_ask():
        raise ConfigError(f"--pair-fields {pair_fields}: there is no --pairs; name it too, or leave this out")
    if gpu_memory is not None and gpus == 0:
        raise ConfigError(f"--gpu-memory {gpu_memory:g} GB: --gpus 0 takes none; leave one of them out")
    SelectConfig(categories=tuple(categories) if categories else None)  # refuses a name that Figure 7 lacks
    if gpu_memory is not None and gpu_memory <= 0:
        raise ConfigError(f"--gpu-memory {gpu_memory:g} GB: must be above 0")
    seen = _instructions(instructions, field)
    seed = ask("--model", "The model to train (a directory, or an id on the hub)", model, look_at_model)
    writer = _writer(seed, generator, endpoint, endpoint_name, key_variable)
    held_out = _pairs(pairs, pair_fields)
    default = str(machine_for(None, gpu_memory).gpus)
    given = None if gpus is None else str(gpus)
    machine = ask("--gpus", "GPUs", given, lambda word: machine_for(_gpus(word), gpu_memory), default)
    new = NewRun(
        out=out,
        instructions=seen,
        seed=seed,
        generator=writer,
        pairs=held_out,
        machine=machine,
        categories=tuple(categories or ()),
    )
    _report(new, write_new_run(new))


def _instructions(place: str | None, field: str | None) -> "InstructionsSeen":
    """The instructions and their field, which is asked for if it cannot be told."""
    from stj.loop.new_run_data import look_at_instructions

    asked = "Your instructions (a file, a directory, or a data set on the hub)"
    seen = ask("--instructions", asked, place, lambda word: look_at_instructions(word, field))
    if seen.field is not None or seen.kind == "wildchat":
        return seen
    there = f"the fields there are {', '.join(seen.fields)}" if seen.fields else seen.not_seen
    return ask("--field", f"The field of the instruction ({there})", None, lambda word: look_at_instructions(seen.place, word))


def _writer(
    seed: "ModelSeen", generator: str | None, endpoint: str | None, name: str | None, key_variable: str | None
) -> "ModelSeen | Endpoint":
    """The model that generates and judges first: the seed, if no other is named. Raises ConfigError if two are."""
    from stj.loop.new_run import Endpoint
    from stj.loop.new_run_fit import look_at_model

    if endpoint is None:
        for flag, value in (("--endpoint-name", name), ("--key-variable", key_variable)):
            if value is not None:
                raise ConfigError(f"{flag} {value}: there is no --endpoint; name it too, or leave this out")
        return look_at_model(generator) if generator else seed
    if generator:
        raise ConfigError(f"--generator {generator}: --endpoint {endpoint} takes its place; leave one of them out")
    return Endpoint(url=endpoint, name=name or "", key_variable=key_variable)


def _pairs(place: str | None, words: str | None) -> "PairsSeen | None":
    """The held-out pairs; their fields are asked for if they cannot be told."""
    from stj.loop.new_run_data import UnknownField, look_at_pairs

    def look(word: str) -> "PairsSeen | None":
        if word == _NONE:
            return None
        try:
            return look_at_pairs(word, _roles(words))
        except UnknownField as error:
            if words is not None or not can_ask():
                raise
            show(f"  {error}", sys.stderr)
            question = "Their fields, as {response_a: left, response_b: right, winner: better}"
            return ask("--pair-fields", question, None, lambda fields: look_at_pairs(word, _roles(fields)))

    return ask("--pairs", f"Held-out pairs (a file; '{_NONE}' measures no judge)", place, look, _NONE)


def _roles(words: str | None) -> Mapping[str, str | tuple[str, ...]]:
    """The fields of pairs by their roles, as `heldout.fields` takes them. Raises ConfigError."""
    if words is None:
        return {}
    fields = asdict(load([], [f"heldout.fields={words}"]).heldout.fields)
    return {role: name for role, name in fields.items() if name}


def _gpus(word: str) -> int:
    """The number of GPUs. Raises ConfigError."""
    if not word.isdecimal() or int(word) > _MOST_GPUS:
        raise ConfigError(f"--gpus {word}: must be a number of GPUs from 0 to {_MOST_GPUS}, of one machine")
    return int(word)


def _report(new: "NewRun", planned: "Plan") -> None:
    """What was seen, whether it fits, and the commands that come next."""
    for line in new.seen():
        show(line)
    for line in planned.lines():
        if "DOES NOT FIT" in line:
            show(line)
    for words in planned.sample_words:
        show(f"  {words}")
    show(f"{new.out} is written. Next:")
    file = shlex.quote(str(new.out))
    for command in (f"stj doctor {file}", f"stj run {file} --dry-run", f"stj run {file}"):
        show(f"  {command}")
