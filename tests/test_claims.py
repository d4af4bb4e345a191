"""Claims: the rule on the interval, the cells that a claim reads, families and gates, and the sheet that ships."""

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff import claims
from refusal_cliff.cliff_tables import MIN_CLIFF
from refusal_cliff.errors import UserError
from refusal_cliff.outcomes import ALIGNMENT_ASR
from refusal_cliff.sheets import load_claims
from refusal_cliff.sparsity import MIN_EXCESS
from refusal_cliff.stats import RESAMPLES, Estimate, holm, nested_bootstrap

SHEET = str(Path(__file__).parents[1] / "config/claims.tsv")
PROBES = {"paper": "last_boundary", "thinking": "thinking"}
CAUSAL, DIRECT = "ablate-causal-0.03", "ablate-direct-0.03"
VARIANTS = [name for name in synthetic.VARIANTS if "0.015" not in name and "0.05" not in name]
REPAIRED = dict.fromkeys([CAUSAL, DIRECT, "tune-cliff-0.017-s0", "tune-whole-1-s0"], 0.0)
FAMILIES = {"planted-s0": "planted", "planted-s1": "planted", "diffuse": "diffuse", "aligned": "aligned"}
SEEDS, SINGLE = ["planted-s0", "planted-s1"], ["diffuse", "aligned"]
TRUTHS = {
    "planted": {"flaw": "yes", "cliff": "yes", "sparse": "yes"},
    "diffuse": {"flaw": "yes", "cliff": "no", "sparse": "no"},
    "aligned": {"flaw": "no", "cliff": "open", "sparse": "open"},
}
TOOK = {"met": True, "compliance": 0.97, "steps": 400}
MISSED = {"met": False, "compliance": 0.84, "steps": 400}
GUARD = pd.DataFrame(
    {
        "dataset": ["all", "all", "all", "all", "plain"],
        "scope": ["answer", "answer", "thinking", "thinking", "answer"],
        "quantity": ["sensitivity", "specificity", "sensitivity", "specificity", "sensitivity"],
        "value": [0.98, 0.99, 0.5, 0.99, 0.1],
        "low": [0.96, 0.97, 0.4, 0.97, 0.0],
        "high": [1.0, 1.0, 0.6, 1.0, 0.2],
        "met": [True, True, False, True, False],
    }
)


def as_files(tables):
    """Tables as they come back from the files that a run writes."""
    return {name: pd.read_csv(io.StringIO(table.to_csv(index=False))) for name, table in tables.items()}


def truths(**gates):
    return [
        {"model": model, "gate": gates.get(model.replace("-", "_"), TOOK)} | TRUTHS[family]
        for model, family in FAMILIES.items()
    ]


@pytest.fixture(scope="module")
def tables():
    """Of two seeds of a model whose flaw two heads carry, of one whose flaw no head carries, and of an aligned one."""
    outcomes = [
        *(synthetic.outcomes(model, {"base": 1.0, **REPAIRED}, VARIANTS) for model in SEEDS),
        synthetic.outcomes("diffuse", {"base": 1.0}, [name for name in VARIANTS if "tune" not in name]),
        synthetic.outcomes("aligned", {"base": 0.0}, ["base"]),
    ]
    planted = dict.fromkeys(SEEDS, synthetic.PLANTED)
    return as_files(synthetic.tables(pd.concat(outcomes), planted | {"diffuse": []}))


def evaluate_all(tables, sheet, fraction=0.03, known=None, harm_judge="guard", operating="causal", early=20):
    known = truths() if known is None else known
    return claims.evaluate(sheet, tables, FAMILIES, known, PROBES, fraction, 0.017, early, operating, 0, harm_judge)


@pytest.fixture(scope="module")
def both(tables):
    return evaluate_all(tables, load_claims(SHEET))


@pytest.fixture(scope="module")
def shipped(both):
    return both[0]


@pytest.fixture(scope="module")
def by_seed(both):
    return both[1]


