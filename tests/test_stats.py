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


def cluster_shares(rng, share, likeness, groups=36, size=4):
    """Yes and no of members of groups whose shares vary by a beta distribution: a correlation of `likeness` within."""
    spread = 1 / likeness - 1
    shares = rng.beta(share * spread, (1 - share) * spread, groups)
    return (rng.random((groups, size)) < shares[:, None]).astype(float)


@pytest.mark.parametrize(("share", "likeness"), [(0.46, 0.6), (0.1, 0.6), (0.9, 0.3)])
def test_the_interval_of_a_share_covers_it_where_prompts_share_requests(share, likeness):
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(36), 4)
    covered = []
    for _ in range(600):
        values = cluster_shares(rng, share, likeness).ravel()
        _, low, high, _ = stats.grouped_share(values, groups)
        plain = stats.wilson(values.sum(), 144)
        covered.append((low < share < high, plain[0] < share < plain[1]))
    grouped, plain = np.mean(covered, axis=0)
    assert grouped > 0.93
    assert plain < 0.87


def test_a_share_of_independent_prompts_keeps_its_wilson_interval():
    rng = np.random.default_rng(0)
    values = rng.random(144) < 0.4
    assert stats.grouped_share(values, np.arange(144)) == pytest.approx(stats.share(values.sum(), 144))
    covered = []
    for _ in range(600):
        _, low, high, _ = stats.grouped_share(rng.random(144) < 0.4, np.repeat(np.arange(36), 4))
        covered.append((low < 0.4 < high, high - low))
    covered, width = np.mean(covered, axis=0)
    assert 0.94 < covered < 0.985
    assert width == pytest.approx(np.ptp(stats.wilson(57.6, 144)), rel=0.12)


def test_four_wrappings_of_a_request_are_not_four_requests():
    # 11 of 36 requests work in all four wrappings, 11 in two of them: 66 of 144, plain Wilson [.38, .54].
    by_request = np.r_[np.tile([1, 1, 1, 1], 11), np.tile([1, 1, 0, 0], 11), np.zeros(56)]
    value, low, high, n = stats.grouped_share(by_request, np.repeat(np.arange(36), 4))
    assert (value, n) == (pytest.approx(66 / 144), 144)
    assert stats.wilson(66, 144) == pytest.approx((0.38, 0.54), abs=0.005)
    assert (low, high) == pytest.approx((0.32, 0.60), abs=0.015)
    # All wrappings alike: the interval is that of 36 requests, also where there is no exception.
    alike = stats.grouped_share(np.repeat(np.arange(36) < 12, 4), np.repeat(np.arange(36), 4))
    assert alike == pytest.approx(stats.share(12, 36)._replace(n=144))
    assert stats.grouped_share(np.zeros(144), np.repeat(np.arange(36), 4)).high == pytest.approx(stats.wilson(0, 36)[1])
    # One request says what one observation says; of two, the larger counts for more.
    assert stats.grouped_share([1, 1, 1, 1], ["a"] * 4).low == pytest.approx(stats.wilson(1, 1)[0])
    assert stats.effective_groups(["a", "a", "a", "b"]) == pytest.approx(16 / 10)
    assert np.isnan(stats.grouped_share([], [])[:3]).all()


def test_one_exception_is_no_more_certain_than_none():
    groups = np.repeat(np.arange(36), 4)
    highs = [stats.grouped_share(np.arange(144) % 4 + np.arange(144) // 4 * 4 < k, groups).high for k in range(1, 72)]
    highs = [stats.grouped_share(np.zeros(144), groups).high, *highs]
    assert np.diff(highs).min() > -0.005, "the interval does not shrink where the first exceptions come"


def test_whole_groups_are_resampled():
    values = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0], 3)
    groups = np.repeat([5, 3, 1, 4, 2], 3)
    counts = stats.resample_counts(groups, seed=0)
    assert (counts[0] == 1).all()
    assert (counts.reshape(-1, 5, 3) == counts[:, ::3, None]).all()
    assert (counts.sum(axis=1) == 15).all()
    # Three copies of each of five observations say what the five say, and order does not matter.
    once = stats.bootstrap_mean(values[::3], 0, groups[::3])
    assert stats.bootstrap_mean(values, 0, groups) == pytest.approx(once._replace(n=15))
    order = np.random.default_rng(0).permutation(15)
    assert stats.bootstrap_mean(values[order], 0, groups[order]) == pytest.approx(once._replace(n=15))
    single = stats.bootstrap_mean(values[:6], 0, np.zeros(6))
    assert single.n == 6
    assert np.isnan([single.low, single.high]).all(), "one request has no interval"


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


