"""How the killer judges the end of a driver, and what the report counts; nothing runs in these tests."""

from pathlib import Path
from typing import Any

import pytest

from stj.config_loader import load
from tests.chaos.killer import CONFS, TWO_WORKERS, Course, Killer, Strike
from tests.chaos.plan import Fault, Kind, Plan, plan_of
from tests.chaos.report import HEAD, Result, Work, as_json, table

WORK = Work(rows=40, tokens=900, steps=0, drivers=1, engines=2, ranks=4)


class FakeCluster:
    """Counts its restarts."""

    address, raylets = "127.0.0.1:1", (1,)

    def __init__(self) -> None:
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1


def fault(kind: Kind) -> Fault:
    return Fault(kind=kind, place="pairs", share=0.5, delay_s=0, victim=0)


def judge(tmp_path: Path, kind: Kind | None, code: int, output: str = "") -> tuple[bool, list[str], FakeCluster]:
    """Whether another driver is needed after this end, the problems that were noted, and the cluster."""
    cluster: Any = FakeCluster()
    killer = Killer(plan_of(0), cluster, tmp_path)
    killer.course.drivers = 1
    killer._struck = fault(kind) if kind else None
    return killer._judge_end(code, output), killer.course.problems, cluster


@pytest.mark.parametrize(("kind", "code"), [("driver", -9), ("stop", 143), ("head", 1)])
def test_a_driver_that_was_struck_is_started_again(kind: Kind, code: int, tmp_path: Path) -> None:
    again, problems, cluster = judge(tmp_path, kind, code, "stj: it is gone; run the same command again")
    assert (again, problems, cluster.restarts) == (True, [], kind == "head")


@pytest.mark.parametrize("kind", [None, "driver", "stop", "head"])
def test_a_driver_that_succeeds_ends_the_run(kind: Kind | None, tmp_path: Path) -> None:
    assert judge(tmp_path, kind, 0)[:2] == (False, [])


@pytest.mark.parametrize(
    ("kind", "code", "problem"),
    [
        (None, 1, "driver 1 (not struck) ended with code 1: stj: it is lost"),
        ("stop", 1, "driver 1 (stop) ended with code 1: stj: it is lost"),
        ("driver", -9, "driver 1 (driver) ended with code -9 and did not say how to go on: stj: it is lost"),
        ("head", 1, "driver 1 (head) ended with code 1 and did not say how to go on: stj: it is lost"),
    ],
)
def test_any_other_end_is_a_problem_and_the_run_goes_on(kind: Kind | None, code: int, problem: str, tmp_path: Path) -> None:
    assert judge(tmp_path, kind, code, "pairs: 1 row\nstj: it is lost\n\n")[:2] == (True, [problem])


def test_another_code_than_that_of_the_signal_is_a_problem(tmp_path: Path) -> None:
    _, problems, _ = judge(tmp_path, "head", -6, "stj: it is gone; run the same command again")
    assert problems == ["driver 1 (head) ended with code -6: stj: it is gone; run the same command again"]


def test_a_traceback_is_a_problem_even_if_the_driver_was_struck(tmp_path: Path) -> None:
    _, problems, _ = judge(
        tmp_path, "head", 1, "Traceback (most recent call last):\n  run the same command again\nOSError: gone\n"
    )
    assert problems == ["driver 1 (head) printed a traceback; its last line: OSError: gone"]


def test_a_driver_that_ends_by_itself_again_and_again_is_given_up(tmp_path: Path) -> None:
    cluster: Any = FakeCluster()
    killer = Killer(plan_of(0), cluster, tmp_path)
    assert [killer._judge_end(1, "") for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("settings", [[], TWO_WORKERS])
def test_the_run_is_two_iterations_with_the_same_texts_each_time(settings: list[str]) -> None:
    config = load(CONFS, settings)
    assert config.iterations == 2
    assert config.engine.deterministic
    assert config.models.seed.tensor_parallel_size == (2 if settings else 1)


def result(seed: int, struck: bool = True, wrong: tuple[str, ...] = ()) -> Result:
    strike = Strike(fault=fault("node"), struck=struck, note="machine 7", at_s=3.0)
    course = Course(strikes=[strike], drivers=2, wall_s=150.0)
    plan = Plan(seed=seed, two_workers=False, faults=(strike.fault,))
    again = Work(rows=47, tokens=850, steps=3, drivers=2, engines=3, ranks=4).over(WORK)
    return Result(plan=plan, course=course, again=again, calm_s=100.0, violations=list(wrong))


def test_the_report_counts_faults_work_and_time_and_names_what_is_wrong() -> None:
    results = [result(0), result(1, struck=False), result(2, wrong=("pairs: 1 rows lost: c1",))]
    facts = as_json(results)
    assert facts["faults"]["node"] == 2
    assert facts["without_victim"] == 1
    assert facts["again"] == {"rows": 21, "tokens": 0, "steps": 9, "drivers": 3, "engines": 3, "ranks": 0}
    assert facts["slowdown"] == {"median": 1.5, "most": 1.5}
    assert (facts["seeds"], facts["passed"]) == (3, 2)
    lines = table(results).splitlines()
    assert "2 of 3 seeds passed" in lines
    assert lines[-1] == "seed 2: pairs: 1 rows lost: c1"
    assert results[0].line().split() == ["0", "1", "0", "7", "0", "3", "1", "1", "0", "150", "1.50", "passed"]
    assert len(HEAD.splitlines()[1].split()) == len(results[0].line().split())
