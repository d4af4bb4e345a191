"""Compare every variant with its base model, and every ranking of heads with its random controls, paired by prompt."""

from refusal_cliff.ablation_tables import comparisons
from refusal_cliff.artifacts import read_models, read_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
perplexity = read_models(snakemake.params.models, snakemake.input.perplexities)
table = comparisons(read_table(snakemake.input.outcomes), perplexity, snakemake.params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
