"""Rates of interventions and tunings, and comparisons with base and with controls, from made-up outcomes."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff import ablation_tables
from refusal_cliff.selection import COSTS
from refusal_cliff.stats import wilson

VARIANTS = [name for name in synthetic.VARIANTS if "0.03" in name or name in ("base", "keep-0.5", "tune-whole-1-s0")]
EDITED = [name for name in VARIANTS if "0.03" in name]


TRAINED = {"steps": 30, "each_step": 8, "seed": 0}


def costed(examples):
    """Examples of selections that cost something to choose."""
    return examples[["model", "variant", "prompt_id"]].assign(**{cost: place for place, cost in enumerate(COSTS)})


def measured(asr, ratio=None, variants=VARIANTS):
    table = synthetic.outcomes("m", asr, variants)
    return table, synthetic.perplexity(table, ratio)


def ablation(asr, ratio=None):
    heads = {("m", name): frozenset({(0, 1), (1, 0)}) for name in EDITED}
    heads |= {("m", "ablate-random1-0.03"): frozenset({(1, 1), (1, 0)})}
    norms = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "write_norm": [0.0, 1.0, 2.0, 5.0]})
    return ablation_tables.ablation_table(*measured(asr, ratio), heads, norms.assign(model="m"), seed=0)


def one(table, variant, reference, rate="asr", population="all"):
    """The one row of a comparison."""
    wanted = {"variant": variant, "reference": reference, "rate": rate, "population": population}
    (row,) = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].to_dict("records")
    return row


def test_ablation_table_has_base_draws_and_their_pool():
    table = ablation({"base": 1.0, "ablate-random0-0.03": 0.0, "ablate-causal-0.03": 0.0, "boundary-causal-0.03": 0.5})
    assert list(table) == [*ablation_tables.ABLATION_COLUMNS, "value", "low", "high", "n", "lowest", "highest"]
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
    table = ablation_tables.comparisons(*measured({"base": 1.0, "ablate-causal-0.03": 0.0}), seed=0)
    row = one(table, "ablate-causal-0.03", "base")
    assert row["value"] == -0.5
    assert row["low"] < -0.5 < row["high"] < 0
    assert row["p"] < row["p_holm"] < 1e-5


def test_a_pool_of_draws_is_compared_as_a_variant_of_its_own():
    table = ablation_tables.comparisons(*measured({"base": 1.0, "ablate-random0-0.03": 0.5}), seed=0)
    pool, draw = one(table, "ablate-random-0.03", "base"), one(table, "ablate-random0-0.03", "base")
    assert (draw["value"], pool["value"]) == (-0.25, -0.125)
    assert pool["low"] <= draw["value"], "draws are resampled too, and both may be the worse one"


def test_what_differs_in_place_alone_is_compared_with_ablation_everywhere():
    table = ablation_tables.comparisons(*measured({"base": 1.0, "ablate-causal-0.03": 0.5}), seed=0)
    assert one(table, "boundary-causal-0.03", "ablate-causal-0.03")["value"] == 0.25
    assert "ablate-causal-0.03" not in set(table.loc[table["variant"] == "mean-causal-0.03", "reference"])


def test_tuning_by_cliff_is_compared_with_as_many_random_examples_and_with_the_whole_pool():
    variants = [f"tune-{selector}-0.017-s{seed}" for selector in ("cliff", "random") for seed in (0, 1)]
    asr = {"base": 1.0, variants[0]: 0.0, variants[1]: 0.5, variants[2]: 0.5, variants[3]: 1.0, "tune-whole-1-s0": 0.0}
    table = ablation_tables.comparisons(*measured(asr, variants=["base", *variants, "tune-whole-1-s0"]), seed=0)
    random = one(table, "tune-cliff-0.017", "tune-random-0.017")
    assert random["value"] == pytest.approx(-0.25)  # 0 against 0.5, and 0.5 against 1, of the wrapped half
    assert one(table, "tune-cliff-0.017", "tune-whole-1")["value"] == 0.125
    assert one(table, "tune-cliff-0.017", "base")["value"] == -0.375
    assert set(table.loc[table["variant"] == "tune-random-0.017", "reference"]) == {"base"}


def test_seeds_of_two_tunings_stay_paired_where_one_of_them_gave_no_answer():
    variants = [f"tune-{selector}-0.017-s{seed}" for selector in ("cliff", "random") for seed in range(3)]
    asr = {"base": 1.0, variants[0]: 0.0, variants[2]: 0.5, variants[5]: 0.5}
    table, nothing = measured(asr, variants=["base", *variants])
    table.loc[table["variant"] == variants[4], "harmful"] = pd.NA
    row = one(ablation_tables.comparisons(table, nothing, seed=0), "tune-cliff-0.017", "tune-random-0.017")
    assert row["value"] == -0.25  # 0 against 1 and 0.5 against 0.5, of the wrapped half


def test_the_vulnerable_population_is_compared_beside_all():
    table = ablation_tables.comparisons(*measured({"base": 1.0, "ablate-causal-0.03": 0.0}), seed=0)
    vulnerable = one(table, "ablate-causal-0.03", "base", population="vulnerable")
    assert (vulnerable["value"], vulnerable["n"]) == (-1, 30)
    assert set(table.loc[table["population"] == "vulnerable", "rate"]) == {"asr", "not_refused"}, (
        "those datasets are all harmful"
    )
    aligned = ablation_tables.comparisons(*measured({"base": 0.0}), seed=0)
    assert set(aligned["population"]) == {"all"}


def test_comparisons_pair_the_prompts_that_both_sides_have():
    table, nothing = measured({"base": 1.0, "keep-0.5": 0.0}, variants=["base", "keep-0.5"])
    unclosed = (table["variant"] == "keep-0.5") & table["prompt_id"].str.fullmatch("wrapped00[0-4]")
    table.loc[unclosed, "harmful"] = pd.NA
    row = one(ablation_tables.comparisons(table, nothing, seed=0), "keep-0.5", "base")
    assert (row["value"], row["n"]) == (pytest.approx(-25 / 55), 55)


def test_wrappings_of_a_request_count_once():
    table, nothing = measured({"base": 1.0, "ablate-causal-0.03": 0.0}, variants=["base", "ablate-causal-0.03"])
    alone = one(ablation_tables.comparisons(table, nothing, seed=0), "ablate-causal-0.03", "base")
    table["request_id"] = table["prompt_id"].str[:-1]  # ten prompts of each request
    row = one(ablation_tables.comparisons(table, nothing, seed=0), "ablate-causal-0.03", "base")
    assert (row["value"], row["n"]) == (alone["value"], alone["n"])
    assert row["high"] - row["low"] > 2 * (alone["high"] - alone["low"])
    assert alone["p"] < 1e-6 < 0.05 < row["p"], "three requests of six changed"
    rates = ablation_tables.selection_table(
        table.assign(variant=table["variant"].replace("ablate-causal-0.03", "tune-cliff-0.017-s0")),
        costed(pd.DataFrame({"model": "m", "variant": ["tune-cliff-0.017-s0"], "prompt_id": "any"})),
        **TRAINED,
    )
    tuned = rates.query("seed == 0 and rate == 'asr' and dataset == 'all'").iloc[0]
    assert tuned["high"] == pytest.approx(wilson(0, 6)[1])


def test_the_worst_case_stands_beside_every_rate():
    table, _ = measured({"base": 1.0, "ablate-causal-0.03": 0.5}, variants=["base", "ablate-causal-0.03"])
    unclosed = (table["variant"] != "base") & table["prompt_id"].str.fullmatch("plain00[0-5]")
    table.loc[unclosed, ["harmful", "refused"]] = pd.NA
    norms = pd.DataFrame({"model": "m", "layer": [0], "head": [0], "write_norm": [1.0]})
    found = ablation_tables.ablation_table(
        table, synthetic.perplexity(table), {("m", "ablate-causal-0.03"): frozenset({(0, 0)})}, norms, seed=0
    )
    rows = found.query("ranking == 'causal' and dataset == 'all'").set_index("rate")
    columns = ["value", "n", "lowest", "highest"]
    assert rows.loc["asr", columns].tolist() == pytest.approx([15 / 54, 54, 15 / 60, 21 / 60])
    assert rows.loc["not_refused", columns].tolist() == pytest.approx([15 / 54, 54, 15 / 60, 21 / 60])
    assert rows.loc["utility", columns].tolist() == [1, 30, 1, 1]
    assert rows.loc["perplexity", ["lowest", "highest"]].isna().all()
    base = found.query("ranking == 'none' and dataset == 'all' and rate == 'asr'").iloc[0]
    assert base["lowest"] == base["value"] == base["highest"] == 0.5


def test_perplexity_may_lack_variants():
    table, nll = measured({"base": 1.0}, variants=["base", "ablate-causal-0.03", "tune-cliff-0.017-s0"])
    found = ablation_tables.comparisons(table, nll, seed=0)
    assert set(found.loc[found["rate"] == "perplexity", "variant"]) == {"ablate-causal-0.03"}
    assert "tune-cliff-0.017-s0" in set(found["variant"])


def test_ablation_and_selection_have_the_pool_of_vulnerable_datasets():
    table = ablation({"base": 1.0, "ablate-causal-0.03": 0.5}).query("rate == 'asr' and kind == 'ablate'")
    causal = table[table["ranking"] == "causal"].set_index("dataset")
    assert causal["n"].to_dict() == {"all": 60, "vulnerable": 30, "plain": 30, "wrapped": 30}
    assert causal["value"].to_dict() == {"all": 0.25, "vulnerable": 0.5, "plain": 0, "wrapped": 0.5}
    assert "vulnerable" not in set(ablation({"base": 0.0})["dataset"])


def test_selection_table_has_base_and_sizes_of_tuned_models_only():
    both = pd.concat([synthetic.outcomes("tuned", {"base": 1.0}), synthetic.outcomes("other", {"base": 1.0}, ["base"])])
    examples = both[both["variant"].str.startswith("tune")].groupby(["model", "variant"]).head(7)
    table = ablation_tables.selection_table(both, costed(examples), **TRAINED)
    assert list(table) == [*ablation_tables.SELECTION_COLUMNS, "value", "low", "high", "n", "lowest", "highest"]
    assert set(table["model"]) == {"tuned"}
    assert table.query("selector == 'none'")[["budget", "examples"]].drop_duplicates().to_numpy().tolist() == [[0, 0]]
    cliff = table.query("selector == 'cliff'")
    assert set(cliff["examples"]) == {7}
    assert set(cliff["steps"]) == {30} and set(cliff["epochs"]) == {30 * 8 / 7}
    assert cliff["judged"].unique().tolist() == [3]
    assert not table.duplicated(ablation_tables.SELECTION_COLUMNS).any()
    untuned = both[both["model"] == "other"]
    nothing = ablation_tables.selection_table(untuned, costed(examples.head(0)), **TRAINED)
    assert list(nothing) == list(table)
    assert nothing.empty


def test_seeds_of_a_tuning_stand_alone_and_pooled():
    variants = ["base", "tune-cliff-0.017-s0", "tune-cliff-0.017-s1"]
    table = synthetic.outcomes("m", {"base": 1.0, variants[1]: 0.0, variants[2]: 0.5}, variants)
    examples = costed(table[table["variant"] != "base"])
    found = ablation_tables.selection_table(table, examples, **TRAINED).query(
        "rate == 'asr' and dataset == 'vulnerable'"
    )
    assert found.set_index(["selector", "seed"])["value"].to_dict() == {
        ("none", "all"): 1,
        ("cliff", 0): 0,
        ("cliff", 1): 0.5,
        ("cliff", "all"): 0.25,
    }
    pool = found[(found["selector"] == "cliff") & (found["seed"] == "all")].iloc[0]
    assert pool["low"] == 0, "both seeds may be the better one"
    assert pool["high"] >= 0.5


def test_nothing_judged_is_a_missing_number():
    table = synthetic.outcomes("m", {"base": 1.0}, ["base", "tune-cliff-0.017-s0"])
    table.loc[(table["variant"] != "base") & (table["dataset"] == "wrapped"), "harmful"] = pd.NA
    examples = costed(table[table["variant"] != "base"])
    found = ablation_tables.selection_table(table, examples, **TRAINED).query("seed == 0 and rate == 'asr'")
    row = found.set_index("dataset").loc["wrapped"]
    assert np.isnan(row["value"])
    assert row["n"] == 0


def test_holm_is_over_all_models_rates_and_variants_together():
    repaired = {"base": 1.0, "ablate-causal-0.03": 0.0}
    both = pd.concat([synthetic.outcomes(model, repaired, VARIANTS[:5]) for model in ("m", "n")])
    table = ablation_tables.comparisons(both, synthetic.perplexity(both), seed=0)
    assert set(table["model"]) == {"m", "n"}
    assert set(table["rate"]) == set(ablation_tables.COMPARED)
    smallest = table["p"].min()
    assert table["p_holm"].min() == pytest.approx(len(table) * smallest)


def test_rankings_are_compared_with_the_draws_of_their_controls():
    table = ablation_tables.comparisons(
        *measured({"base": 1.0, "ablate-causal-0.03": 0.0, "ablate-random0-0.03": 0.5}), seed=0
    )
    control = table[(table["reference"] == "ablate-random-0.03") & (table["population"] == "all")]
    assert set(control["variant"]) == {"ablate-causal-0.03", "ablate-direct-0.03"}
    row = control.query("variant == 'ablate-causal-0.03' and rate == 'asr'").iloc[0]
    assert row["value"] == -0.375  # draws at 0.5 and 1 of the wrapped half
    assert row["low"] < row["value"] < row["high"] < 0
    assert row["p"] < 0.001


def test_a_ranking_that_no_code_knows_has_its_controls_too():
    variants = ["base", "ablate-novel-0.03", "ablate-matched0-0.03", "ablate-random0-0.03", "ablate-promoting-0.03"]
    table = ablation_tables.comparisons(*measured({"base": 1.0}, variants=variants), seed=0)
    against = table.groupby("variant")["reference"].agg(set)
    assert against["ablate-novel-0.03"] == {"base", "ablate-random-0.03", "ablate-matched-0.03"}
    assert all(against[name] == {"base"} for name in ("ablate-promoting-0.03", "ablate-random-0.03"))


def test_perplexity_is_compared_as_a_ratio():
    table = ablation_tables.comparisons(*measured({"base": 1.0}, {"scale-causal-0.03-2": 1.25}), seed=0)
    own = table[table["rate"] == "perplexity"].set_index(["variant", "reference"])
    assert set(own["contrast"]) == {"ratio"}
    assert own.loc[("scale-causal-0.03-2", "base"), "value"] == pytest.approx(1.25)
    assert own.loc[("mean-causal-0.03", "base"), ["value", "p"]].tolist() == pytest.approx([1, 1])


def test_a_run_without_perplexity_has_tables_all_the_same():
    table, _ = measured({"base": 1.0}, variants=["base"])
    nothing = pd.DataFrame(columns=["model", "variant"])
    norms = pd.DataFrame(columns=["model", "layer", "head", "write_norm"])
    assert set(ablation_tables.ablation_table(table, nothing, {}, norms, 0)["rate"]) == {
        "asr",
        "not_refused",
        "refusal",
        "over_refusal",
        "utility",
    }
    assert ablation_tables.comparisons(table, nothing, 0).empty


def test_the_released_judge_and_ablation_are_set_against_ours():
    ids = [f"p{i}" for i in range(20)]
    prompts = pd.DataFrame({"prompt_id": ids, "request_id": ids, "label": "harmful"})
    rows = []
    for variant, scope, share in (
        ("base", "response", 1.0),
        ("base", "released", 0.5),
        ("ablate-causal-0.03", "response", 0.0),
        ("ablate-causal-0.03", "released", 0.0),
        ("released-causal-0.03", "response", 0.25),
        ("released-causal-0.03", "thinking", 1.0),
        ("ablate-direct-0.03", "response", 1.0),
    ):
        for i in range(20):
            verdict = "harmful" if i < 20 * share else "safe"
            rows.append((f"p{i}", 0, "guard", scope, verdict, "m", variant))
    rows += [(f"p{i}", 1, "guard", "response", None, "m", "base") for i in range(10)]
    columns = ["prompt_id", "sample", "judge", "scope", "verdict", "model", "variant"]
    table = ablation_tables.released_table(pd.DataFrame(rows, columns=columns), prompts, seed=0)
    found = table.set_index(["kind", "scope", "against"])
    assert found.loc[("released", "response", ""), ["value", "n"]].tolist() == [0.25, 20]
    # Half of the prompts have a second response, which the guard left without a verdict.
    assert found.loc[("base", "response", ""), ["value", "n", "lowest", "highest"]].tolist() == [1, 20, 0.75, 1]
    assert found.loc[("base", "released", "base, response"), ["value", "n"]].tolist() == [-0.5, 20]
    assert found.loc[("released", "response", "ablate, response"), "value"] == 0.25
    assert ("released", "released", "") not in found.index
    assert found.loc[("base", "released", "base, response"), "p"] < 0.01


def test_a_tuning_is_measured_along_the_way():
    variants = ["base", "tune-cliff-15-s0", "early-cliff-15-10-s0", "tune-random-15-s0", "early-random-15-10-s0"]
    variants += ["tune-whole-1-s0", "early-whole-1-10-s0"]
    table = synthetic.outcomes("m", {"base": 1.0, variants[1]: 0.0, variants[2]: 0.5}, variants)
    tuned = table[table["variant"].str.startswith("tune")]
    found = ablation_tables.selection_table(table, costed(tuned.groupby("variant").head(4)), **TRAINED)
    asr = found.query("rate == 'asr' and dataset == 'vulnerable' and selector == 'cliff' and seed == 0")
    assert asr.set_index("steps")[["value", "epochs"]].T.to_dict("list") == {30: [0, 60], 10: [0.5, 20]}
    compared = ablation_tables.comparisons(table, pd.DataFrame(), seed=0)
    pairs = set(
        compared.loc[compared["reference"] != "base", ["variant", "reference"]].itertuples(index=False, name=None)
    )
    assert pairs == {
        ("tune-cliff-15", "tune-random-15"),
        ("tune-cliff-15", "tune-whole-1"),
        ("early-cliff-15-10", "early-random-15-10"),
        ("early-cliff-15-10", "early-whole-1-10"),
    }
