"""A policy answers questions in a pass of its own: what goes in, what becomes stale, and what the other passes see of it."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.config_loader import from_plain
from stj.errors import ArtifactError, ConfigError, PassFailed
from stj.generate import Completion, Engine, Sampling, Usage
from stj.loop.inputs import input_findings, read_uncurated
from stj.loop.iterate import make_phase
from stj.loop.kinds import PassPhase
from stj.loop.phases import Run
from stj.loop.repair import carry_over_rows, phases_to_make
from stj.loop.row_selection import RowSelection
from stj.loop.show import show_rows
from stj.loop.status import write_run_config
from stj.passes import spec
from stj.passes.spec import Pass
from stj.plan import plan
from stj.rows import Pair, Row, Turn, row_from_dict, rows_to_table
from stj.storage.artifacts import plain
from stj.viewing.trace import trace
from tests import ray_here
from tests.kill_driver import make_engine
from tests.loop.test_examples import write
from tests.loop.test_phases import config, passes

ONE, OTHER = "{path: package://mini/grading_seed, max_model_len: 512}", "{path: package://mini/seed_model, max_model_len: 500}"


def question(number: int) -> dict[str, str]:
    return {"question": f"Question {number}: how much is {number} + 1?", "answer": f"#### {number + 1}"}


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Run]:
    """A run on eight questions to a policy, between a file of pairs and synthetic pairs."""
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(question(number)) for number in range(10, 18)))
    pairs = [{"prompt": f"p{number}", "chosen": "yes", "rejected": "no"} for number in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, pairs)))

    def run(model: str | None = ONE, *words: str, more: str = "", kind: str = "questions", synthetic: str = ", {}") -> Run:
        policy = f", model: {model}" if model else ""
        mine, exam = f"{{kind: pairs, name: mine, path: {tmp_path}/mine.jsonl}}", f"kind: {kind}, path: {tmp_path}/q.jsonl"
        sources = f"preferences=[{mine}, {{{exam}, name: exam{policy}{more}}}{synthetic}]"
        return Run(config(tmp_path, sources, "source.limit=4", "iterations=1", "select.limit=null", *words))

    return run


def fingerprints(run: Run) -> dict[str, str]:
    return {phase.name: phase.artifact.fingerprint for phase in run.phases}


def answered(run: Run) -> list[Row]:
    """The rows of the policy's pass, in an order of arrival: two pairs, a tombstone, and five that failed."""
    [phase] = run.answers
    rows = list(phase.read_training())
    ends = [replace(row, error="timeout", output_tokens=3) for row in rows]
    for place in (0, 5):
        pair = Pair(method="sampled_answers", chosen=f"right {place}", rejected=f"wrong {place}")
        ends[place] = replace(rows[place], pair=pair, prompt_tokens=9, output_tokens=9)
    ends[3] = rows[3].drop("no_right_answer", "It is 3.")
    random.Random(0).shuffle(ends)
    return ends


def test_each_policy_has_a_pass_before_the_others_which_its_sources_share(planned: Callable[..., Run], tmp_path: Path) -> None:
    run = planned()
    assert list(passes(run).items())[:2] == [("answers/exam", ("answers",)), ("pairs", ("pairs", "judge", "heldout"))]
    assert run.phases[0].name == "answers/exam"
    assert from_plain(plain(run.config)) == run.config
    more = f"}}, {{kind: gsm8k, name: again, path: {tmp_path}/q.jsonl, limit: 1, model: {ONE}}}, {{kind: questions, path: "
    more += f"{tmp_path}/q.jsonl, model: {OTHER}"
    several = planned(more=more)
    assert [(phase.name, phase.count_inputs()) for phase in several.answers] == [("answers/exam", 9), ("answers/questions", 8)]
    asked = list(several.answers[0].read_training())
    assert [row.origin.source for row in asked if row.origin] == ["exam"] * 8 + ["again"]
    assert all(row.origin and "grading_seed (" in (row.origin.policy or "") for row in asked)
    assert set(several.answers[1].stages(None)) >= {"training/exam", "training/questions"}
    assert [bool(several.answers[1].stages(None)[f"training/{name}"]) for name in ("mine", "exam", "questions")] == [0, 0, 1]


def test_only_what_follows_from_a_policy_is_stale_with_it_and_without_one_keys_are_as_they_were(
    planned: Callable[..., Run],
) -> None:
    before, other, longer = (fingerprints(planned(model)) for model in (ONE, OTHER, ONE.replace("512", "511")))
    assert all(before[name] != other[name] != longer[name] for name in before if not name.startswith("heldout_1"))
    without = planned(None)
    assert not without.answers
    assert '"answered"' not in json.dumps([phase.artifact.key for phase in without.phases])
    sampled = fingerprints(planned(ONE, "pairs.rejected.max_tokens=50"))
    assert sampled["answers/exam"] == before["answers/exam"]
    assert sampled["pairs"] != before["pairs"]


def test_curation_rests_on_the_questions_and_not_on_who_answers_them(planned: Callable[..., Run]) -> None:
    keys = [planned(model, "curate.clustering=kmeans", "curate.clusters=2").curation for model in (ONE, OTHER)]
    assert len({phase.artifact.fingerprint for phase in keys if phase}) == 1


