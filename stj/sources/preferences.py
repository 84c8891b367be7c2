"""Sources of training pairs beside synthetic ones: labelled pairs, and questions with known answers (`preferences`).

    helpsteer2   prompt, response and five attributes by human annotators; the two responses of a prompt are adjacent. The
                 better one has the higher weighted sum (section 4.1)
    hh_rlhf      chosen and rejected, each a whole dialogue in one text; people preferred the last turn of the chosen one
    gsm8k        question, and answer with the final number behind "####"
    questions    question, instruction or prompt, and answer: a number or words, also behind "####"
    pairs        any file of labelled pairs (sources/pairs.py)

A row knows its origin: the source, its place there, and who says which answer is better.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from pathlib import Path

from stj.config import SourceConfig
from stj.errors import SourceError
from stj.final_answer import can_be_known
from stj.final_number import final_number
from stj.package_files import package_path
from stj.pair_fields import OWN_FIELDS, key_without_defaults
from stj.pair_sources import PairSource, PairSourceKind
from stj.rows import GIVEN, Origin, Pair, Row, Turn
from stj.sources import helpsteer2
from stj.sources.dialogue import optional_text, text_of, turns_from, usable
from stj.sources.directory import DataFiles, files_at
from stj.sources.files import at_most, files_size, not_empty, read_files
from stj.sources.hub import is_hub_dataset, read_hub
from stj.sources.ids import PREFERENCES_PREFIX, joined_id, numbered
from stj.sources.pairs import fields_to_read, given_pairs
from stj.sources.records import Fields, Located, listed
from stj.storage.artifacts import plain
from stj.text import shows_something
from stj.thoughts import shown_response

_HUB: dict[PairSourceKind, tuple[SourceConfig, str | None, int]] = {
    "helpsteer2": (SourceConfig(path="nvidia/HelpSteer2"), None, 20_324),
    "hh_rlhf": (SourceConfig(path="Anthropic/hh-rlhf"), "harmless-base/train.jsonl.gz", 42_537),
    "gsm8k": (SourceConfig(path="openai/gsm8k", config_name="main"), None, 7_473),
}
"""The published data set of a kind, its file if it holds others too, and the rows of its training split."""
_FOLDERS: dict[PairSourceKind, str] = {"hh_rlhf": "harmless-base", "gsm8k": "main"}
"""The folder of a copy that holds other data too."""
_FIELDS: dict[PairSourceKind, Fields] = {
    "helpsteer2": Fields(required=("prompt", "response", *helpsteer2.WEIGHTS)),
    "hh_rlhf": Fields(required=("chosen", "rejected")),
    "gsm8k": Fields(required=("question", "answer")),
}
_QUESTION = ("question", "instruction", "prompt")
NO_KNOWN_ANSWER = "no_known_answer"
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_FINAL = "####"
_TRUNCATED = "answer_truncated"  # As of synthetic pairs: an end that is missing says which answer is worse.


def read_preferences(sources: Sequence[PairSource]) -> Iterator[Row]:
    """The rows of all given sources, in order, with ids that no other row has; positions count from 0.

    A row has a pair, or a question whose answer is known. One that teaches nothing is a tombstone: "same_answers",
    "empty_answer", "equal_scores", "below_margin", "not_a_dialogue" and "other_dialogue" (the two dialogues of hh_rlhf differ
    before their last turn), "answer_truncated" (the file says that max_tokens cut one of them), "human_tie" and "no_winner"
    (several people label the pair, and name no better response), "no_known_answer" (a question has no answer, or one that
    cannot be compared), or a reason of a row without usable turns.

    Raises SourceError, with file and line, if a row cannot be read.
    """
    given = (row for source in sources if source.given for row in _rows(source))
    return (replace(row, position=position) for position, row in enumerate(given))


def preferences_identity(sources: Sequence[PairSource]) -> list[dict[str, object]]:
    """What decides which rows the given sources have, for keys. Raises SourceError if a file is missing."""
    return [_identity(source) for source in sources if source.given]


def preferences_size(source: PairSource) -> int | None:
    """About how many rows a given source has; None for a data set of the hub whose size is not published here.

    Raises SourceError if a file is missing.
    """
    place, _, published = _place(source)
    records = published if is_hub_dataset(place.path) else files_size(_files(source).files)
    if records is None:
        return None if source.limit is None else source.limit * source.per_question
    pairs = records // 2 if source.kind == "helpsteer2" else records
    return at_most(source.limit, pairs) * source.per_question


def on_hub(source: PairSource) -> SourceConfig | None:
    """The data set of the hub that a source reads; None for a file."""
    place = _place(source)[0]
    return place if is_hub_dataset(place.path) else None


def _identity(source: PairSource) -> dict[str, object]:
    settings: dict[str, object] = {
        "kind": source.kind,
        "name": source.title,
        "content": source_content(source),
        "limit": source.limit,
        "labelled_by": source.labelled_by,
    }
    if source.fields != OWN_FIELDS:
        settings |= key_without_defaults({"fields": plain(source.fields)})
    if source.categories is not None:
        settings["categories"] = sorted(source.categories)
    if source.kind == "helpsteer2":
        settings["margin"] = source.margin
    if source.asks:
        settings |= {"per_question": source.per_question, "samples": source.samples}
    if source.sampling:
        settings["sampling"] = source.sampling
    return settings


def source_content(source: PairSource) -> str:
    """The content of a given source: a hash of its files, or its name on the hub. Raises SourceError if a file is missing."""
    place, file, _ = _place(source)
    if is_hub_dataset(place.path):
        return "/".join(filter(None, [place.path, place.config_name, file])) + f"@{place.revision or 'main'}/train"
    return _files(source).identity()


def _key(source: PairSource) -> str:
    return f"{source.key}.path"


def _place(source: PairSource) -> tuple[SourceConfig, str | None, int | None]:
    """Where a source lies, its file in a data set of the hub, and the number of its published rows."""
    published = _HUB.get(source.kind)
    if published and source.path in (None, published[0].path):
        place, file, rows = published
        return replace(place, revision=source.revision), file, rows
    assert source.path is not None, f"{source.kind} names a place"
    return SourceConfig(path=source.path, revision=source.revision), None, None


def _files(source: PairSource) -> DataFiles:
    """The files of a source that is not on the hub: the training split of a published data set, or every file of pairs."""
    assert source.path is not None, "a source that is not on the hub names a path"
    if source.kind in ("pairs", "questions"):
        return files_at(source.path, _key(source))
    folder = _FOLDERS.get(source.kind)
    inside = folder if folder and Path(package_path(source.path), folder).is_dir() else None
    return files_at(source.path, _key(source), split="train", config_name=inside)


def _rows(source: PairSource) -> Iterator[Row]:
    place, file, _ = _place(source)
    fields, key = _fields(source), _key(source)
    if is_hub_dataset(place.path):
        records = read_hub(place, fields, key=key, files=file)
    else:
        records = read_files(_files(source).files, fields)
    rows = islice(_READERS[source.kind](records, source), source.limit)
    empty = f"{key}={place.path}: holds no rows; name a file with {source.things}"
    for row in not_empty(rows, empty):
        for copy in range(source.per_question):
            own = row.id if copy == 0 else f"{row.id}-{copy + 1}"
            yield replace(row, id=PREFERENCES_PREFIX + joined_id(source.title, own))


def _fields(source: PairSource) -> Fields:
    if source.kind == "questions":
        return Fields(required=("answer",), optional=_QUESTION)
    return _FIELDS.get(source.kind) or fields_to_read(source.fields)


def _given_pairs(records: Iterable[Located], source: PairSource) -> Iterator[Row]:
    for pair in given_pairs(records, source.fields, labelled=True):
        chosen, rejected = pair.ranked
        row = _pair_row(pair.row_id, pair.turns, chosen, rejected, _origin(source, pair.place))
        reason = pair.undecided or (_TRUNCATED if pair.truncated and not row.dropped else None)
        yield replace(row, pair=None).drop(reason) if reason else row


def _hh_rlhf(records: Iterable[Located], source: PairSource) -> Iterator[Row]:
    for position, (where, values) in enumerate(records):
        try:
            better, worse = (_dialogue(text_of(values[name], name, where), name, where) for name in ("chosen", "rejected"))
        except SourceError as error:
            if not position:  # Another schema: no row of it would be read.
                raise
            odd = Row(id=numbered(position), position=0, turns=(), origin=_origin(source, where))
            yield odd.drop("not_a_dialogue", str(error))
            continue
        row = _pair_row(numbered(position), better[:-1], better[-1].content, worse[-1].content, _origin(source, where))
        yield row.drop("other_dialogue") if better[:-1] != worse[:-1] else row


def _dialogue(text: str, name: str, where: str) -> list[Turn]:
    """The turns of a dialogue in one text; the last one is the assistant's."""
    head, *spoken = _SPEAKER.split(text)
    turns = [
        Turn(role=_ROLES[speaker], content=content.strip()) for speaker, content in zip(spoken[::2], spoken[1::2], strict=True)
    ]
    if head.strip() or len(turns) < 2 or turns[-1].role != "assistant":
        raise SourceError(
            f"{where}: field '{name}' is no dialogue of hh_rlhf; it begins with '\\n\\nHuman:' and ends with a turn of "
            "'\\n\\nAssistant:'. Other pairs are read by kind=pairs"
        )
    return turns


