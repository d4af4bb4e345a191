"""Profiles: what jobs ask for, where they go, and that a cluster's own commands are called rightly."""

import os
import re
from types import SimpleNamespace

import pytest
import yaml
from conftest import write_script
from project import ROOT, copy_project, snakemake
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

PAPER = ["--dry-run", "--configfile", "config/paper.yaml"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("profiles"))


def asked(project, *arguments):
    """(rule, wildcards) -> what the job asks for, of every job of the paper's plan."""
    plan = snakemake(project, *PAPER, *arguments)
    found = {}
    for block in re.split(r"^\[.*\]$", plan, flags=re.M):
        if rule := re.search(r"^(?:local)?rule (\w+):", block, re.M):
            wildcards = re.search(r"wildcards: (.*)", block)
            resources = dict(re.findall(r"(\w+)=(\d+)", re.search(r"resources: (.*)", block)[1]))
            found[rule[1], wildcards and wildcards[1]] = {name: int(value) for name, value in resources.items()}
    return found


@pytest.fixture(scope="module", params=["slurm", "pbs"])
def attempts(request, project):
    profile = ["--workflow-profile", f"profiles/{request.param}"]
    return asked(project, *profile), asked(project, *profile, "--attempt", "3")


def test_memory_and_run_time_of_every_job_grow_with_the_attempt_and_gpus_do_not(attempts):
    first, third = attempts
    assert len(first) > 300
    assert first.keys() == third.keys()
    for job, resources in first.items():
        if job[0] == "all":
            continue
        assert third[job]["mem_mb"] == 3 * resources["mem_mb"], job
        assert third[job]["runtime"] == 3 * resources["runtime"], job
        assert third[job].get("gpu", 0) == resources.get("gpu", 0), job
    assert first["generate_traces", "model=qwq-32b, variant=base, prompts=fit"]["mem_mb"] == 160_000
    assert first["generate_traces", "model=qwq-32b, variant=base, prompts=fit"]["gpu"] == 2
    assert first["assemble_prompts", "prompts=fit"]["mem_mb"] == 4000


@pytest.mark.parametrize(
    ("resources", "partition"),
    [
        ({"gpu": 1, "mem_mb": 48_000, "runtime": 720}, "gpu"),
        ({"gpu": 2, "mem_mb": 480_000, "runtime": 1440}, "gpu"),
        ({"gpu": 0, "mem_mb": 48_000, "runtime": 720}, "cpu"),
        ({"mem_mb": 4000, "runtime": 60}, "cpu"),
        ({"mem_mb": 300_000, "runtime": 60}, "gpu"),
    ],
)
def test_a_job_goes_to_the_partition_that_its_resources_need(resources, partition):
    quiet = SimpleNamespace(debug=print, info=print, warning=print)
    partitions = read_partition_file(ROOT / "profiles" / "slurm" / "partitions.yaml")
    job = SimpleNamespace(name="job", threads=1, resources=resources)
    assert get_best_partition(partitions, job, quiet) == partition


def test_no_profile_lists_rules():
    for path in ROOT.glob("profiles/*/config.yaml"):
        assert not {"set-resources", "set-threads", "groups"} & set(yaml.safe_load(path.read_text())), path


def test_a_clusters_own_commands_submit_ask_and_try_again_with_more(project, tmp_path):
    """PBS's commands are stand-ins, which run the first job by nothing: as if it had been killed."""
    log, jobs = tmp_path / "qsub.log", tmp_path / "jobs"
    jobs.mkdir()
    write_script(
        tmp_path / "qsub",
        f"""
        echo "$@" >> {log}
        id=$(wc -l < {log})
        if [ $id = 1 ]; then echo 137 > {jobs}/$id; else
          (bash "${{@: -1}}"; echo $? > {jobs}/$id.new; mv {jobs}/$id.new {jobs}/$id) > {jobs}/$id.log 2>&1 &
        fi
        echo $id
        """,
    )
    write_script(
        tmp_path / "qstat",
        f"""
        [ "$1 $2" = "-x -f" ] || exit 1
        [ -e {jobs}/$3 ] || {{ echo 'job_state = R'; exit; }}
        printf 'job_state = F\\nExit_status = %s\\n' $(cat {jobs}/$3)
        """,
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    arguments = [
        "--workflow-profile",
        "profiles/pbs",
        "--configfile",
        "tests/config/small.yaml",
        "--latency-wait",
        "10",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        output = snakemake(project, *arguments, "--", "results/prompts/organism.parquet")
    assert (project / "results" / "prompts" / "organism.parquet").is_file()
    assert output.count("Trying to restart job") == 1
    first, second = log.read_text().splitlines()
    assert "-N assemble_prompts" in first
    assert "select=1:ncpus=1:mem=4000mb:ngpus=0 -l walltime=60:00" in first
    assert "select=1:ncpus=1:mem=8000mb:ngpus=0 -l walltime=120:00" in second
