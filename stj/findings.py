"""Checks before anything is paid: each one looks at one thing, and every result is listed, not only the first refusal.

A check is a function that returns facts in words, or raises StjError with what is wrong and the remedy.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stj.errors import CheckFailed, StjError
from stj.text import Passage, Span, visible_line

Check = Callable[[], str]
"""Looks at one thing: returns facts in words, and raises StjError if something is wrong."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check saw."""

    subject: str
    """What was looked at: a setting such as `models.seed`, or a part of the machine."""
    words: str
    """Facts, or what is wrong and the remedy."""
    error: StjError | None = None
    """The refusal; None if all is well."""

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return self.error is None

    def line(self) -> Passage:
        """The finding in one line. Its subject comes first, once: a refusal may begin with it."""
        mark = Span("ok     ", "green") if self.ok else Span("WRONG  ", "bold red")
        subject = f"{self.subject}: "
        return Passage(line=[mark, Span(subject), Span(self.words.removeprefix(subject))], hang=len(mark.text))

    def plain(self) -> dict[str, object]:
        """The finding as JSON values."""
        return {"subject": self.subject, "ok": self.ok, "words": self.words}


def look(subject: str, check: Check) -> Finding:
    """Runs a check. A refusal, or a file that the system does not let us read, becomes a finding of exit code 2."""
    try:
        return Finding(subject=subject, words=check())
    except StjError as error:
        refusal = error if error.exit_code == CheckFailed.exit_code else CheckFailed(str(error))
    except OSError as error:
        refusal = CheckFailed(f"{subject}: {error}; check the name and this machine's rights")
    return Finding(subject=subject, words=str(refusal), error=refusal)


def joined(subject: str, findings: Iterable[Finding]) -> list[Finding]:
    """The refusals among findings on one subject, or one finding with all facts."""
    listed = list(findings)
    refusals = [finding for finding in listed if not finding.ok]
    return refusals or [Finding(subject=subject, words=", ".join(filter(None, (finding.words for finding in listed))))]


def refused(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings that are wrong, each refusal once: two roles may share a model."""
    seen: set[str] = set()
    for finding in findings:
        if not finding.ok and finding.words not in seen:
            seen.add(finding.words)
            yield finding


def require(findings: Iterable[Finding]) -> None:
    """Raises the refusal if there is one, and CheckFailed with a line for each if there are several."""
    errors = [finding.error for finding in refused(findings) if finding.error]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CheckFailed("\n".join(visible_line(str(error)) for error in errors))
