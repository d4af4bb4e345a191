"""A killed run goes on and ends with the results of one that nobody disturbed. The long form is `make kills`."""

from pathlib import Path
from types import SimpleNamespace

import kills
import pandas as pd
import pytest
from kills import Kill, Moment
from snakemake.persistence.file import FilePersistence

TINY = """
generation: {max_new_tokens: 16}
organisms:
  aligned: {architecture: {layers: 1, heads: 2, kv_heads: 2, hidden: 16, intermediate: 16, positions: 512}, steps: 4}
"""
TARGETS = ["results/aligned/base/traces/test.parquet"]


def test_a_run_killed_from_its_first_rule_to_amid_a_generation_ends_with_the_same_results(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "CONFIGS", (*kills.CONFIGS, "tiny.yaml"))
    peaceful, disturbed = (kills.copy_project(tmp_path / name) for name in ("peaceful", "disturbed"))
    for project in (peaceful, disturbed):
        (project / "tiny.yaml").write_text(TINY)
    kills.run(peaceful, TARGETS)
    planned = [
        Moment("read_dataset", 0.1),
        Moment("assemble_prompts", 0),
        Moment("train_organism", 0.1),
        Moment("generate_traces", 0, batches=1),
        Moment("generate_traces", 0, batches=1),
    ]
    found = kills.disturb(disturbed, TARGETS, peaceful, planned)
    assert [(kill.rule, kill.wanted) for kill in found] == [(moment.rule, moment.batches) for moment in planned]
    assert all(kill.rule in kill.running.split() for kill in found)
    assert found[-1].batches > found[-2].batches >= 1, "the second try did not go on from the batches of the first"
    assert len(kills.files(peaceful)) > 30
    assert kills.differences(peaceful, disturbed) == {}


def test_a_difference_between_two_runs_is_found(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name / "results" / "logs").mkdir(parents=True)
        (tmp_path / name / "results" / "same.csv").write_text("a")
        (tmp_path / name / "results" / "claims.csv").write_text(name)
        (tmp_path / name / "results" / "logs" / "rule.log").write_text(name)
    (tmp_path / "one" / "results" / ".test_batches").mkdir()
    (tmp_path / "one" / "results" / ".test_batches" / "0.json").write_text("[]")
    assert kills.differences(tmp_path / "one", tmp_path / "other") == {
        "results/claims.csv": "other content",
        "results/.test_batches/0.json": "in one run alone",
    }


def test_the_page_shows_the_recorded_kills():
    text, recorded = kills.PAGE.read_text(encoding="utf-8"), pd.read_csv(kills.RESULTS)
    assert kills.page(text, recorded) == text
    assert set(recorded.columns) == {*Kill._fields, "files", "different"}


def test_at_least_twenty_kills_of_every_stage_changed_nothing():
    recorded = pd.read_csv(kills.RESULTS)
    hit = set(" ".join(recorded["running"].dropna()).split())
    assert len(recorded) >= 20
    assert (recorded["different"] == 0).all()
    assert {
        "train_organism",
        "generate_traces",
        "judge_variants",
        "train_probes",
        "measure_heads",
        "tune_adapter",
    } <= hit
    assert {"write_edit", "collect_outcomes", "evaluate_claims", "build_report"} <= hit
    assert (recorded.loc[recorded["rule"] == "generate_traces", "batches"] > 0).any()


def test_every_rule_of_a_finished_run_has_its_moment(tmp_path, monkeypatch):
    rules = ["read_dataset", "generate_traces", *(f"plot_{number}" for number in range(9))]
    noted = {f"{rule}.csv": {"rule": rule, "starttime": place} for place, rule in enumerate(rules)}
    monkeypatch.setattr(kills, "records", lambda project: noted)
    planned = kills.moments(tmp_path)
    assert [moment.rule for moment in planned[:3]] == ["read_dataset", "generate_traces", "plot_0"]
    assert sum(moment.rule.startswith("plot_") for moment in planned) == kills.ALIKE["plot_"]
    assert sum(moment.batches > 0 for moment in planned) == 6


@pytest.mark.parametrize("name", ["results/a~?.csv", "results/" + "very_" * 60 + "long/name.parquet"])
def test_the_output_that_a_note_of_snakemakes_is_about_is_read_from_its_name(tmp_path, name):
    persistence = SimpleNamespace(_fetch_max_len=lambda subject: 100)
    file = Path(FilePersistence._record_path(persistence, tmp_path, name))
    assert kills._path(tmp_path, file) == name
