"""Which of a machine's GPUs a job computes on, where no scheduler has decided it."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import TextIO

from refusal_cliff.errors import UserError

DEVICES = "/dev/nvidia[0-9]*"
HELD: list[TextIO] = []
"""Locks of this process: a GPU is free again when it ends, however it ends."""


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them; none on a machine without."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(Path("/").glob(DEVICES.removeprefix("/")))]


def claim_gpus(count: int) -> None:
    """Take `count` free GPUs for as long as this process lives, and hide the others from it.

    A cluster shows a job just the GPUs that it asked for, and there is nothing to choose. On a machine with several and
    no scheduler, jobs that run at the same time would all compute on the first: each takes others, by locks in the
    folder of temporary files, and waits while none is free. Call it before CUDA is used for the first time.

    Raises:
        UserError: the job asks for more GPUs than there are. Without any, it computes on the CPU.
    """
    visible = visible_gpus()
    if not count or not visible or count == len(visible):
        return
    if count > len(visible):
        raise UserError(
            f"this job asks for {count} GPUs, but sees {len(visible)} ({', '.join(visible)}): lower gpus in the model "
            f"sheet, or add --resources gpu={len(visible)}"
        )
    folder = Path(tempfile.gettempdir()) / f"refusal-cliff-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: dict[str, TextIO] = {}
    while True:
        for name in visible:
            if len(taken) < count and name not in taken:
                lock = (folder / f"gpu-{name}").open("w")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    taken[name] = lock
                except BlockingIOError:
                    lock.close()
        if len(taken) == count:
            break
        # All or none, so that two jobs do not wait for each other.
        for lock in taken.values():
            lock.close()
        taken.clear()
        time.sleep(1)
    HELD.extend(taken.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