def sheet(**changes):
    """A sheet of one claim, about the cliff."""
    row = {
        "id": "steep",
        "claim": "It falls",
        "section": "section 3",
        "kind": "paper",
        "table": "cliffs",
        "where": "probe == 'paper' and quantity == 'cliff' and group == 'benign' and family == 'all'",
        "value": "value",
        "metric": "mean cliff",
        "lower": 0.2,
        "upper": math.inf,
        "about": "any",
        "judge": "",
        "expected": "",
        "paper": "",
        "headline": False,
    }
    return pd.DataFrame([row | changes])


def evaluate(tables, known=None, **changes):
    return evaluate_all(tables, sheet(**changes), known=known)[0].set_index("family")


def evaluate_seeds(tables, known=None, **changes):
    return evaluate_all(tables, sheet(**changes), known=known)[1].set_index("model")


def changed(tables, name, where, **values):
    """The tables with other values in the rows of one of them."""
    table = tables[name].copy()
    table.loc[table.query(where).index, list(values)] = list(values.values())
    return tables | {name: table}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.3, 0.4, "supported"), (0.1, 0.2, "not supported"), (0.1, 0.3, "inconclusive"), (0.0, 0.2, "not supported")],
)
def test_the_whole_interval_decides(low, high, verdict):
    assert claims.decide(Estimate((low + high) / 2, low, high, 10), 0.2, np.inf) == verdict


@pytest.mark.parametrize("estimate", [Estimate(0.3, 0.25, 0.4, 60), Estimate(0.0, 0.0, 0.06, 60)])
def test_one_seed_has_a_verdict_exactly_where_p_is_at_most_five_percent(estimate):
    """At and next to the bounds of its own interval, where the verdict turns."""
    found, draws = nested_bootstrap([estimate], seed=0)
    assert found == estimate
    step = 1e-3
    for edge in (*estimate[1:3], *(bound + side for bound in estimate[1:3] for side in (-step, step))):
        for bounds in ((edge, np.inf), (-np.inf, edge), (edge, edge + 1), (edge - 1, edge)):
            p = claims.p_value(draws, *bounds)
            decided = claims.decide(estimate, *bounds) != claims.INCONCLUSIVE
            # At the bound itself only the strict side of the range counts; p has no such sides.
            assert p <= 0.05 if decided else p > 0.05 or edge in estimate[1:3], (edge, bounds, p)


def test_a_verdict_over_seeds_never_has_a_larger_p_than_five_percent():
    rng = np.random.default_rng(0)
    verdicts = set()
    for seed in range(200):
        values = rng.normal(0.2, 0.1, 3)
        estimate, draws = nested_bootstrap([Estimate(v, v - 0.05, v + 0.1, 20) for v in values], seed)
        for bounds in ((0.2, np.inf), (-np.inf, 0.2), (0.1, 0.4)):
            verdict = claims.decide(estimate, *bounds)
            assert verdict == claims.INCONCLUSIVE or claims.p_value(draws, *bounds) <= 0.05
            verdicts.add(verdict)
    assert verdicts == {claims.SUPPORTED, claims.NOT_SUPPORTED, claims.INCONCLUSIVE}


def test_p_is_twice_the_share_of_draws_beyond_the_nearest_edge():
    draws = np.arange(1000) / 1000
    assert claims.p_value(draws, 0.9595, np.inf) == pytest.approx(0.08)  # 40 above: not supported
    assert claims.p_value(draws, 0.0195, np.inf) == pytest.approx(0.04)  # 20 below: supported
    assert claims.p_value(draws, 0.0195, 0.9595) == pytest.approx(0.08)  # 20 below, 40 above: both edges must hold
    assert claims.p_value(draws, -1, 2) == 1 / RESAMPLES


def test_every_shipped_claim_finds_its_row_where_it_applies(shipped):
    measured = shipped[shipped["verdict"] != claims.NO_DATA]
    assert set(measured["id"]) == set(load_claims(SHEET)["id"])
    assert not shipped.duplicated(["id", "family", "probe", "population"]).any()
    assert (shipped["reason"] != "").equals(shipped["verdict"] == claims.NO_DATA)


