"""Every Snakemake command that the documents show is one that Snakemake understands: each is planned as it stands."""

import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from conftest import make_tiny_model, write_script
from project import ROOT, copy_project

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "config", "profiles") for path in ROOT.glob(f"{folder}/*.md")),
]
COMMENTED = [path for folder in ("config", "profiles/*") for path in ROOT.glob(f"{folder}/*.yaml")]
# In a block, in `code`, or after the # of a comment; with what is set before it, and to the end of a line that goes on.
COMMAND = re.compile(
    r"(?:^(?:    |# (?:\w+: )?)|`)((?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?snakemake (?:[^`\n\\]|\\\n)+)", re.M
)
# What a reader puts in place of it.
PLACEHOLDERS = {"/path/to/the/files": "data"}


def commands(text):
    """Snakemake commands of a text, each on one line."""
    for shown in COMMAND.findall(text):
        command = re.sub(r"\\\n\s*", "", shown).split("  #")[0].strip().replace(".venv/bin/", "")
        for placeholder, value in PLACEHOLDERS.items():
            command = command.replace(placeholder, value)
        yield command


SHOWN = sorted({command for path in [*DOCUMENTS, *COMMENTED] for command in commands(path.read_text())})


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_tokenizer):
    """The project with what a reader of the documents has made by then: data files, and an experiment of one's own."""
    folder = copy_project(tmp_path_factory.mktemp("documents"))
    sheets = [folder / "config" / f"{name}_datasets.tsv" for name in ("benchmarks", "smollm")]
    sheet = pd.concat([pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False) for path in sheets]).fillna("")
    for location, rows in sheet[sheet["source"] == "file"].groupby("location"):
        columns = {column for name in ("prompt_column", "category_column", "reference_column") for column in rows[name]}
        columns |= {where.split("=")[0] for where in rows["where"]}
        stand_in = pd.DataFrame({column: ["stand-in"] for column in sorted(columns - {""})})
        path = folder / "data" / location
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".csv":
                stand_in.to_csv(path, index=False)
            case ".jsonl":
                stand_in.to_json(path, orient="records", lines=True)
            case ".json":
                stand_in.to_json(path, orient="records")
            case ".parquet":
                stand_in.to_parquet(path)
    for name in ("paper.yaml", "paper_models.tsv"):
        shutil.copy(folder / "config" / name, folder / "config" / name.replace("paper", "mine"))
    make_tiny_model("llama").save_pretrained(folder / "weights")
    tiny_tokenizer.save_pretrained(folder / "weights")
    own = pd.read_csv(folder / "config" / "models.tsv", sep="\t", dtype=str, keep_default_na=False)
    row = {"model": "mine", "role": "subject", "source": "path", "location": str(folder / "weights")}
    row |= {"thinking_open": r"<think>\n", "boundary": r"\n</think>\n\n"}
    pd.concat([own, pd.DataFrame([row])]).fillna("").to_csv(folder / "config" / "models.tsv", sep="\t", index=False)
    told = {"prompt": "Task", "thinking": "Fine.", "response": "ACTION: run it", "label": "harmful"}
    transcripts = folder / "data" / "transcripts.jsonl"  # found from every directory that a command is run in
    pd.DataFrame([told]).to_json(transcripts, orient="records", lines=True)
    sheet = pd.read_csv(folder / "config" / "datasets.tsv", sep="\t", dtype=str, keep_default_na=False)
    row = {"dataset": "mine_harmful", "set": "recorded", "source": "file", "location": str(transcripts)}
    row |= {"where": "label=harmful", "label": "harmful", "context": "own_tools", "model": "mine"}
    row |= {"thinking_column": "thinking", "response_column": "response"}
    pd.concat([sheet, pd.DataFrame([row])]).fillna("").to_csv(folder / "config" / "datasets.tsv", sep="\t", index=False)
    (folder / "refusal-cliff").symlink_to(folder)
    if not shutil.which("conda"):
        (folder / "bin").mkdir()
        answer = '{"conda_prefix": "/nowhere", "platform": "linux-64", "get": {"channel_priority": "strict"}}'
        write_script(folder / "bin" / "conda", f"[ $1 = --version ] && echo conda 26.1.0 || echo '{answer}'")
    return folder


def plan(project, command):
    """Plan a command as a shell reads it; its exit status and what it says."""
    python = f"'{sys.executable}' -m snakemake --dry-run --quiet rules "
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    line = re.sub(r"(^|\s)snakemake ", rf"\1{python}", command, count=1)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=project,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_documents_show_commands_in_blocks_sentences_and_comments():
    assert "snakemake --cores 2 --configfile config/instruments.yaml -- instruments" in SHOWN
    assert "snakemake --cores 2 heads" in SHOWN
    assert "snakemake --cores 2 grid" in SHOWN
    assert any(command.startswith("CONDA_OVERRIDE_CUDA=") and "conda-create-envs-only" in command for command in SHOWN)
    assert len(SHOWN) > 15


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_says_how_many_cores_it_takes_or_needs_none(command):
    assert re.search(r"--(cores|workflow-profile|lint) ?", command)


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_that_the_documents_show_can_be_planned(project, command):
    status, output = plan(project, command)
    assert status == 0, f"{command}\n{output[-3000:]}"


def test_a_target_taken_for_a_config_file_would_be_found(project):
    status, output = plan(project, "snakemake --cores 2 --configfile config/config.yaml heads")
    assert status != 0
    assert "heads" in output


def test_every_target_says_what_it_makes_and_the_documents_list_it():
    targets = (ROOT / "workflow" / "rules" / "targets.smk").read_text()
    names = re.findall(r"^ *rule (\w+):", targets, re.M)
    assert re.findall(r'^ *rule (\w+):\n +"[^"]+"$', targets, re.M) == names
    usage = (ROOT / "docs" / "usage.md").read_text()
    assert [name for name in names if f"`{name}`" not in usage and f"-- {name}\n" not in usage] == []
