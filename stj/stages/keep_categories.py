"""Pairs of a source that stay if their instruction is of given categories (`preferences[].categories`)."""

from collections.abc import Collection
from dataclasses import replace

from stj.config import CategorizeConfig
from stj.errors import PromptTooLong, RequestFailed
from stj.generate import Generate
from stj.rows import Row
from stj.stages.categorize import categorize


async def keep_categories(row: Row, generate: Generate, config: CategorizeConfig, categories: Collection[str]) -> Row:
    """The row as it was if its instruction is of one of the categories; else a tombstone with the category as its detail.

    A row that goes has no pair, so that no later judge sees it. One that stays has no category: what has one counts for
    `select.limit` and for the limit of a cluster.
    """
    try:
        found = await categorize(replace(row, pair=None), generate, config)
    except PromptTooLong as error:
        return replace(row, pair=None).drop("prompt_too_long", str(error))
    except RequestFailed as error:
        return replace(row, pair=None, error=str(error))
    if found.category is None:
        return found
    return row if found.category.name in categories else replace(row, pair=None).drop("category", found.category.name)
