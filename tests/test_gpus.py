"""Jobs that run at the same time on a machine with several GPUs compute on different ones."""

import os
import subprocess
import sys

import pytest

from refusal_cliff import gpus
from refusal_cliff.errors import UserError

CLAIM = """
import os, sys
from refusal_cliff.gpus import claim_gpus
claim_gpus(int(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def claim(tmp_path):
    """Start a job that takes some of four GPUs until it is told to end."""
    started = []

    def start(count):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2,3", "TMPDIR": str(tmp_path)}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        job = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(count)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(job)
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def test_jobs_at_the_same_time_take_different_gpus(claim):
    taken = [claim(count).stdout.readline().strip() for count in (1, 2, 1)]
    assert [len(names.split(",")) for names in taken] == [1, 2, 1]
    assert sorted(",".join(taken).split(",")) == ["0", "1", "2", "3"]


def test_a_gpu_is_free_again_when_its_job_is_killed(claim):
    first, _ = claim(1), claim(3).stdout.readline()
    name = first.stdout.readline()
    waiting = claim(1)
    first.kill()
    assert waiting.stdout.readline() == name


@pytest.mark.parametrize(("count", "visible"), [(0, "0,1"), (2, "0,1"), (1, "MIG-4"), (1, "")])
def test_where_there_is_nothing_to_choose_nothing_changes(monkeypatch, count, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus.claim_gpus(count)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert not gpus.HELD


def test_more_gpus_than_there_are_is_one_message(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match="asks for 3 GPUs, but sees 2"):
        gpus.claim_gpus(3)
