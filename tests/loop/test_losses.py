"""The loss curves of a report: few points however many steps, and plots that no loss breaks."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from stj.loop.report.loss_plot import loss_plot, shared_range
from stj.loop.report.losses import Curve, Losses, Training, curve_of
from stj.train.metrics import StepMetrics, read_metrics

ANY_LOSS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e300, -1e15, 0.7, 0.7])


def steps(losses: list[float]) -> list[StepMetrics]:
    return [
        StepMetrics(step=number, epoch=0, loss=loss, preferred=None, lr=1e-6, grad_norm=1.0, tokens_per_s=100.0 + number)
        for number, loss in enumerate(losses, 1)
    ]


def coordinates(svg: str) -> list[tuple[float, float]]:
    """The points of the line and of the band."""
    root = ElementTree.fromstring(svg)
    texts = [shape.attrib["points"] for shape in root.iter() if "points" in shape.attrib]
    return [(float(x), float(y)) for text in texts for x, y in re.findall(r"(\S+),(\S+)", text)]


@given(st.lists(ANY_LOSS, min_size=1, max_size=120))
def test_any_losses_give_a_curve_inside_its_frame(losses: list[float]) -> None:
    curve = curve_of(steps(losses))
    assert curve
    assert curve.steps == len(losses)
    finite = [loss for loss in losses if math.isfinite(loss) and abs(loss) <= 1e15]
    assert curve.unfinite == len(losses) - len(finite)
    if not finite:
        assert (curve.points, curve.lowest) == ((), None)
        return
    assert len(curve.points) == min(40, len(finite))
    assert curve.lowest == min(finite) == min(point.low for point in curve.points)
    assert max(finite) == max(point.high for point in curve.points)
    drawn = coordinates(loss_plot(curve.points, curve.steps, shared_range(curve.points), "a curve", chosen=1))
    assert len(drawn) == 3 * len(curve.points)
    assert all(48 <= x <= 318 and 12 <= y <= 170 for x, y in drawn)


def test_a_single_step_and_equal_losses_lie_in_the_middle() -> None:
    for losses in ([0.5], [0.0, 0.0], [-3.0] * 50):
        curve = curve_of(steps(losses))
        assert curve
        drawn = coordinates(loss_plot(curve.points, curve.steps, shared_range(curve.points), "a curve"))
        assert {y for _, y in drawn} == {91.0}


def test_of_a_step_that_comes_twice_the_last_counts_and_damaged_lines_do_not() -> None:
    lines = read_metrics(
        "".join(
            f'{{"step": {step}, "epoch": 0, "loss": {loss}, "preferred": 0.5, "lr": 0, "grad_norm": 1, "tokens_per_s": 9}}\n'
            for step, loss in ((1, "3"), (2, "2"), (2, "1"), (3, '"none"'), (4, "NaN"))
        )
        + '{"step": 5\n{"step": 6, "loss"'
    )
    curve = curve_of(list(lines))
    assert curve
    assert [point.mean for point in curve.points] == [3, 1]
    assert (curve.steps, curve.unfinite, curve.first_unfinite, curve.preferred) == (4, 1, 4, 0.5)
    assert curve_of([]) is None


def training(phase: str, losses: list[float] | None, objective: str = "sft") -> Training:
    return Training(
        phase=phase,
        judge="M_1",
        objective=objective,
        examples=9,
        epochs=1,
        steps=None if losses is None else len(losses),
        tokens=None,
        loss_first=None,
        loss_last=0.1,
        seconds=None,
        curve=None if losses is None else curve_of(steps(losses)),
    )


def test_trainings_of_one_objective_share_their_axis() -> None:
    def ticks(page: str) -> list[list[str]]:
        return [re.findall(r'text-anchor="end">([\d.]+)</text>', plot) for plot in page.split("<figure>")[1:]]

    page = Losses(
        trainings=(training("a", [4.0, 1.0]), training("b", [0.5, 0.4]), training("c", [40.0, 30.0], objective="dpo"))
    ).html()
    first, second, other = ticks(page)
    assert first[:-1] == second[:-1]  # The last is the number of steps.
    assert first != other
    assert 'aria-label="loss of a over 2 steps: from 4 to 1, lowest 1 at step 2"' in page


def test_what_is_missing_is_said_to_be_missing() -> None:
    spiked = training("spiked", [1.0, math.nan, 0.5])
    page = str(Losses(trainings=(training("gone", None), spiked, replace(spiked, phase="earlier", steps=1))).html())
    assert "gone: the losses of its steps are missing" in page
    assert "spiked</b>: steps without a finite loss: 1, the first is step 2" in page
    assert page.count('class="middle"') == 1  # where the checkpoint was kept
    assert "<td>0</td>" not in page
    assert Losses().html() == ""


def test_a_curve_of_many_steps_has_few_points() -> None:
    curve = curve_of(steps([1 + 1 / number for number in range(1, 5001)]))
    assert isinstance(curve, Curve)
    assert len(curve.points) == 40
    assert [point.mean for point in curve.points] == sorted((point.mean for point in curve.points), reverse=True)
