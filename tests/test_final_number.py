"""The number that an answer comes to."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.final_number import final_number
from tests.cpu_time import in_proportion

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", "18"),
        ("#### 1,200", "1200"),
        ("#### $1,200.50", "1200.5"),
        ("#### -3", "-3"),
        ("#### −3", "-3"),
        ("so it is 18 dollars.", "18"),
        ("so it is **18**.", "18"),
        ("18 apples, 20 pears", "20"),
        (r"\boxed{18} out of 20", "18"),
        (r"first \boxed{7}, no: \boxed{8}", "8"),
        ("#### 5\nwait\n#### 6", "6"),
        ("It costs 3.50", "3.5"),
        ("It costs $.50", "0.5"),
        ("about 50%", "50"),
        ("10, 20", "20"),
        ("10,20", None),
        ("x1 is v2 of GPT-4o", None),
        ("#### none of 3", "3"),
        ("#### 18 dollars", "18"),
        ("#### **18**", "18"),
        ("#### Step 1: Add\n2+3 = 5\n\n#### Step 2: Double\n5*2 = 10\n\nThe answer is 10.", "10"),
        ("#### Final Answer\n42", "42"),
        ("He has 10 boxes, so they weigh 20kg.", "20"),
        ("3 laps, that is 5km", "5"),
        ("45min", "45"),
        (r"\boxed{\frac{1}{2}}", None),
        (r"7 and \boxed{x}", None),
        (r"\boxed{\$1,200}", "1200"),
        (r"\boxed{20\text{ kg}}", "20"),
        (r"\boxed{50\%}", "50"),
        ("$282 000", None),
        ("He eats 3/4", None),
        ("at 10:30", None),
        ("2^10", None),
        ("on the 3rd", None),
        ("5 on the 3rd", "5"),
        ("1.2.3", None),
        ("#### none", None),
        ("", None),
        ("no number", None),
        ("1e5", None),
    ],
)
def test_it_is_marked_or_the_last_one(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


@given(NUMBERS, st.text(alphabet="abc .\n", max_size=20))
def test_any_way_to_write_a_number_is_that_number(number: Decimal, words: str) -> None:
    for written in (f"{number:f}", f"{number:,f}", f"{number:f}00", f"${number:,f}" if number >= 0 else f"{number:f}"):
        assert final_number(f"{words} 7 or #### {written}") == number
        assert final_number(f"7 {words} {written}") == number


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    number = final_number(text)
    assert number is None or number.is_finite()


@pytest.mark.parametrize("part", ["1", "1,", "1,234", "####", "$", ".", "-", r"\boxed{", "1.", "x1", "1,2345"])
def test_it_takes_linear_time(part: str) -> None:
    short, long = (part * (size // len(part)) + "!" for size in (4_000, 64_000))
    assert in_proportion(final_number, short, long, times=16)
