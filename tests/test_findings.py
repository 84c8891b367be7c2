"""Findings: every refusal is kept, each once, and all of them are raised together."""

import pytest

from stj.errors import CapacityError, CheckFailed, ModelError, StjError
from stj.findings import Finding, look, refused, require


def raising(error: Exception) -> Finding:
    def check() -> str:
        raise error

    return look("part", check)


def test_facts_are_ok() -> None:
    finding = look("part", lambda: "two layers")
    assert (finding.ok, str(finding.line())) == (True, "ok     part: two layers")
    require([finding])


def test_a_subject_is_named_once() -> None:
    assert str(raising(StjError("part: torn")).line()) == "WRONG  part: torn"
    assert str(raising(StjError("part=x: torn")).line()) == "WRONG  part: part=x: torn"
    assert str(raising(StjError("party: torn")).line()) == "WRONG  part: party: torn"


def test_a_file_that_cannot_be_read_is_named_once() -> None:
    line = str(raising(PermissionError(13, "Permission denied", "/x")).line())
    assert line == "WRONG  part: [Errno 13] Permission denied: '/x'; check the name and this machine's rights"


def test_one_refusal_is_raised_as_it_is() -> None:
    error = ModelError("torn")
    with pytest.raises(ModelError) as caught:
        require([look("other", lambda: "fine"), raising(error)])
    assert caught.value is error


def test_several_refusals_are_raised_together_each_on_its_line() -> None:
    findings = [raising(ModelError("torn\nand more")), raising(StjError("full")), raising(StjError("full"))]
    assert len(list(refused(findings))) == 2
    with pytest.raises(CheckFailed) as caught:
        require(findings)
    assert str(caught.value).splitlines() == ["torn\\nand more", "full"]


@pytest.mark.parametrize("error", [CapacityError("none"), PermissionError(13, "Permission denied", "/x")])
def test_whatever_is_wrong_has_the_exit_code_of_bad_input(error: Exception) -> None:
    refusal = raising(error).error
    assert refusal is not None
    assert refusal.exit_code == 2


def test_a_bug_is_no_finding() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())
