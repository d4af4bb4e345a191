"""Tabulate what the probes of all models are worth, and how well calibrated they are."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
for paths, csv, markdown in (
    (snakemake.input.probes, snakemake.output.csv, snakemake.output.markdown),
    (snakemake.input.calibrations, snakemake.output.calibration_csv, snakemake.output.calibration_markdown),
):
    tables = dict(zip(snakemake.params.models, map(read_table, paths), strict=True))
    write_csv(pd.concat(tables, names=["model"]).reset_index(level="model"), csv, markdown)
