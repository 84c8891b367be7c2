"""Judgments whose verdict contradicts their own words: the last sentence prefers one response, the verdict names another.

Only a plain statement counts: the last sentence names a single response and says that it is better. "Response B is better" is
one, and "Assistant A's answer is more helpful than Assistant B's". A sentence that concedes, denies or doubts says nothing,
and a heading such as "Final verdict:" is no sentence. So the count is a lower bound; docs/evaluation.md has its precision on
recorded judgments.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from stj.rows import Judgment, Row
from stj.verdict import Verdict

_READ = 400  # Characters at the end of a judgment in which its last sentence is looked for.
_LONGEST = 300  # Characters of a sentence; a longer one is a list or a quotation.
_LONGEST_HEADING = 80  # Characters; the pattern of headings takes quadratic time.
_ROWS_NAMED = 20  # A report names this many rows; `stj view` finds all of them.
_TAG = re.compile(r"\\?\[\\?\[[^\[\]\n]{0,12}\]\\?\]|\[RESULT\]\W{0,4}[AB]\b", re.IGNORECASE)
_MARKUP = str.maketrans("", "", '*_`"“”#>')
_WORD = re.compile(r"\w")
_END = re.compile(r"[.!?]\s+|\n+")
_HEADING = re.compile(
    r"\W*(?:so|thus|therefore|hence)?\W*(?:(?:my|the|our)\s)?(?:(?:final|overall)\s)?"
    r"(?:verdict|decision|judge?ment|answer|conclusion|choice|result|output|evaluation|assessment|rating)s?"
    r"(?:\s(?:is|would be))?\W*",
    re.IGNORECASE,
)
_LETTER = r"\(?(?-i:([A-Da-d]))\)?(?!\w)"
_BARE = r"(?<![\w'’])(?-i:([A-D]))(?=\s(?:is|was|wins)\b|[.!]?\Z)"  # "so B is better", "The better one is B."
_NAME = rf"(?:(?:assistant|response|answer|output|model|option|candidate)\s{_LETTER}|{_BARE})"
_NAMED = re.compile(_NAME, re.IGNORECASE)
_COMPARED = re.compile(
    r"(?:\b(?:than|over|compared\s(?:to|with))\s|(?<=\boutperforms\s)|(?<=\boutperformed\s)|(?<=\bbeats\s))"
    rf"(?:that\sof\s|the\s)?{_NAME}(?:['’]s)?(?:\s\w+)?",
    re.IGNORECASE,
)
_CONCEDED = re.compile(
    r"^(?:\w+(?:\s\w+)?,\s)?(?:while|although|though|despite|even\sthough)\b[^,]*,|^.*,\s?but\b", re.IGNORECASE
)
_BETTER = (
    r"(?:better|best|superior|stronger|strongest|preferable|preferred|winner|"
    r"more\s(?:helpful|accurate|effective|useful|correct))"
)
_THING = r"(?:\s(?:responses?|answers?|outputs?|explanations?|solutions?))?"
_STATES = re.compile(
    rf"{_NAME}(?:['’]s?)?{_THING}\s(?:overall\s)?"
    rf"(?:(?:is|are|was|were|would\sbe)\s(?:\w+ly\s|much\s|far\s|overall\s|the\s|a\s|considered\s|deemed\s)*{_BETTER}\b"
    r"|(?:\w+ly\s|overall\s)?(?:wins|won|beats|outperforms|outperformed|prevails|performed\sbetter|performs\sbetter)\b"
    r"|(?:provide|offer|give|present|deliver|demonstrate)(?:s|d|ed)?\s(?:\w+ly\s|a\s|the\s|overall\s|much\s)*"
    rf"{_BETTER}\b)"
    rf"|\b(?:better|best|superior|stronger|preferred|winning){_THING}\sis\s(?:from\s|by\s|that\sof\s)?(?:the\s)?{_NAME}"
    rf"|\b(?:I|we)\s(?:would\s)?(?:prefer|choose|favou?r|pick|select)\s(?:the\s)?{_NAME}"
    rf"|\b(?:better|winner)\sis\s{_NAME}",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:not|never|neither|nor|no|none|cannot|hardly|although|though|while|whereas|but|however|despite|even|if|unless|might|may|"
    r"could|both|equally|tie|either|less|worse|except|yet|until|\w+n['’]t)\b",
    re.IGNORECASE,
)


@dataclass(kw_only=True)
class Contradictions:
    """Contradictions among the judgments of some rows."""

    stated: int = 0
    """Judgments with a verdict whose last sentence plainly prefers a response."""
    count: int = 0
    """Those of them whose verdict names another one."""
    rows: list[str] = field(default_factory=list)
    """Ids of the first rows with a contradiction."""

    def add(self, row: Row) -> None:
        """Counts the judgments of a row."""
        for judgment in row.judgments:
            if judgment.purpose != "rating":
                self.add_text(row.id, judgment.text, partial(getattr, judgment, "verdict"))

    def add_text(self, row_id: str, text: str, verdict: Callable[[], Verdict | None]) -> None:
        """Counts one judgment of a row. Its verdict is read only if its last sentence prefers a response."""
        named = preferred(last_sentence(text))
        given = verdict() if named else None
        if given is None:
            return
        self.stated += 1
        if named != given:
            self.count += 1
            if row_id not in self.rows[-1:] and len(self.rows) < _ROWS_NAMED:
                self.rows.append(row_id)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Contradictions":
        """Counts the judgments of all rows."""
        counted = cls()
        for row in rows:
            counted.add(row)
        return counted


def contradiction(judgment: Judgment) -> str | None:
    """The last sentence of a judgment if its verdict contradicts it; None if it does not."""
    return None if judgment.purpose == "rating" else contradicted(judgment.text, judgment.verdict)


def contradicted(text: str, verdict: Verdict | None) -> str | None:
    """The last sentence of a text if it prefers another response than the verdict; None if it does not."""
    if verdict is None:
        return None
    sentence = last_sentence(text)
    named = preferred(sentence)
    return sentence if named is not None and named != verdict else None


def last_sentence(text: str) -> str:
    """The last sentence with words, without markup and verdict tags; "" if there is none."""
    plain = _TAG.sub(" ", text[-_READ:]).translate(_MARKUP)
    sentences = (" ".join(sentence.split()) for sentence in reversed(_END.split(plain)))
    return next((each for each in sentences if _WORD.search(each) and not _is_heading(each)), "")


def preferred(sentence: str) -> str | None:
    """The label of the single response that a sentence calls better; None if it does not state that plainly."""
    if len(sentence) > _LONGEST or not _STATES.search(sentence):
        return None
    clause = _CONCEDED.sub("", _COMPARED.sub("", sentence))
    names = {name.upper() for groups in _NAMED.findall(clause) for name in groups if name}
    return names.pop() if len(names) == 1 and _STATES.search(clause) and not _DOUBT.search(clause) else None


def _is_heading(sentence: str) -> bool:
    return len(sentence) <= _LONGEST_HEADING and _HEADING.fullmatch(sentence) is not None
