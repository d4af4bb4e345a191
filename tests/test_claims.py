"""Claims: the rule on the interval, the cell that a claim reads, and the sheet of claims that ships."""

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
from refusal_cliff.stats import Estimate

SHEET = str(Path(__file__).parents[1] / "config/claims.tsv")
PROBES = {"boundary": "last_boundary", "thinking": "thinking"}
CAUSAL, DIRECT = "ablate-causal-0.03", "ablate-direct-0.03"
VARIANTS = [name for name in synthetic.VARIANTS if "0.015" not in name and "0.05" not in name]
REPAIRED = dict.fromkeys([CAUSAL, DIRECT, "tune-cliff-0.017-s0", "tune-whole-1-s0"], 0.0)


def as_files(tables):
    """Tables as they come back from the files that a run writes."""
    return {name: pd.read_csv(io.StringIO(table.to_csv(index=False))) for name, table in tables.items()}


@pytest.fixture(scope="module")
def tables():
    """Of a model whose flaw two heads carry, of one whose flaw no head carries, and of a well aligned one."""
    outcomes = [
        synthetic.outcomes("planted", {"base": 1.0, **REPAIRED}, VARIANTS),
        synthetic.outcomes("diffuse", {"base": 1.0}, [name for name in VARIANTS if "tune" not in name]),
        synthetic.outcomes("aligned", {"base": 0.0}, ["base"]),
    ]
    return as_files(synthetic.tables(pd.concat(outcomes), {"planted": synthetic.PLANTED, "diffuse": []}))


@pytest.fixture(scope="module")
def shipped(tables):
    return claims.evaluate(load_claims(SHEET), tables, PROBES, 0.03, 0.017)


def sheet(**changes):
    """A sheet of one claim, about the cliff."""
    row = {
        "id": "steep",
        "claim": "It falls",
        "section": "section 3",
        "kind": "paper",
        "table": "cliffs",
        "where": "probe == 'boundary' and quantity == 'cliff' and group == 'benign' and family == 'all'",
        "value": "value",
        "metric": "mean cliff",
        "lower": 0.2,
        "upper": math.inf,
        "about": "any",
        "expected": [],
    }
    return pd.DataFrame([row | changes])


def evaluate(tables, **changes):
    return claims.evaluate(sheet(**changes), tables, PROBES, 0.03, 0.017).set_index("model")


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


def test_every_shipped_claim_finds_its_row_where_it_applies(shipped):
    measured = shipped[shipped["verdict"] != claims.NO_DATA]
    assert set(measured["id"]) == set(load_claims(SHEET)["id"])
    assert not shipped.duplicated(["id", "model", "probe", "population"]).any()
    assert (shipped["reason"] != "").equals(shipped["verdict"] == claims.NO_DATA)


def test_no_claim_is_dropped_on_any_model(shipped):
    assert (shipped.groupby("model")["id"].nunique() == len(load_claims(SHEET))).all()
    assert set(shipped["model"]) == {"planted", "diffuse", "aligned"}


def test_a_claim_says_which_cell_it_read(shipped, tables):
    for claim in shipped[shipped["verdict"] != claims.NO_DATA].itertuples():
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
    main = shipped[shipped["probe"].isin(["", "boundary"]) & (shipped["population"] != "vulnerable")]
    verdicts = main.pivot_table(index="id", columns="model", values="verdict", aggfunc="first")
    for name in ("asr_before", "asr_after_causal", "asr_after_direct", "asr_tuned", "sparse_circuit_causal"):
        assert verdicts.loc[name, "planted"] == "supported", name
    assert verdicts.loc["asr_tuned_vs_random", "planted"] == "supported"
    assert verdicts.loc["sparse_circuit_absent_causal", "planted"] == claims.NO_DATA
    assert verdicts.loc["asr_after_causal", "diffuse"] == "not supported"
    assert verdicts.loc["sparse_circuit_causal", "diffuse"] == "not supported"
    assert verdicts.loc["sparse_circuit_absent_causal", "diffuse"] == "supported"
    assert verdicts.loc["planted_recall_causal", "diffuse"] == claims.NO_DATA
    assert verdicts.loc["asr_before", "aligned"] == "not supported"


def test_operating_points_stand_for_numbers_in_filters_and_shares_in_words(shipped, tables):
    row = shipped.query("id == 'asr_after_causal' and model == 'planted' and population == 'all'").iloc[0]
    assert row["metric"] == "ASR over all harmful prompts, top 3 % of heads ablated, causal ranking"
    other = claims.evaluate(load_claims(SHEET), tables, PROBES, 0.1, 0.017)
    row = other.query("id == 'asr_after_causal' and model == 'planted' and population == 'all'").iloc[0]
    assert (row["metric"], row["estimate"]) == (
        "ASR over all harmful prompts, top 10 % of heads ablated, causal ranking",
        0.5,
    )


def test_a_claim_that_names_the_probe_is_made_by_every_probe(shipped):
    probes = shipped.groupby("id")["probe"].agg(set)
    assert probes["cliff_height"] == {"boundary", "thinking"}
    assert probes["asr_after_causal"] == {""}