def test_the_other_passes_see_pairs_and_tombstones_in_the_order_of_the_questions(planned: Callable[..., Run]) -> None:
    run = planned()
    write(run.answers[0], answered(run))
    rows = [row for row in pairs_of(run).read_training() if row.origin]
    assert [row.id for row in rows] == [row.id for row in read_uncurated(run.config) if row.origin]
    assert [row.position for row in rows] == list(range(11))
    of_policy = rows[3:]
    assert [row.pair.chosen if row.pair else row.dropped for row in of_policy] == [
        *("right 0", "answers_failed", "answers_failed", "no_right_answer"),
        *("answers_failed", "right 5", "answers_failed", "answers_failed"),
    ]  # fmt: skip
    assert not any(row.error or row.output_tokens or row.prompt_tokens for row in of_policy)
    assert {row.detail for row in of_policy if row.dropped == "answers_failed"} == {"timeout"}
    judging = pairs_of(run).stages(None)["training/exam"]
    assert len(judging) == 1  # it is judged, and not answered again


def test_questions_of_some_categories_are_sorted_once_they_are_answered(planned: Callable[..., Run]) -> None:
    run = planned(ONE, more=", categories: [Coding]")
    asked, after = (phase.stages(None)["training/exam"] for phase in (run.answers[0], pairs_of(run)))
    names = [[getattr(stage, "func", stage).__name__ for stage in stages] for stages in (asked, after)]
    assert names == [["pair_of_answers"], ["keep_categories", "judge"]]


def pairs_of(run: Run) -> PassPhase:
    return next(phase for phase in run.passes if phase.makes_pairs)


def test_without_any_pair_the_run_ends_and_says_why(planned: Callable[..., Run]) -> None:
    run = planned()
    artifact = run.answers[0].artifact
    artifact.begin()
    artifact.finish([], rows=8, pairs=0, dropped={"no_wrong_answer": 8}, failed=0)
    with pytest.raises(PassFailed, match=r"none of 8 questions became a pair \(dropped: 8 no_wrong_answer; failed: 0\)"):
        run.answers[0].require_usable()


def test_a_repaired_file_of_questions_keeps_the_answers_to_the_others(planned: Callable[..., Run], tmp_path: Path) -> None:
    run = planned()
    artifact = run.answers[0].artifact
    artifact.begin()
    artifact.write_part("part-0", rows_to_table(answered(run)))
    lines = (tmp_path / "q.jsonl").read_text().splitlines()
    (tmp_path / "q.jsonl").write_text("\n".join([*lines[:5], json.dumps(question(77)), *lines[6:]]))
    repaired = planned()
    assert carry_over_rows(repaired.answers[0], overwrite=False) is not None
    kept = {row.position: row.pair and row.pair.chosen for row in map(row_from_dict, repaired.answers[0].artifact.records())}
    assert kept == {0: "right 0"}  # The pair of line 6 is gone with its question; the others have no answers yet.


def test_questions_that_nobody_can_check_are_refused_with_what_to_do(planned: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "q", "answer": null}\n{"question": "r", "answer": "x^2"}')
    [finding] = [each for each in input_findings(planned().config, hub=False) if "exam" in each.subject]
    assert not finding.ok
    assert "none of its 2 rows can be learned (2 no_known_answer)" in finding.words
    assert "name the file as source.path" in finding.words
    (tmp_path / "q.jsonl").write_text(json.dumps(question(1)) + '\n{"question": "r", "answer": "x^2"}')
    [finding] = [each for each in input_findings(planned().config, hub=False) if "exam" in each.subject]
    assert (finding.ok, finding.words) == (True, "1 questions, not learned: 1 no_known_answer")


def test_two_policies_may_answer_the_same_questions_but_one_not_twice(planned: Callable[..., Run], tmp_path: Path) -> None:
    def faults(model: str) -> list[str]:
        more = f"}}, {{kind: questions, name: again, path: {tmp_path}/q.jsonl, model: {model}"
        return [each.words for each in input_findings(planned(more=more).config, hub=False) if not each.ok]

    assert faults(OTHER) == []
    [fault] = faults(ONE)
    assert "preferences[exam] has the same data" in fault


def test_a_source_may_sample_in_its_own_way(planned: Callable[..., Run]) -> None:
    """Only the answers of that source are sampled so, and only what follows from them is stale."""
    own = planned(ONE, more=", temperature: 1.0, max_tokens: 20")
    [stage] = own.answers[0].stages(None)["training/exam"]
    assert isinstance(stage, partial)
    assert stage.keywords["sampling"] == replace(own.config.pairs.answer, temperature=1.0, max_tokens=20)
    before, after = fingerprints(planned(ONE)), fingerprints(own)
    assert all(before[name] != after[name] for name in ("answers/exam", "pairs"))
    for setting, words in {
        "temperature: 0": r"preferences\[exam\]\.temperature=0: questions needs different answers",
        "temperature: 3": r"preferences\[exam\]\.temperature=3",
        "top_p: 0": r"preferences\[exam\]\.top_p=0",
        "max_tokens: 5000": r"preferences\[exam\]\.max_tokens=5000 tokens: judges and training have room",
    }.items():
        with pytest.raises(ConfigError, match=words):
            planned(ONE, more=f", {setting}")


