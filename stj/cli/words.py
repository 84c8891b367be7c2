"""Reads the words of a command line and writes its help: typer's classes with the few changes that stj needs."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from stj.cli.help import OWN_SETTINGS, SETTINGS, WITHOUT_SETTINGS
from stj.cli.streams import fail, fail_io
from stj.errors import CheckFailed, ConfigError, StjError

_RESUMED = ("run", "iterate", "eval", "attack", "judge", "grade", "calibrate")  # They commit results as they work.
# A hyphen stands only below a setting: `train.place.market-type=spot` names a label.
_SETTING = re.compile(r"[A-Za-z_]\w*(\.[\w.-]*)?=")

_MODEL_IS_A_SETTING = ("judge", "grade")
_MODEL = re.compile(r"(--)?model=(?!\{)")  # `model={path: M}` is a group of settings.


class _Help:
    """Help that ends with its examples, unchanged: click would rewrap their lines."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the epilog without rewrapping its lines."""
        formatter.write_paragraph()
        formatter.write(self.epilog)


class VerbGroup(_Help, TyperGroup):
    """Verbs that share a first word."""


class Verbs(VerbGroup):
    """All verbs. `invoke` returns the exit code, and turns an expected error into one line on stderr."""

    def invoke(self, ctx: Any) -> int:
        """Runs the verb. Expected failures are handled here: typer would hide an interrupt, and fail on a closed pipe."""
        try:
            super().invoke(ctx)
        except CheckFailed as error:
            for line in str(error).splitlines():
                fail(line, error.exit_code)
            return error.exit_code
        except StjError as error:
            return fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            return fail(ending("interrupted", ctx.invoked_subcommand), 130)
        except OSError as error:
            return fail_io(error)
        return 0

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the words before the verb. `--help` and `--version` are answered here, so their output may fail here."""
        try:
            return super().make_context(*args, **kwargs)
        except OSError as error:
            raise typer.Exit(fail_io(error)) from None


class Verb(_Help, TyperCommand):
    """One verb. Options with several values take them all at once: `--jury M1 M2 M3`. Help shows metavars without types."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words of a verb. Raises ConfigError if an option that needs a value has none."""
        args = self._with_model_in_place(args)
        options = {flag: option for option in self.params for flag in option.opts if flag.startswith("-")}
        many = {flag for flag, option in options.items() if getattr(option, "multiple", False)}
        if not ctx.resilient_parsing:  # A shell completes words that are not complete.
            args = list(_one_value_per_flag(args, many))
        if any(param.nargs == -1 for param in self._params("argument")):
            args = _settings_last(args, {flag for flag, option in options.items() if not getattr(option, "is_flag", False)})
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as error:
            cast(Any, error).ctx = ctx  # click leaves it out of some errors; the error names the verb's help
            raise
        for name, value in ctx.params.items():
            if isinstance(value, str) and value in options:
                raise ConfigError(f"--{name}: give its value before {value}")
        return rest

    def _with_model_in_place(self, args: Sequence[str]) -> list[str]:
        """The words with the model where the verb reads it: MODEL, model=MODEL and --model MODEL are one in each verb.

        Raises ConfigError if the verb takes one model, and the words name several.
        """
        first = next(self._params("argument"), None)
        takes_word = first is not None and first.name == "model"
        if not takes_word and self.name not in _MODEL_IS_A_SETTING:
            return list(args)
        words = list(_with_models_marked(args))
        models = [word for word, is_model in words if is_model]
        if len(models) > 1:
            raise ConfigError(f"{' and '.join(f'model={model}' for model in models)}: give one model")
        if takes_word:
            return [*models, *(word for word, is_model in words if not is_model)]
        return [f"model={word}" if is_model else word for word, is_model in words]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line: arguments first."""
        pieces = []
        for argument in self._params("argument"):
            name = argument.metavar if argument.required else f"[{argument.metavar}]"
            several = "..." if self.name in WITHOUT_SETTINGS else "... [key=value]..."
            pieces.append(f"{name}{several}" if argument.nargs == -1 else name)
        return [*pieces, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments and the options, each with its help."""
        arguments = list(self._params("argument"))
        rows = [(argument.metavar, argument.help) for argument in arguments]
        if any(argument.nargs == -1 for argument in arguments) and self.name not in WITHOUT_SETTINGS:
            rows.append(("key=value", OWN_SETTINGS.get(self.name or "", SETTINGS)))
        with formatter.section("Arguments"):
            formatter.write_dl(rows)
        with formatter.section("Options"):
            formatter.write_dl([option.get_help_record(ctx) for option in (*self._params("option"), self.get_help_option(ctx))])

    def _params(self, kind: str) -> Iterator[Any]:
        return (param for param in self.params if param.param_type_name == kind)


def _with_models_marked(words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each word with whether it is a model, which model=MODEL, --model=MODEL or --model MODEL names.

    Raises ConfigError if --model has no value.
    """
    left = iter(words)
    for word in left:
        if word == "--":
            yield from ((other, False) for other in (word, *left))
        elif word == "--model":
            model = next(left, "")
            if not model or model.startswith("-"):
                raise ConfigError("--model: give its value after it")
            yield model, True
        else:
            match = _MODEL.match(word)
            yield (word[match.end() :], True) if match else (word, False)


def _one_value_per_flag(words: Sequence[str], flags: set[str]) -> Iterator[str]:
    """`--jury M1 M2 seed=3` in the form that click reads: `seed=3 --jury M1 --jury M2`."""
    starts = [0, *(place for place, word in enumerate(words) if place and word.startswith("-")), len(words)]
    for start, end in pairwise(starts):
        flag, *values = words[start:end] or [""]
        if flag not in flags:
            yield from words[start:end]
            continue
        names, settings = split_settings(values)
        if not names:
            raise ConfigError(f"{flag}: give at least one value after it")
        yield from settings
        for name in names:
            yield from (flag, name)


def _settings_last(words: Sequence[str], flags: set[str]) -> list[str]:
    """The words with settings after all others, so that none is taken for a FILE or a MODEL; `flags` take a value."""
    end = words.index("--") if "--" in words else len(words)
    places = [place for place, word in enumerate(words[:end]) if is_setting(word) and not (place and words[place - 1] in flags)]
    others = [word for place, word in enumerate(words) if place not in places]
    return [*others, *(words[place] for place in places)]


def ending(how: str, verb: str | None) -> str:
    """How a signal ended a verb, and what to do if the verb had committed results."""
    return f"{how}; run the same command again to resume from what is committed" if verb in _RESUMED else how


def is_setting(word: str) -> bool:
    """Whether a word is `key=value`, and not the path of a file or model with an equals sign in it.

    A path with a slash in front of the equals sign is never a setting: `./lr=1.yaml` is a file.
    """
    return bool(_SETTING.match(word)) and not ("." in word and os.path.isfile(word))


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that are files or models, and those that are settings."""
    return [word for word in words if not is_setting(word)], [word for word in words if is_setting(word)]
