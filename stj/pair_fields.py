"""The settings `fields` and `ties`: how a file of pairs is read whose fields have other names, and what a tie counts."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from stj.setting_checks import check

Ties = Literal["skip", "count", "half"]
"""What a pair counts that people call a tie: nothing, as right if the judge calls it a tie too, or one half."""


@dataclass(frozen=True, kw_only=True)
class PairFields:
    """The names of the fields in a file of pairs. `null` takes stj's own names (stj/sources/pairs.py).

    A field that is named here must be in every row, and has no other meaning. A dotted name that is no field itself names
    a member: `answer.text` of {"answer": {"text": "..."}}.
    """

    instruction: str | None = None
    """The field of the instruction, which is text, or a dialogue as a list of {role, content}."""
    response_a: str | None = None
    """The field of the first response. Name both responses, or `chosen` and `rejected`."""
    response_b: str | None = None
    """The field of the second response."""
    chosen: str | None = None
    """The field of the better response."""
    rejected: str | None = None
    """The field of the worse response."""
    winner: str | None = None
    """The field that says which response is better: A, B or tie, in the words of stj/sources/truth.py, or the name of the
    response's field. Of dotted names, the part that differs is enough. An empty field says nothing, and the pair is
    dropped where a winner is needed."""
    annotators: tuple[str, ...] = ()
    """In place of `winner`: the fields of several people's labels, one for each person, or a field that holds all of them as
    {name: label} or a list. The label of most is the winner. If none has most, the pair is dropped as `no_winner`."""
    id: str | None = None
    """The field of the pair's id."""
    subset: str | None = None
    """The field of the part that the pair belongs to. Tables have a row for each."""

    def __post_init__(self) -> None:
        for first, second in (("response_a", "response_b"), ("chosen", "rejected")):
            alone = [name for name in (first, second) if getattr(self, name) is not None]
            check(len(alone) != 1, f"fields.{alone[0] if alone else first}: name fields.{first} and fields.{second} together")
        both = self.response_a is not None and self.chosen is not None
        check(not both, f"fields.chosen={self.chosen}: name response_a and response_b, or chosen and rejected, not all four")
        if self.chosen is not None:
            check(self.winner is None, f"fields.winner={self.winner}: fields.chosen names the better response; leave one out")
            check(not self.annotators, "fields.annotators: fields.chosen names the better response; leave one out")
        check(
            self.winner is None or not self.annotators,
            f"fields.winner={self.winner}: fields.annotators name the winner too; leave one out",
        )
        names = self.named
        check("" not in names, "fields: a name is empty; leave it out, or name a field")
        twice = next((name for name in names if names.count(name) > 1), None)
        check(twice is None, f"fields: '{twice}' is named twice; each field has one meaning")

    @property
    def named(self) -> tuple[str, ...]:
        """All names that are given."""
        single = [getattr(self, field.name) for field in fields(self) if field.name != "annotators"]
        return (*(name for name in single if name is not None), *self.annotators)


def key_without_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a group as a key holds them: as before there were `fields` and `ties`, where these change nothing."""
    if settings.get("ties") == "skip":
        del settings["ties"]
    given = {name: value for name, value in settings.pop("fields", {}).items() if value}
    return {**settings, "fields": given} if given else settings


OWN_FIELDS = PairFields()
"""stj's own names."""
