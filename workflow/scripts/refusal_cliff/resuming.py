"""Trainings that go on after a kill, from the trainer's own checkpoints, and end as if nothing had been."""

from pathlib import Path
from typing import Any

from refusal_cliff.artifacts import read_json, write_json
from refusal_cliff.errors import UserError
from refusal_cliff.hashes import file_sha256

WHOLE = "whole.json"
"""In a checkpoint that was written to its end: the SHA-256 of each of its files."""


def kept_checkpoints(folder: Path) -> dict[str, Any]:
    """Arguments of a trainer that has its checkpoints in `folder`: one after every tenth of the training.

    Two stay, so that a whole one is there while another is written, checked or removed.
    """
    return {"output_dir": str(folder), "save_strategy": "steps", "save_steps": 0.1, "save_total_limit": 2}


def train(trainer: Any) -> None:
    """Train from the last whole checkpoint in its folder, else from the start, to the same weights bit by bit.

    Args:
        trainer: made with `kept_checkpoints`; the folder is of one job and its settings (`batches.kept_folder`).
    """
    from transformers import TrainerCallback

    class Marked(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
            write_json({file.name: file_sha256(file) for file in checkpoint.iterdir()}, checkpoint / WHOLE)

    trainer.add_callback(Marked())
    trainer.train(resume_from_checkpoint=last_whole(Path(trainer.args.output_dir)))


def last_whole(folder: Path) -> str | None:
    """The last checkpoint in `folder` that was written to its end, and is as it was written; `None` without one."""
    steps = sorted((int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")), reverse=True)
    checkpoints = [folder / f"checkpoint-{step}" for step in steps]
    return next((str(checkpoint) for checkpoint in checkpoints if _is_whole(checkpoint)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        return all(file_sha256(checkpoint / name) == sha256 for name, sha256 in read_json(checkpoint / WHOLE).items())
    except (OSError, UserError):
        return False
