"""Tabulate the cliffs of the base models: size and place, differences, refits of the probe, and length of thinking."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.cliff_tables import by_model, cliff_table, difference_table, length_table, prompt_cliffs, refit_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
params, output = snakemake.params, snakemake.output
outcomes, cliffs, refits = read_table(snakemake.input.outcomes), {}, []
for model, path, refit_path in zip(params.models, snakemake.input.cliffs, snakemake.input.refits, strict=True):
    own = outcomes[outcomes["model"] == model]
    cliffs[model] = prompt_cliffs(read_table(path), own)
    table = refit_table(read_table(refit_path), own, params.seed)
    table.insert(0, "model", model)
    refits.append(table)
write_csv(by_model(cliff_table, cliffs, params.seed), output.csv, output.markdown)
write_csv(difference_table(cliffs, params.seed), output.differences_csv, output.differences_markdown)
write_csv(pd.concat(refits, ignore_index=True), output.refits_csv, output.refits_markdown)
write_csv(by_model(length_table, cliffs, params.seed), output.length_csv, output.length_markdown)