def test_a_policy_that_is_the_generator_answers_in_its_pass(planned: Callable[..., Run]) -> None:
    same = "{path: package://mini/seed_model, max_model_len: 2048}"
    run, unnamed = planned(same), planned(None)
    assert run.config.preferences[1].model == run.config.models.generator
    assert not run.answers
    assert fingerprints(run) == fingerprints(unnamed)
    assert [phase.name for phase in plan(run.config).phases] == [phase.name for phase in plan(unnamed.config).phases]
    assert run.pairs is not None
    assert run.pairs.stages(None)["training/exam"]
    apart = planned(same, "models.share_first_pass=false")
    assert [phase.name for phase in apart.answers] == ["answers/exam"]
    assert planned(same.replace("2048", "1024")).answers


def test_the_plan_has_the_policy_its_engines_and_its_tokens(planned: Callable[..., Run]) -> None:
    run = planned(ONE, "hardware.gpus=8", "engine.device=gpu", "train.device=gpu")
    made = plan(run.config)
    assert "preferences[exam].model" in [role.role for role in made.roles]
    tokens = {phase.name: phase.tokens_out for phase in made.phases}
    assert tokens["answers/exam"] > 0
    assert "answers" not in tokens
    assert made.timeline is not None
    assert [span.phase for span in made.timeline.spans][:2] == ["first starts", "answers/exam"]
    with_policy, without = (
        next(phase for phase in plan(planned(model).config).phases if phase.name.startswith("answers")).name
        for model in (ONE, None)
    )
    assert (with_policy, without) == ("answers/exam", "answers")


class Policy:
    """An engine that is right about half of all questions, by its own dice; it knows what it was asked."""

    def __init__(self, log: Path) -> None:
        self._log, self._dice, self.usage = log, random.Random(1), Usage()

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        number = int(messages[0].content.split()[1].rstrip(":"))
        with self._log.open("a") as log:
            log.write(f"{number}\n")
        text = f"It is {number + self._dice.choice([1, 2])}."
        await asyncio.sleep(0)
        return Completion(text=text, finish_reason="stop", prompt_tokens=9, output_tokens=4)

    def close(self) -> None:
        """Nothing to release."""


async def engine_of(model: ModelConfig, engine: EngineConfig, seed: int, log: Path) -> Engine:
    return Policy(log) if model.path.endswith("grading_seed") else await make_engine(model, engine, seed, str(log) + ".others")


def test_the_passes_ask_the_policy_once_and_its_rows_know_who_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: Callable[..., Run]
) -> None:
    ray_here.install(monkeypatch)
    log = tmp_path / "asked"
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(engine_of, log=log)))
    mine = [{"prompt": f"Question {number}: yes?", "chosen": "yes", "rejected": "no"} for number in range(30, 42)]
    words = ["heldout.path=null", "engine.rows_in_flight=8", "engine.max_replicas=1", "engine.min_replicas=1"]
    made = partial(planned, more=", per_question: 3", synthetic="")
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, mine)))
    run, lines = made(ONE, *words), list[str]()
    write_run_config(run)

    def make(run: Run) -> None:
        for phase in run.phases[:3]:  # the policy's pass, that of the other pairs, and the examples
            make_phase(phase, lines.append, run.phases, overwrite=False)

    make(run)
    asked = log.read_text().splitlines()
    assert set(asked) == {str(number) for number in range(10, 18)}
    assert lines[0].startswith("answers/exam: 24 rows, ")
    of_policy = [row for row in pairs_of(run).rows() if row.origin and row.origin.source == "exam"]
    for row in of_policy:
        assert row.origin is not None
        if row.pair:
            assert row.pair.chosen == f"It is {row.origin.answer}."
            assert row.judgments
        else:
            assert row.dropped in ("no_right_answer", "no_wrong_answer")
    judged = sum(row.pair is not None for row in of_policy)
    assert judged > 12
    counts = run.iterations[0].examples.artifact.manifest()["sources"]["exam"]
    assert (counts["labelled_by"], counts["judged"]) == ("final_answer", judged)

    found = trace(str(tmp_path / "run"), of_policy[0].id).rows[0]
    steps = [(step.name, step.weights.name) for step in found.steps]
    assert steps == [("answers/exam", "preferences[exam].model"), ("pairs", "models.generator")]
    assert found.steps[0].weights.path.endswith("grading_seed")
    assert (found.place.source, found.place.labelled_by) == ("exam", "final_answer")
    selection = RowSelection(where=f"id={of_policy[0].id}")
    assert "answered by" in str(list(show_rows(pairs_of(run).artifact, selection)))

    pairs_of(run).artifact.folder.remove()
    make(made(ONE, *words))
    assert log.read_text().splitlines() == asked  # A start after a kill asks the policy nothing that it has answered.
    with pytest.raises(ArtifactError, match=r"answers/exam"):
        phases_to_make(made(OTHER, *words).phases, overwrite=False)
