"""Tabulate the cliffs of the base models: their size and place, their differences, and how they go with length."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.cliff_tables import by_model, cliff_table, difference_table, length_table, prompt_cliffs
from refusal_cliff.job import job
from refusal_cliff.outcomes import write_csv

job(snakemake)
params, output = snakemake.params, snakemake.output
outcomes = read_table(snakemake.input.outcomes)
cliffs = {
    model: prompt_cliffs(read_table(path), outcomes[outcomes["model"] == model])
    for model, path in zip(params.models, snakemake.input.cliffs, strict=True)
}
write_csv(by_model(cliff_table, cliffs, params.seed), output.csv, output.markdown)
write_csv(difference_table(cliffs, params.seed), output.differences_csv, output.differences_markdown)
write_csv(by_model(length_table, cliffs, params.seed), output.length_csv, output.length_markdown)
