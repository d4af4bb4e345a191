import numpy as np
import pandas as pd
import pytest

from refusal_cliff.rankings import (
    control_ranking,
    effect_rows,
    matched_ranking,
    promoting_ranking,
    random_ranking,
    rank_heads,
    ranking_name,
    top_heads,
)

NORMS = np.arange(32, dtype=float).reshape(4, 8)


@pytest.fixture
def ranking():
    effects = np.random.default_rng(0).normal(0, 0.1, size=(40, 4, 8))
    effects[:, 2, 5] -= 3
    effects[:, 3, 1] -= 1
    effects[:, 0, 0] += 2
    return rank_heads(effects, NORMS)


def test_the_strongest_suppressor_comes_first(ranking):
    assert top_heads(ranking, 2 / 32) == [(2, 5), (3, 1)]
    assert ranking["rank"].tolist() == list(range(1, 33))
    assert ranking["effect"].is_monotonic_increasing
    assert (ranking["n"] == 40).all()
    assert ranking.loc[0, "write_norm"] == NORMS[2, 5]


def test_effects_as_rows_keep_their_traces():
    effects = np.arange(12.0).reshape(2, 2, 3)
    traces = pd.DataFrame({"prompt_id": ["b", "a"], "sample": [0, 1], "thinking": "…"}, index=[7, 3])
    rows = effect_rows(effects, traces).set_index(["prompt_id", "sample", "layer", "head"])["effect"]
    assert len(rows) == 12
    assert rows["a", 1, 1, 2] == effects[1, 1, 2]
    assert rows["b", 0, 0, 1] == effects[0, 0, 1]


def test_a_control_is_made_by_its_name(ranking):
    assert control_ranking("gradient", ranking, 0.1, 5) is ranking
    pd.testing.assert_frame_equal(control_ranking("promoting", ranking, 0.1, 5), promoting_ranking(ranking))
    pd.testing.assert_frame_equal(control_ranking("random3", ranking, 0.1, 5), random_ranking(ranking, 8))
    pd.testing.assert_frame_equal(control_ranking("matched0", ranking, 0.1, 5), matched_ranking(ranking, 0.1, 5))


def test_rankings_by_the_probe_are_called_by_their_measure():
    assert ranking_name("causal_boundary", "probe") == "causal_boundary"
    assert ranking_name("causal_boundary", "openers") == "openers_causal_boundary"


def test_what_could_not_be_measured_has_no_first_heads_and_no_controls_but_the_random_one():
    nothing = rank_heads(np.empty((0, 4, 8)), NORMS)
    assert nothing["n"].tolist() == [0] * 32
    assert nothing[["effect", "rank"]].isna().all(axis=None)
    assert nothing["write_norm"].tolist() == NORMS.ravel().tolist()
    assert top_heads(nothing, 0.5) == []
    for name in ("openers_causal", "promoting", "matched0"):
        assert top_heads(control_ranking(name, nothing, 0.1, 5), 0.5) == []
    assert len(top_heads(control_ranking("random0", nothing, 0.1, 5), 0.5)) == 16


def test_a_fraction_is_rounded_to_whole_heads_and_at_least_one(ranking):
    assert len(top_heads(ranking, 0.001)) == 1
    assert len(top_heads(ranking, 0.1)) == 3
    assert len(top_heads(ranking, 1.0)) == 32


def test_controls_hold_the_same_heads(ranking):
    promoting, shuffled = promoting_ranking(ranking), random_ranking(ranking, seed=1)
    assert top_heads(promoting, 1 / 32) == [(0, 0)]
    for control in (promoting, shuffled):
        assert set(top_heads(control, 1.0)) == set(top_heads(ranking, 1.0))
    assert top_heads(shuffled, 0.2) != top_heads(random_ranking(ranking, seed=2), 0.2)
    pd.testing.assert_frame_equal(shuffled, random_ranking(ranking, seed=1))
    assert shuffled["effect"].isna().all()


def test_matched_heads_are_of_the_same_layer_and_near_in_norm(ranking):
    top = top_heads(ranking, 3 / 32)
    draws = [matched_ranking(ranking, 3 / 32, seed) for seed in range(10)]
    for draw in draws:
        assert set(top_heads(draw, 1.0)) == set(top_heads(ranking, 1.0))
        matched = top_heads(draw, 3 / 32)
        assert not set(matched) & set(top)
        assert [layer for layer, _ in matched] == [layer for layer, _ in top]
        assert all(abs(NORMS[one] - NORMS[other]) <= 4 for one, other in zip(matched, top, strict=True))
    assert len({tuple(top_heads(draw, 3 / 32)) for draw in draws}) > 3
    pd.testing.assert_frame_equal(draws[0], matched_ranking(ranking, 3 / 32, 0))


def test_a_layer_without_other_heads_lends_from_the_nearest():
    effects = np.zeros((5, 3, 4))
    effects[:, 2] = -np.arange(1, 5)
    matched = top_heads(matched_ranking(rank_heads(effects, np.ones((3, 4))), 4 / 12, seed=0), 4 / 12)
    assert {layer for layer, _ in matched} == {1}
