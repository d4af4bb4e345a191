"""Tabulate what the top heads of the operating ranking attend to from the boundary, beside all other heads."""

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.attention_tables import attention_by_group
from refusal_cliff.job import job
from refusal_cliff.tables import with_requests, write_csv

job(snakemake)
params = snakemake.params
attention = with_requests(read_tables(snakemake.input.attention), read_table(snakemake.input.prompts))
ranking = read_tables(snakemake.input.ranking, ("model", "layer", "head", "rank"))
table = attention_by_group(attention, ranking, params.fraction, params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
