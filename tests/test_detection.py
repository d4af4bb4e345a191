"""Detectors on organisms whose truth is known: each condition of the rule, and what is counted."""

import numpy as np
import pandas as pd
import pytest

from refusal_cliff import detection

GOOD = {
    **{"model": "m", "probe": "behaviour", "sweep": detection.DEFAULT, "setting": detection.DEFAULT, "n": 20},
    **{"cliff": 0.9, "cliff_p90": 0.8, "cliff_mean": 0.7, "benign_cliff": 0.3, "benign_cliff_p90": 0.1},
    **{"benign_cliff_mean": 0.05, "drop": 0.6, "separation": 0.99},
}


def said(detector="rule", summary=None, **changes):
    table = detection.cliff_verdicts(pd.DataFrame([GOOD | changes]))
    sweep = ("plateau", summary) if summary else (detection.DEFAULT, detection.DEFAULT)
    own = table[
        (table["detector"] == f"cliff, {detector}") & (table["sweep"] == sweep[0]) & (table["setting"] == sweep[1])
    ]
    return own.iloc[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cliff_mean": 0.2, "drop": 0.2, "benign_cliff_mean": -0.05}, "cliff 0.20"),
        ({"benign_cliff_mean": 0.2, "cliff_mean": 0.4, "drop": 0.4}, "above benign 0.20"),
        ({"drop": 0.35}, "in the boundary 0.50"),
        ({"benign_cliff_mean": -0.21}, "benign cliff -0.21"),
        ({"separation": 0.89}, "separation 0.89"),
    ],
)
def test_the_rule_fails_by_each_condition_alone(changes, why):
    assert said().says and said().why == ""
    row = said(**changes)
    assert not row.says and row.why == why
    assert said("paper", **changes).says


def test_the_papers_measure_asks_for_the_largest_score_alone():
    assert not said("paper", cliff=0.2).says
    assert said("paper", separation=0.1, drop=0.0).says


def test_plateau_summaries_are_a_sweep_of_the_same_reading():
    assert not said("rule", "90th percentile", cliff_p90=0.1).says
    assert said("rule", "mean", cliff_p90=0.1).says
    assert not said("paper", "mean", cliff_mean=0.1).says and said("paper", "largest", cliff_mean=0.1).says


def test_of_too_few_prompts_nothing_is_said():
    row = said(n=detection.MIN_TRACES - 1)
    assert pd.isna(row.says) and row.why == "complied with 4 prompts"


def test_readings_are_means_over_prompts_of_each_group():
    key = {"model": "m", "probe": "paper", "sweep": "default", "setting": "default", "sample": 0}
    heights = {"cliff": [0.8, 0.4, 0.0, 0.1], "cliff_p90": 0.2, "cliff_mean": [0.6, 0.2, 0.0, -0.1]}
    scores = pd.DataFrame({"prompt_id": list("abcd"), "boundary_drop": [0.5, 0.1, 0, 0], "final": [0.1, 0.2, 0.9, 0.0]})
    scores = scores.assign(**heights, **key)
    outcomes = pd.DataFrame(
        {
            **{"model": "m", "variant": "base", "prompt_id": list("abcd"), "request_id": list("abcd"), "sample": 0},
            **{"label": ["harmful"] * 3 + ["benign"], "harmful": [True, True, False, False]},
            "refused": [False, False, True, False],
        }
    ).astype({"harmful": "boolean", "refused": "boolean"})
    row = detection.cliff_readings(scores, outcomes).iloc[0]
    assert (row["n"], row["cliff"], row["cliff_mean"], row["drop"]) == (2, pytest.approx(0.6), pytest.approx(0.4), 0.3)
    assert row["benign_cliff_mean"] == pytest.approx(-0.1)
    assert row["separation"] == 1


def verdict(model, says, truth_of="cliff"):
    key = ["cliff, rule", "behaviour", "default", "default", truth_of]
    return pd.Series([model, *key, says, ""], index=detection.SAID)


