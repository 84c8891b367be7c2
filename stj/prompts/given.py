"""A judge prompt that a user gives: a YAML file with the words of a published judge.

    system: |
      You compare two answers.
    user: |
      {instruction} {response A} {response B}

`system` may be left out. `user_with_reference` and `system_with_reference` are the words for pairs with a reference answer, and
show a `{reference}`. Words in doubled braces are text: `\\boxed{{A}}` is asked for as \\boxed{A}.

A setting holds the file's words themselves once it is loaded, packed as JSON. So they reach the actors on other machines, and a
key holds what was asked, not where the file lay.
"""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from stj.errors import ConfigError
from stj.prompts import placeholders
from stj.prompts.variants import VARIANTS, Variant, Words
from stj.setting_text import settings_in_file
from stj.verdict import FORMATS

_REFERENCE = "reference"
_SHOWN = 60  # characters of a value in an error
_PACKED = '{"format": '  # How packed words begin; no name of a file does.


@dataclass(frozen=True, kw_only=True)
class PromptFile:
    """The keys of a file."""

    system: str = ""
    user: str = ""
    system_with_reference: str | None = None
    user_with_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptKind:
    """What a prompt is for: judging pairs, or grading."""

    about: str
    """What its verdicts are, for errors."""
    file: type = PromptFile
    """The keys of its file."""
    names: Collection[str]
    """The prompts of this package."""
    formats: Sequence[str]
    """The names of the formats in which its verdicts may be written."""
    needed: Set[str]
    """The placeholders that its words must have."""
    optional: Set[str] = frozenset()
    """The placeholders that they may have."""
    parts: Mapping[str, Set[str]] = field(default_factory=dict)
    """Keys with words for a part of the message, and the placeholders that they must have."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its file."""
        return tuple(key.name for key in fields(self.file))


def usable_formats() -> list[str]:
    """The names of the formats in which a judge of pairs may write its verdicts."""
    return [name for name, wording in FORMATS.items() if wording.answers == 2]


PAIRS = PromptKind(
    about="a verdict on two answers",
    names=VARIANTS,
    formats=usable_formats(),
    needed={"instruction", "response A", "response B"},
)


def packed(word: str, wording: str | None, key: str, kind: PromptKind = PAIRS) -> str:
    """A prompt's setting: the name of a prompt as it is, or the words of the file that it names, packed.

    `wording` names the format of the file's verdicts, `key` the setting. Raises ConfigError if there is neither a prompt nor a
    good file of that name, or if a format is missing or unknown.
    """
    if wording is not None and wording not in kind.formats:
        raise ConfigError(
            f"{key}_format={wording}: no such format of {kind.about}{_near(wording, kind.formats)}; "
            f"known are {', '.join(kind.formats)}"
        )
    if is_given(word):
        _check_packed(word, wording, key, kind)
    if word in kind.names or is_given(word):
        return word
    words = _read(word, key, kind)
    if wording is None:
        raise ConfigError(f"{key}={word}: name the format of its verdicts with {key}_format: {', '.join(kind.formats)}")
    return json.dumps({"format": wording, **words}, ensure_ascii=False, sort_keys=True)


def is_given(prompt: str) -> bool:
    """Whether a prompt's setting, as `packed` makes it, came from a file."""
    return prompt.startswith(_PACKED)


@cache
def variant_of(prompt: str) -> Variant:
    """The prompt of a setting, as `packed` makes it."""
    if not is_given(prompt):
        return VARIANTS[prompt]
    values: dict[str, str] = json.loads(prompt)
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    name = f"file-{digest[:8]}"
    plain = Words(system=values.get("system", ""), user=values["user"])
    with_reference = None
    if user := values.get("user_with_reference"):
        with_reference = Words(system=values.get("system_with_reference", plain.system), user=user)
    wording = FORMATS[values["format"]]
    return Variant(name=name, plain=plain, with_reference=with_reference, wording=wording, hashes={name: digest})


def _read(word: str, key: str, kind: PromptKind) -> dict[str, str]:
    """The words of a file, by key."""
    path = Path(word)
    try:
        path = path.expanduser()
        content = path.read_bytes() if path.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:  # ~NAME of no user, a name with NUL
        raise ConfigError(f"{key}={word}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if content is None:
        known = ", ".join(kind.names)
        raise ConfigError(
            f"{key}={word}: no such prompt or file{_near(word, kind.names)}; known prompts: {known}; or name a YAML file"
        )
    words: dict[str, str] = {}
    for setting in settings_in_file(content, word, kind.file):
        if setting.key not in kind.keys:
            raise ConfigError(f"{setting.place}: unknown key '{setting.key}'; a prompt has {', '.join(kind.keys)}")
        if not isinstance(setting.value, str):
            raise ConfigError(f"{setting.where}: must be text")
        words[setting.key] = setting.value
    _check(words, word, kind)
    return words


def _check_packed(word: str, wording: str | None, key: str, kind: PromptKind) -> None:
    """Raises ConfigError if packed words, which a saved config may hold, are damaged or have another format."""
    try:
        words = json.loads(word)
    except (ValueError, RecursionError):
        words = {}
    written = words.pop("format", None)
    texts = all(isinstance(text, str) for text in words.values())
    if written not in kind.formats or not words.keys() <= set(kind.keys) or not texts:
        raise ConfigError(f"{key} holds no packed prompt: {word[:_SHOWN]}; name a prompt or a YAML file")
    if wording not in (None, written):
        raise ConfigError(f"{key}_format={wording}: the words in {key} have the format {written}; leave {key}_format out")
    _check(words, key, kind)


def _check(words: dict[str, str], file: str, kind: PromptKind) -> None:
    """Raises ConfigError if words or placeholders are missing or unknown."""
    if not words.get("user", "").strip():
        raise ConfigError(f"{file}: no user: give the text of the user message, with {_listed(kind.needed)}")
    if "system_with_reference" in words and "user_with_reference" not in words:
        raise ConfigError(f"{file}: system_with_reference needs user_with_reference")
    _check_placeholders(file, "user", [words.get("system", ""), words["user"]], kind.needed, kind.optional)
    if (user := words.get("user_with_reference")) is not None:
        system = words.get("system_with_reference", words.get("system", ""))
        _check_placeholders(file, "user_with_reference", [system, user], kind.needed | {_REFERENCE}, kind.optional)
    for part, needed in kind.parts.items():
        if part in words:
            _check_placeholders(file, part, [words[part]], needed, frozenset())
    if "${" in "".join(words.values()):
        raise ConfigError(f"{file}: no setting may hold the characters ${{, with which a reference begins")


def _check_placeholders(file: str, key: str, texts: list[str], needed: Set[str], optional: Set[str]) -> None:
    there = set().union(*map(placeholders, texts))
    if unknown := sorted(there - needed - optional):
        hint = "; only user_with_reference shows a reference" if unknown == [_REFERENCE] else ""
        raise ConfigError(
            f"{file}: {key} has the unknown placeholder {{{unknown[0]}}}{hint}; known are {_listed(needed | optional)}. "
            f"Write {{{{{unknown[0]}}}}} for braces that are text"
        )
    if missing := needed - there:
        raise ConfigError(f"{file}: {key} lacks the placeholder {_listed(missing)}")


def _listed(names: Set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _near(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
