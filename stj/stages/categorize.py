"""Instruction selection, first half: an LLM gives an instruction's category, complexity and length (section 3.2, Figure 7)."""

import re
from dataclasses import replace

from stj.config import CategorizeConfig
from stj.generate import Generate
from stj.prompts import CATEGORIZE, fill
from stj.rows import CATEGORIES, Category, Row, Turn

_BY_NAME = {re.sub(r"[^a-z]", "", name.lower()): name for name in CATEGORIES}
_MARKS = r"[\s*_`\"'#:<>\[\-]*"  # markdown and brackets that models write around names and values
_ITEM = r"\s*(?:\d+[.)])?"
_CATEGORY = re.compile(rf"^{_ITEM}{_MARKS}Category{_MARKS}(.+)$", re.IGNORECASE | re.MULTILINE)
_COMPLEXITY = re.compile(rf"^{_ITEM}{_MARKS}Complexity{_MARKS}(\d+)(?!\d|[.,]\d|\s*[-–]\s*\d)", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(
    rf"^{_ITEM}{_MARKS}Length{_MARKS}(?:\(([a-e])\)|([a-e])(?=[\s*_>\]]*(?:[.):,]|$)))", re.IGNORECASE | re.MULTILINE
)


async def categorize(row: Row, generate: Generate, config: CategorizeConfig) -> Row:
    """The row with its category; dropped as "category_unparsed", or "category_truncated" if max_tokens cut the answer."""
    prompt = fill(CATEGORIZE, {"instruction": row.instruction})
    completion = await generate([Turn(role="user", content=prompt)], config.decoding)
    category = parse_category(completion.text)
    if category is None:
        cut = completion.finish_reason == "length"
        return row.drop("category_truncated" if cut else "category_unparsed", completion.evidence)
    return replace(row, category=category)


def parse_category(text: str) -> Category | None:
    """The three fields of Figure 7's format; None if a field is missing or its value is not among the prompt's.

    Accepts any case, markdown, "8/10", and a remark after the value. Rejects an invented category or score.
    """
    category, complexity, length = _CATEGORY.search(text), _COMPLEXITY.search(text), _LENGTH.search(text)
    if not (category and complexity and length):
        return None
    name = _known_category(category[1])
    score = int(complexity[1][:3])
    if name is None or not 1 <= score <= 10:
        return None
    return Category(name=name, complexity=score, length=(length[1] or length[2]).lower())


def _known_category(value: str) -> str | None:
    """The category that a value names, alone or before a remark; None if it names none."""
    return _BY_NAME.get(_letters(value)) or _BY_NAME.get(_letters(re.split(r"[(.;–—]| - ", value)[0]))


def _letters(value: str) -> str:
    return re.sub(r"[^a-z]", "", value.lower().replace("&", "and"))
