"""A panel that changes between two starts of a run: pairs and judgments stay, and only what is missing is asked."""

from pathlib import Path

import numpy as np
import pytest

from stj.loop.kinds import PassPhase
from stj.loop.label_flags import judges_draws
from stj.loop.opinions import panel_draws
from stj.loop.panel_figures import panel_figures
from stj.loop.phases import Run
from stj.loop.repair import is_repaired
from stj.storage.artifacts import differences
from tests.loop.test_examples import write
from tests.loop.test_mixing import key_of
from tests.loop.test_phases import ALONE, config
from tests.test_panel import ARENA, HOT, MODEL, SECOND, members, panel, said

FEEDBACK, GREEDY = "{name: feedback, prompt: prometheus}", "{name: greedy, temperature: 0}"
SAYS = ("++-", "+-+", "--+", "+??", "-+-")
"""What the judge, and members, say about pairs in turn."""


def states(run: Run) -> dict[str, str]:
    return {phase.name: phase.artifact.state()[0] for phase in run.passes}


def members_of(phase: PassPhase) -> list[str]:
    return [member.name for member in phase.members]


def finished(tmp_path: Path, *words: str) -> dict[str, str]:
    """The fingerprints of a run's phases, whose passes are all finished."""
    run = Run(config(tmp_path, "iterations=2", *words))
    for phase in run.passes:
        if phase.artifact.state()[0] == "absent":
            write(phase, [said(0, "+-")])
    return {phase.name: phase.artifact.fingerprint for phase in run.phases}


@pytest.mark.parametrize("alone", [(), (ALONE,)])
def test_members_that_came_later_judge_in_passes_of_their_own(tmp_path: Path, alone: tuple[str, ...]) -> None:
    before = finished(tmp_path, *alone, panel(HOT))
    later = Run(config(tmp_path, "iterations=2", *alone, panel(ARENA, HOT, SECOND, FEEDBACK)))
    new = {"opinions/arena", "opinions/second", "iteration_2/opinions/arena"}
    assert {name for name, state in states(later).items() if state == "absent"} == new
    assert "stale" not in states(later).values()
    assert before.items() <= {phase.name: phase.artifact.fingerprint for phase in later.phases}.items()
    together = {"arena", "feedback"}
    assert {name for name, who in members(later).items() if together == set(who)} == new - {"opinions/second"}
    first = later.iterations[0].examples
    assert sorted(phase.name for phase in first.opinions) == ["opinions/arena", "opinions/second"]
    assert len(first.heard) == 3


def test_each_change_asks_only_for_what_no_pass_has(tmp_path: Path) -> None:
    finished(tmp_path, panel(HOT))
    finished(tmp_path, panel(FEEDBACK, ARENA))
    known = finished(tmp_path, panel(ARENA, HOT, FEEDBACK))  # hot is back, and the order does not matter
    assert set(known) >= {"pairs", "opinions/feedback", "iteration_2/opinions/feedback"}
    assert not {"opinions/arena", "opinions/hot"} & set(known)
    more = finished(tmp_path, panel(ARENA, HOT, FEEDBACK, GREEDY))
    assert set(more) - set(known) == {"opinions/greedy", "iteration_2/opinions/greedy"}
    cooler = Run(config(tmp_path, "iterations=2", panel(HOT.replace("1.2", "1.1"), ARENA)))
    assert members(cooler)["opinions/hot"] == ["hot"]
    assert states(cooler)["pairs"] == states(cooler)["opinions/feedback"] == "done"
    assert "pairs" not in members(cooler)  # its opinions of the hotter member are nobody's
    assert set(states(Run(config(tmp_path, "iterations=2"))).values()) == {"done"}


def test_a_member_that_changes_makes_a_pass_of_opinions_alone_stale(tmp_path: Path) -> None:
    finished(tmp_path, panel(SECOND))
    cooler = Run(config(tmp_path, "iterations=2", panel(SECOND.replace("}}", "}, temperature: 0.3}"))))
    assert [name for name, state in states(cooler).items() if state == "stale"] == ["opinions/second"]


def test_an_unfinished_pass_needs_the_members_that_it_was_begun_with(tmp_path: Path) -> None:
    Run(config(tmp_path, "iterations=2", panel(HOT))).pairs.artifact.begin()  # type: ignore[union-attr]
    more = Run(config(tmp_path, "iterations=2", panel(HOT, ARENA)))
    assert (states(more)["pairs"], members(more)["pairs"]) == ("partial", ["hot"])
    for fewer in (panel(ARENA), panel(HOT.replace("1.2", "1.1")), "judge.panel=[]"):
        run = Run(config(tmp_path, "iterations=2", fewer))
        assert states(run)["pairs"] == "stale"
        assert "opinions/arena" not in states(run)


def test_another_setting_beside_the_panel_makes_the_pairs_again_with_all_members(tmp_path: Path) -> None:
    finished(tmp_path, panel(HOT))
    run = Run(config(tmp_path, "iterations=2", panel(HOT, ARENA), "judge.samples=3"))
    assert states(run)["pairs"] == "stale"
    assert members(run)["pairs"] == ["hot", "arena"]