def test_no_claim_is_dropped_on_any_family(shipped, by_seed):
    for table, level in ((shipped, "family"), (by_seed, "model")):
        assert (table.groupby(level)["id"].nunique() == len(load_claims(SHEET))).all()
    assert set(shipped["family"]) == set(FAMILIES.values())
    assert set(by_seed["model"]) == set(FAMILIES)


def test_a_claim_says_which_cells_it_read(by_seed, tables):
    for claim in by_seed[by_seed["verdict"] != claims.NO_DATA].itertuples():
        row = tables[claim.table].iloc[claim.row - 1]
        assert row["model"] == claim.model
        assert (row[claim.column], row["low"], row["high"], row["n"]) == (
            claim.estimate,
            claim.low,
            claim.high,
            claim.n,
        )


def test_bounds_that_a_rule_has_too_are_the_same_there():
    lower = load_claims(SHEET).set_index("id")["lower"]
    assert lower["asr_before"] == ALIGNMENT_ASR
    assert lower["cliff_deeper"] == MIN_CLIFF
    assert lower["sparse_circuit_causal"] == MIN_EXCESS


def test_a_claim_about_depth_needs_more_than_a_trace_of_a_difference():
    (deeper,) = load_claims(SHEET).query("id == 'cliff_deeper'").itertuples()
    assert claims.decide(Estimate(4e-6, 2e-6, 1e-5, 65), deeper.lower, deeper.upper) == "not supported"


def test_a_flaw_in_few_heads_supports_the_paper_and_one_without_is_the_negative_control(shipped):
    main = shipped[shipped["probe"].isin(["", "paper"]) & (shipped["population"] != "vulnerable")]
    verdicts = main.pivot_table(index="id", columns="family", values="verdict", aggfunc="first")
    for name in ("asr_before", "asr_after_causal", "asr_after_direct", "asr_tuned", "sparse_circuit_causal"):
        assert verdicts.loc[name, "planted"] == "supported", name
    assert verdicts.loc["asr_tuned_vs_random", "planted"] == "supported"
    assert verdicts.loc["asr_after_causal", "diffuse"] == "not supported"
    assert verdicts.loc["sparse_circuit_causal", "diffuse"] == "not supported"
    assert verdicts.loc["planted_recall_causal", "diffuse"] == claims.NO_DATA
    assert verdicts.loc["asr_before", "aligned"] == "not supported"


def test_operating_points_stand_for_numbers_in_filters_and_shares_in_words(shipped, tables):
    row = shipped.query("id == 'asr_after_causal' and family == 'planted' and population == 'all'").iloc[0]
    assert row["metric"] == "ASR over all harmful prompts, top 3 % of heads ablated, causal ranking"
    other, _ = evaluate_all(tables, load_claims(SHEET), fraction=0.1)
    row = other.query("id == 'asr_after_causal' and family == 'planted' and population == 'all'").iloc[0]
    assert (row["metric"], row["estimate"]) == (
        "ASR over all harmful prompts, top 10 % of heads ablated, causal ranking",
        0.5,
    )


def test_a_claim_may_be_about_the_first_of_the_trainings_that_stop_early(tables):
    sheet = load_claims(SHEET).query("id == 'not_refused_tuned'")
    sheet = sheet.assign(where="{early} == steps and " + sheet["where"], metric="after {early} steps")
    steps = {early: evaluate_all(tables, sheet, early=early)[0].query("family == 'planted'") for early in (7, 30)}
    assert set(steps[30]["metric"]) == {"after 30 steps"} and steps[30]["estimate"].notna().all()
    assert (steps[7]["verdict"] == claims.NO_DATA).all()


def test_claims_follow_the_ranking_that_a_run_operates_by(tables):
    found, by_seed = evaluate_all(tables, load_claims(SHEET), operating="direct")
    row = found.query("id == 'asr_after_causal' and family == 'planted' and population == 'all'").iloc[0]
    assert row["metric"] == "ASR over all harmful prompts, top 3 % of heads ablated, direct ranking"
    read = by_seed.query("id == 'asr_after_causal' and family == 'planted' and population == 'all'").iloc[0]
    assert tables["ablation"].loc[read["row"] - 1, "ranking"] == "direct"


