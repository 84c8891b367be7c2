"""The command line: each verb is a typed function that parses its words and calls the code that does the work.

Exit codes: 0 done, 1 failed, 2 bad config or usage, 130 interrupted, 143 stopped by SIGTERM. Results go to stdout, logs to
stderr.
"""

import io
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO, TypeVar, cast, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from stj import __version__
from stj.config import Config, PromptName
from stj.config_loader import load, load_use
from stj.errors import ConfigError, StjError
from stj.storage.folder import Folder
from stj.text import CLEAR_LINE, Passage, Span, Table, show, visible_line

if TYPE_CHECKING:
    from stj.loop.kinds import Phase
    from stj.loop.phases import Run

_CONF_SUFFIXES = {".yaml", ".yml"}
_SETTING = re.compile(r"[A-Za-z_][\w.]*=")
_LAST_PORT = 65535
_WIDEST_HELP = 100  # columns; longer lines of help are hard to read
_HELP = "The self-taught judge: trains LLM judges without human labels, and uses them."
_ABOUT = """\
Examples:
  stj run conf/mini.yaml     the whole loop in the small world, on two CPU cores
  stj judge pairs.jsonl model=runs/mini/iteration_3/model
  stj COMMAND --help         arguments, options and an example of each command

Settings are written key=value and may stand anywhere after the command.
Results go to stdout, logs and progress to stderr.
Exit codes: 0 done, 1 failed, 2 bad config or usage, 130 interrupted,
143 stopped by SIGTERM.
Read more: docs/start.md
"""
_MINI = """\
Example:
  stj mini build-seed seed_model
"""
_SETTINGS = "Single settings, such as seed=3; they may stand anywhere. docs/settings.md lists them."
_BENCHMARKS = """\
Benchmarks:
  rewardbench, rewardbench2, rewardbench2-ratings, mtbench, helpsteer2,
  helpsteer2-helpfulness, llmbar, judgebench, rmbench, hhh, pairs
  NAME        read from the hub
  NAME:PLACE  read from a .jsonl, .jsonl.gz, .json, .csv or .parquet file, or
              from a directory of them, in the benchmark's published schema. A
              .json file is held in memory whole; others are read as a stream.
  pairs:FILE  any file with instruction, and chosen and rejected, or
              response_a, response_b and winner
"""
_RECORDED = """\
Fields of recorded judgments, one judgment a row:
  texts    judgment_ab (the first response shown as A) and judgment_ba (the
           second response shown as A). Give one of them if one order was
           judged, null for no text, a list for several votes. Also read:
           FastChat's g1_judgment and g2_judgment (with question_id, model_1,
           model_2 and turn), JudgeBench's `judgments`, LLMBar's `results`.
           For rewardbench2, `judgments` maps the label of the good answer
           (A to D) to the text; or give `ratings` of the answers, the good
           ones first, with num_correct.
  better   winner or label: A, B, response_a, model_a, A>B, 1 and the like. Not
           needed for rewardbench, rmbench and hhh: there the first response is
           the chosen one.
  subset   as the benchmark has it: subset, source and response_model,
           question_id and turn, domain and styles
  grades   for mtbench, FastChat's grades of single answers: question_id, model,
           turn, judgment and score
  id       id, pair_id or the like, unique in its subset; optional, and so are
           the answers (response_a and response_b, or chosen and rejected)
"""

# Each verb imports its own module: ray and torch take seconds, and `stj --help` needs neither.


class _Help:
    """Help that ends with its examples, unchanged: click would rewrap their lines."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the epilog without rewrapping its lines."""
        formatter.write_paragraph()
        formatter.write(self.epilog)


class _Group(_Help, TyperGroup):
    """Verbs that share a first word."""