def test_the_reach_of_no_exception_stays_within_the_bounds_and_does_not_touch_a_wider_interval():
    reach = stats.wilson(0, 10)[1]
    assert stats.share_interval(1.0, np.ones(9), 10) == (pytest.approx(1 - reach), 1.0)
    assert stats.share_interval(-0.9, np.full(9, -0.9), 10, -1.0, 1.0)[0] == -1.0
    varied = np.linspace(0.0, 1.0, 101)
    assert stats.share_interval(0.5, varied, 10) == pytest.approx((0.025, 0.975))
    assert stats.share_interval(0.5, np.linspace(0.4, 0.6, 101), 10) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_no_separation_is_worse_for_being_better():
    # Negatives 0 … 39; the lowest of 20 positives sinks below more and more of them.
    found = []
    for sunk in range(40, -1, -1):
        positive = np.r_[np.arange(50, 69), 39.5 - sunk]
        scores, truth = np.r_[positive, np.arange(40)], np.arange(60) < 20
        found.append(stats.grouped_auroc(scores, truth, np.arange(60), seed=0))
    value, low, high, _ = np.transpose(found)
    assert value[-1] == 1
    assert (np.diff(value) > 0).all()
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert np.abs(np.diff(low)).max() < 0.01, "and without a jump"
    assert low[-1] == pytest.approx(1 - stats.wilson(0, 20)[1])


def test_no_difference_is_better_for_being_nearer_to_none():
    after = np.zeros(36)
    none = stats.paired_difference(np.zeros(36), after, seed=0)
    after[0] = 1
    one = stats.paired_difference(np.zeros(36), after, seed=0)
    assert none.low < one.low < one.value < one.high
    assert none.high < one.high


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(0)
    before = rng.uniform(size=1000)
    after = before - 0.1 + rng.normal(0, 0.01, 1000)
    found = stats.paired_difference(before, after, seed=0)
    assert found.high - found.low < 0.01  # 0.04 unpaired
    assert found.low < -0.1 < found.high


def test_paired_difference_counts_requests():
    rng = np.random.default_rng(0)
    before, after = (np.repeat(rng.random(20) < share, 5).astype(float) for share in (0.3, 0.7))
    requests = np.repeat(np.arange(20), 5)
    once = stats.paired_difference(before[::5], after[::5], seed=0)
    assert stats.paired_difference(before, after, 0, requests) == pytest.approx(once._replace(n=100))


def test_crossed_bootstrap_resamples_draws_and_groups():
    rng = np.random.default_rng(0)
    same, each = np.tile(rng.normal(size=50), (5, 1)), np.arange(50)
    shifted = same + np.arange(5)[:, None]
    narrow, wide = (stats.crossed_bootstrap(values, 0, each) for values in (same, shifted))
    assert wide.value == pytest.approx(narrow.value + 2)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert stats.crossed_bootstrap(same[:1], 0, each) == pytest.approx(stats.bootstrap_mean(same[0], 0))
    fourfold = stats.crossed_bootstrap(np.repeat(same, 4, axis=1), 0, np.repeat(each, 4))
    assert fourfold == pytest.approx(narrow._replace(n=200))
    holed = same.copy()
    holed[0, :10] = np.nan
    holed[:, 49] = np.nan
    assert stats.crossed_bootstrap(holed, 0, each).n == 49


def test_two_draws_that_differ_are_both_in_the_interval():
    rng = np.random.default_rng(0)
    draws = (rng.random((2, 144)) < [[0.3], [0.7]]).astype(float)
    requests = np.repeat(np.arange(36), 4)
    found = stats.paired_difference(np.zeros(144), draws, 0, requests)
    alone = [stats.paired_difference(np.zeros(144), draw, 0, requests) for draw in draws]
    assert found.value == pytest.approx(draws.mean())
    assert found.low < draws[0].mean() < draws[1].mean() < found.high
    held = stats.paired_difference(np.zeros(144), draws.mean(axis=0), 0, requests)
    assert found.high - found.low > 2 * (held.high - held.low)
    assert found.high - found.low < alone[1].high - alone[0].low


def test_signed_rank_of_no_difference_is_one():
    assert stats.signed_rank(np.zeros(10)) == 1
    assert stats.signed_rank(np.ones(20)) < 0.001


def test_signed_rank_of_a_few_changes_is_the_exact_binomial_test():
    assert stats.signed_rank(np.r_[np.ones(5), np.zeros(20)]) == pytest.approx(2 * 0.5**5)
    assert stats.signed_rank(np.r_[np.ones(4), -1, np.zeros(20)]) == pytest.approx(2 * 6 * 0.5**5)


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
