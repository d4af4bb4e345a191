"""Tabulate all heads by every ranking, how far the rankings agree, and how stable each is over requests."""

from joblib import parallel_config

from refusal_cliff.artifacts import read_json, read_table, read_tables
from refusal_cliff.head_agreement import agreement, head_table, stability
from refusal_cliff.job import job
from refusal_cliff.tables import with_requests, write_csv

job(snakemake)
params, output = snakemake.params, snakemake.output
effects = with_requests(read_tables(snakemake.input.effects), read_table(snakemake.input.prompts))
with parallel_config(n_jobs=snakemake.threads):
    heads = head_table(effects, map(read_json, snakemake.input.truths), params.seed)
    write_csv(heads, output.csv, output.markdown)
    write_csv(agreement(effects, params.fraction, params.seed), output.agreement_csv, output.agreement_markdown)
    write_csv(stability(effects, params.fraction, params.seed), output.stability_csv, output.stability_markdown)