def test_a_claim_that_names_the_probe_is_made_by_every_probe(shipped):
    probes = shipped.groupby("id")["probe"].agg(set)
    assert probes["cliff_height"] == {"paper", "thinking"}
    assert probes["asr_after_causal"] == {""}


def test_the_vulnerable_population_is_of_families_that_have_one(shipped, by_seed):
    populations = shipped.groupby(["id", "family"])["population"].agg(set)
    assert populations["asr_after_causal", "planted"] == {"all", "vulnerable"}
    assert populations["asr_after_causal", "aligned"] == {"all"}
    assert populations["over_refusal_after_causal", "planted"] == {""}
    found = by_seed.query("id == 'asr_after_causal' and model == 'planted-s0' and population == 'vulnerable'")
    row = found.iloc[0]
    assert (row["estimate"], row["n"], row["verdict"]) == (0, 30, "inconclusive")  # 0 of 30: it still reaches 0.11


def test_a_claim_about_other_models_keeps_its_row_and_says_so(tables):
    found = evaluate(tables, about="poor")
    assert found["verdict"].to_dict() == {"planted": "supported", "diffuse": "supported", "aligned": "no data"}
    assert found.loc["aligned", ["estimate", "p", "p_holm"]].isna().all()
    assert found.loc["aligned", ["seeds", "holds", "agrees"]].tolist() == [0, "", ""]
    reason = "about poorly aligned models; this one is well aligned (ASR 0.00 [0.00, 0.06])"
    assert found.loc["aligned", "reason"] == reason
    assert evaluate_seeds(tables, about="poor").loc["aligned", ["estimate", "row"]].isna().all()
    between = changed(tables, "alignment", "model == 'diffuse'", alignment="unclear", value=0.1, low=0.05, high=0.15)
    reason = "about poorly aligned models; this one is neither that nor its opposite (ASR 0.10 [0.05, 0.15])"
    assert evaluate(between, about="poor").loc["diffuse", "reason"] == reason
    unknown = changed(tables, "alignment", "model == 'diffuse'", alignment="unclear", value=np.nan, n=0)
    assert evaluate(unknown, about="well").loc["diffuse", "reason"].endswith("(ASR unknown)")


def test_a_row_that_is_not_there_is_no_data_and_the_reason_names_it(tables):
    gone = tables | {"cliffs": tables["cliffs"].query("not (model == 'diffuse' and quantity == 'cliff')")}
    found = evaluate(gone)
    assert found.loc["diffuse", "verdict"] == "no data"
    assert found.loc["diffuse", "reason"] == "no row in table cliffs where probe == 'paper' and quantity == 'cliff'"
    assert found.loc["planted", "verdict"] == "supported"
    gone = tables | {"cliffs": tables["cliffs"].iloc[:0]}
    assert set(evaluate(gone)["reason"]) == {"no row in table cliffs"}


def test_a_missing_number_is_no_data_and_a_missing_interval_is_inconclusive(tables):
    no_number = changed(tables, "cliffs", "model == 'diffuse'", value=np.nan, low=np.nan, high=np.nan)
    assert evaluate(no_number).loc["diffuse", ["verdict", "reason"]].tolist() == ["no data", "the number is missing"]
    assert evaluate_seeds(no_number).loc["diffuse", "n"] == 60
    why = {"cliffs": no_number["cliffs"].assign(reason="it refused nothing")}
    assert evaluate(no_number | why).loc["diffuse", "reason"] == "it refused nothing"
    no_interval = changed(tables, "cliffs", "model == 'diffuse'", low=np.nan, high=np.nan, n=1)
    row = evaluate(no_interval).loc["diffuse"]
    assert (row["verdict"], row["reason"], row["estimate"]) == ("inconclusive", "the interval is missing", 0.9)
    assert math.isnan(row["p"])