def test_the_vulnerable_population_is_of_models_that_have_one(shipped):
    populations = shipped.groupby(["id", "model"])["population"].agg(set)
    assert populations["asr_after_causal", "planted"] == {"all", "vulnerable"}
    assert populations["asr_after_causal", "aligned"] == {"all"}
    assert populations["over_refusal_after_causal", "planted"] == {""}
    row = shipped.query("id == 'asr_after_causal' and model == 'planted' and population == 'vulnerable'").iloc[0]
    assert (row["estimate"], row["n"], row["verdict"]) == (0, 30, "inconclusive")  # 0 of 30: it still reaches 0.11


def test_a_claim_about_other_models_keeps_its_row_and_says_so(tables):
    found = evaluate(tables, about="poor")
    assert found["verdict"].to_dict() == {"planted": "supported", "diffuse": "supported", "aligned": "no data"}
    reason = "about poorly aligned models; this one is well aligned (ASR 0.00 [0.00, 0.06])"
    assert found.loc["aligned", "reason"] == reason
    assert found.loc["aligned", ["estimate", "row"]].isna().all()
    between = changed(tables, "alignment", "model == 'planted'", alignment="unclear", value=0.1, low=0.05, high=0.15)
    reason = "about poorly aligned models; this one is neither that nor its opposite (ASR 0.10 [0.05, 0.15])"
    assert evaluate(between, about="poor").loc["planted", "reason"] == reason
    unknown = changed(tables, "alignment", "model == 'planted'", alignment="unclear", value=np.nan, n=0)
    assert evaluate(unknown, about="well").loc["planted", "reason"].endswith("(ASR unknown)")


def test_a_row_that_is_not_there_is_no_data_and_the_reason_names_it(tables):
    gone = tables | {"cliffs": tables["cliffs"].query("not (model == 'planted' and quantity == 'cliff')")}
    found = evaluate(gone)
    assert found.loc["planted", "verdict"] == "no data"
    assert found.loc["planted", "reason"] == (
        "no row of planted in table cliffs where probe == 'boundary' and quantity == 'cliff'"
    )
    assert found.loc["diffuse", "verdict"] == "supported"
    gone = tables | {"cliffs": tables["cliffs"].iloc[:0]}
    assert set(evaluate(gone)["reason"]) == {f"no row of {model} in table cliffs" for model in found.index}


def test_a_missing_number_is_no_data_and_a_missing_interval_is_inconclusive(tables):
    no_number = changed(tables, "cliffs", "model == 'planted'", value=np.nan, low=np.nan, high=np.nan)
    row = evaluate(no_number).loc["planted"]
    assert (row["verdict"], row["reason"], row["n"]) == ("no data", "the number is missing", 60)
    no_interval = changed(tables, "cliffs", "model == 'planted'", low=np.nan, high=np.nan, n=1)
    row = evaluate(no_interval).loc["planted"]
    assert (row["verdict"], row["reason"], row["estimate"]) == ("inconclusive", "the interval is missing", 0.9)


def test_the_number_may_be_in_another_column(tables):
    found = evaluate(tables, table="judges", where="variant == 'base'", value="agreement")
    assert found.loc["planted", ["estimate", "column", "predicted"]].tolist() == [1, "agreement", "> 0.2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": "probe == 'boundary'"}, r"row 'steep'.*finds 40 rows of planted in table cliffs; narrow it"),
        ({"table": "clifs"}, r"row 'steep': no table 'clifs'; choose one of cliffs,"),
        ({"where": "prob == 'boundary'"}, r"table cliffs has no column 'prob'; it has model, probe, group"),
        ({"value": "difference"}, r"table cliffs has no column 'difference'"),
        ({"where": "n"}, r"row 'steep': where: 'n' is no filter for table cliffs"),
        ({"where": "probe < 3"}, r"row 'steep': where: 'probe < 3' is no filter"),
    ],
)
def test_a_filter_that_does_not_fit_the_table_is_an_error(tables, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate(tables, **changes)


def test_expected_says_what_holds_by_construction_and_is_empty_where_nobody_knows(tables):
    found = evaluate(tables, expected=["planted", "not diffuse"])
    assert found["expected"].to_dict() == {"planted": "yes", "diffuse": "no", "aligned": ""}


def test_a_range_of_two_bounds_is_written_as_one(tables):
    assert set(evaluate(tables, lower=-0.5, upper=0.5)["predicted"]) == {"-0.5 to 0.5"}
    assert set(evaluate(tables, lower=-math.inf, upper=0.5)["predicted"]) == {"< 0.5"}


def test_console_shows_the_paper_by_its_probe_and_what_is_contrary_to_expectation(shipped):
    whole = pd.read_csv(io.StringIO(shipped.assign(model=shipped["model"] + "_" * 40).to_csv(index=False)))
    text = claims.format_for_console(whole, "boundary")
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.splitlines()) <= claims.SHOWN + 4
    assert f"of {len(shipped)} rows" in text
    assert "plateau_high" in text
    assert "perplexity_after_causal" not in text
    assert "no data" not in text
    contrary = shipped.assign(expected=np.where(shipped["id"] == "perplexity_after_causal", "no", ""))
    assert claims.format_for_console(contrary, "boundary").count("perplexity_after_causal") == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\tpaper\t", "\tpapers\t", r"row 'asr_before': kind: 'papers' is not one of"),
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
