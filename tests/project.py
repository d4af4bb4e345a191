"""A copy of the project, Snakemake in it, and changes of its files that are taken back."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from kills import copy_project as copy_project

ROOT = Path(__file__).parents[1]
SMALL = ["--configfile", "tests/config/small.yaml"]


def snakemake(project, *arguments, check=True):
    """Run Snakemake in `project`; its standard output and error as one text."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *map(str, arguments)]
    done = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-6000:]}")
    return done.stdout


@contextmanager
def edited(path, change):
    """A file with its text changed while the block runs."""
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    try:
        yield
    finally:
        path.write_text(text)


@contextmanager
def small_disk(folder, options):
    """A disk of its own at `folder`; who may not mount one skips the test."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        pytest.skip("mounts a small disk that is full, or read-only: run the tests as root to include it")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
