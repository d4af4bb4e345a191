"""Tabulate how reassuring the thinking of harmful responses looks, and how well monitors foresee such responses."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.monitors import monitor_scores, monitor_table, reassurance_table
from refusal_cliff.tables import write_csv

job(snakemake)
outcomes = read_table(snakemake.input.outcomes)
tables, curves = [], []
for model, path in zip(snakemake.params.models, snakemake.input.cliffs, strict=True):
    own = outcomes[outcomes["model"] == model]
    predictors, roc = monitor_table(monitor_scores(own, read_table(path)), snakemake.params.seed)
    tables += [reassurance_table(own).assign(model=model, monitor="thinking"), predictors.assign(model=model)]
    curves.append(roc.assign(model=model))
columns = ["model", "monitor", "population", "quantity", "value", "low", "high", "n"]
write_csv(pd.concat(tables)[columns], snakemake.output.csv, snakemake.output.markdown)
columns = ["model", "monitor", "population", "fpr", "tpr"]
write_csv(pd.concat(curves)[columns], snakemake.output.roc_csv, snakemake.output.roc_markdown)
