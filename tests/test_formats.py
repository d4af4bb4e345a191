"""Numbers as people read them."""

import numpy as np
import pytest

from refusal_cliff import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.456, "0.46"), (-0.001, "0.00"), (-0.456, "-0.46"), (9.996, "10"), (12.34, "12.3"), (np.nan, "")],
)
def test_estimates_stand_below_one_another_and_zero_has_no_sign(value, text):
    assert formats.estimate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.45678, "0.457"), (-0.0, "0"), (0.00012345, "0.000123"), (12345.6, "1.23e+04"), (1, "1"), (np.nan, "")],
)
def test_numbers_of_any_size_keep_three_digits(value, text):
    assert formats.number(value) == text


def test_an_interval_stands_behind_its_estimate_where_there_is_one():
    assert formats.interval(0.5, -0.001, 0.75) == "0.50 [0.00, 0.75]"
    assert formats.interval(0.5, np.nan, np.nan) == "0.50"
