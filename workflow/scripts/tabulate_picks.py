"""Tabulate what selectors pick of the pool."""

from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.selection import picks_table
from refusal_cliff.tables import write_csv
from refusal_cliff.traces import TRACE_KEY

job(snakemake)
inputs = snakemake.input
selections = read_tables(inputs.selections, ("model", "variant", *TRACE_KEY))
traces = read_tables(inputs.traces, ("model", "variant", *TRACE_KEY, "finish_reason"))
verdicts = read_verdicts(inputs.verdicts, traces)
said = verdicts[(verdicts["judge"] == snakemake.params.refusal_judge) & (verdicts["scope"] == "response")]
table = picks_table(selections, traces, read_table(inputs.prompts, ("prompt_id", "dataset")), said)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
