"""The command line: verbs to calls.

    stj run CONF [key=value]       all iterations
    stj iterate CONF [key=value]   one iteration: the next, or iteration=N
    stj status RUN|CONF            every phase: done, partial, stale or absent
    stj show PATH                  rows of an artifact, readable
    stj plan CONF                  memory, tokens and GPU-hours
    stj eval MODEL BENCHMARK...    a judge on benchmarks, in both orders
    stj score FILE --benchmark B   recorded judgments, without a model
    stj compare RUN_A RUN_B        two evaluations, paired
    stj judge FILE [key=value]     which of two responses is better, for every row of a file
    stj serve MODEL [key=value]    the judge over HTTP, beside vLLM's own OpenAI-compatible server
    stj mini build-seed DIR        trains the mini world's seed model from scratch

Exit codes: 0 done, 1 failed, 2 bad config or usage, 130 interrupted, 143 told to stop. Results go to stdout, logs to stderr.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, get_args

from stj import __version__
from stj.config import Config, PromptName
from stj.config_loader import load, load_use
from stj.errors import ConfigError, StjError
from stj.storage.folder import Folder
from stj.text import CLEAR_LINE, Table, show

_CONF_SUFFIXES = {".yaml", ".yml"}
_BENCHMARKS = """\
benchmarks: rewardbench, rewardbench2, rewardbench2-ratings, mtbench, helpsteer2, helpsteer2-helpfulness, llmbar, judgebench,
  rmbench, hhh, pairs. NAME is read from the hub; NAME:PLACE from a .jsonl, .jsonl.gz, .json, .csv or .parquet file, or a
  directory of them, in the benchmark's published schema. pairs:FILE is any file with instruction, response_a, response_b and
  winner. Files are read as a stream; a .json file is held in memory whole.
"""
_RECORDED = """\
recorded judgments, a row each:
  texts    judgment_ab (the first response shown as A) and judgment_ba (the second shown as A), one of them alone where one
           order was judged, null for no text, a list where there are votes; or FastChat's g1_judgment and g2_judgment with
           question_id, model_1, model_2 and turn; or JudgeBench's `judgments`, LLMBar's `results`; for rewardbench2 `judgments`
           from the label of the good answer (A to D) to the text, or `ratings` of the answers, the good ones first, and
           num_correct
  better   winner or label: A, B, response_a, model_a, A>B, 1 ...; not needed for rewardbench, rmbench and hhh, where the
           first response is the chosen one
  subset   as the benchmark has it: subset, source and response_model, question_id and turn, domain and styles
  grades   for mtbench, FastChat's grades of single answers: question_id, model, turn, judgment and score
  id       id, pair_id or the like, unique in its subset; optional, and so are the answers (response_a and response_b, chosen
           and rejected)
"""

# A verb's module is imported inside the verb: ray and torch take seconds, and `stj --help` needs neither.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; an expected error is one line on stderr, never a traceback."""
    options = _parsed(arguments)
    start_of_line = CLEAR_LINE if sys.stderr.isatty() else ""
    form = f"{start_of_line}%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form, datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, _stop)
    try:
        options.verb(options)
    except StjError as error:
        print(f"stj: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stj: interrupted; run the same command again to go on from what is committed", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"stj: {error}", file=sys.stderr)  # its text names the file
        return 1
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; a key=value may also stand after a --flag, where argparse alone would not look for it."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    settings: list[str] | None = getattr(options, "conf", getattr(options, "words", None))
    if unknown := [word for word in rest if word.startswith("-") or settings is None]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if settings is not None:
        settings += rest
    return options


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    print("stj: told to stop; run the same command again to go on from what is committed", file=sys.stderr)
    raise SystemExit(143)


def _run(options: argparse.Namespace) -> None:
    from stj.loop.iterate import run_all, run_one

    config = load(*_files_and_overrides(options.conf))
    if config.iteration is not None and not options.one:
        raise ConfigError(f"iteration={config.iteration}: `stj run` does all of them; `stj iterate` does one")
    if options.dry_run:
        _dry_run(config, options)
        return
    start = run_one if options.one else run_all
    start(config, _print_on_stderr if options.json else _print_on_stdout, overwrite=options.overwrite)
    if options.json:
        print((Folder.at(config.run_root).read("report.json")).decode())


def _dry_run(config: Config, options: argparse.Namespace) -> None:
    from stj.loop.inputs import check_inputs
    from stj.loop.phases import Run
    from stj.loop.status import phase_states
    from stj.plan import plan

    run = Run(config)
    check_inputs(run.config)
    iteration = run.next_iteration() if options.one else None
    phases = (iteration.phases if iteration else []) if options.one else run.phases
    states, planned = phase_states(phases), plan(config)
    if options.json:
        print(json.dumps({"phases": [asdict(state) for state in states], "plan": asdict(planned)}, indent=1))
        return
    print(f"run_root {config.run_root}")
    for state in states:
        print(f"  {state.line()}")
    print("\n".join(planned.lines()))


