"""Download one model of the sheet at a recorded commit: safetensors and what belongs to them, never pickles."""

import shutil
from pathlib import Path

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.artifacts import write_json
from refusal_cliff.hub import take_model
from refusal_cliff.job import job

job(snakemake)
row = snakemake.params.row
snapshot = take_model(row)
check_model_folder(snapshot, row["role"])
# The cache holds the files; the checkpoint links to them, so nothing is stored twice.
checkpoint = Path(snakemake.output.checkpoint)
shutil.copytree(
    snapshot, checkpoint, copy_function=lambda source, target: Path(target).symlink_to(Path(source).resolve())
)
write_json({"location": row["location"], "revision": row["revision"], "commit": snapshot.name}, snakemake.output.source)
