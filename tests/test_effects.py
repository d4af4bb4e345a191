"""Rates of interventions on heads, and comparisons with base and with controls, from made-up outcomes."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff import effects
from refusal_cliff.stats import crossed_bootstrap, signed_rank

VARIANTS = [name for name in synthetic.VARIANTS if "0.03" in name or name in ("base", "keep-0.5", "tune-whole-1-s0")]
EDITED = [name for name in VARIANTS if "0.03" in name]


def measured(asr, ratio=None, variants=VARIANTS):
    table = synthetic.outcomes("m", asr, variants)
    return table, synthetic.perplexity(table, ratio)


def ablation(asr, ratio=None):
    heads = {("m", name): [(0, 1), (1, 0)] for name in EDITED} | {("m", "ablate-random1-0.03"): [(1, 1), (1, 0)]}
    return effects.ablation_table(*measured(asr, ratio), heads, {"m": np.array([[0.0, 1.0], [2.0, 5.0]])}, seed=0)


def test_ablation_table_has_base_draws_and_their_pool():
    table = ablation({"base": 1.0, "ablate-random0-0.03": 0.0, "ablate-causal-0.03": 0.0, "boundary-causal-0.03": 0.5})
    assert list(table) == [*effects.ABLATION_COLUMNS, "value", "low", "high", "n"]
    asr = table.query("rate == 'asr' and dataset == 'wrapped'").set_index(["kind", "ranking", "fraction", "scale"])
    assert asr.loc[("base", "none", 0.0, 1.0), ["value", "heads", "draws"]].tolist() == [1, 0, 1]
    assert asr.loc[("ablate", "causal", 0.03, 0.0), ["value", "heads"]].tolist() == [0, 2]
    assert asr.loc[("boundary", "causal", 0.03, 0.0), "value"] == 0.5
    assert asr.loc[("scale", "causal", 0.03, 2.0), "value"] == 1
    assert asr.loc[("ablate", "random0", 0.03, 0.0), "value"] == 0
    assert asr.loc[("ablate", "random", 0.03, 0.0), ["value", "heads", "draws", "n"]].tolist() == [0.5, 2, 2, 30]
    assert asr.loc[("ablate", "random", 0.03, 0.0), "write_norm"] == 2.5  # (1 + 2 + 5 + 2) / 4
    assert asr.loc[("ablate", "causal", 0.03, 0.0), "write_norm"] == 1.5
    assert np.isnan(asr.loc[("base", "none", 0.0, 1.0), "write_norm"])
    assert not {"keep", "tune"} & set(table["kind"])


def test_a_pool_is_as_uncertain_as_its_draws_differ():
    apart = ablation({"base": 1.0, "ablate-random0-0.03": 0.0}).set_index(["ranking", "fraction", "dataset", "rate"])
    alike = ablation({"base": 1.0}).set_index(["ranking", "fraction", "dataset", "rate"])
    row = ("random", 0.03, "wrapped", "asr")
    assert apart.loc[row, ["low", "high"]].tolist() == [0, 1]
    # All draws agree on all prompts: what is left is the interval of 30 prompts.
    assert alike.loc[row, ["value", "high"]].tolist() == [1, 1]
    assert alike.loc[row, "low"] == pytest.approx(0.886, abs=0.01)


def test_perplexity_is_a_geometric_mean_and_only_of_changed_models():
    table = ablation({"base": 1.0}, {"mean-causal-0.03": 1.5}).query("rate == 'perplexity' and dataset == 'all'")
    value = table.set_index(["kind", "ranking", "fraction", "scale"])["value"]
    assert value["mean", "causal", 0.03, 0.0] / value["base", "none", 0.0, 1.0] == pytest.approx(1.5)
    assert value["base", "none", 0.0, 1.0] == pytest.approx(1.2, rel=0.01)
    assert not {"boundary", "restore"} & set(table["kind"])
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()


def test_comparisons_with_base_are_paired_and_adjusted():
    table = effects.comparisons(*measured({"base": 1.0, "ablate-causal-0.03": 0.0}), seed=0)
    row = table.query("variant == 'ablate-causal-0.03' and rate == 'asr' and reference == 'base'").iloc[0]
    assert row["value"] == -0.5
    assert row["low"] < -0.5 < row["high"] < 0
    assert row["test"] == "McNemar"
    assert row["p"] < row["p_holm"] < 1e-6


def test_holm_is_over_all_models_rates_and_variants_together():
    repaired = {"base": 1.0, "ablate-causal-0.03": 0.0}
    both = pd.concat([synthetic.outcomes(model, repaired, VARIANTS[:5]) for model in ("m", "n")])
    table = effects.comparisons(both, synthetic.perplexity(both), seed=0)
    assert set(table["model"]) == {"m", "n"}
    assert set(table["rate"]) == set(effects.COMPARED)
    smallest = table["p"].min()
    assert table["p_holm"].min() == pytest.approx(len(table) * smallest)


def test_rankings_are_compared_with_the_draws_of_their_controls():
    table = effects.comparisons(*measured({"base": 1.0, "ablate-causal-0.03": 0.0, "ablate-random0-0.03": 0.5}), seed=0)
    control = table[table["reference"] == "random"]
    assert set(control["variant"]) == {"ablate-causal-0.03", "ablate-direct-0.03"}
    row = control.query("variant == 'ablate-causal-0.03' and rate == 'asr'").iloc[0]
    assert row["value"] == -0.375  # draws at 0.5 and 1 of the wrapped half
    assert row["low"] < row["value"] < row["high"] < 0
    assert row["test"] == "Wilcoxon"
    assert row["p"] < 0.001


def test_perplexity_is_compared_as_a_ratio():
    table = effects.comparisons(*measured({"base": 1.0}, {"scale-causal-0.03-2": 1.25}), seed=0)
    own = table[table["rate"] == "perplexity"].set_index(["variant", "reference"])
    assert set(own["contrast"]) == {"ratio"}
    assert own.loc[("scale-causal-0.03-2", "base"), "value"] == pytest.approx(1.25)
    assert own.loc[("mean-causal-0.03", "base"), ["value", "p"]].tolist() == pytest.approx([1, 1])


def test_a_run_without_perplexity_has_tables_all_the_same():
    table, _ = measured({"base": 1.0}, variants=["base"])
    nothing = pd.DataFrame(columns=["model", "variant"])
    assert set(effects.ablation_table(table, nothing, {}, {}, 0)["rate"]) == {
        "asr",
        "refusal",
        "over_refusal",
        "utility",
    }
    assert effects.comparisons(table, nothing, 0).empty


def test_the_released_judge_and_ablation_are_set_against_ours():
    prompts = pd.DataFrame({"prompt_id": [f"p{i}" for i in range(20)], "label": "harmful"})
    rows = []
    for variant, scope, share in (
        ("base", "response", 1.0),
        ("base", "released", 0.5),
        ("ablate-causal-0.03", "response", 0.0),
        ("ablate-causal-0.03", "released", 0.0),
        ("released-causal-0.03", "response", 0.25),
        ("released-causal-0.03", "thinking", 1.0),
    ):
        for i in range(20):
            verdict = "harmful" if i < 20 * share else "safe"
            rows.append((f"p{i}", 0, "guard", scope, verdict, "m", variant))
    columns = ["prompt_id", "sample", "judge", "scope", "verdict", "model", "variant"]
    table = effects.released_table(pd.DataFrame(rows, columns=columns), prompts, seed=0)
    found = table.set_index(["kind", "scope", "against"])
    assert found.loc[("released", "response", ""), ["value", "n"]].tolist() == [0.25, 20]
    assert found.loc[("base", "released", "base, response"), "value"] == -0.5
    assert found.loc[("released", "response", "ablate, response"), "value"] == 0.25
    assert ("released", "released", "") not in found.index
    assert found.loc[("base", "released", "base, response"), "p"] < 0.01


def test_crossed_bootstrap_resamples_draws_and_prompts():
    rng = np.random.default_rng(0)
    same = np.tile(rng.normal(size=50), (5, 1))
    shifted = same + np.arange(5)[:, None]
    narrow, wide = crossed_bootstrap(same, 0), crossed_bootstrap(shifted, 0)
    assert wide.value == pytest.approx(narrow.value + 2)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    holed = same.copy()
    holed[0, :10] = np.nan
    holed[:, 49] = np.nan
    assert crossed_bootstrap(holed, 0).n == 49


def test_signed_rank_of_no_difference_is_one():
    assert signed_rank(np.zeros(10)) == 1
    assert signed_rank(np.ones(20)) < 0.001