def _status(options: argparse.Namespace) -> None:
    from stj.loop.phases import Run
    from stj.loop.status import phase_states, read_run_config

    target = Path(options.conf[0])
    given = target.suffix in _CONF_SUFFIXES
    if not given and len(options.conf) > 1:
        raise ConfigError(f"{options.conf[1]}: a run's directory knows its config; to change it give the config file")
    config = load(*_files_and_overrides(options.conf)) if given else read_run_config(Folder.at(options.conf[0]))
    states = phase_states(Run(config).phases)
    if options.json:
        print(json.dumps([asdict(state) for state in states], indent=1))
    else:
        print("\n".join(state.line() for state in states))


def _show(options: argparse.Namespace) -> None:
    from stj.loop.show import show_rows
    from stj.storage.artifacts import read_artifact

    artifact = read_artifact(Folder.at(options.path))
    if options.json:
        for record in islice(artifact.records(), options.limit):
            print(json.dumps(record))
    else:
        for line in show_rows(artifact, options.limit):
            print(line)


def _plan(options: argparse.Namespace) -> None:
    from stj.plan import plan

    planned = plan(load(*_files_and_overrides(options.conf)))
    print(json.dumps(asdict(planned), indent=1) if options.json else "\n".join(planned.lines()))


def _eval(options: argparse.Namespace) -> None:
    from stj.evals.benchmarks.evaluation import SCORES
    from stj.evals.benchmarks.refs import benchmark_ref, is_benchmark_ref
    from stj.evals.evaluate import evaluate

    benchmarks = [word for word in options.words if is_benchmark_ref(word)]
    settings = [word for word in options.words if not is_benchmark_ref(word)]
    files = [word for word in settings if "=" not in word and Path(word).suffix in _CONF_SUFFIXES]
    unknown = [word for word in settings if "=" not in word and word not in files]
    wanted = [benchmark_ref(word) for word in (*unknown, *benchmarks)]
    if not wanted:
        raise ConfigError("no benchmark given; `stj eval --help` lists them")
    config = load(files, [word for word in settings if "=" in word])
    done = evaluate(options.model, wanted, config, _print_on_stderr if options.json else _print_on_stdout)
    if options.json:
        print(done.folder.read(SCORES).decode())
    done.check()


def _score(options: argparse.Namespace) -> None:
    from stj.evals.benchmarks.refs import benchmark_ref
    from stj.evals.score import score_file

    record, tables = score_file(options.file, benchmark_ref(options.benchmark), options.parser)
    for item in [json.dumps(record, indent=1)] if options.json else tables:
        show(item)


def _compare(options: argparse.Namespace) -> None:
    from stj.evals.compare import compare_evaluations, comparisons_json, comparisons_table

    comparisons = compare_evaluations(options.run_a, options.run_b)
    show(json.dumps(comparisons_json(comparisons), indent=1) if options.json else comparisons_table(comparisons))


def _judge(options: argparse.Namespace) -> None:
    from stj.judging.judge_file import Panel, judge_file

    jury, settings = _split(options.jury or [])  # argparse gives --jury all that follows it
    files, overrides = _split(options.conf)
    config = load_use(files, [*overrides, *settings, *(f"model={model}" for model in jury[:1])])
    prompts = tuple(dict.fromkeys(options.prompts or [config.vote.prompt]))
    models = tuple(dict.fromkeys(jury or [config.model.path]))
    panel = Panel(file=options.file, models=models, prompts=prompts, config=config)
    if options.out and not Path(options.out).absolute().parent.is_dir():
        raise ConfigError(f"--out {options.out}: no such directory as {Path(options.out).absolute().parent}")
    with ExitStack() as stack:
        # opened for the first result: a file of results is not emptied by a command that cannot be carried out
        out = cache(lambda: stack.enter_context(open(options.out, "w", encoding="utf-8")) if options.out else sys.stdout)
        found = judge_file(panel, lambda row: print(json.dumps(row), file=out(), flush=True), overwrite=options.overwrite)
    for item in found.summary():
        _print_on_stderr(item)


def _serve(options: argparse.Namespace) -> None:
    from stj.judging.serve import serve

    files, overrides = _split(options.conf)
    serve(load_use(files, [*overrides, f"model={options.model}"]), options.host, options.port)


