"""The verbs of a judge in use: judge, grade, serve."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Annotated

import typer

from stj.cli.app import (
    CalibrationFile,
    Confidence,
    Model,
    RedoJudgments,
    Risk,
    UseConf,
    check_directory_of,
    check_not_read,
    port_number,
    print_row,
    results_file,
    show_on_stderr,
    verb,
)
from stj.cli.words import split_settings
from stj.config_loader import load_model, load_use
from stj.errors import ConfigError
from stj.prompts.variants import VARIANTS
from stj.use_config import VoteConfig


def _asked(words: list[str] | None, vote: VoteConfig) -> tuple[str, ...]:
    """The prompts that words name, each once; the one of `vote.prompt` if there are none. Raises ConfigError."""
    return tuple(dict.fromkeys(replace(vote, prompt=word).prompt for word in words or [vote.prompt]))


@verb(
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
            help="A file, or a directory of files: instruction or prompt; response_a and response_b, or chosen and rejected; "
            "if known, id, subset, and winner or label. Other names: fields.instruction=NAME.",
        ),
    ],
    conf: UseConf = None,
    jury: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL...", help="Several judges instead of model=PATH: all results, and how far they agree."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT...",
            help=f"Ask with each of these prompts, and compare: {', '.join(VARIANTS)}, or a YAML file.",
            autocompletion=lambda: list(VARIANTS),
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the results to this file instead of stdout.")] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Put the instruction and both responses into each result too.")
    ] = False,
    overwrite: RedoJudgments = False,
    calibration: CalibrationFile = None,
    risk: Risk = None,
    confidence: Confidence = 0.9,
) -> None:
    """Judges the pairs of a file; each result is a JSON line.

    Name the judge by --model MODEL or model=MODEL. The same command resumes where it was stopped.
    """
    from stj.judging.calibration import AnsweredTally
    from stj.judging.calibration_file import read_abstention
    from stj.judging.judge_file import Panel, judge_file, unread_votes

    files, overrides = split_settings(conf or [])
    config = load_use(files, [*overrides, *(f"model={model}" for model in (jury or [])[:1])])
    asked = _asked(prompts, config.vote)
    models = tuple(dict.fromkeys([load_model(word, config.model) for word in jury] if jury else [config.model]))
    if calibration and len(models) * len(asked) > 1:
        raise ConfigError(f"--calibration {calibration}: it is of one judge; give one model and one prompt")
    vote = replace(config.vote, prompt=asked[0])
    abstention = read_abstention(calibration, risk, confidence, models[0], vote)
    panel = Panel(file=file, models=models, prompts=asked, config=config, texts=texts, abstention=abstention)
    check_directory_of(out)
    check_not_read(out, file, calibration)
    answered = AnsweredTally(abstention)
    with ExitStack() as stack:
        # Opened for the first result: a command that fails early must not empty a file of results.
        stream = cache(lambda: stack.enter_context(results_file(out)) if out else sys.stdout)
        agreement = judge_file(panel, lambda row: print_row(answered.add(row), stream()), overwrite=overwrite)
    for item in chain(agreement.summary(), answered.summary(), unread_votes(panel)):
        show_on_stderr(item)


@verb(
    "grade",
    "stj grade answers.jsonl rubric=helpfulness model=MODEL --out results.jsonl",
    "stj grade answers.jsonl 'rubric=[safety, mine.yaml]' 'weights=[2, 1]' model=M",
    docs="grading rubrics",
)
def _grade(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file, or a directory of files: instruction and response, or pairs as `stj judge` reads them; if known, "
            "reference, context, rubric, label, id and subset.",
        ),
    ],
    conf: UseConf = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the results to this file instead of stdout.")] = None,
    overwrite: RedoJudgments = False,
) -> None:
    """Grades the responses of a file by rubrics; each is a JSON line.

    Name the judge by --model MODEL or model=MODEL, and rubrics by rubric=NAME. The same command resumes where it was stopped.
    """
    from stj.judging.grade_file import grade_file

    files, overrides = split_settings(conf or [])
    config = load_use(files, overrides)
    check_directory_of(out)
    check_not_read(out, file)
    with ExitStack() as stack:
        # Opened for the first result: a command that fails early must not empty a file of results.
        stream = cache(lambda: stack.enter_context(results_file(out)) if out else sys.stdout)
        graded = grade_file(file, config, lambda line: print_row(line, stream()), overwrite=overwrite)
    for item in graded.summary():
        show_on_stderr(item)


@verb("serve", "stj serve runs/mini/iteration_3/model --port 8000", docs="judging")
def _serve(
    model: Model,
    conf: UseConf = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; the default is only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", parser=port_number, help="The port to listen on.")] = 8000,
    calibration: CalibrationFile = None,
    risk: Risk = None,
    confidence: Confidence = 0.9,
) -> None:
    """Serves a judge over HTTP, beside vLLM's OpenAI API.

    Answers POST /v1/judge and /v1/grade, GET /health and /metrics.
    """
    from stj.judging.calibration_file import read_abstention
    from stj.judging.serve import serve

    files, overrides = split_settings(conf or [])
    config = load_use(files, [*overrides, f"model={model}"])
    serve(config, host, port, read_abstention(calibration, risk, confidence, config.model, config.vote))