class _Verbs(_Group):
    """All verbs. `invoke` returns the exit code, and turns an expected error into one line on stderr."""

    def invoke(self, ctx: Any) -> int:
        """Runs the verb. Expected failures are handled here: typer would hide an interrupt, and fail on a closed pipe."""
        try:
            super().invoke(ctx)
        except StjError as error:
            return _failed(str(error), error.exit_code)
        except KeyboardInterrupt:
            return _failed("interrupted; run the same command again to resume from what is committed", 130)
        except OSError as error:
            return _failed_io(error)
        return 0

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the words before the verb. `--help` and `--version` are answered here, so their output may fail here."""
        try:
            return super().make_context(*args, **kwargs)
        except OSError as error:
            raise typer.Exit(_failed_io(error)) from None


class _Verb(_Help, TyperCommand):
    """One verb. Options with several values take them all at once: `--jury M1 M2 M3`. Help shows metavars without types."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words of a verb. Raises ConfigError if an option that needs a value has none."""
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

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line: arguments first."""
        pieces = []
        for argument in self._params("argument"):
            name = argument.metavar if argument.required else f"[{argument.metavar}]"
            pieces.append(f"{name}... [key=value]..." if argument.nargs == -1 else name)
        return [*pieces, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments and the options, each with its help."""
        arguments = list(self._params("argument"))
        rows = [(argument.metavar, argument.help) for argument in arguments]
        if any(argument.nargs == -1 for argument in arguments):
            rows.append(("key=value", _SETTINGS))
        with formatter.section("Arguments"):
            formatter.write_dl(rows)
        with formatter.section("Options"):
            formatter.write_dl([option.get_help_record(ctx) for option in (*self._params("option"), self.get_help_option(ctx))])

    def _params(self, kind: str) -> Iterator[Any]:
        return (param for param in self.params if param.param_type_name == kind)


def _one_value_per_flag(words: Sequence[str], flags: set[str]) -> Iterator[str]:
    """`--jury M1 M2 seed=3` in the form that click reads: `seed=3 --jury M1 --jury M2`."""
    starts = [0, *(place for place, word in enumerate(words) if place and word.startswith("-")), len(words)]
    for start, end in pairwise(starts):
        flag, *values = words[start:end] or [""]
        if flag not in flags:
            yield from words[start:end]
            continue
        names, settings = _split(values)
        if not names:
            raise ConfigError(f"{flag}: give at least one value after it")
        yield from settings
        for name in names:
            yield from (flag, name)


def _settings_last(words: Sequence[str], flags: set[str]) -> list[str]:
    """The words with settings after all others, so that none is taken for a FILE or a MODEL; `flags` take a value."""
    end = words.index("--") if "--" in words else len(words)
    places = [
        place for place, word in enumerate(words[:end]) if _SETTING.match(word) and not (place and words[place - 1] in flags)
    ]
    others = [word for place, word in enumerate(words) if place not in places]
    return [*others, *(words[place] for place in places)]


_app = typer.Typer(
    cls=_Verbs,
    help=_HELP,
    epilog=_ABOUT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": _WIDEST_HELP, "help_option_names": ["-h", "--help"]},
)
_mini = typer.Typer(cls=_Group, epilog=_MINI, help="Builds parts of the small world.", rich_markup_mode=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. An expected error is one line on stderr, never a traceback."""
    _open_streams()
    form = f"{_start_of_line()}%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form, datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, _stop)
    code = _run_command(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        return code or _failed_io(error)
    return code


def _run_command(words: Sequence[str]) -> int:
    for word in words:
        if not _is_utf8(word):
            return _failed(f"{word}: not UTF-8; rename the file or write the setting in UTF-8", 2)
    try:
        return int(typer.main.get_command(_app).main(words, prog_name="stj", standalone_mode=False) or 0)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split())
        end = "" if message.endswith((".", "?")) else "."
        return _failed(f"{message}{end} See `{context.command_path if context else 'stj'} --help`", error.exit_code)


def _is_utf8(word: str) -> bool:
    """Whether a word is text. Python reads bytes that are not UTF-8 as halves of surrogate pairs, which no library takes."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


def _open_streams() -> None:
    """Makes stdout and stderr usable if the shell closed them (`>&-`), and stdout if its encoding lacks a character."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # or the next file opened would get the output
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _start_of_line() -> str:
    """The code that erases a live line (text.LiveLine); empty if stderr is not a terminal, or is a dumb one."""
    return CLEAR_LINE if sys.stderr.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"} else ""


def _failed(message: str, exit_code: int) -> int:
    """Prints the one line of an error, whose words may come from a file or a model; returns the exit code."""
    try:
        print(f"{_start_of_line()}stj: {visible_line(message)}", file=sys.stderr, flush=True)
    except OSError:  # A full disk, or a terminal that was closed: the exit code still counts.
        _discard(sys.stderr)
    return exit_code


def _failed_io(error: OSError) -> int:
    """The exit code after a file or a stream failed."""
    try:
        sys.stdout.flush()
    except OSError:  # Python would write the rest at its end, fail again, and exit with code 120.
        _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):  # The reader of a pipe (`| head`) has seen enough.
        return 0
    if isinstance(error, FileNotFoundError) and error.filename is None:  # os.getcwd names no file
        return _failed("the working directory does not exist any more; change to another one", 1)
    return _failed(str(error), 1)


def _discard(stream: TextIO) -> None:
    """Sends what is left in a stream nowhere."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_failed("stopped by SIGTERM; run the same command again to resume from what is committed", 143))


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@_app.callback()
def _stj(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _count(word: str | int) -> int:
    """The number in a word; a default stays as it is. Raises BadParameter."""
    if not str(word).isdecimal():
        raise typer.BadParameter(f"'{word}' is not a whole number, 0 or more.")
    return int(word)


def _port(word: str | int) -> int:
    """The number of a port, or a default as it is. Raises BadParameter."""
    if (port := _count(word)) > _LAST_PORT:
        raise typer.BadParameter(f"{port} is no port; the last is {_LAST_PORT}.")
    return port


_Conf = Annotated[
    list[str],
    typer.Argument(metavar="CONF.yaml", help="Config files, merged from left to right."),
]
_UseConf = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONF.yaml", help="Config files for a judge in use: UseConfig in docs/settings.md."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the phases, what would be reused, and the plan; start nothing.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Redo phases that were made with other settings.")]
_Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A directory, a URI, package:// and a path inside stj, or a model's id on the hub."),
]


