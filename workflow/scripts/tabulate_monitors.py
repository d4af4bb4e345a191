"""Tabulate how reassuring the thinking of harmful responses looks, and how well monitors foresee such responses."""

import pandas as pd
from joblib import parallel_config

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.monitors import monitor_curves, monitor_scores, monitor_table, reassurance_table
from refusal_cliff.tables import write_csv

job(snakemake)
output, outcomes = snakemake.output, read_table(snakemake.input.outcomes)
with parallel_config(n_jobs=snakemake.threads):
    scores = monitor_scores(read_tables(snakemake.input.cliffs), outcomes)
    tables = [reassurance_table(outcomes), monitor_table(scores, snakemake.params.seed)]
    write_csv(pd.concat(tables, ignore_index=True), output.csv, output.markdown)
    write_csv(monitor_curves(scores), output.roc_csv, output.roc_markdown)