def _build_seed(options: argparse.Namespace) -> None:
    from stj.mini.seed import build_seed

    build_seed(Path(options.out), seed=options.seed)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files or models, and overrides."""
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def _files_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    files, overrides = _split(words)
    if not files:
        raise ConfigError("no config file given; try conf/mini.yaml")
    return files, overrides


def _print_on_stdout(item: str | Table) -> None:
    show(item)


def _print_on_stderr(item: str | Table) -> None:
    show(item, sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stj", description="The self-taught judge: trains LLM judges without human labels.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, one, text in (("run", False, "all iterations"), ("iterate", True, "the next iteration, or iteration=N")):
        verb = _configured(verbs, name, f"run {text}", _run)
        verb.add_argument("--dry-run", action="store_true", help="print the phases, what would be reused, and the plan")
        verb.add_argument("--overwrite", action="store_true", help="make phases again that were made with other settings")
        verb.set_defaults(one=one)
    _configured(verbs, "status", "phases of a run: done, partial, stale or absent", _status, what="RUN|CONF.yaml [key=value]")
    _configured(verbs, "plan", "memory, tokens and GPU-hours of a run", _plan)
    show = verbs.add_parser("show", help="rows of an artifact, readable")
    show.add_argument("path", help="an artifact's directory or URI")
    show.add_argument("--limit", type=_count, default=5, help="rows to show (default: 5)")
    show.add_argument("--json", action="store_true", help="print a JSON object a row")
    show.set_defaults(verb=_show)
    _add_evaluation(verbs)
    _add_judge(verbs)
    _add_serve(verbs)
    _add_mini(verbs)
    return parser


def _count(word: str) -> int:
    if not word.isdigit():
        raise argparse.ArgumentTypeError(f"'{word}' is not a number of rows")
    return int(word)


def _configured(verbs: Any, name: str, text: str, call: Any, what: str = "CONF.yaml [key=value]") -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    verb.add_argument("conf", nargs="+", metavar=what, help="config files from left to right, then key=value")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(verb=call)
    return verb


def _add_evaluation(verbs: Any) -> None:
    judge = verbs.add_parser("eval", help="a judge on benchmarks, in both orders", **_described(_BENCHMARKS))
    judge.add_argument("model", help="a local directory, a URI, package:// and a path inside stj, or a model's id on the hub")
    judge.add_argument(
        "words",
        nargs="+",
        metavar="BENCHMARK|CONF.yaml|key=value",
        help="votes=32 takes majorities; prompt=arena asks otherwise",
    )
    score = verbs.add_parser("score", help="recorded judgments, without a model", **_described(_BENCHMARKS + _RECORDED))
    score.add_argument("file", help="rows of recorded judgments; for rewardbench also one object {subset: accuracy}")
    score.add_argument("--benchmark", required=True, help="NAME; mtbench:VOTES scores against the human votes in a file")
    score.add_argument("--parser", choices=("strict", "paper"), help="how verdicts are read (default: both)")
    compare = verbs.add_parser("compare", help="two evaluations on the same examples, paired")
    compare.add_argument("run_a", help="what `stj eval` wrote for one judge")
    compare.add_argument("run_b", help="and for another")
    for verb, call in ((judge, _eval), (score, _score), (compare, _compare)):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
        verb.set_defaults(verb=call)


def _described(text: str) -> dict[str, Any]:
    return {"epilog": text, "formatter_class": argparse.RawDescriptionHelpFormatter}


def _add_judge(verbs: Any) -> None:
    judge = verbs.add_parser("judge", help="judge the pairs of a file, and print each result as a JSON line")
    judge.add_argument("file", help="a .jsonl, .csv or .parquet file with instruction, response_a, response_b [id, winner]")
    judge.add_argument("conf", nargs="*", metavar="model=PATH|CONF.yaml|key=value", help="settings: UseConfig in config.py")
    judge.add_argument("--jury", nargs="+", metavar="MODEL", help="several judges: their results, and how far they agree")
    judge.add_argument("--prompts", nargs="+", choices=get_args(PromptName), help="ask with each of these prompts, and compare")
    judge.add_argument("--out", metavar="FILE", help="write the results there instead of to stdout")
    judge.add_argument("--overwrite", action="store_true", help="judge again what was judged with other settings")
    judge.set_defaults(verb=_judge)


def _add_serve(verbs: Any) -> None:
    serve = verbs.add_parser("serve", help="the judge over HTTP: POST /v1/judge, /health, /metrics, and vLLM's OpenAI API")
    serve.add_argument("model", help="a directory, a URI, or an id on the hub")
    serve.add_argument("conf", nargs="*", metavar="CONF.yaml|key=value", help="settings: UseConfig in config.py")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
    serve.set_defaults(verb=_serve)


def _add_mini(verbs: Any) -> None:
    mini = verbs.add_parser("mini", help="the mini world").add_subparsers(required=True, metavar="ACTION")
    build = mini.add_parser("build-seed", help="train the mini world's seed model from scratch")
    build.add_argument("out", help="directory to write the model to")
    build.add_argument("--seed", type=int, default=0)
    build.set_defaults(verb=_build_seed)


if __name__ == "__main__":
    sys.exit(main())