_Function = TypeVar("_Function", bound=Callable[..., None])


def _verb(name: str, *examples: str, docs: str, about: str = "", app: typer.Typer = _app) -> Callable[[_Function], _Function]:
    """Registers a function as a verb, with its examples and where to read more."""
    lines = [f"Example{'s' if len(examples) > 1 else ''}:", *(f"  {example}" for example in examples)]
    pages = ", ".join(f"docs/{page}.md" for page in docs.split())
    epilog = "\n".join([*lines, "", *([about] if about else []), f"Read more: {pages}", ""])
    return app.command(name, cls=_Verb, epilog=epilog)


@_verb("plan", "stj plan conf/paper.yaml conf/hardware/8xh100-80.yaml", docs="costs data-and-models")
def _plan(conf: _Conf, as_json: _AsJson = False) -> None:
    """Shows whether a run fits, and its memory, tokens and GPU-hours.

    Needs neither weights nor network. The plan names every assumption that it makes.
    """
    from stj.plan import plan

    planned = plan(load(*_files_and_overrides(conf)))
    if as_json:
        _print_json(asdict(planned))
    else:
        _show_plan(planned.lines())


@_verb("run", "stj run conf/mini.yaml", "stj run conf/small.yaml run_root=/data/small --dry-run", docs="start method resuming")
def _run(conf: _Conf, dry_run: _DryRun = False, overwrite: _Overwrite = False, as_json: _AsJson = False) -> None:
    """Runs all iterations of a config.

    Finished phases are reused. A run that was stopped resumes from its last commit.
    """
    from stj.loop.iterate import run_all
    from stj.loop.phases import Run

    config = load(*_files_and_overrides(conf))
    if config.iteration is not None:
        raise ConfigError(f"iteration={config.iteration}: `stj run` does all of them; `stj iterate` does one")
    if dry_run:
        run = Run(config)
        _print_dry_run(run, run.phases, as_json)
    else:
        _start(run_all, config, overwrite, as_json)


@_verb(
    "iterate",
    "stj iterate conf/mini.yaml",
    "ray job submit --working-dir . -- stj iterate conf/paper.yaml run_root=URI",
    docs="method clusters resuming",
)
def _iterate(conf: _Conf, dry_run: _DryRun = False, overwrite: _Overwrite = False, as_json: _AsJson = False) -> None:
    """Runs one iteration: the next, or iteration=N.

    One iteration is one Ray job: it judges with one model, and trains the next.
    """
    from stj.loop.iterate import run_one
    from stj.loop.phases import Run

    config = load(*_files_and_overrides(conf))
    if dry_run:
        run = Run(config)
        iteration = run.next_iteration()
        _print_dry_run(run, iteration.phases if iteration else [], as_json)
    else:
        _start(run_one, config, overwrite, as_json)


def _start(run_some: Callable[..., None], config: Config, overwrite: bool, as_json: bool) -> None:
    run_some(config, _show_on_stderr if as_json else show, overwrite=overwrite)
    if as_json:
        print((Folder.at(config.run_root).read("report.json")).decode())


