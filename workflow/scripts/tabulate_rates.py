"""Tabulate how well every base model is aligned, and every rate of every model and variant, by dataset and family."""

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import alignment, rates
from refusal_cliff.tables import write_csv

job(snakemake)
outcomes, output = read_table(snakemake.input.outcomes), snakemake.output
write_csv(rates(outcomes), output.csv, output.markdown)
write_csv(alignment(outcomes), output.alignment_csv, output.alignment_markdown)