def _helpsteer2(records: Iterable[Located], source: PairSource) -> Iterator[Row]:
    for position, (first, second) in enumerate(helpsteer2.of_one_prompt(records)):
        where, values = first
        responses = [text_of(each["response"], "response", place) for place, each in (first, second)]
        scores = [helpsteer2.weighted_score(each, place) for place, each in (first, second)]
        chosen, rejected = responses if scores[0] >= scores[1] else reversed(responses)
        turns = helpsteer2.turns_of(text_of(values["prompt"], "prompt", where))
        lead = round(abs(scores[0] - scores[1]), 6)
        reason = "equal_scores" if not lead else "below_margin" if lead < source.margin else None
        row = _pair_row(numbered(position), turns, chosen, rejected, _origin(source, where))
        yield row.drop(reason) if reason else row


def _gsm8k(records: Iterable[Located], source: PairSource) -> Iterator[Row]:
    for position, (where, values) in enumerate(records):
        question, answer = (text_of(values[name], name, where) for name in ("question", "answer"))
        number = final_number(answer) if _FINAL in answer else None
        if number is None:
            raise SourceError(f"{where}: field 'answer' has no final number behind '{_FINAL}'")
        origin = replace(_origin(source, where), answer=f"{number:f}")
        yield usable(Row(id=numbered(position), position=0, turns=(Turn(role="user", content=question),), origin=origin))


