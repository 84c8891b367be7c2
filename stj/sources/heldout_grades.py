"""Held-out responses with true scores: what `stj grade` reads (stj/sources/answers.py), each with a score of its own."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from stj.config import Config
from stj.errors import SourceError
from stj.rows import HELDOUT_GRADES, Row
from stj.sources.answers import labelled_answers, rubric_of_row
from stj.sources.directory import files_at
from stj.sources.files import at_most, files_size
from stj.sources.ids import HELDOUT_PREFIX

KEY = "heldout.grades"


def read_heldout_grades(config: Config) -> Iterator[Row]:
    """The responses, with ids that no training row has; none if no file is named.

    A response without a rubric of its own is graded by `grading.rubric`. Raises SourceError if a row cannot be read, has no
    true score, or has one off its rubric's scale.
    """
    if config.heldout.grades is None:
        return iter(())
    return islice(_rows(config, config.heldout.grades), config.heldout.limit)


def heldout_grades_identity(config: Config) -> str | None:
    """Hash of the file, for keys; None if none is named. Raises SourceError if it is missing."""
    return None if config.heldout.grades is None else files_at(config.heldout.grades, KEY).identity()


def heldout_grades_size(config: Config) -> int:
    """Approximate number of responses; 0 if no file is named. Raises SourceError if it is missing."""
    if config.heldout.grades is None:
        return 0
    return at_most(config.heldout.limit, files_size(files_at(config.heldout.grades, KEY).files))


def _rows(config: Config, location: str) -> Iterator[Row]:
    for where, row, label in labelled_answers(location, KEY):
        by = rubric_of_row(row, config.grading.default_rubric, where)
        if (score := label.on_scale(by, where)) is None:
            raise SourceError(f"{where}: has no true score by {by.name}; give it as 'score', or leave the row out")
        yield replace(
            row,
            id=f"{HELDOUT_PREFIX}grades/{row.id}",  # A held-out pair may have the same id.
            task=HELDOUT_GRADES,
            subset=None,
            rubrics=(by,),
            label=score,
        )
