"""Write the page that shows traces token by token."""

import pandas as pd

from refusal_cliff.artifacts import read_table, whole_file
from refusal_cliff.job import job
from refusal_cliff.trace_viewer import page

job(snakemake)
params = snakemake.params
scores = pd.concat([read_table(path, ("model", "variant", "tokens", "scores")) for path in snakemake.input.scores])
outcomes = read_table(snakemake.input.outcomes, ("model", "variant", "prompt_id", "sample", "dataset"))
with whole_file(snakemake.output.page) as draft:
    draft.write_text(page(scores, outcomes, params.probe, params.open_datasets), encoding="utf-8")