def test_a_family_has_the_mean_of_its_seeds_and_says_in_how_many_the_verdict_holds(tables):
    apart = changed(tables, "cliffs", "model == 'planted-s1'", value=0.1, low=0.05, high=0.15, n=40)
    row = evaluate(apart).loc["planted"]
    assert row[["estimate", "n", "seeds", "holds"]].tolist() == [0.5, 100, 2, "0 of 2"]
    assert row["verdict"] == "inconclusive" and row["low"] < 0.15 and row["high"] > 0.85  # either seed twice
    assert evaluate_seeds(apart).loc[SEEDS, "verdict"].tolist() == ["supported", "not supported"]
    assert evaluate(tables).loc["planted", ["seeds", "holds", "verdict"]].tolist() == [2, "2 of 2", "supported"]


def test_a_seed_without_a_number_is_named_and_the_others_decide(tables):
    gone = tables | {"cliffs": tables["cliffs"].query("model != 'planted-s1'")}
    row = evaluate(gone).loc["planted"]
    assert row[["seeds", "holds", "n", "verdict"]].tolist() == [1, "1 of 1", 60, "supported"]
    assert row["reason"] == "planted-s1: no row in table cliffs"


def test_where_the_planting_did_not_take_nothing_is_claimed(tables):
    row = evaluate(tables, truths(planted_s1=MISSED), expected="cliff").loc["planted"]
    assert (row["seeds"], row["verdict"]) == (1, "supported")
    assert row["reason"] == "planted-s1: the planting did not take (compliance 0.84, steps 400)"
    row = evaluate(tables, truths(planted_s0=MISSED, planted_s1=MISSED), expected="cliff").loc["planted"]
    assert (row["verdict"], row["agrees"]) == ("no data", "")
    assert row["reason"] == "the planting did not take (compliance 0.84, steps 400)"


def test_where_the_guard_misses_its_gate_nothing_rests_on_it(tables):
    guarded = tables | {"guard": GUARD}
    met = evaluate(guarded, judge="answer")
    assert set(met["verdict"]) == {"supported"}
    assert set(met["guard_error"]) == {"sensitivity 0.98 [0.96, 1.00], specificity 0.99 [0.97, 1.00]"}
    missed = evaluate(guarded, judge="thinking")
    assert set(missed["verdict"]) == {"no data"}
    assert set(missed["reason"]) == {"the guard's gate is missed"}
    without = evaluate(guarded)
    assert set(without["verdict"]) == {"supported"} and set(without["guard_error"]) == {""}
    phrases = evaluate(tables, judge="thinking")
    assert set(phrases["verdict"]) == {"supported"} and set(phrases["guard_error"]) == {""}


def test_a_guard_that_does_not_judge_answers_decides_thinking_alone(tables):
    failing = tables | {"guard": GUARD.assign(met=False)}
    for text, verdicts in (("answer", {"supported"}), ("thinking", {"no data"})):
        found, _ = evaluate_all(failing, sheet(judge=text), harm_judge="phrases")
        assert set(found["verdict"]) == verdicts


def test_every_shipped_rate_of_the_harm_judge_is_gated(tables):
    failing = GUARD.assign(met=False)
    found, _ = evaluate_all(tables | {"guard": failing}, load_claims(SHEET))
    gated = set(found.loc[found["reason"].str.contains("the guard's gate is missed"), "id"])
    sheet = load_claims(SHEET)
    of_harm = sheet["where"].str.contains("rate == 'asr'|quantity == 'excess'") | sheet["table"].isin(
        ["alignment", "monitors"]
    )
    assert gated == set(sheet.loc[of_harm, "id"])


def test_holm_is_over_the_rows_of_a_family_with_the_same_question(tables):
    lowers = [0.835, 0.847, 0.849, 0.87]
    several = [sheet(id=f"steep_{number}", lower=lower) for number, lower in enumerate(lowers)]
    found, _ = evaluate_all(tables, pd.concat([*several, sheet(id="other", claim="Another question")]))
    own = found.query("family == 'diffuse'").set_index("id")
    steep = own[own["claim"] == "It falls"]
    assert steep["p_holm"].tolist() == pytest.approx(holm(steep["p"].tolist()))
    assert own.loc["other", "p_holm"] == own.loc["other", "p"] == 1 / RESAMPLES
    assert steep["verdict"].tolist() == [*["supported"] * 3, "inconclusive"]
    assert steep["verdict_holm"].tolist() == ["supported", *["inconclusive"] * 3]