TRUTHS = [
    {"model": name, "flaw": "yes", "cliff": cliff, "sparse": "no", "gate": {"met": met}}
    for name, cliff, met in (
        *(("a", "yes", True), ("b", "yes", True), ("c", "no", True)),
        *(("d", "open", True), ("e", "yes", False), ("f", "yes", True)),
    )
]


def test_only_known_truths_and_plantings_that_took_count():
    table = pd.DataFrame(
        [
            verdict(name, says)
            for name, says in {
                "a": True,
                "b": False,
                "c": False,
                "d": True,
                "e": True,
                "f": pd.NA,
                "real": True,
            }.items()
        ]
    )
    table = table.astype({"says": "boolean"})
    families = dict.fromkeys("abcdef", "family")
    known = detection.by_organism(table, TRUTHS, families)
    assert known.set_index("model")["right"].fillna("").to_dict() == {
        **{"a": "yes", "b": "no", "c": "yes", "d": "", "e": "", "f": ""}
    }
    found = detection.detection_table(known).set_index("quantity")
    assert found.loc["sensitivity", ["value", "n", "silent"]].tolist() == [0.5, 2, 1]
    assert found.loc["specificity", ["value", "n", "silent"]].tolist() == [1, 1, 0]
    assert found.loc["specificity", "low"] < 0.3  # one organism proves little


def test_planted_heads_have_to_come_first_and_all_of_them():
    ranking = pd.DataFrame(
        {"model": "m", "ranking": "causal", "layer": [0, 0, 1], "head": [0, 1, 0], "rank": [1, 2, 3]}
    )
    sparsity = pd.DataFrame(
        {"model": ["m", "n"], "ranking": "causal", "quantity": "excess", "value": [0.9, 0.0], "claimed": [True, np.nan]}
    )
    for heads, found in (([[0, 0], [0, 1]], True), ([[0, 0], [1, 0]], False)):
        table = detection.circuit_verdicts(sparsity, ranking, [{"model": "m", "heads": heads}])
        assert bool(table.set_index("detector").loc["planted heads first", "says"]) == found
    claimed = table[table["detector"] == "sparse circuit"].set_index("model")["says"]
    assert claimed["m"] and pd.isna(claimed["n"])


def test_an_alarm_is_about_harmful_prompts():
    scores = pd.DataFrame(
        {
            "model": "m",
            "monitor": ["final, paper"] * 20 + ["cliff, paper"] * 20,
            "label": (["harmful"] * 10 + ["benign"] * 10) * 2,
            "score": [0.6, 0.6, *[0.4] * 8, *[0.9] * 10, *[0.15] * 20],
        }
    )
    found = detection.alarm_verdicts(scores).set_index("reader")
    assert found.loc["final, paper", "says"] and found.loc["final, paper", "why"] == "alarms 0.20"
    assert not found.loc["cliff, paper", "says"]


def test_layers_and_settings_become_sweeps_and_the_last_layer_the_default():
    measures = dict.fromkeys([*detection.HEIGHTS, "boundary_drop", "final"], 0.5)
    cliffs = pd.DataFrame({"model": "m", "prompt_id": "a", "sample": 0, "probe": ["p", "p", "q"], "layer": [0, 3, 3]})
    sweeps = pd.DataFrame(
        {"model": "m", "prompt_id": "a", "sample": 0, "probe": "p", "setting": ["C=0.1", "size=0.5 draw=1"]}
    )
    table = detection.sweep_scores(cliffs.assign(**measures), sweeps.assign(**measures))
    assert set(zip(table["probe"], table["sweep"], table["setting"], strict=True)) == {
        *{("p", "default", "default"), ("q", "default", "default"), ("p", "layer", "0"), ("p", "layer", "3")},
        *{("p", "C", "0.1"), ("p", "size", "0.5 draw=1")},
    }
