import numpy as np
import pandas as pd
import pytest

from refusal_cliff.errors import UserError
from refusal_cliff.heads import promoting_ranking, random_ranking, rank_heads, ranking_traces, top_heads


@pytest.fixture
def ranking():
    effects = np.random.default_rng(0).normal(0, 0.1, size=(40, 4, 8))
    effects[:, 2, 5] -= 3
    effects[:, 3, 1] -= 1
    effects[:, 0, 0] += 2
    return rank_heads(effects, seed=0)


def test_the_strongest_suppressor_comes_first(ranking):
    assert top_heads(ranking, 2 / 32) == [(2, 5), (3, 1)]
    assert ranking["rank"].tolist() == list(range(1, 33))
    assert ranking["effect"].is_monotonic_increasing
    assert (ranking["low"] <= ranking["effect"]).all()
    assert (ranking["effect"] <= ranking["high"]).all()
    assert ranking.loc[0, "high"] < 0


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


def test_ranking_traces_are_closed_ones_of_the_named_datasets():
    prompts = pd.DataFrame({"prompt_id": list("abcd"), "dataset": ["jailbreak", "jailbreak", "benign", "jailbreak"]})
    traces = pd.DataFrame(
        {"prompt_id": list("abcd"), "sample": 0, "finish_reason": ["stop", "unclosed", "stop", "length"]}
    )
    assert sorted(ranking_traces(traces, prompts, ["jailbreak"], 10, seed=0)["prompt_id"]) == ["a", "d"]
    assert len(ranking_traces(traces, prompts, ["jailbreak"], 1, seed=0)) == 1
    with pytest.raises(UserError, match=r"heads\.datasets"):
        ranking_traces(traces, prompts, ["nothing"], 10, seed=0)
