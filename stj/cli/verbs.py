"""The verbs: one typed function each, which calls the code that does the work.

A verb imports its own module when it is called: ray and torch take seconds, and `stj --help` needs neither.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, TypeVar, cast, get_args

import typer

from stj import __version__
from stj.cli.help import ABOUT, BENCHMARKS_HELP, HELP, MINI_HELP, RECORDED_HELP
from stj.cli.words import Verb, VerbGroup, Verbs, is_setting, split_settings
from stj.config import Config, PromptName
from stj.config_loader import load, load_model, load_use
from stj.errors import ConfigError
from stj.storage.folder import Folder, explain_write_failure
from stj.text import Passage, Span, Table, json_text, show

if TYPE_CHECKING:
    from stj.loop.kinds import Phase
    from stj.loop.phases import Run


_CONF_SUFFIXES = {".yaml", ".yml"}
_LAST_PORT = 65535
_WIDEST_HELP = 100  # columns; longer lines of help are hard to read
app = typer.Typer(
    cls=Verbs,
    help=HELP,
    epilog=ABOUT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": _WIDEST_HELP, "help_option_names": ["-h", "--help"]},
)
_mini = typer.Typer(cls=VerbGroup, epilog=MINI_HELP, help="Builds parts of the small world.", rich_markup_mode=None)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
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
    typer.Argument(
        metavar="MODEL",
        help="A directory, a URI, package:// and a path inside stj, a model's id on the hub, or a .yaml file of its settings.",
    ),
]
_Function = TypeVar("_Function", bound=Callable[..., None])


def _verb(name: str, *examples: str, docs: str, about: str = "", app: typer.Typer = app) -> Callable[[_Function], _Function]:
    """Registers a function as a verb, with its examples and where to read more."""
    lines = [f"Example{'s' if len(examples) > 1 else ''}:", *(f"  {example}" for example in examples)]
    pages = ", ".join(f"docs/{page}.md" for page in docs.split())
    epilog = "\n".join([*lines, "", *([about] if about else []), f"Read more: {pages}", ""])
    return app.command(name, cls=Verb, epilog=epilog)


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


@_verb(
    "doctor",
    "stj doctor conf/mini.yaml",
    "stj doctor conf/small.yaml models.seed.path=/models/my-8b run_root=/data/small",
    docs="data-and-models troubleshooting",
)
def _doctor(conf: _Conf, as_json: _AsJson = False) -> None:
    """Checks what a run needs, before anything is paid.

    Reads models, data, disk and GPUs, and shows each finding: ok, or what is wrong and the remedy. Starts no engine and
    fetches no weights. `stj run` begins with the same check.
    """
    from stj.loop.doctor import diagnose

    findings = diagnose(load(*_files_and_overrides(conf)))
    wrong = any(not finding.ok for finding in findings)
    if as_json:
        _print_json({"ok": not wrong, "findings": [finding.plain() for finding in findings]})
    else:
        for finding in findings:
            show(finding.line())
    if wrong:
        raise typer.Exit(ConfigError.exit_code)


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
        _print_json(json.loads(Folder.at(config.run_root).read("report.json")))


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
            print(json_text(record, sys.stdout))
    else:
        for passage in show_rows(artifact, limit):
            show(passage)


@_verb(
    "eval",
    "stj eval runs/mini/iteration_3/model pairs:mine.jsonl conf/mini.yaml",
    "stj eval MODEL rewardbench llmbar conf/small.yaml votes=32",
    about=BENCHMARKS_HELP,
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
    files = [word for word in settings if not is_setting(word) and Path(word).suffix in _CONF_SUFFIXES]
    unknown = [word for word in settings if not is_setting(word) and word not in files]
    wanted = [benchmark_ref(word) for word in (*unknown, *benchmarks)]
    if not wanted:
        raise ConfigError("no benchmark given; `stj eval --help` lists them")
    config = load(files, [word for word in settings if is_setting(word)])
    done = evaluate(model, wanted, config, _show_on_stderr if as_json else show)
    if as_json:
        _print_json(json.loads(done.folder.read(SCORES)))
    done.check()


@_verb(
    "score",
    "stj score judged.jsonl --benchmark judgebench --parser paper",
    about=f"{BENCHMARKS_HELP}\n{RECORDED_HELP}",
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
        Literal["strict", "distinct", "paper"] | None,
        typer.Option(
            metavar="strict|distinct|paper",
            help="How verdicts are read: only at the end, the one distinct verdict anywhere, or by the official rule; "
            "all three if none is given.",
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
            help="A file, or a directory of files, with instruction, response_a, response_b and, if known, id and winner.",
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

    files, overrides = split_settings(conf or [])
    config = load_use(files, [*overrides, *(f"model={model}" for model in (jury or [])[:1])])
    asked = tuple(dict.fromkeys(cast(list[PromptName], prompts) or [config.vote.prompt]))
    models = tuple(dict.fromkeys([load_model(word, config.model) for word in jury] if jury else [config.model]))
    panel = Panel(file=file, models=models, prompts=asked, config=config)
    if out and not Path(out).absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: the directory {Path(out).absolute().parent} does not exist")
    with ExitStack() as stack:
        # Opened for the first result: a command that fails early must not empty a file of results.
        stream = cache(lambda: stack.enter_context(_results_file(out)) if out else sys.stdout)
        agreement = judge_file(panel, lambda row: _print_row(row, stream()), overwrite=overwrite)
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

    files, overrides = split_settings(conf or [])
    serve(load_use(files, [*overrides, f"model={model}"]), host, port)


@_verb("build-seed", "stj mini build-seed seed_model --seed 1", docs="method", app=_mini)
def _build_seed(
    out: Annotated[str, typer.Argument(metavar="DIR", help="The directory to write the model to.")],
    seed: Annotated[int, typer.Option(metavar="N", parser=_count, help="The seed of all randomness.")] = 0,
    thinking: Annotated[
        bool, typer.Option("--thinking", help="Teach the seed model that stj carries to think, in about a minute.")
    ] = False,
) -> None:
    """Trains the small world's seed model from scratch, or a thinking version of it."""
    from stj.mini.seed import build_seed, build_thinking_seed

    (build_thinking_seed if thinking else build_seed)(Path(out), seed=seed)


app.add_typer(_mini, name="mini")


def _files_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    files, overrides = split_settings(words)
    if not files:
        raise ConfigError("no config file given; try conf/mini.yaml")
    return files, overrides


def _print_json(value: object) -> None:
    print(json_text(value, sys.stdout, indent=1))


@contextmanager
def _results_file(path: str) -> Iterator[TextIO]:
    """A file to write results to. Raises StorageFailed if a disk is full, also when the file is closed."""
    with explain_write_failure(path), open(path, "w", encoding="utf-8") as stream:
        yield stream


def _print_row(row: object, stream: TextIO) -> None:
    print(json_text(row, stream), file=stream, flush=True)


def _show_on_stderr(item: str | Table) -> None:
    show(item, sys.stderr)
