"""Tabulate what the choices of the code released with the paper do to the ASR."""

from refusal_cliff.ablation_tables import released_table
from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.tables import write_csv

job(snakemake)
table = released_table(
    read_verdicts(snakemake.input.verdicts),
    read_table(snakemake.input.prompts, ("prompt_id", "request_id", "label")),
    snakemake.params.seed,
)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
