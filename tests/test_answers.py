"""Answers against references: which number a text says, and what is refused as a reference."""

from fractions import Fraction

import pytest

from refusal_cliff.answers import final_number, is_correct, reference_number
from refusal_cliff.errors import UserError


@pytest.mark.parametrize(
    ("response", "reference", "match", "correct"),
    [
        ("The capital is PARIS.", "Paris", "contains", True),
        ("Parisian", "Paris", "contains", False),
        ("It costs $5.", "$5", "contains", True),
        ("3 and 4 make 1,007.", "1007", "number", True),
        ("-2.50", "-2.5", "number", True),
        ("1007 or 8", "1007", "number", False),
        ("no number", "1", "number", False),
        (r"So it is \boxed{$9{,}500}.", "9500", "number", True),
        (r"\boxed{18}, 3 more than 15", "18", "number", True),
        (r"\boxed{1} and then \boxed{2}", "2", "number", True),
        (r"\boxed{none}", "1", "number", False),
        ("half of it: 0.5", "1/2", "number", True),
        ("0.33", "1/3", "number", False),
        ("16 - 3 - 4 = 9", "9", "number", True),
        ("between 10-4", "4", "number", True),
    ],
)
def test_reference_match(response, reference, match, correct):
    assert is_correct(response, reference, match) is correct


def test_unknown_match_is_an_error():
    with pytest.raises(UserError, match="contains or number"):
        is_correct("a", "a", "fuzzy")


def test_a_reference_that_is_no_number_is_no_traceback():
    with pytest.raises(UserError, match="'many' is no number"):
        is_correct("5", "many", "number")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("18.0", 18),
        (" 1,234 ", 1234),
        ("1,234,567.5", Fraction("1234567.5")),
        ("9{,}500", 9500),
        (r"9,\!500", 9500),
        ("-5", -5),
        ("\u22125", -5),
        (".5", Fraction(1, 2)),
        ("1/2", Fraction(1, 2)),
        ("-1/2", Fraction(-1, 2)),
        ("3 4/5", Fraction(19, 5)),
        (r"\frac{1}{2}", Fraction(1, 2)),
        (r"-\dfrac{1}{2}", Fraction(-1, 2)),
        (r"\frac12", Fraction(1, 2)),
        (r"3\frac{4}{5}", Fraction(19, 5)),
        ("1e3", 1000),
        ("1.5e-3", Fraction(3, 2000)),
        (r"2 \times 10^{5}", 200_000),
        ("3 * 10^-2", Fraction(3, 100)),
        ("$42", 42),
        ("-$42", -42),
        (r"\$42.50", Fraction("42.5")),
        ("€5", 5),
        ("42 dollars", 42),
        ("60 miles/hour", 60),
        ("50%", 50),
        (r"50\%", 50),
        (r"5\text{ m}", 5),
        ("5 million", 5_000_000),
        ("$18$", 18),
        (r"\(18\)", 18),
        (r"\boxed{42}", 42),
        ("3 * 6 = 18\n#### 1,018", 1018),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_references_and_answers_are_read_alike(text, value):
    assert reference_number(text) == value
    assert final_number(f"I count again, from 7 on. The answer is {text.strip()}.") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "twelve",
        "5 and 6",
        "5 or more",
        "1,2",
        "1 234",
        "1.234,5",
        "10:30",
        "2024-01-05",
        "x = 5",
        r"2\pi",
        r"2\sqrt{3}",
        "2x",
        "5k",
        "3 dozen",
        "10^20",
        "5 m^2",
        "5/0",
        "1e9999",
        "nan",
        "inf",
        "7" * 5000,
        "5 of those that were there",
    ],
)
def test_what_is_not_one_number_is_refused_as_a_reference(text):
    with pytest.raises(UserError, match="is no number; write it like"):
        reference_number(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The area is 5 m^2", 5),
        ("a speed of 5 m s^{-2}", 5),
        ("答案是-5", -5),
        ("**$9,500**", 9500),
        ("x=-5", -5),
        ("room 3-4", 4),
        ("3.14.15", Fraction("3.14")),
        ("5/0", None),
        ("8" * 100_000, None),
        ("", None),
    ],
)
def test_the_number_that_a_response_ends_with(text, value):
    assert final_number(text) == value
