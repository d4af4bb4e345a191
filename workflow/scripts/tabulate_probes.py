"""Tabulate what the probes of all models are worth, and how well calibrated they are."""

from refusal_cliff.artifacts import read_tables
from refusal_cliff.job import job
from refusal_cliff.probe_evaluation import probe_table
from refusal_cliff.tables import write_csv

job(snakemake)
output = snakemake.output
write_csv(probe_table(read_tables(snakemake.input.probes)), output.csv, output.markdown)
write_csv(read_tables(snakemake.input.calibrations), output.calibration_csv, output.calibration_markdown)
