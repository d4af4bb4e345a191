"""Small real runs of configs beside the default: fine-tuned models, repairs, real benchmarks."""

import pandas as pd
import pytest
import torch
from conftest import BENCHMARKS, needs_benchmarks
from project import copy_project, snakemake
from safetensors.torch import load_file

from refusal_cliff.edits import Edit
from refusal_cliff.models import head_counts, load_model, output_projection


def test_fine_tuned_models_are_read_by_the_probes_of_their_parent(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("finetuned"))
    snakemake(project, "--configfile", "tests/config/small.yaml", "tests/config/finetuned.yaml", "--", "claims")
    results = project / "results"
    claims = pd.read_csv(results / "claims.csv").set_index(["id", "family"])
    for name in ("rise_lost", "thinking_kept"):
        assert (claims.loc[name].loc[["eroded"], "seeds"] == 2).all()
    assert claims.loc[[("recognition_stays", "taught")], "n"].tolist() == [16]
    assert not (results / "untaught" / "activations").exists(), "no probe reads what refuses nothing"
    assert not (results / "eroded-s0" / "probes").exists()
    changes = pd.read_csv(results / "tables" / "changes.csv")
    assert changes.groupby("model")["parent"].first().to_dict() == {"eroded-s0": "taught-s0", "eroded-s1": "taught-s1"}
    looks = pd.read_csv(results / "tables" / "finetuning.csv")
    steps = looks.groupby("model")["step"].unique().map(lambda seen: seen.tolist())
    assert steps["eroded-s0"] == [0, 1, 2], "without a gate, all steps"
    assert steps["taught-s0"] == [0, 3], "its gate, which it meets from the start, ends it at the first look"
    rates = pd.read_csv(results / "tables" / "rates.csv")
    assert "untaught" in set(rates["model"])


def test_repairs_are_set_side_by_side(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("repairs"))
    configs = ["--configfile", "tests/config/small.yaml", "tests/config/repairs.yaml"]
    both = "results/cliff-s0/variants/both-causal-0.03-cliff-0.1-s0/checkpoint"
    snakemake(project, *configs, "--", "repairs", "results/tables/ablation.csv", "results/tables/comparisons.csv", both)
    tables = project / "results" / "tables"
    repairs = pd.read_csv(tables / "repairs.csv")
    tuned = {"tune cliff", "tune random", "tune whole", "both causal cliff"}
    made = {"none", "ablate causal", "ablate direct", "ablate random", "minimal causal", "first causal"}
    made |= {"steer refusal", "steer random", "steer rotated", "ablate promoting"}
    assert set(repairs.loc[repairs["model"] == "cliff-s0", "repair"]) == made | tuned
    assert set(repairs.loc[repairs["model"] == "cliff-s1", "repair"]) == made
    measured = repairs.groupby(["model", "repair", "dose"])["rate"].agg(set)
    for rates in measured:
        assert rates == {"asr", "not_refused", "refusal", "over_refusal", "utility", "perplexity", "kl"}
    drift = repairs[repairs["rate"] == "kl"].set_index("repair")["value"]
    assert (drift["none"] == 0).all() and (drift.drop("none") > 0).all()
    heads = repairs.groupby(["repair", "model"])["heads"].first()
    assert heads["minimal causal"].equals(heads["first causal"]) and heads["minimal causal"].between(1, 6).all()
    matched = pd.read_csv(tables / "repairs_matched.csv")
    assert set(matched["model"]) == {"all", "cliff-s0", "cliff-s1"} and set(matched["bound"]) == {0.05, 0.02, 0.1}
    unrepaired = repairs[(repairs["repair"] == "none") & (repairs["rate"] == "not_refused")].set_index("model")[
        "highest"
    ]
    for row in matched[(matched["dose"] == 0) & (matched["rate"] == "not_refused")].itertuples():
        if row.model != "all" and row.against == "none":
            assert row.value == pytest.approx(unrepaired[row.model], abs=1e-5)
    assert (matched[matched["model"] != "all"].groupby("model")["picked"].sum() > 0).all()
    for bound, part in matched[(matched["rate"] == "over_refusal") & (matched["dose"] > 0)].groupby("bound"):
        assert (part.loc[(part["model"] != "all") & (part["against"] == "none"), "value"] <= bound).all()
    claimed = pd.read_csv(project / "config" / "repairs_claims.tsv", sep="\t")
    assert set(claimed["table"]) == {"repairs_matched"}
    minimal = pd.read_csv(tables / "repairs_minimal.csv")
    sizes = minimal[minimal["quantity"] == "heads"].pivot_table(index="model", columns="kept", values="value")
    assert (sizes[0.8] <= sizes[0.9]).all() and (sizes[0.9] <= sizes[0.95]).all()
    assert (sizes.loc[heads["minimal causal"].index, 0.9] == heads["minimal causal"]).all()
    ablation = pd.read_csv(tables / "ablation.csv")
    assert {"minimal", "first"} <= set(ablation["kind"])
    # A folder of weights has the tuning, and no head that is ablated in it.
    weights = load_file(project / both / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    base = load_file(project / "results/cliff-s0/checkpoint/model.safetensors")
    assert not torch.equal(weights, base["model.layers.0.self_attn.q_proj.weight"])
    edit = Edit.read((project / both).with_name("edit.json"))
    merged = load_model(project / both)
    for layer, head in edit.heads:
        width = head_counts(merged)[2]
        assert not output_projection(merged, layer).weight[:, head * width : (head + 1) * width].any()
    compared = pd.read_csv(tables / "comparisons.csv").set_index(["variant", "reference"]).index
    assert ("steer-refusal-1", "steer-rotated-1") in compared
    assert ("minimal-causal-0.2", "first-causal-0.2") in compared
    svg = (project / "results" / "figures" / "repairs.svg").read_text()
    assert "steer refusal" in svg and "minimal causal" in svg


@needs_benchmarks
def test_real_benchmarks_run_through_the_same_rules(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("benchmarks"))
    small = project / "tests" / "config" / "small_benchmarks.yaml"
    options = ["--configfile", "config/benchmarks.yaml", small, "--config", f"data_dir={BENCHMARKS}"]
    snakemake(project, *options, "--", "claims", "tables")
    results = project / "results" / "benchmarks"
    rates = pd.read_csv(results / "tables" / "rates.csv")
    assert {"advbench", "jailbreakbench", "xstest_safe", "xstest_unsafe", "alpaca"} <= set(rates["dataset"])
    claims = pd.read_csv(results / "claims.csv")
    assert claims["id"].str.contains("cliff").any()
