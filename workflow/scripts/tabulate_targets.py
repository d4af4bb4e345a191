"""Tabulate how much of moving one target, the probe, is moving another, the openers: what the model does next."""

from refusal_cliff.artifacts import NOT_MEASURABLE, read_settings, read_table, read_tables
from refusal_cliff.head_agreement import target_table
from refusal_cliff.job import job
from refusal_cliff.tables import with_requests, write_csv

job(snakemake)
params, inputs, output = snakemake.params, snakemake.input, snakemake.output
effects = with_requests(read_tables(inputs.effects), read_table(inputs.prompts))
told = (read_settings(path).get(NOT_MEASURABLE, {}) for path in inputs.effects)
reasons = dict(zip(params.models, told, strict=True))
table = target_table(effects, params.rankings, reasons, params.fraction, params.seed)
write_csv(table, output.csv, output.markdown)
