"""Record the configuration of the run, and build Snakemake's own report of claims, tables and figures with it."""

import subprocess
import sys
from pathlib import Path

import yaml

from refusal_cliff.artifacts import whole_file
from refusal_cliff.job import job

job(snakemake)
with whole_file(snakemake.output.config) as draft:
    draft.write_text(yaml.safe_dump(snakemake.params.config, sort_keys=False, allow_unicode=True), encoding="utf-8")
# The report reads the records of finished jobs. It takes no lock, because the run that waits for it holds it.
command = [sys.executable, "-m", "snakemake", "--nolock", "--configfile", snakemake.output.config]
with whole_file(snakemake.output.report) as draft, Path(snakemake.log[0]).open("a") as log:
    subprocess.run(
        [*command, "--report", str(draft), "--", "claims", "tables", "figures"], check=True, stdout=log, stderr=log
    )
