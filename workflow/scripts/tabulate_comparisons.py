"""Compare every variant with its base model, and with what it has to beat, paired by prompt."""

from refusal_cliff.ablation_tables import comparisons
from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
perplexity = read_tables(snakemake.input.perplexities, ("model", "variant"))
table = comparisons(read_table(snakemake.input.outcomes), perplexity, snakemake.params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
