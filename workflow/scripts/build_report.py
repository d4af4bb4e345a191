"""Record the configuration of the run, and build Snakemake's own report of claims, tables and figures with it."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from refusal_cliff.artifacts import whole_file
from refusal_cliff.job import job

job(snakemake)
params, output = snakemake.params, snakemake.output
with whole_file(output.config) as draft:
    draft.write_text(yaml.safe_dump(params.config, sort_keys=False, allow_unicode=True), encoding="utf-8")
# What the run was told beside its Snakefile, which may be one that imports this workflow as a module.
with whole_file(output.report) as draft, TemporaryDirectory() as folder:
    told = Path(folder) / "config.yaml"
    told.write_text(yaml.safe_dump(params.overwrite, allow_unicode=True), encoding="utf-8")
    # The report reads the records of finished jobs. It takes no lock, because the run that waits for it holds it.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--nolock",
        "--snakefile",
        params.snakefile,
        "--configfile",
        str(told),
    ]
    subprocess.run([*command, "--report", str(draft), "--", *snakemake.input], check=True)
