from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from refusal_cliff.errors import UserError
from refusal_cliff.selection import (
    COSTS,
    Pool,
    draw_ready,
    picks_table,
    score_examples,
    select_examples,
    selection_cost,
)

WORDS = ["boat", "house", "tree", "road", "lamp"]


@pytest.fixture
def pool():
    ids = [f"p{i}" for i in range(20)]
    traces = pd.DataFrame({"prompt_id": ids, "sample": 0, "finish_reason": ["unclosed"] + ["stop"] * 19})
    traces = traces.assign(prompt_tokens=10, thinking_tokens=5, response_tokens=3)
    colours = ["red apple"] * 10 + ["blue"] * 10
    texts = [f"{colour} {WORDS[i % 5]}" for i, colour in enumerate(colours)]
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": texts})
    phrases = pd.DataFrame({"prompt_id": ids, "sample": 0, "judge": "phrases", "score": 1.0})
    phrases["verdict"] = ["no_refusal" if i % 5 == 0 else "refusal" for i in range(20)]
    guard = phrases.assign(judge="guard", score=[i / 20 for i in range(20)], verdict="safe")
    guard.loc[19, "score"] = None
    judged = pd.concat([phrases, guard], ignore_index=True)
    # What the judges said of the thinking must not count.
    thought = judged.assign(scope="thinking", score=1 - judged["score"], verdict="no_refusal")
    verdicts = pd.concat([thought, judged.assign(scope="response")], ignore_index=True)
    # The probe that scores does not have the last layer, another one does, and both have one that must not count.
    cliffs = pd.concat(
        pd.DataFrame({"prompt_id": ids[1:], "sample": 0, "probe": probe, "layer": layer, "cliff": height}).assign(
            cliff_mean=lambda own: -own["cliff"]
        )
        for probe, layer, height in (
            ("mine", 1, [abs(10 - i) / 10 for i in range(1, 20)]),
            ("mine", 0, [10 - abs(10 - i) for i in range(1, 20)]),
            ("other", 2, [10 - abs(10 - i) for i in range(1, 20)]),
        )
    )
    gradients = traces[["prompt_id", "sample"]].assign(loss=range(20), gradient=range(20, 0, -1))
    return Pool(traces, prompts, verdicts, cliffs, gradients, "mine", "phrases")


def chosen(pool, selector, budget, seed=0):
    return select_examples(score_examples(selector, pool), budget, seed)


def test_selectors_choose_by_their_own_score(pool):
    assert set(chosen(pool, "cliff", 2 / 19)["prompt_id"]) == {"p1", "p19"}
    assert set(chosen(pool, "rule", 3 / 19)["prompt_id"]) == {"p5", "p10", "p15"}
    assert chosen(pool, "guard", 2 / 19)["prompt_id"].tolist() == ["p18", "p17"]
    assert chosen(pool, "cliff_mean", 1 / 19)["prompt_id"].tolist() == ["p10"]
    assert chosen(pool, "loss", 2)["prompt_id"].tolist() == ["p19", "p18"]
    assert chosen(pool, "gradient", 2)["prompt_id"].tolist() == ["p1", "p2"]


def test_spread_takes_the_largest_cliff_of_every_kind_of_prompt_before_a_second_of_any(pool):
    scores = score_examples("spread", pool).set_index("prompt_id")["score"]
    first = scores[scores > -2]
    assert len(first) == 4, "as many clusters as the root of 19, rounded down"
    assert {"p1", "p19"} <= set(first.index), "the largest cliffs of red and of blue prompts"


def test_an_unknown_selector_is_refused(pool):
    with pytest.raises(UserError, match="unknown selector 'luck'"):
        score_examples("luck", pool)


def test_the_guard_selects_whoever_judges_harm(pool):
    scores = score_examples("guard", replace(pool, verdicts=pool.verdicts[pool.verdicts["judge"] == "guard"]))
    assert scores.set_index("prompt_id")["score"].dropna().to_dict() == {f"p{i}": i / 20 for i in range(1, 19)}


def test_an_unclosed_trace_is_never_an_example(pool):
    assert "p0" not in set(chosen(pool, "whole", 1.0)["prompt_id"])
    assert len(chosen(pool, "whole", 1.0)) == 19


def test_a_missing_score_comes_last(pool):
    assert chosen(pool, "guard", 1.0)["prompt_id"].iloc[-1] == "p19"


def test_random_draws_differ_by_seed_and_repeat(pool):
    first, again, other = (chosen(pool, "random", 0.5, seed)["prompt_id"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_the_budget_is_rounded_and_at_least_one(pool):
    assert len(chosen(pool, "cliff", 0.001)) == 1
    assert chosen(pool, "cliff", 0.25)["rank"].tolist() == [1, 2, 3, 4, 5]


def test_a_budget_above_one_is_how_many_and_must_be_there(pool):
    assert len(chosen(pool, "cliff", 15)) == 15
    assert len(chosen(pool, "whole", 1)) == 19
    with pytest.raises(UserError, match="20 examples are to be chosen, and there are 19"):
        chosen(pool, "cliff", 20)


@pytest.mark.parametrize(
    ("selector", "cost"),
    [
        ("random", (10, 0, 0, 0)),
        ("whole", (100, 0, 0, 0)),
        ("rule", (160, 0, 0, 0)),
        ("cliff", (100, 300, 0, 0)),
        ("gradient", (100, 300, 300, 0)),
        ("guard", (160, 0, 0, 260)),
    ],
)
def test_a_selector_costs_the_tokens_that_it_looks_at(pool, selector, cost):
    assert selection_cost(selector, pool.traces, chosen(pool, selector, 2)) == dict(zip(COSTS, cost, strict=True))


def test_what_is_drawn_from_a_ready_made_set_costs_nothing(pool):
    drawn = draw_ready(pool.prompts.drop(columns="prompt"), 5, seed=0)
    assert drawn["prompt_id"].isin(pool.prompts["prompt_id"]).all()
    assert drawn["prompt_id"].nunique() == 5 == drawn["rank"].max()
    assert (drawn[COSTS] == 0).all(axis=None)
    assert drawn["prompt_id"].tolist() != draw_ready(pool.prompts, 5, seed=1)["prompt_id"].tolist()
    assert len(draw_ready(pool.prompts, 0.5, seed=0)) == 10


def test_picks_are_counted_by_dataset_against_what_is_answered(pool):
    traces, verdicts = pool.traces.assign(model="m"), pool.said("phrases").assign(model="m")
    prompts = pool.prompts.assign(dataset=["a"] * 10 + ["b"] * 10)
    picked = chosen(pool, "rule", 2).assign(model="m", variant="tune-rule-2-s0")
    picked["prompt_id"] = ["p5", "p11"]
    table = picks_table(picked, traces, prompts, verdicts).set_index("dataset").drop(columns=["model", "variant"])
    assert table.loc["all"].tolist() == [2, 3, 0.5, 1 / 3]
    assert table.loc["a"].tolist() == [1, 1, 0.5, 1.0]
    assert table.loc["b"].tolist() == [1, 2, 0.0, 0.0]
    refused = picks_table(picked, traces, prompts, verdicts.assign(verdict="refusal"))
    assert np.isnan(refused["recall"]).all()