def _print_dry_run(run: "Run", phases: Sequence["Phase"], as_json: bool) -> None:
    from stj.loop.inputs import check_inputs
    from stj.loop.status import phase_states
    from stj.plan import plan

    check_inputs(run.config)
    states, planned = phase_states(phases), plan(run.config)
    if as_json:
        _print_json({"phases": [asdict(state) for state in states], "plan": asdict(planned)})
        return
    print(f"run_root {run.config.run_root}")
    for state in states:
        show(state.line(indent=2))
    _show_plan(planned.lines())


def _show_plan(lines: Sequence[str]) -> None:
    """Shows a plan, whose lines begin with a label of 12 characters."""
    for line in lines:
        bad = "bold red" if "DOES NOT FIT" in line else ""
        show(Passage(line=[Span(line[:12], "bold"), Span(line[12:], bad)], hang=13))


@_verb("status", "stj status runs/mini", "stj status conf/mini.yaml seed=3", docs="resuming")
def _status(
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|CONF.yaml",
            help="A run's directory, which knows its config; or config files, merged from left to right.",
        ),
    ],
    as_json: _AsJson = False,
) -> None:
    """Shows each phase of a run: done, partial, stale or absent.

    A stale phase was made with other settings. Its line names what changed.
    """
    from stj.loop.phases import Run
    from stj.loop.status import phase_states, read_run_config

    given = Path(target[0]).suffix in _CONF_SUFFIXES
    if not given and len(target) > 1:
        raise ConfigError(f"{target[1]}: a run's directory knows its config; to change it give the config file")
    config = load(*_files_and_overrides(target)) if given else read_run_config(Folder.at(target[0]))
    states = phase_states(Run(config).phases)
    if as_json:
        _print_json([asdict(state) for state in states])
        return
    for state in states:
        show(state.line())


@_verb("show", "stj show runs/mini/iteration_2/judged --limit 20", docs="resuming troubleshooting")
def _show(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An artifact's directory or URI.")],
    limit: Annotated[int, typer.Option(metavar="N", parser=_count, help="The number of rows to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Shows rows of an artifact: answers, judgments, why dropped.

    An artifact that is not finished shows the rows committed so far. A model shows its manifest.
    """
    from stj.loop.show import show_rows
    from stj.storage.artifacts import read_artifact

    artifact = read_artifact(Folder.at(path))
    if as_json:
        for record in islice(artifact.records(), limit):
            print(json.dumps(record))
    else:
        for passage in show_rows(artifact, limit):
            show(passage)


@_verb(
    "eval",
    "stj eval runs/mini/iteration_3/model pairs:mine.jsonl conf/mini.yaml",
    "stj eval MODEL rewardbench llmbar conf/small.yaml votes=32",
    about=_BENCHMARKS,
    docs="evaluation",
)
def _eval(
    model: _Model,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK|CONF.yaml",
            help="Benchmarks, listed below, and config files. votes=32 takes majorities; prompt=arena changes the prompt.",
        ),
    ],
    as_json: _AsJson = False,
) -> None:
    """Measures a judge on benchmarks, in both orders.

    All benchmarks are judged in one pass through the judge's weights.
    """
    from stj.evals.benchmarks.evaluation import SCORES
    from stj.evals.benchmarks.refs import benchmark_ref, is_benchmark_ref
    from stj.evals.evaluate import evaluate

    benchmarks = [word for word in words if is_benchmark_ref(word)]
    settings = [word for word in words if not is_benchmark_ref(word)]
    files = [word for word in settings if "=" not in word and Path(word).suffix in _CONF_SUFFIXES]
    unknown = [word for word in settings if "=" not in word and word not in files]
    wanted = [benchmark_ref(word) for word in (*unknown, *benchmarks)]
    if not wanted:
        raise ConfigError("no benchmark given; `stj eval --help` lists them")
    config = load(files, [word for word in settings if "=" in word])
    done = evaluate(model, wanted, config, _show_on_stderr if as_json else show)
    if as_json:
        print(done.folder.read(SCORES).decode())
    done.check()


@_verb(
    "score",
    "stj score judged.jsonl --benchmark judgebench --parser paper",
    about=f"{_BENCHMARKS}\n{_RECORDED}",
    docs="evaluation",
)
def _score(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Rows of recorded judgments; for rewardbench also one object {subset: accuracy}."),
    ],
    benchmark: Annotated[
        str,
        typer.Option(metavar="NAME", help="A benchmark, listed below; mtbench:VOTES scores against the human votes in a file."),
    ],
    parser: Annotated[
        Literal["strict", "paper"] | None,
        typer.Option(
            metavar="strict|paper",
            help="How verdicts are read: by our strict rule, or by the benchmark's official one; both if none is given.",
        ),
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Scores judgments that are recorded already; needs no model."""
    from stj.evals.benchmarks.refs import benchmark_ref
    from stj.evals.score import score_file

    record, tables = score_file(file, benchmark_ref(benchmark), parser)
    if as_json:
        _print_json(record)
        return
    for item in tables:
        show(item)


@_verb("compare", "stj compare runs/run/evals/A runs/run/evals/B", docs="evaluation")
def _compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="The directory that `stj eval` wrote for one judge.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The directory of another judge, on the same examples.")],
    as_json: _AsJson = False,
) -> None:
    """Compares two evaluations, paired by example.

    Shows the difference with a bootstrap interval, and McNemar's exact p.
    """
    from stj.evals.compare import compare_evaluations, comparisons_json, comparisons_table

    comparisons = compare_evaluations(run_a, run_b)
    if as_json:
        _print_json(comparisons_json(comparisons))
    else:
        show(comparisons_table(comparisons))


