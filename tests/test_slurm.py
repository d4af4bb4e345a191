"""The workflow on a real Slurm of one node, without accounting and with GPUs that it alone believes in."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from project import copy_project, edited

SCRIPTS = Path(__file__).parent / "slurm"
CONFIG = ["--configfile", "tests/config/small.yaml", "tests/config/slurm.yaml"]
PROFILE = ["--workflow-profile", "profiles/slurm"]
# Jobs take seconds here, and the file system is local.
PATIENCE = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
ELSEWHERE = 75
"""What up.sh ends with where it is not the one to start a Slurm."""
EDIT = "ablate-causal-0.03"


def missing():
    """Why no Slurm can be started here, or nothing."""
    if os.geteuid() != 0:
        return "its daemons run as several users; run the tests as root, as in a container, to include it"
    if absent := [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "runuser") if not shutil.which(name)]:
        return f"no {', '.join(absent)} here (make machine installs them on Debian)"
    return None


pytestmark = pytest.mark.skipif(missing() is not None, reason=f"starts a real Slurm: {missing()}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A running Slurm; skipped where none may start: beside another one, or in a container without device nodes."""
    state = tmp_path_factory.mktemp("slurm")
    # To files: daemons keep what they inherit open, and a pipe would never end.
    with (state / "up.log").open("w") as log:
        started = subprocess.run([SCRIPTS / "up.sh", state], stdout=log, stderr=log, check=False)
    try:
        said = (state / "up.log").read_text()[-500:]
        if started.returncode == ELSEWHERE:
            pytest.skip(f"starts a real Slurm, which may not be started on this machine: {said}")
        assert started.returncode == 0, f"Slurm does not start: {said}"
        yield
    finally:
        subprocess.run([SCRIPTS / "down.sh", state], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("cluster"))


def command(*arguments):
    return [sys.executable, "-m", "snakemake", *CONFIG, *PROFILE, *PATIENCE, *map(str, arguments)]


def run(project, *arguments):
    """Run Snakemake in `project`; its exit status, and its standard output and error as one text."""
    done = subprocess.run(
        command(*arguments), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def jobs():
    """Every job that Slurm has seen, finished ones too: id, rule, state, partition, memory in MB, minutes, GPUs."""
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner"], stdout=subprocess.PIPE, text=True, check=True)
    rows = []
    for line in shown.stdout.splitlines():
        if not line.startswith("JobId="):
            continue
        field = dict(part.split("=", 1) for part in line.split() if "=" in part)
        hours, minutes, _ = map(int, field["TimeLimit"].split(":"))
        gpus = re.search(r"gpu:(\d+)", field.get("TresPerJob", ""))
        rows.append(
            {
                "id": int(field["JobId"]),
                "rule": re.sub(r"^rule_(\w+?)(_wildcards.*)?$", r"\1", field["Comment"]),
                "state": field["JobState"],
                "partition": field["Partition"],
                "memory": int(re.search(r"mem=(\d+)M", field["TRES"])[1]),
                "minutes": 60 * hours + minutes,
                "gpus": int(gpus[1]) if gpus else 0,
            }
        )
    columns = ["id", "rule", "state", "partition", "memory", "minutes", "gpus"]
    return pd.DataFrame(rows, columns=columns).sort_values("id", ignore_index=True)


def of(rule, since=0):
    """What Slurm has seen of a rule, in order, beyond the first `since` jobs of all."""
    seen = jobs().iloc[since:]
    return seen[seen["rule"] == rule]


@pytest.fixture(scope="module")
def refused(project):
    """A run with a dataset whose prompts are all in another set, which only a job can find out."""

    def twice(text):
        row = next(line for line in text.splitlines() if line.startswith("harmful_train\t"))
        return text + row.replace("harmful_train\torganism", "twice\tfit", 1) + "\n"

    with edited(project / "tests" / "config" / "small_datasets.tsv", twice):
        status, output = run(project, "--", "results/prompts/fit.parquet")
    return status, output, jobs()


def test_bad_input_is_submitted_once_and_its_sentence_is_on_the_console(refused):
    status, output, seen = refused
    assert status != 0
    assert seen["rule"].tolist() == ["assemble_prompts"]
    assert seen["state"].tolist() == ["FAILED"]
    assert (
        "\nUserError: dataset 'twice' (set fit) is empty: all its prompts also occur elsewhere; give it a part"
        in output
    )
    assert "Trying to restart job" not in output


@pytest.fixture(scope="module")
def finished(project, refused):
    """A run killed while Slurm trains the organism, cleaned up as docs say, and started again."""
    before = len(jobs())
    target = f"results/aligned/variants/{EDIT}/edit.json"
    with (project / "first.log").open("w") as log:
        first = subprocess.Popen(
            command("--", target), cwd=project, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        while first.poll() is None and "RUNNING" not in of("train_organism", before)["state"].tolist():
            time.sleep(0.5)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    still = of("train_organism", before)["state"].tolist()
    made = {path: path.stat().st_mtime_ns for path in (project / "results").rglob("*.parquet")}
    run_id = re.search(r"SLURM run ID: (refusal-cliff_\S+)", (project / "first.log").read_text())[1]
    subprocess.run(["scancel", "--name", run_id], check=True)
    assert run(project, "--unlock")[0] == 0
    status, output = run(project, "--", target)
    assert status == 0, output[-6000:]
    return project, still, made, before


def test_a_killed_run_loses_nothing_and_redoes_only_what_is_missing(finished):
    project, still, made, before = finished
    assert still == ["RUNNING"]
    assert project / "results/prompts/organism.parquet" in made
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert of("train_organism", before)["state"].tolist() == ["CANCELLED", "COMPLETED"]
    assert of("assemble_prompts", before)["state"].tolist().count("COMPLETED") == 2


def test_jobs_reach_the_partition_that_their_resources_need(finished):
    seen = jobs().iloc[finished[3] :].drop_duplicates("rule", keep="last").set_index("rule")
    assert {"train_organism", "generate_traces", "extract_activations", "measure_heads"} == set(
        seen.index[seen["partition"] == "gpu"]
    )
    assert (seen["gpus"] == (seen["partition"] == "gpu")).all()
    assert seen.loc["train_organism", ["memory", "minutes"]].tolist() == [2000, 30]
    assert seen.loc["train_probes", ["partition", "memory"]].tolist() == ["cpu", 2000]
    assert seen.loc["assemble_prompts", ["partition", "memory", "minutes"]].tolist() == ["cpu", 4000, 60]


def test_cheap_rules_run_beside_snakemake(finished):
    assert (finished[0] / "results" / "aligned" / "variants" / EDIT / "edit.json").is_file()
    assert not {"read_dataset", "write_edit"} & set(jobs()["rule"])


def test_a_job_killed_for_memory_succeeds_on_its_second_attempt_with_more(finished):
    project, _, _, _ = finished
    before = len(jobs())
    with edited(project / "tests" / "config" / "slurm_models.tsv", lambda text: text.replace("\t2000\t", "\t500\t")):
        status, output = run(project, "--", f"results/aligned/{EDIT}/traces/fit.parquet")
    assert status == 0, output[-6000:]
    seen = jobs().iloc[before:]
    assert seen["rule"].tolist() == ["generate_traces", "generate_traces"]
    assert seen["state"].tolist() == ["FAILED", "COMPLETED"]
    assert seen["memory"].tolist() == [500, 1000]
    assert seen["minutes"].tolist() == [30, 60]
