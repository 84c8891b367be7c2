"""What is said of machines that have what a run needs, have not answered, or are not there yet."""

import pytest

from stj.passes import node_check

LATER = "asked when an engine or rank starts there"


@pytest.mark.parametrize(
    ("ready", "late", "words"),
    [
        (0, 0, f"no machine is there yet: each is {LATER}"),
        (0, 1, f"1 machine has not answered, and is {LATER}"),
        (0, 3, f"3 machines have not answered, and are {LATER}"),
        (1, 0, "1 machine has what the run needs"),
        (1, 1, f"1 machine has what the run needs; 1 has not answered, and is {LATER}"),
        (3, 2, f"3 machines have what the run needs; 2 have not answered, and are {LATER}"),
    ],
)
def test_each_number_of_machines_has_its_words(ready: int, late: int, words: str) -> None:
    assert node_check._ready_words(ready, late) == words


def test_a_head_without_cpus_is_no_machine_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_check, "live_nodes", lambda: [{"NodeID": "head", "Resources": {"CPU": 0.0, "memory": 1.0}}])
    monkeypatch.setattr(node_check, "_ask", lambda nodes, needs, answer_s: [""] * len(nodes))
    (finding,) = node_check.node_findings(node_check.MachineNeeds())
    assert finding.ok
    assert finding.words == f"no machine is there yet: each is {LATER}"
