"""Estimates and their intervals."""

import numpy as np
import pytest
from scipy.stats import bootstrap

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


def test_means_of_columns_are_missing_where_no_row_has_a_cell():
    rows = np.array([[np.nan, 0.5, 0.0], [np.nan, 0.5, 1.0], [np.nan, np.nan, 1.0]])
    nowhere, equal, varied = stats.bootstrap_means(rows, seed=0)
    assert np.isnan(nowhere[:3]).all()
    assert nowhere.n == 0
    assert equal == (0.5, 0.5, 0.5, 2)
    assert varied.value == pytest.approx(2 / 3)
    assert varied.low < varied.value < varied.high
    _, single, _ = stats.bootstrap_means(rows[:1], seed=0)
    assert single.value == 0.5
    assert np.isnan(single.low)
    assert stats.bootstrap_mean([], seed=0).n == 0


def test_a_mean_is_one_of_the_means_of_columns():
    rows = np.random.default_rng(0).exponential(size=(40, 3))
    together = stats.bootstrap_means(rows, seed=3)
    for found, column in zip(together, rows.T, strict=True):
        assert found == pytest.approx(stats.bootstrap_mean(column, seed=3))
    # Skewed values have a skewed interval, as the library's percentile bootstrap says too.
    library = bootstrap((rows[:, 0],), np.mean, method="percentile", n_resamples=20000, rng=0).confidence_interval
    assert together[0][1:3] == pytest.approx(tuple(library), rel=0.02)


def test_no_change_in_a_few_pairs_is_not_certainty():
    few, many = (stats.paired_difference(np.ones(n), np.ones(n), seed=0) for n in (10, 1000))
    assert few.value == many.value == 0
    assert few.high > 0.2 > 0.01 > many.high


def test_widening_stays_within_the_bounds_and_touches_nothing_that_varies():
    assert stats.share_interval(1.0, np.ones(9), 10) == (pytest.approx(1 - stats.wilson(0, 10)[1]), 1.0)
    assert stats.share_interval(-0.9, np.full(9, -0.9), 10, -1.0, 1.0)[0] == -1.0
    varied = np.linspace(0.2, 0.4, 101)
    assert stats.share_interval(0.3, varied, 10) == pytest.approx((0.205, 0.395))


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
    scores, truth = [1, 2, 0, 1], [True, True, False, False]
    assert stats.grouped_auroc(scores, truth, range(4), seed=0).value == pytest.approx(0.875)
    found = stats.grouped_auroc([*range(5, 25), *range(20)], np.repeat([True, False], 20), range(40), seed=0)
    assert found.low < found.value < found.high
    missing = stats.grouped_auroc([1.0, 2.0], [False, False], ["a", "a"], seed=0)
    assert np.isnan(missing[:3]).all()
    assert missing.n == 1
    one = stats.grouped_auroc(np.arange(5.0), np.arange(5) == 4, range(5), seed=0)
    assert one.value == 1
    assert np.isnan([one.low, one.high]).all()


def test_auroc_agrees_with_sklearn_and_counts_groups():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.4
    scores = (rng.normal(size=60) + truth).round(1)
    alone = stats.grouped_auroc(scores, truth, np.arange(60), seed=0)
    assert alone.value == pytest.approx(roc_auc_score(truth, scores))
    # The same observations four times over say no more than once.
    fourfold = stats.grouped_auroc(*(np.tile(column, 4) for column in (scores, truth, np.arange(60))), seed=0)
    assert fourfold == pytest.approx(alone)


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=20)
    low, high = stats.jackknife_interval(values.mean(), (values.sum() - values) / 19)
    reach = 2.093 * values.std(ddof=1) / np.sqrt(20)  # t with 19 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=1e-3)
    assert np.isnan(stats.jackknife_interval(0.5, [])).all()
    assert np.isnan(stats.jackknife_interval(0.5, [0.4, np.nan])).all()


def test_the_mean_over_seeds_is_as_sure_as_seeds_and_their_intervals_allow():
    error = 0.1 / 1.96
    alike = [stats.Estimate(0.5, 0.4, 0.6, 30)] * 4
    found, _ = stats.nested_bootstrap(alike, seed=0)
    assert (found.value, found.n) == (0.5, 120)
    assert found.high - found.value == pytest.approx(1.96 * error / 2, rel=0.06)  # no spread: four times the prompts
    apart = [stats.Estimate(value, value - 0.1, value + 0.1, 30) for value in (0.2, 0.4, 0.6, 0.8)]
    found, draws = stats.nested_bootstrap(apart, seed=0)
    assert draws.std() == pytest.approx(np.sqrt((np.var([0.2, 0.4, 0.6, 0.8]) + error**2) / 4), rel=0.06)


def test_seeds_without_an_interval_are_points():
    points = [stats.Estimate(value, np.nan, np.nan, 1) for value in (0.0, 1.0)]
    found, draws = stats.nested_bootstrap(points, seed=0)
    assert set(draws) == {0.0, 0.5, 1.0}
    assert found == (0.5, 0.0, 1.0, 2)


def test_the_interval_over_seeds_holds_their_mean_where_no_seed_can_be_lower():
    found, draws = stats.nested_bootstrap([stats.Estimate(0.0, 0.0, 0.06, 60)] * 8, seed=0)
    assert np.quantile(draws, 0.025) > 0
    assert (found.value, found.low) == (0, 0)
    assert 0.02 < found.high < 0.06


def test_one_seed_keeps_its_interval_and_has_as_many_draws_beyond_it_as_belong_there():
    own = stats.Estimate(0.3, 0.25, 0.5, 60)
    found, draws = stats.nested_bootstrap([own], seed=3)
    assert found == own
    assert np.mean(draws < 0.25) == np.mean(draws > 0.5) == 0.025
