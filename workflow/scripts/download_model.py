"""Download one model of the sheet at a recorded commit: safetensors and what belongs to them, never pickles."""

import shutil
from pathlib import Path

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.artifacts import write_json
from refusal_cliff.hub import DESCRIPTION, take_snapshot
from refusal_cliff.job import job

WEIGHTS = ["*.safetensors"]

job(snakemake)
row = snakemake.params.row
where = f"model {row['model']!r}: {row['location']}"
patterns = WEIGHTS + DESCRIPTION + (["*.py"] if row["trust_remote_code"] else [])
snapshot = take_snapshot(row["location"], "model", row["revision"], where, patterns)
check_model_folder(snapshot, row["role"])
# The cache holds the files; the checkpoint links to them, so nothing is stored twice.
checkpoint = Path(snakemake.output.checkpoint)
shutil.copytree(
    snapshot, checkpoint, copy_function=lambda source, target: Path(target).symlink_to(Path(source).resolve())
)
write_json({"location": row["location"], "revision": row["revision"], "commit": snapshot.name}, snakemake.output.source)