def _known_prompts(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if name not in get_args(PromptName):
            raise typer.BadParameter(f"'{name}' is not a judge prompt; known prompts: {', '.join(get_args(PromptName))}.")
    return names


@_verb(
    "judge",
    "stj judge pairs.jsonl model=runs/mini/iteration_3/model --out results.jsonl",
    "stj judge pairs.jsonl --jury MODEL_1 MODEL_2 MODEL_3 vote.votes=3",
    "stj judge pairs.jsonl model=MODEL --prompts figure8 arena",
    docs="judging",
)
def _judge(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A .jsonl, .csv or .parquet file with instruction, response_a, response_b and, if known, id and winner.",
        ),
    ],
    conf: _UseConf = None,
    jury: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL...", help="Several judges instead of model=PATH: all results, and how far they agree."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT...",
            help=f"Ask with each of these prompts, and compare: {', '.join(get_args(PromptName))}.",
            callback=_known_prompts,
            autocompletion=lambda: list(get_args(PromptName)),
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the results to this file instead of stdout.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo judgments that were made with other settings.")] = False,
) -> None:
    """Judges the pairs of a file; each result is a JSON line.

    Name the judge by model=PATH. The same command resumes where it was stopped.
    """
    from stj.judging.judge_file import Panel, judge_file

    files, overrides = _split(conf or [])
    config = load_use(files, [*overrides, *(f"model={model}" for model in (jury or [])[:1])])
    asked = tuple(dict.fromkeys(cast(list[PromptName], prompts) or [config.vote.prompt]))
    models = tuple(dict.fromkeys(jury or [config.model.path]))
    panel = Panel(file=file, models=models, prompts=asked, config=config)
    if out and not Path(out).absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: the directory {Path(out).absolute().parent} does not exist")
    with ExitStack() as stack:
        # Opened for the first result: a command that fails early must not empty a file of results.
        stream = cache(lambda: stack.enter_context(open(out, "w", encoding="utf-8")) if out else sys.stdout)
        agreement = judge_file(panel, lambda row: print(json.dumps(row), file=stream(), flush=True), overwrite=overwrite)
    for item in agreement.summary():
        _show_on_stderr(item)


@_verb("serve", "stj serve runs/mini/iteration_3/model --port 8000", docs="judging")
def _serve(
    model: _Model,
    conf: _UseConf = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; the default is only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", parser=_port, help="The port to listen on.")] = 8000,
) -> None:
    """Serves a judge over HTTP, beside vLLM's OpenAI API.

    Answers POST /v1/judge, GET /health and GET /metrics.
    """
    from stj.judging.serve import serve

    files, overrides = _split(conf or [])
    serve(load_use(files, [*overrides, f"model={model}"]), host, port)


@_verb("build-seed", "stj mini build-seed seed_model --seed 1", docs="method", app=_mini)
def _build_seed(
    out: Annotated[str, typer.Argument(metavar="DIR", help="The directory to write the model to.")],
    seed: Annotated[int, typer.Option(metavar="N", parser=_count, help="The seed of all randomness.")] = 0,
) -> None:
    """Trains the small world's seed model from scratch."""
    from stj.mini.seed import build_seed

    build_seed(Path(out), seed=seed)


_app.add_typer(_mini, name="mini")


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without an equals sign (files or models), and those with one (settings)."""
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def _files_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    files, overrides = _split(words)
    if not files:
        raise ConfigError("no config file given; try conf/mini.yaml")
    return files, overrides


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1))


def _show_on_stderr(item: str | Table) -> None:
    show(item, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