def _questions(records: Iterable[Located], source: PairSource) -> Iterator[Row]:
    for position, (where, values) in enumerate(records):
        asked = next((name for name in _QUESTION if values.get(name) is not None), None)
        if asked is None:
            names = listed(list(map(str, values)))
            raise SourceError(f"{where}: no field {' or '.join(_QUESTION)}; the fields there are {names}")
        answer = _known_answer(values["answer"], where)
        origin = replace(_origin(source, where), answer=answer)
        turns = turns_from(values[asked], asked, where)
        row = usable(Row(id=numbered(position), position=0, turns=turns, origin=origin))
        yield row if row.dropped or answer else row.drop(NO_KNOWN_ANSWER, str(values["answer"]))


def _known_answer(value: object, where: str) -> str | None:
    """The known answer behind the last "####", or all of it; None if there is none, or it cannot be compared with others."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = format(Decimal(str(value)), "f") if math.isfinite(value) else None
    text = (optional_text(value, "answer", where) or "").rpartition(_FINAL)[2].strip()
    return text if can_be_known(text) else None


_READERS: dict[PairSourceKind, Callable[[Iterable[Located], PairSource], Iterator[Row]]] = {
    "helpsteer2": _helpsteer2,
    "hh_rlhf": _hh_rlhf,
    "gsm8k": _gsm8k,
    "questions": _questions,
    "pairs": _given_pairs,
}


def _origin(source: PairSource, where: str) -> Origin:
    return Origin(source=source.title, place=where, labelled_by=source.labelled_by)


def _pair_row(row_id: str, turns: Sequence[Turn], chosen: str, rejected: str, origin: Origin) -> Row:
    """The row of a pair, or its tombstone if the pair teaches nothing."""
    pair = Pair(method=GIVEN, chosen=chosen, rejected=rejected)
    row = usable(Row(id=row_id, position=0, turns=tuple(turns), origin=origin))
    if row.dropped:
        return row
    if chosen == rejected:
        return row.drop("same_answers")
    if not all(shows_something(shown_response(answer)) for answer in (chosen, rejected)):
        return row.drop("empty_answer")
    return replace(row, pair=pair)
