"""Tabulate what every detector says of organisms whose truth is known, and how often it is right."""

import pandas as pd
from joblib import parallel_config

from refusal_cliff.artifacts import read_csv, read_json, read_table, read_tables
from refusal_cliff.detection import (
    alarm_verdicts,
    by_organism,
    circuit_verdicts,
    cliff_readings,
    cliff_verdicts,
    detection_table,
    sweep_scores,
)
from refusal_cliff.job import job
from refusal_cliff.monitors import monitor_scores
from refusal_cliff.tables import write_csv

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
outcomes, cliffs = read_table(inputs.outcomes), read_tables(inputs.cliffs)
truths = [read_json(path) for path in inputs.truths]
with parallel_config(n_jobs=snakemake.threads):
    readings = cliff_readings(sweep_scores(cliffs, read_tables(inputs.sweeps)), outcomes)
    monitored = monitor_scores(cliffs, outcomes)
rankings = read_tables(inputs.rankings, ("model", "ranking", "layer", "head", "rank")).dropna(subset="rank")
said = [
    cliff_verdicts(readings),
    circuit_verdicts(read_csv(inputs.sparsity), rankings, truths),
    alarm_verdicts(monitored),
]
known = by_organism(pd.concat(said, ignore_index=True), truths, params.families)
write_csv(detection_table(known), output.csv, output.markdown)
write_csv(known, output.organism_csv, output.organism_markdown)
write_csv(readings, output.readings_csv, output.readings_markdown)
