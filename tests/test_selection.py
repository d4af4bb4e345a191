import pandas as pd
import pytest

from refusal_cliff.selection import score_examples, select_examples


@pytest.fixture
def pool():
    ids = [f"p{i}" for i in range(20)]
    traces = pd.DataFrame({"prompt_id": ids, "sample": 0, "finish_reason": ["unclosed"] + ["stop"] * 19})
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
        pd.DataFrame({"prompt_id": ids[1:], "sample": 0, "probe": probe, "layer": layer, "cliff": height})
        for probe, layer, height in (
            ("mine", 1, [abs(10 - i) / 10 for i in range(1, 20)]),
            ("mine", 0, [10 - abs(10 - i) for i in range(1, 20)]),
            ("other", 2, [10 - abs(10 - i) for i in range(1, 20)]),
        )
    )
    return traces, verdicts, cliffs


def chosen(pool, selector, budget, seed=0):
    return select_examples(score_examples(selector, *pool, "mine", "phrases"), budget, seed)


def test_selectors_choose_by_their_own_score(pool):
    assert set(chosen(pool, "cliff", 2 / 19)["prompt_id"]) == {"p1", "p19"}
    assert set(chosen(pool, "rule", 3 / 19)["prompt_id"]) == {"p5", "p10", "p15"}
    assert chosen(pool, "guard", 2 / 19)["prompt_id"].tolist() == ["p18", "p17"]


def test_the_guard_selects_whoever_judges_harm(pool):
    traces, verdicts, cliffs = pool
    scores = score_examples("guard", traces, verdicts[verdicts["judge"] == "guard"], cliffs, "mine", "phrases")
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