def test_examples_that_the_panel_chooses_are_stale_by_who_is_on_it(tmp_path: Path) -> None:
    rule = "select.disagreement={draws: panel, low: 0.2}"

    def key(*words: str) -> object:
        run = Run(config(tmp_path, "iterations=1", *words))
        if run.phases[0].artifact.state()[0] == "absent":
            write(run.phases[0], [said(0, "+-")])  # type: ignore[arg-type]
        return key_of(run, "iteration_1/examples")

    two = panel(HOT, FEEDBACK)
    chosen, reported = key(two, rule), key(two)
    assert "unread" not in str([chosen, reported])
    assert differences(chosen, key(panel(FEEDBACK), rule)) == ['unread: nothing -> {"pairs": ["hot"]}']
    cooler = differences(chosen, key(two.replace("1.2", "1.1"), rule))
    assert [line.partition(":")[0] for line in cooler] == ["opinions", "unread"]
    assert key(panel(FEEDBACK)) == reported == key(panel(HOT, FEEDBACK, ARENA))  # only the report shows it


def test_a_repaired_source_keeps_its_rows_under_a_changed_panel(tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_text('{"instruction": "One?"}\n{"instruction": "Two!"}\n')
    words = ("iterations=1", f"source.path={file}", "source.limit=null")
    write(next(Run(config(tmp_path, *words, panel(HOT))).passes), [said(0, "+-")])
    file.write_text('{"instruction": "One?"}\n{"instruction": "Two?"}\n')
    pairs, later, *_ = Run(config(tmp_path, *words, panel(HOT, ARENA))).passes
    assert is_repaired(pairs)
    assert (members_of(pairs), members_of(later)) == (["hot"], ["arena"])


def test_opinions_with_weights_that_a_member_has_no_more_are_not_its_own(tmp_path: Path) -> None:
    seed = "package://mini/seed_model"
    same = f"{{name: one, prompt: arena, model: {{path: {seed}, max_model_len: 2048, tensor_parallel_size: 1}}}}"
    finished(tmp_path, panel(same))
    moved = Run(config(tmp_path, "iterations=2", panel(f"{{name: one, prompt: arena, {MODEL}}}")))
    assert members(moved) == {"opinions/one": ["one"]}
    assert states(moved)["pairs"] == "done"
    [heard] = moved.iterations[0].examples.heard
    assert heard.artifact.folder.uri.endswith("opinions/one")


def test_opinions_count_alike_whether_a_member_came_later_or_not(tmp_path: Path) -> None:
    """Two temperatures of one judge are one judge also if they lie in two passes."""
    words = ("iterations=1", "judge.sampling=all", "curate.label_noise=1")

    def row(number: int, judge: bool, *who: str) -> object:
        says = {name: SAYS[(number + place) % 5] for place, name in enumerate(("hot", "arena")) if name in who}
        return said(number, SAYS[(number + 3) % 5] if judge else "", **says)

    def figures(run: Run) -> tuple[object, ...]:
        examples = run.iterations[0].examples
        assert examples.judged
        judge, heard = examples.judged.artifact, examples.heard
        draws = judges_draws(judge, [], run.config, heard)
        each = panel_draws(judge, heard, run.config.judge)
        shares = [each.of(f"row-{number:03d}") for number in range(10)]
        return (
            panel_figures(judge, heard, run.config.judge),
            np.stack([d.shares(draws[-1].digests) for d in draws]).tolist(),
            shares,
        )

    def judged_in(run: Run, name: str, *who: str, judge: bool) -> PassPhase:
        phase = next(phase for phase in run.passes if phase.name == name)
        write(phase, [row(number, judge, *who) for number in range(10)])  # type: ignore[misc]
        return phase

    begun = Run(config(tmp_path / "begun", *words, panel(HOT, ARENA)))
    judged_in(begun, "pairs", "hot", "arena", judge=True)
    judged_in(Run(config(tmp_path / "later", *words[:2])), "pairs", judge=True)
    later = Run(config(tmp_path / "later", *words, panel(HOT, ARENA)))
    judged_in(later, "opinions/hot", "hot", "arena", judge=False)
    assert figures(later) == figures(begun)
    assert len(figures(later)[1]) == 2  # type: ignore[arg-type]


def test_the_judge_of_each_iteration_is_the_warmed_up_one_too(tmp_path: Path) -> None:
    words = ("iterations=1", "train.objective=sft_then_dpo", "train.preference.source=warm_up")
    run = Run(config(tmp_path, *words, panel(HOT)))
    assert members(run) == {"pairs": ["hot"], "iteration_1/warm_up/judged": ["hot"]}
    for phase in run.passes:
        write(phase, [said(0, "+-")])
    later = Run(config(tmp_path, *words, panel(HOT, ARENA)))
    assert members(later)["iteration_1/warm_up/opinions/arena"] == ["arena"]
    learned = later.iterations[0].again[-1]
    assert [each.artifact.folder.uri.partition("run/")[2] for each in learned.heard][-2:] == [  # type: ignore[attr-defined]
        "iteration_1/warm_up/opinions/arena",
        "iteration_1/warm_up/judged",
    ]
