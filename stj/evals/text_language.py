"""The language of a text, by its script and, in Latin script, by its most frequent short words.

It needs no model. It names a language only if the text says enough, so that what it names can be compared between two answers.
"""

import re
from collections import Counter

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_SCRIPTS = {
    "Japanese": r"[\u3040-\u30ff]",
    "Chinese": r"[\u4e00-\u9fff]",
    "Korean": r"[\uac00-\ud7af]",
    "Arabic": r"[\u0600-\u06ff]",
    "Hebrew": r"[\u0590-\u05ff]",
    "Greek": r"[\u0370-\u03ff]",
    "Thai": r"[\u0e00-\u0e7f]",
    "Hindi": r"[\u0900-\u097f]",
    "Cyrillic": r"[\u0400-\u04ff]",
    "Latin": r"[A-Za-z\u00c0-\u024f]",
}
"""Letters of each script, or of the only large language that has it. Languages in Cyrillic are not told apart."""
_PATTERNS = {name: re.compile(letters) for name, letters in _SCRIPTS.items()}
_SHORT_WORDS = {
    "English": "the and of to is in that for with you are this it on be as not can from your",
    "German": "der die und das ist nicht ein eine zu den von mit für auf auch sich dem des sie ich",
    "French": "le les des et est une dans pour que qui pas sur avec vous du au sont cette plus ce",
    "Spanish": "el los las que y una es por con para del como más su se al lo está son pero",
    "Italian": "il che di è per una con non sono della gli nel anche come del alla questo più ha ed",
    "Portuguese": "o os que e não uma para com do da em um é por mais dos como ao você são",
    "Dutch": "de het een en van is dat niet op te zijn voor met die er aan ook als om maar",
    "Polish": "i w nie się na jest to że z do jak przez są oraz dla po od czy tym ale",
    "Turkish": "ve bir bu için ile da de çok olarak daha olan ne gibi en kadar ama var değil ya mi",
    "Vietnamese": "và là của các có trong được cho một không với những này để người khi đã từ về như",
    "Indonesian": "yang dan di untuk dengan dari ini adalah pada itu tidak dalam akan ke atau bisa saya anda juga oleh",
}
_WORD_LISTS = {name: frozenset(words.split()) for name, words in _SHORT_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_FEWEST_LETTERS = 8  # Shorter texts, such as "42" or "B", have no language.
_MOST_CHARACTERS = 1500  # The beginning is enough, and keeps the time for a long answer short.
_FEWEST_SHORT_WORDS = 2  # One may be a name or a quotation.
_JAPANESE_KANA = 0.1  # Japanese mixes Han characters with kana; Chinese has none.


def text_language(text: str) -> str | None:
    """The language of a text, or the script if that is all that can be said; None if the text says too little.

    Code and addresses do not count.
    """
    prose = _CODE.sub(" ", text[:_MOST_CHARACTERS])
    letters = Counter({name: len(pattern.findall(prose)) for name, pattern in _PATTERNS.items()})
    if letters.total() < _FEWEST_LETTERS:
        return None
    script = letters.most_common(1)[0][0]
    if script == "Chinese" and letters["Japanese"] > _JAPANESE_KANA * letters["Chinese"]:
        return "Japanese"
    return _latin_language(prose) if script == "Latin" else script


def _latin_language(prose: str) -> str | None:
    words = Counter(_WORD.findall(prose.lower()))
    hits = Counter({name: sum(words[word] for word in known) for name, known in _WORD_LISTS.items()})
    (first, most), (_, second) = hits.most_common(2)
    return first if most >= _FEWEST_SHORT_WORDS and most > second else None
