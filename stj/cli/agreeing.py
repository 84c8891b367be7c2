"""The verb of people's labels."""

from dataclasses import replace
from typing import Annotated

import typer

from stj.cli.app import AsJson, check_directory_of, check_not_read, finished_file, print_json, show_on_stderr, verb
from stj.cli.words import split_settings
from stj.errors import ConfigError
from stj.text import json_text, show

_FIELDS = """\
Settings:
  by=FIELD             groups: subset, category or any other field. By default
                       subset, or category where there is no subset
  aggregate=METHOD     one label a pair: majority, or dawid_skene, which weighs
                       annotators by how often they are right
  labels=SET           pair (A, B, tie), any, or a list such as yes,no
  order=ORDER          nominal, or ordinal: alpha counts how far labels differ

Rows, in .jsonl, .csv, .parquet and other files or directories:
  long   annotator and label, one label a row; a later label of the same
         annotator for the same pair replaces the earlier one
  wide   annotators: {name: label} or a list of labels; or columns
         annotator_NAME or annotation_NAME
  both   id, unique in its subset, or the texts; instruction or prompt,
         response_a and response_b; subset or category
  label  A, B, tie (also response_a, model_a, 1 and the like), or unsure, which
         counts as no label. Null and "" are no label
  Votes of MT-Bench (judge, winner, question_id, turn, model_a, model_b) are
  read as they are.
"""


@verb(
    "agree",
    "stj agree anna.jsonl bob.jsonl",
    "stj agree labels/ by=category aggregate=dawid_skene --out labelled.jsonl",
    "stj agree xstest.csv labels=any by=type",
    about=_FIELDS,
    docs="human-labels",
)
def _agree(
    words: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files or directories of labels by two or more annotators, described below."),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write one row a pair with one label, by default the majority: pairs for `stj eval` and `stj judge`.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measures how far people's labels agree, and aggregates them.

    Percentage, Krippendorff's alpha and Cohen's kappa, with 95% intervals.
    """
    from stj.evals.agree import aggregated_rows, agree, agree_settings, agreement_json, agreement_tables, written_words

    files, given = split_settings(words)
    if not files:
        raise ConfigError("no file given; name the files of two or more annotators")
    settings = agree_settings(given)
    check_directory_of(out)
    check_not_read(out, *files)
    labelled = agree(files, replace(settings, aggregate=settings.aggregate or "majority") if out else settings)
    if as_json:
        print_json(agreement_json(labelled))
    else:
        for item in agreement_tables(labelled):
            show(item)
    if out:
        with finished_file(out) as stream:
            for row in aggregated_rows(labelled):
                stream.write(f"{json_text(row, stream)}\n")
        show_on_stderr(f"stj: wrote {out}: {written_words(labelled)}")
