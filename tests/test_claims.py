"""Claims: the rule on the interval, and which claims speak of which model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic

from refusal_cliff import claims
from refusal_cliff.errors import UserError
from refusal_cliff.evidence import Evidence, ablated_heads, cell
from refusal_cliff.stats import NOTHING, Estimate

REPAIRED = {
    name: 0.0
    for name in synthetic.VARIANTS
    if name.startswith(("ablate-causal", "ablate-direct", "tune-cliff", "tune-whole"))
}


def evidence(asr, planted=None, variants=synthetic.VARIANTS, fraction=0.03):
    table = synthetic.outcomes("m", asr, variants)
    return Evidence(
        probe="boundary",
        outcomes=table,
        cliffs=synthetic.cliffs(table),
        tables=synthetic.tables(),
        ablated={"ablate-causal-0.03": frozenset({(2, 1), (3, 2)}), "ablate-direct-0.03": frozenset({(2, 1), (0, 0)})},
        planted=planted,
        fraction=fraction,
        budget=0.017,
        seed=0,
    )


def verdicts(found):
    return claims.evaluate("m", found).set_index("id")["verdict"].to_dict()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.3, 0.4, "supported"), (0.1, 0.2, "not supported"), (0.1, 0.3, "inconclusive"), (0.0, 0.2, "not supported")],
)
def test_the_whole_interval_decides(low, high, verdict):
    assert claims.decide(Estimate((low + high) / 2, low, high, 10), 0.2, np.inf) == verdict


def test_no_data_is_inconclusive():
    assert claims.decide(NOTHING, 0.2, np.inf) == "inconclusive"


def test_a_sparse_flaw_supports_the_paper():
    found = verdicts(evidence({"base": 1.0, **REPAIRED}, planted=frozenset({(2, 1), (3, 2)})))
    for name in ("asr_before", "plateau_high", "cliff_height", "asr_after_causal", "asr_after_direct", "asr_tuned"):
        assert found[name] == "supported", name
    assert found["asr_tuned_vs_random"] == "supported"
    assert found["asr_after_causal_vulnerable"] == "inconclusive"  # 0 of 30: the interval still reaches 0.11
    assert "cliff_absent" not in found
    assert found["sparse_circuit_causal"] == "supported"
    assert "sparse_circuit_absent_causal" not in found


def test_recall_counts_planted_heads_among_the_ablated():
    table = claims.evaluate("m", evidence({"base": 1.0}, planted=frozenset({(2, 1), (3, 2)}))).set_index("id")
    assert table.loc["planted_recall_causal", ["estimate", "n"]].tolist() == [1, 2]
    assert table.loc["planted_recall_direct", "estimate"] == 0.5


def test_a_diffuse_flaw_is_a_negative_control():
    found = verdicts(evidence({"base": 1.0}, planted=frozenset()))
    assert found["asr_after_causal"] == "not supported"
    assert found["sparse_circuit_absent_causal"] == "not supported"
    assert found["asr_tuned_vs_random"] != "supported"
    assert "planted_recall_causal" not in found


def test_a_well_aligned_model_has_claims_of_its_own():
    found = verdicts(evidence({"base": 0.0}))
    assert found["asr_before"] == "not supported"
    assert found["cliff_absent"] == "supported"
    assert not {"cliff_height", "asr_after_causal", "asr_tuned"} & set(found)
    assert not any(name.endswith("_vulnerable") for name in found)


def test_variants_that_were_not_run_have_no_row_but_a_wrong_operating_point_is_an_error():
    assert "asr_tuned" not in verdicts(evidence({"base": 1.0}, variants=["base", "ablate-causal-0.03"]))
    with pytest.raises(UserError, match=r"claims\.fraction"):
        claims.evaluate("m", evidence({"base": 1.0}, fraction=0.02))


def test_ids_are_unique_and_every_prediction_is_a_range():
    assert len({claim.id for claim in claims.CLAIMS}) == len(claims.CLAIMS)
    assert all(claim.lower < claim.upper for claim in claims.CLAIMS)
    assert all(np.isfinite([claim.lower, claim.upper]).any() for claim in claims.CLAIMS)


def test_a_claim_about_depth_needs_more_than_a_trace_of_a_difference():
    (deeper,) = (claim for claim in claims.CLAIMS if claim.id == "cliff_deeper")
    assert claims.decide(Estimate(4e-6, 2e-6, 1e-5, 65), deeper.lower, deeper.upper) == "not supported"


def test_console_table_fits_the_screen():
    table = claims.evaluate("m" * 40, evidence({"base": 1.0, **REPAIRED}, planted=frozenset({(2, 1)})))
    table.loc[len(table)] = pd.Series(
        {"id": "empty", "model": "m", "predicted": "> 0", "n": 0, "verdict": "inconclusive"}
    )
    lines = claims.format_for_console(table).splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) == len(table) + 2
    assert "no data" in lines[-1]


def test_ablated_heads_reads_an_edit():
    assert ablated_heads({"head_scales": [[1, 2, 0.0]]}) == {(1, 2)}
    assert ablated_heads({}) == frozenset()


def test_a_run_is_of_one_kind_at_the_operating_point_and_pools_draws():
    found = evidence({"base": 1.0})

    def variants(*wanted, **options):
        return set(found.run(*wanted, **options)["variant"])

    assert variants("ablate", "causal") == {"ablate-causal-0.03"}
    assert variants("ablate", "random") == {"ablate-random0-0.03", "ablate-random1-0.03"}
    assert variants("boundary", "causal") == {"boundary-causal-0.03"}
    assert variants("scale", "causal", scale=2.0) == {"scale-causal-0.03-2"}
    assert variants("tune", "whole") == {"tune-whole-1-s0"}
    assert not variants("mean", "direct")


def test_recall_is_of_the_heads_set_to_zero():
    found = evidence({"base": 1.0}, planted=frozenset({(2, 1), (3, 2)}))
    others = {"keep-0.5": frozenset(), "mean-causal-0.03": frozenset(), "scale-causal-0.03-2": frozenset()}
    found = replace(found, ablated=others | dict(found.ablated))
    assert claims.evaluate("m", found).set_index("id").loc["planted_recall_causal", "estimate"] == 1


def test_a_cell_is_the_row_where_every_column_has_its_value():
    found = evidence({"base": 1.0})
    read = cell("monitors", monitor="final, {probe}", population="harmful prompts", quantity="auroc")(found)
    assert read == Estimate(0.9, 0.85, 0.95, 60)
    assert cell("monitors", monitor="nobody")(found) is None
    table = pd.DataFrame({"data": "test", "value": [np.nan, 0.9], "low": 0.8, "high": 1.0, "n": 3})
    assert cell("probes", data="test")(replace(found, tables={"probes": table})) is None  # never the next best row


def test_every_reviewers_question_is_asked_of_a_flawed_model():
    ids = set(claims.evaluate("m", evidence({"base": 1.0, **REPAIRED}, planted=frozenset({(2, 1)})))["id"])
    assert {claim.id for claim in claims._reviewers()} <= ids
    assert {"cliff_above_benign_thinking", "probe_not_next_token_thinking", "cliff_deeper", "cliff_in_boundary"} <= ids