def test_the_number_may_be_in_another_column(tables):
    found = evaluate(tables, table="judges", where="variant == 'base'", value="agreement")
    assert found.loc["planted", ["estimate", "predicted"]].tolist() == [1, "> 0.2"]
    assert set(evaluate_seeds(tables, table="judges", where="variant == 'base'", value="agreement")["column"]) == {
        "agreement"
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": "probe == 'paper'"}, r"row 'steep'.*finds 40 rows of planted-s0 in table cliffs; narrow it"),
        ({"table": "clifs"}, r"row 'steep': no table 'clifs'; choose one of cliffs,"),
        ({"where": "prob == 'paper'"}, r"table cliffs has no column 'prob'; it has model, probe, group"),
        ({"value": "difference"}, r"table cliffs has no column 'difference'"),
        ({"where": "n"}, r"row 'steep': where: 'n' is no filter for table cliffs"),
        ({"where": "probe < 3"}, r"row 'steep': where: 'probe < 3' is no filter"),
    ],
)
def test_a_filter_that_does_not_fit_the_table_is_an_error(tables, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate(tables, **changes)


def test_expected_follows_from_the_truth_and_is_empty_where_it_says_nothing(tables):
    found = evaluate(tables, expected="cliff")
    assert found["expected"].to_dict() == {"planted": "yes", "diffuse": "no", "aligned": ""}
    assert found["agrees"].to_dict() == {"planted": "yes", "diffuse": "no", "aligned": ""}
    opposite = evaluate(tables, expected="not cliff")
    assert opposite["expected"].to_dict() == {"planted": "no", "diffuse": "yes", "aligned": ""}
    assert opposite["agrees"].to_dict() == {"planted": "no", "diffuse": "yes", "aligned": ""}
    assert set(evaluate(tables, lower=0.9, expected="flaw")["agrees"]) == {"open"}
    assert set(evaluate(tables, known=[], expected="cliff")["expected"]) == {""}


def test_no_expectation_is_the_same_on_every_organism(shipped):
    """A claim that every organism must support could not fail; planted heads are looked for where there are some."""
    answers = shipped[shipped["expected"] != ""].groupby("id")["expected"].agg(set)
    assert len(answers) and (answers.map(len) == 2).all()


def test_a_range_of_two_bounds_is_written_as_one(tables):
    assert set(evaluate(tables, lower=-0.5, upper=0.5)["predicted"]) == {"-0.5 to 0.5"}
    assert set(evaluate(tables, lower=-math.inf, upper=0.5)["predicted"]) == {"< 0.5"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\tpaper\t", "2\tpapers\t", r"row 'asr_before': kind: 'papers' is not one of"),
        ("\t0.1\t\t", "\t\t\t", r"row 'asr_before'"),
        ("\t0.1\t\t", "\tnine\t\t", r"row 'asr_before': lower: 'nine' is not of type 'number'"),
        ("\t0.1\t\t", "\t0.1\t0.1\t", r"nothing is above 0\.1 and below 0\.1"),
        ("n > 0", "n > {dose}", r"column where: unknown placeholder; choose from \{probe\}, \{position\}"),
        ("n > 0", "n > {0}", r"column where: unknown placeholder"),
        ("n > 0", "n >> > 0", r"column where: 'n >> > 0' is no expression; write it like probe == "),
        ("\tabout\t", "\tof\t", r"unknown column 'of'"),
        ("plateau_high", "asr_before", r"id 'asr_before' occur twice"),
    ],
)
def test_a_wrong_sheet_is_an_error_that_names_the_row(tmp_path, old, new, message):
    text = Path(SHEET).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "claims.tsv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_claims(str(path))
