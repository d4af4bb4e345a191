"""Repairs side by side: doses, the choice at equal over-refusal, and what one would pick, with exact values."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from refusal_cliff import repairs
from refusal_cliff.edits import Edit
from refusal_cliff.plots.repairs import plot_repairs
from refusal_cliff.repairs import is_control, matched_table, pick, repair_of, repair_table
from refusal_cliff.variants import Variant

HARMFUL, BENIGN = 20, 20
# Variant -> (share not refused of harmful prompts, share refused of benign ones).
RATES = {
    "base": (1.0, 0.0),
    "ablate-causal-0.03": (0.5, 0.0),
    "ablate-causal-0.1": (0.1, 0.05),
    "ablate-causal-0.3": (0.0, 0.5),
    "ablate-random0-0.1": (1.0, 0.0),
    "ablate-random1-0.1": (0.8, 0.0),
    "minimal-causal-0.1": (0.1, 0.0),
    "first-causal-0.1": (0.3, 0.0),
    "steer-refusal-1": (0.0, 1.0),
    "steer-refusal-2": (0.0, 0.0),  # beyond a dose that is not within the bound
    "steer-random0-1": (1.0, 0.0),
    "tune-cliff-0.1-s0": (0.1, 0.0),
    "both-causal-0.03-cliff-0.1-s0": (0.05, 0.0),
}


def outcomes(model="cliff-s0", rates=None):
    runs = []
    for variant, (complied, over_refused) in (rates or RATES).items():
        for label, count in (("harmful", HARMFUL), ("benign", BENIGN)):
            run = pd.DataFrame({"prompt_id": [f"{label}{number}" for number in range(count)]})
            rank = np.arange(count) / count
            refused = rank >= complied if label == "harmful" else rank < over_refused
            runs.append(
                run.assign(
                    model=model,
                    variant=variant,
                    request_id=run["prompt_id"],
                    dataset=label,
                    family="plain",
                    label=label,
                    sample=0,
                    has_reference=False,
                    refused=pd.array(refused, dtype="boolean"),
                    harmful=pd.array(~refused & (label == "harmful"), dtype="boolean"),
                    correct=pd.array([pd.NA] * count, dtype="boolean"),
                )
            )
    return pd.concat(runs, ignore_index=True)


def perplexity(table):
    kept = table.loc[table["label"] == "benign", ["model", "variant", "prompt_id", "sample"]]
    return kept.assign(nll=0.1, tokens=9, kl=np.where(kept["variant"] == "base", 0.0, 0.2))


COSTS = pd.DataFrame(
    {
        "model": "cliff-s0",
        "repair": ["ablate causal", "minimal causal", "first causal", "steer"],
        "passes": [100.0, 300.0, 300.0, 50.0],
    }
)


@cache
def tables(bounds=(0.05,), seed=0):
    table = outcomes()
    edits = {
        ("cliff-s0", "minimal-causal-0.1"): Edit(head_scales=((1, 2, 0.0),)),
        ("cliff-s0", "steer-refusal-1"): Edit(layer=2, direction=np.zeros(4)),
    }
    trainings = {
        ("cliff-s0", name): {"steps": 30, "batch_size": 16}
        for name in ("tune-cliff-0.1-s0", "both-causal-0.03-cliff-0.1-s0")
    }
    found = repair_table(table, perplexity(table), edits, COSTS, trainings, seed)
    matched = matched_table(table, perplexity(table), found, edits, {"cliff-s0": "cliff"}, bounds, "causal", seed)
    return found, pick(matched)


def one(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1, wanted
    return table.iloc[0]


def test_a_variant_is_a_repair_at_a_dose():
    named = {name: repair_of(Variant.parse(name)) for name in RATES}
    assert named["base"] == ("none", 0)
    assert named["ablate-random1-0.1"] == ("ablate random", 0.1)
    assert named["steer-random0-1"] == ("steer random", 1)
    assert named["tune-cliff-0.1-s0"] == ("tune cliff", 0.1)
    assert named["both-causal-0.03-cliff-0.1-s0"] == ("both causal cliff", 0.1)
    assert repair_of(Variant.parse("tune-cliff-0.1-s3").pool) == ("tune cliff", 0.1)
    controls = {repair for repair, _ in named.values() if is_control(repair)}
    assert controls == {"ablate random", "steer random"}


def test_every_dose_has_its_rates_its_size_and_its_cost():
    found, _ = tables()
    row = one(found, repair="ablate causal", dose=0.1, rate="not_refused")
    assert (row["value"], row["n"], row["passes"], bool(row["control"])) == (0.1, HARMFUL, 100, False)
    assert one(found, repair="ablate random", dose=0.1, rate="not_refused")["value"] == pytest.approx(0.9)
    assert one(found, repair="ablate random", dose=0.1, rate="kl")["draws"] == 2
    assert np.isnan(one(found, repair="ablate random", dose=0.1, rate="kl")["passes"])
    minimal = one(found, repair="minimal causal", rate="kl")
    assert (minimal["heads"], minimal["value"]) == (1, pytest.approx(0.2))
    assert one(found, repair="steer refusal", dose=1, rate="asr")[["layer", "passes"]].tolist() == [2, 50]
    assert one(found, repair="tune cliff", rate="asr")["passes"] == 30 * 16 * 3
    assert one(found, repair="both causal cliff", rate="asr")["passes"] == 30 * 16 * 3 + 100
    assert one(found, repair="none", rate="perplexity")["value"] == pytest.approx(np.exp(0.1))


def test_the_dose_is_the_largest_up_to_which_over_refusal_stays_within_the_bound():
    _, matched = tables(bounds=(0.05, 0.0, 0.5))
    own = {"model": "cliff-s0", "rate": "not_refused", "against": "none"}
    for bound, dose, value in ((0.05, 0.1, 0.1), (0.0, 0.03, 0.5), (0.5, 0.3, 0.0)):
        row = one(matched, repair="ablate causal", bound=bound, **own)
        assert (row["dose"], row["value"]) == (dose, value)
        assert row["operating"] == (bound == 0.05)
    # Dose 2 is within, but dose 1 before it is not: nothing is left but the base model.
    assert one(matched, repair="steer refusal", bound=0.05, **own)[["dose", "value"]].tolist() == [0, 1]


def test_a_repair_that_breaks_the_model_is_not_taken_for_a_safe_one():
    table = outcomes(rates={"base": (1.0, 0.0), "steer-refusal-1": (0.0, 0.0), "steer-refusal-2": (0.0, 0.0)})
    broken = (table["variant"] == "steer-refusal-2") & (table["prompt_id"].str[-1].astype(int) > 1)
    table.loc[broken, ["refused", "harmful"]] = pd.NA
    found = repair_table(table, perplexity(table), {}, COSTS.head(0), {}, 0)
    matched = matched_table(table, perplexity(table), found, {}, {"cliff-s0": "cliff"}, [0.05, 1.0], "causal", 0)
    own = {"model": "cliff-s0", "repair": "steer refusal", "against": "none"}
    # Of the benign responses that are left none is refused, but four of five are none.
    assert one(matched, bound=0.05, rate="not_refused", **own)[["dose", "value", "n"]].tolist() == [1, 0, HARMFUL]
    assert one(matched, bound=1.0, rate="not_refused", **own)[["dose", "value"]].tolist() == [2, 0.8]
    assert one(matched, bound=1.0, rate="over_refusal", **own)["value"] == 0.8


def test_a_repair_that_could_not_be_made_leaves_the_model_as_it_is():
    rates = {"base": (1.0, 0.0), "steer-refusal-1": (0.2, 0.0)}
    table = pd.concat(
        [outcomes("cliff-s0", rates), outcomes("cliff-s1", {"base": (0.8, 0.0), "ablate-direct-1": (0, 0)})]
    )
    edits = {("cliff-s1", "steer-refusal-1"): Edit(missing="it refused nothing")}
    found = repair_table(table, perplexity(table), edits, COSTS, {}, 0)
    families = {"cliff-s0": "cliff", "cliff-s1": "cliff"}
    matched = matched_table(table, perplexity(table), found, edits, families, [0.05], "causal", 0)
    own = {"repair": "steer refusal", "rate": "not_refused", "against": "none"}
    assert one(matched, model="cliff-s1", **own)[["dose", "value"]].tolist() == [0, 0.8]
    assert one(matched, model="all", **own)[["dose", "value", "seeds"]].tolist() == [0.5, 0.5, 2]


def test_where_no_repair_helps_none_is_picked():
    table = outcomes(rates={"base": (1.0, 0.0), "ablate-causal-0.03": (0.95, 0.0)})
    found = repair_table(table, perplexity(table), {}, COSTS, {}, 0)
    matched = pick(matched_table(table, perplexity(table), found, {}, {"cliff-s0": "cliff"}, [0.05], "causal", 0))
    assert set(matched.loc[matched["picked"], "repair"]) == {"none"}


def test_the_interval_holds_what_choosing_the_dose_on_the_same_prompts_adds():
    _, matched = tables()
    row = one(matched, model="cliff-s0", repair="ablate causal", rate="not_refused", against="none")
    # One benign prompt of 20 is refused at dose 0.1: many resamples hold it twice, and fall back to dose 0.03.
    assert row["low"] < 0.1 and row["high"] > 0.5
    safe = one(matched, model="cliff-s0", repair="minimal causal", rate="not_refused", against="none")
    assert safe["high"] < 0.4


def test_repairs_are_held_against_controls_as_many_first_heads_and_the_operating_ranking():
    _, matched = tables()
    own = matched[(matched["model"] == "cliff-s0") & (matched["rate"] == "not_refused")].set_index("repair")
    against = {repair: sorted(set(part) - {"none"}) for repair, part in own.groupby(level=0)["against"]}
    assert against["ablate causal"] == ["ablate random"]
    assert against["minimal causal"] == ["ablate causal", "first causal"]
    assert against["steer refusal"] == ["ablate causal", "steer random"]
    assert against["steer random"] == []
    assert against["both causal cliff"] == ["ablate causal", "tune cliff"]
    row = one(matched, model="cliff-s0", repair="minimal causal", rate="not_refused", against="first causal")
    assert row["value"] == pytest.approx(-0.2) and row["low"] < -0.2 < row["high"]


def test_of_repairs_as_good_as_the_best_the_cheapest_is_picked():
    _, matched = tables()
    picked = matched[matched["picked"] & (matched["model"] == "cliff-s0")]
    # Ablation, the minimal set and tuning leave 10 %; controls and what leaves more do not compete.
    assert set(picked["repair"]) == {"ablate causal"}


def test_a_family_has_an_interval_over_its_seeds():
    table = pd.concat(
        [
            outcomes("cliff-s0", {"base": (1.0, 0.0), "ablate-causal-0.03": (0.2, 0.0)}),
            outcomes("cliff-s1", {"base": (1.0, 0.0), "ablate-causal-0.03": (0.6, 0.0)}),
        ]
    )
    costs = COSTS.head(0)
    found = repair_table(table, perplexity(table), {}, costs, {}, 0)
    families = {"cliff-s0": "cliff", "cliff-s1": "cliff"}
    matched = matched_table(table, perplexity(table), found, {}, families, [0.05], "causal", 0)
    row = one(matched, model="all", repair="ablate causal", rate="not_refused", against="none")
    assert (row["value"], row["seeds"], row["n"]) == (pytest.approx(0.4), 2, 2 * HARMFUL)
    assert row["low"] <= 0.2 and row["high"] >= 0.6


def test_a_model_that_nothing_was_done_to_has_no_row():
    table = outcomes("aligned", {"base": (0.0, 0.0)})
    found = repair_table(table, perplexity(table), {}, COSTS.head(0), {}, 0)
    matched = matched_table(table, perplexity(table), found, {}, {"aligned": "aligned"}, [0.05], "causal", 0)
    assert matched.empty and pick(matched).columns[-1] == "picked"


def test_every_kind_that_is_a_repair_has_a_dose():
    assert set(repairs.DOSES) <= {*Variant.FORMS}
    for kind, dose in repairs.DOSES.items():
        assert dose in Variant.FORMS[kind]


def test_the_figure_has_every_repair_and_sets_in_bold_what_one_would_pick():
    found, matched = tables()
    figure = plot_repairs(found, matched, {"cliff-s0": "cliff"})
    left, right = figure.axes
    labels = {label.get_text(): label.get_fontweight() for label in right.get_yticklabels()}
    assert set(labels) == {f"{repair}, {dose:.3g}" for repair, dose in pairs(matched)}
    assert [text for text, weight in labels.items() if weight == "bold"] == ["ablate causal, 0.1"]
    # One line for each repair but none, and the bound.
    assert len(left.lines) == found.loc[found["repair"] != "none", "repair"].nunique() + 2


def pairs(matched):
    own = matched[(matched["model"] == "all") & (matched["rate"] == "not_refused") & (matched["against"] == "none")]
    return set(zip(own["repair"], own["dose"], strict=True))
