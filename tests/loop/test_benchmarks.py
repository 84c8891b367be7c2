"""Benchmarks in a run: what judges them, what they make stale, what the report has of them, and what is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stj.cli import main
from stj.config import Config, HeldoutConfig
from stj.config_loader import load
from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks import BENCHMARK_GROUPS
from stj.evals.compare import compare_evaluations
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.inputs import input_findings, kept_out, read_training
from stj.loop.kinds import PassPhase
from stj.loop.named_pairs import count_heldout, read_heldout
from stj.loop.phases import Run
from stj.loop.report import html
from stj.loop.report_tables import WIDTH, tables
from stj.loop.summary import RunSummary
from stj.rows import HELDOUT, Judgment, Row, rows_to_table
from stj.sources.overlap import places_identity
from stj.stages.judge import LABELS

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
OTHER = "models.first_judge.path=org/other"


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return pairs_file(tmp_path / "pairs.jsonl", 20)


def pairs_file(path: Path, count: int) -> str:
    records = ({"instruction": f"Say {number}.", "chosen": str(number), "rejected": "no"} for number in range(count))
    path.write_text("\n".join(map(json.dumps, records)))
    return f"pairs:{path}"


def config(tmp_path: Path, *overrides: str) -> Config:
    return load([MINI], [f"run_root={tmp_path}/run", "iterations=2", *overrides])


def carriers(run: Run) -> dict[str, list[str]]:
    """The passes, and the benchmarks that each one judges too."""
    return {phase.name: [benchmark.name for benchmark in phase.benchmarks] for phase in run.passes}


def fingerprints(run: Run) -> dict[str, str]:
    return {phase.name: phase.artifact.fingerprint for phase in run.phases}


def test_each_judge_judges_them_in_the_pass_that_its_weights_take_anyway(tmp_path: Path, pairs: str) -> None:
    run = Run(config(tmp_path, f"benchmarks=[{pairs}]"))
    assert carriers(run) == {
        "pairs": ["benchmarks_0/pairs"],
        "iteration_2/judged": ["benchmarks_1/pairs"],
        "heldout_2": ["benchmarks_2/pairs"],
    }
    assert [phase.name for phase in run.phases] == [
        *("pairs", "benchmarks_0/pairs", "iteration_1/examples", "iteration_1/model"),
        *("iteration_2/judged", "benchmarks_1/pairs", "iteration_2/examples", "iteration_2/model"),
        *("heldout_2", "benchmarks_2/pairs"),
    ]


def test_without_a_pass_of_the_same_weights_the_benchmarks_are_one_of_their_own(tmp_path: Path, pairs: str) -> None:
    words = f"benchmarks=[{pairs},judgebench:{tmp_path}/pairs.jsonl]"
    run = Run(config(tmp_path, words, "heldout.path=null", "iterations=1", OTHER, "models.generator.path=org/other"))
    assert carriers(run) == {"pairs": []}
    for judge in (0, 1):
        first, second = run.benchmark_phases(judge)
        assert first.later == (second,)
        assert second.later == ()


def test_a_benchmark_makes_nothing_else_stale(tmp_path: Path, pairs: str) -> None:
    """A benchmark may be added to a finished run, changed, or removed: only its own judgments are made again."""
    without = fingerprints(Run(config(tmp_path)))
    with_pairs = fingerprints(Run(config(tmp_path, f"benchmarks=[{pairs}]")))
    assert {name: key for name, key in with_pairs.items() if not name.startswith("benchmarks_")} == without
    pairs_file(tmp_path / "pairs.jsonl", 21)
    changed = fingerprints(Run(config(tmp_path, f"benchmarks=[{pairs}]")))
    assert {name for name in changed if changed[name] != with_pairs[name]} == {f"benchmarks_{k}/pairs" for k in range(3)}


@pytest.mark.slow
@pytest.mark.parametrize("override", ["judge.parser=strict", "heldout.decoding.max_tokens=99", "models.seed.max_model_len=999"])
def test_what_changes_the_judgments_of_a_benchmark_is_in_its_key(tmp_path: Path, pairs: str, override: str) -> None:
    words = [f"benchmarks=[{pairs}]"]
    before, after = (fingerprints(Run(config(tmp_path, *words, *more))) for more in ([], [override]))
    assert before["benchmarks_0/pairs"] != after["benchmarks_0/pairs"]


def test_a_benchmark_is_judged_whole(tmp_path: Path, pairs: str) -> None:
    run = Run(config(tmp_path, f"benchmarks=[{pairs}]", "heldout.limit=3"))
    [phase] = run.benchmark_phases(0)
    assert sum(1 for _ in phase.ref.rows(None)) == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("[rewardbnech]", "benchmarks: 'rewardbnech': no such benchmark (did you mean 'rewardbench'?)"),
        ("[pairs]", "'pairs' is not on the hub: give its file"),
        ("[pairs:{}/no.jsonl]", "benchmarks: pairs={}/no.jsonl: no such file"),
        ("[rewardbench,rewardbench]", "benchmarks: rewardbench: named twice"),
        ("['']", "benchmarks holds an empty name"),
    ],
)
def test_bad_words_are_one_line(tmp_path: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(MINI), f"run_root={tmp_path}/run", f"benchmarks={words.format(tmp_path)}"]
    for verb in (["plan"], ["run"]):
        assert main([*verb, *given]) == 2
        error = capsys.readouterr().err
        assert message.format(tmp_path) in error
        assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_check_before_a_run_reads_each_file_whole(tmp_path: Path, pairs: str) -> None:
    good = config(tmp_path, f"benchmarks=[{pairs},rewardbench]")
    [finding] = [finding for finding in input_findings(good, hub=False) if finding.subject == "benchmarks"]
    assert finding.ok
    assert finding.words == "pairs 20 rows, rewardbench on the hub"
    for unused in ("votes=5", "prompt=arena"):
        [finding] = [
            finding
            for finding in input_findings(config(tmp_path, f"benchmarks=[{pairs}]", unused), hub=False)
            if finding.subject == "benchmarks"
        ]
        assert finding.words == f"pairs 20 rows; {unused} is for `stj eval` alone: a run asks without votes, with figure8"
    (tmp_path / "bad.jsonl").write_text('{"instruction": "a", "chosen": "b"}\n')
    [finding] = [
        finding
        for finding in input_findings(config(tmp_path, f"benchmarks=[pairs:{tmp_path}/bad.jsonl]"), hub=False)
        if finding.subject == "benchmarks"
    ]
    assert not finding.ok


def judged(rows: Iterator[Row], right: int) -> list[Row]:
    """The rows judged greedily: the first `right` of them right in both orders, the others A in both."""
    made = []
    for number, row in enumerate(rows):
        verdicts = [(label, label if number < right else "A") for label in LABELS]
        purpose = "sampled" if row.task == HELDOUT else "greedy"
        judgments = tuple(
            Judgment(
                purpose=purpose,  # type: ignore[arg-type]
                winner=label,
                index=0,
                text=f"[[{verdict}]]",
                verdict=verdict,
                finish_reason="stop",
                output_tokens=1,
            )
            for label, verdict in verdicts
        )
        made.append(Row(**{**vars(row), "judgments": judgments}))
    return made


def judge_with(phase: PassPhase | BenchmarkPhase, right: int) -> None:
    """Writes the artifact of a phase as its pass would."""
    rows = phase.ref.rows(None) if isinstance(phase, BenchmarkPhase) else read_heldout(phase.config.heldout)
    phase.artifact.begin()
    phase.artifact.write_part("part", rows_to_table(judged(rows, right)))
    phase.artifact.finish()
    if isinstance(phase, BenchmarkPhase):
        phase.clean_up()


@pytest.fixture
def measured(tmp_path: Path, pairs: str) -> Run:
    """A run whose three judges get 5, 9 and 20 of 20 pairs right in both orders, and 0, 60 and 100 held-out pairs."""
    roles = ["models.generator.path=org/other", OTHER]
    run = Run(config(tmp_path, f"benchmarks=[{pairs}]", "heldout.limit=120", *roles))
    for judge, (right, heldout) in enumerate([(5, 0), (9, 60), (20, 100)]):
        for phase in run.benchmark_phases(judge):
            judge_with(phase, right)
        if judge != 1:  # M_1 judges the held-out pairs beside the training pairs.
            measuring = run.heldout_phase(judge)
            assert measuring is not None
            judge_with(measuring, heldout)
    return run


@pytest.mark.slow
def test_the_report_compares_each_judge_with_the_one_before_and_with_m_0(measured: Run) -> None:
    first, second, third = RunSummary.of(measured).judges
    report = third.benchmarks["pairs"]
    assert (report.judged, report.unjudged, report.error) == (20, 0, None)
    assert report.scores is not None
    assert report.scores.accuracy == 1.0
    assert first.benchmarks["pairs"].comparisons == ()
    assert [compared.against for compared in second.benchmarks["pairs"].comparisons] == ["M_0"]
    before, start = report.comparisons
    assert (before.against, before.only_a, before.only_b, before.difference) == ("M_1", 0, 11, pytest.approx(11 / 40))
    assert (start.against, start.only_a, start.only_b, start.difference) == ("M_0", 0, 15, pytest.approx(15 / 40))
    assert start.ci95[0] <= start.difference <= start.ci95[1]
    [on_heldout] = third.heldout_comparisons  # M_1 was not measured there.
    assert (on_heldout.against, on_heldout.examples, on_heldout.only_b) == ("M_0", 120, pytest.approx(on_heldout.only_b))
    assert second.heldout is None


@pytest.mark.slow
def test_the_comparisons_are_those_of_stj_compare(measured: Run) -> None:
    third = RunSummary.of(measured).judges[2]
    folders = [f"{measured.folder.uri}/benchmarks_{judge}/pairs" for judge in (1, 2)]
    [compared] = compare_evaluations(*folders)
    reported = third.benchmarks["pairs"].comparisons[0]
    names = ("examples", "units", "difference", "ci95", "only_a", "only_b", "mcnemar_p")
    assert [getattr(reported, name) for name in names] == [getattr(compared, name) for name in names]
    assert (reported.against, reported.conclusion, compared.conclusion) == ("M_1", "M_2 is better", "B is better")


def test_the_tables_fit_and_the_page_shows_the_comparisons(measured: Run) -> None:
    judges = RunSummary.of(measured).judges
    text = "\n".join(map(str, tables(judges)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert [line.split()[0] for line in text.splitlines() if "McNemar" in line or line.startswith("pairs")][-1] == "pairs"
    page = html({}, judges)
    for words in ("Against the judge before, and against M_0", "+37.5 <i>[", "<td>15</td><td>0</td>"):
        assert words in page


@pytest.mark.slow
def test_what_cannot_be_scored_has_its_reason_in_the_report(measured: Run) -> None:
    phase = measured.benchmark_phases(0)[0]
    phase.artifact.folder.remove()
    phase.artifact.begin()
    phase.artifact.write_part("part", rows_to_table(row.drop("prompt_too_long") for row in phase.ref.rows(None)))
    phase.artifact.finish()
    first, second, _ = RunSummary.of(measured).judges
    assert first.benchmarks["pairs"].error
    assert second.benchmarks["pairs"].comparisons == ()
    assert "pairs by M_0 is not scored: " in tables([first, second])[-1].note.replace("\n  ", " ")
    assert "not scored: " in html({}, [first, second])


@pytest.mark.slow
def test_a_benchmark_whose_judgments_hold_no_verdict_is_not_a_silent_zero(measured: Run) -> None:
    phase = measured.benchmark_phases(0)[0]
    phase.artifact.folder.remove()
    phase.artifact.begin()
    rows = [
        replace(row, judgments=tuple(replace(judgment, text="Not sure.", verdict=None) for judgment in row.judgments))
        for row in judged(phase.ref.rows(None), 20)
    ]
    phase.artifact.write_part("part", rows_to_table(rows))
    phase.artifact.finish()
    first, second, _ = RunSummary.of(measured).judges
    assert first.benchmarks["pairs"].scores is not None
    assert first.benchmarks["pairs"].scores.accuracy == 0.0
    warning = "WARNING distinct: 40 of 40 judgments hold no verdict in the format figure8"
    assert f"pairs by M_0: {warning}" in tables([first, second])[-1].note.replace("\n  ", " ")
    assert warning in html({}, [first, second])
    assert f"0.0% right [0.0, 16.8]; {warning}" in phase.summary()
    assert second.benchmarks["pairs"].notes == ()


def test_held_out_pairs_by_the_name_of_a_benchmark(tmp_path: Path, pairs: str) -> None:
    named = HeldoutConfig(path=pairs, limit=7)
    rows = list(read_heldout(named))
    assert len(rows) == count_heldout(named) == 7
    assert {row.task for row in rows} == {HELDOUT}
    assert all(row.id.startswith("heldout/pairs/") for row in rows)
    run = Run(config(tmp_path, f"heldout.path={pairs}"))
    assert run.pairs.count_inputs() is not None
    assert str(tmp_path / "pairs.jsonl") in [place.location.partition(":")[2] for place in kept_out(run.config)]
    assert count_heldout(HeldoutConfig(path="rewardbench")) == 2985
    with pytest.raises(ConfigError, match=r"heldout\.path=rewardbench2: held-out pairs have two answers"):
        read_heldout(HeldoutConfig(path="rewardbench2"))
    with pytest.raises(SourceError, match="no such file"):
        count_heldout(HeldoutConfig(path=f"pairs:{tmp_path}/no.jsonl"))


@pytest.mark.parametrize("word", ["headline", "headline:mine.jsonl"])
def test_a_group_of_benchmarks_is_refused_where_one_is_needed(word: str, tmp_path: Path) -> None:
    words = (
        rf"heldout\.path={word}: 'headline' stands for several benchmarks, .*: name one of ppe-human, .*rmbench.*\./headline"
    )
    with pytest.raises(ConfigError, match=words):
        Run(config(tmp_path, f"heldout.path={word}"))
    with pytest.raises(ConfigError, match=words):
        count_heldout(HeldoutConfig(path=word))
    with pytest.raises(ConfigError, match=r"source\.keep_out=headline:mine.jsonl: 'headline' stands for several benchmarks"):
        Run(config(tmp_path, "source.keep_out=[headline:mine.jsonl]"))


def test_a_benchmark_is_kept_out_by_its_name_and_its_content_is_in_the_key(tmp_path: Path, pairs: str) -> None:
    thirteen = "one two three four five six seven eight nine ten eleven twelve thirteen"
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"instruction": thirteen, "chosen": "a", "rejected": "b"}))
    (tmp_path / "source.jsonl").write_text(f"{json.dumps({'instruction': f'Count: {thirteen}'})}\n")
    given = [f"source.path={tmp_path}/source.jsonl", "source.kind=instructions", f"source.keep_out=[{pairs},rewardbench]"]
    both = Run(config(tmp_path, *given)).config
    assert len(places_identity(kept_out(both))) == 3  # The held-out pairs too.
    only = Run(config(tmp_path, *given[:2], f"source.keep_out=[{pairs}]"))
    [row] = read_training(only.config, only.pairs.parts, None)
    assert row.dropped == "benchmark_overlap"
    group = Run(config(tmp_path, *given[:2], "source.keep_out=[headline]", "heldout.path=null")).config
    assert len(kept_out(group)) == len(BENCHMARK_GROUPS["headline"])
