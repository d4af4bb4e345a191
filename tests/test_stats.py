"""Estimates and their intervals."""

import numpy as np
import pytest

from refusal_cliff import stats


def test_wilson_matches_its_closed_form():
    # Wilson (1927) for 8 of 10 at z = 1.96: 0.490 to 0.943.
    assert stats.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_share_without_observations_is_missing_not_zero():
    assert np.isnan(stats.share(0, 0).value)
    assert np.isnan(stats.wilson(0, 0)).all()


def test_bootstrap_interval_covers_the_mean_and_is_seeded():
    values = np.random.default_rng(0).normal(1, 1, 80)
    estimate = stats.bootstrap_mean(values, seed=1)
    assert estimate.low < values.mean() < estimate.high
    assert estimate.high - estimate.low == pytest.approx(4 / np.sqrt(80), rel=0.25)
    assert estimate == stats.bootstrap_mean(values, seed=1)


@pytest.mark.parametrize(("values", "interval"), [([0.3], (np.nan, np.nan)), ([0.3, 0.3], (0.3, 0.3))])
def test_bootstrap_of_values_that_do_not_vary(values, interval):
    estimate = stats.bootstrap_mean(values, seed=0)
    assert (estimate.low, estimate.high) == pytest.approx(interval, nan_ok=True)


def test_band_is_narrow_where_curves_agree_and_missing_where_none_has_a_position():
    curves = np.array([[np.nan, 0.5, 0.0], [np.nan, 0.5, 1.0], [np.nan, np.nan, 1.0]])
    mean, low, high = stats.bootstrap_band(curves, seed=0)
    assert np.isnan([mean[0], low[0], high[0]]).all()
    assert (mean[1], low[1], high[1]) == (0.5, 0.5, 0.5)
    assert mean[2] == pytest.approx(2 / 3)
    assert low[2] < mean[2] < high[2]


def test_no_change_in_a_few_pairs_is_not_certainty():
    few, many = (stats.paired_difference(np.ones(n), np.ones(n), seed=0) for n in (10, 1000))
    assert few.value == many.value == 0
    assert few.high > 0.2 > 0.01 > many.high


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(0)
    before = rng.uniform(size=200)
    after = before - 0.1 + rng.normal(0, 0.01, 200)
    assert (
        stats.paired_difference(before, after, seed=0).high - stats.paired_difference(before, after, seed=0).low < 0.01
    )


def test_mcnemar_is_the_exact_binomial_test_on_discordant_pairs():
    before, after = [True] * 5 + [False] * 5, [False] * 10
    assert stats.mcnemar(before, after) == pytest.approx(2 * 0.5**5)
    assert stats.mcnemar(before, before) == 1.0


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert len(stats.holm([])) == 0


def test_auroc_counts_ties_half_and_knows_a_missing_class():
    assert stats.auroc([1, 2], [0, 1], seed=0)[0] == pytest.approx(0.875)
    value, low, high = stats.auroc(np.arange(20) + 5, np.arange(20), seed=0)
    assert low < value < high
    assert np.isnan(stats.auroc([], [1.0], seed=0)).all()
