"""Where a run is started from and writes to: other directories, read-only folders, full disks, awkward paths."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import SMALL, copy_project, small_disk, snakemake

from refusal_cliff import places
from refusal_cliff.errors import UserError

DATASET = "datasets/harmful_fit.parquet"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("places"))


def results_in(folder):
    return ["--config", f"pathvars={{results: '{folder}', logs: '{folder}/logs', benchmarks: '{folder}/timings'}}"]


@pytest.mark.parametrize("name", ["elsewhere", "with a space", "ä"])
def test_results_may_be_elsewhere(project, tmp_path, name):
    folder = tmp_path / name
    snakemake(project, *results_in(folder), "--", folder / DATASET)
    assert (folder / DATASET).is_file()
    assert (folder / "logs" / "read_dataset" / "harmful_fit.log").is_file()
    assert not (project / "results").exists()


def test_a_run_from_another_directory_takes_config_and_sheets_from_the_checkout(project, tmp_path):
    arguments = ["--snakefile", project / "Snakefile", "--directory", tmp_path / "run"]
    (tmp_path / "run").mkdir()
    assert "build_report" in snakemake(tmp_path, *arguments, "--dry-run", "--quiet", "rules")
    small = ["--configfile", project / SMALL[1]]
    snakemake(tmp_path, *arguments, *small, "--", f"results/{DATASET}")
    assert (tmp_path / "run" / "results" / DATASET).is_file()
    assert not (project / "results").exists()


def test_a_working_directorys_own_config_and_sheets_come_first(project, tmp_path):
    shutil.copytree(project / "config", tmp_path / "config")
    sheet = tmp_path / "config" / "datasets.tsv"
    sheet.write_text(sheet.read_text().replace("harmful_fit\t", "mine_fit\t"))
    config = tmp_path / "config" / "config.yaml"
    config.write_text(config.read_text().replace("harmful_fit", "mine_fit"))
    plan = snakemake(tmp_path, "--snakefile", project / "Snakefile", "-n", "--", "results/datasets/mine_fit.parquet")
    assert "results/datasets/mine_fit.parquet" in plan


def test_another_workflow_may_leave_out_the_config(project, tmp_path):
    (tmp_path / "Snakefile").write_text(
        f"""
module cliff:
    snakefile: "{project / "Snakefile"}"
    prefix: "safety"

use rule * from cliff as cliff_*
"""
    )
    plan = snakemake(tmp_path, "-n", "--", f"safety/results/{DATASET}")
    assert "rule cliff_read_dataset" in plan


def test_a_checkout_path_with_a_space_works_with_the_environment_elsewhere(tmp_path):
    folder = tmp_path / "a checkout"
    folder.mkdir()
    project = copy_project(folder)
    snakemake(project, "--", f"results/{DATASET}")
    assert (project / "results" / DATASET).is_file()


def test_an_environment_in_a_path_with_a_space_is_refused_before_any_job(project, tmp_path):
    environment = tmp_path / "an environment"
    environment.symlink_to(Path(sys.executable).parents[1])
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "snakemake", "--cores", "1", "--", f"results/{DATASET}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "an environment/bin/python: no script can be started by a path with a space" in done.stdout
    assert "rule read_dataset" not in done.stdout


@pytest.mark.parametrize("path", ["/home/me/it's/python", "/data/(new)/python", "/a&b/python"])
def test_an_environment_that_a_shell_would_misread_is_refused(path):
    with pytest.raises(UserError, match="no script can be started"):
        places.check_interpreter(path)


def test_a_read_only_results_folder_is_one_sentence_before_any_job(project, tmp_path):
    with small_disk(tmp_path / "disk", "size=1m,ro") as folder:
        output = snakemake(project, *results_in(folder), "--", folder / DATASET, check=False)
    assert f"{folder}: nothing can be written there; make it a writable folder, or name another under" in output
    assert "pathvars.results" in output
    assert "rule read_dataset" not in output
    assert "Traceback" not in output


def test_a_file_in_place_of_the_results_folder_is_refused(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match=r"nothing can be written there.*pathvars\.results"):
        places.check_writable({"results": str(tmp_path / "results" / "mine")})
    places.check_writable({"results": str(tmp_path / "not" / "yet")})


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(project, tmp_path):
    with small_disk(tmp_path / "disk", "size=32k") as folder:
        large = folder / "datasets" / "benign_wrapped_train.parquet"
        output = snakemake(project, *results_in(folder), "--", large, check=False)
        left = list(folder.rglob("datasets/*"))
    assert "No space left on device: free space on that disk, or set other folders under pathvars" in output
    assert "Traceback" not in output
    assert left == []
