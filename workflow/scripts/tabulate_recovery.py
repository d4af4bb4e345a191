"""Tabulate how well each head ranking finds the planted circuits, by seed, depth and size of the circuit."""

import math

import pandas as pd

from refusal_cliff.artifacts import read_json, read_table, read_tables
from refusal_cliff.claims import decide
from refusal_cliff.errors import UserError
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.recovery import FOUND, planted_heads, plantings_table, pooled, recovery_table, summarise
from refusal_cliff.stats import Estimate
from refusal_cliff.tables import write_csv

job(snakemake)
params, inputs, output = snakemake.params, snakemake.input, snakemake.output
if not params.organisms:
    raise UserError("config: recovery.circuits is empty, so there is no organism to look for circuits in; name some")
organisms, truths = pd.DataFrame(params.organisms), [read_json(path) for path in inputs.truths]
prompts = read_table(inputs.prompts, ("prompt_id", "family", "label"))
rankings = read_tables(inputs.rankings, ("model", "ranking", "layer", "head", "rank")).dropna(subset="rank")
plantings = plantings_table(organisms, truths, read_verdicts(inputs.verdicts), prompts, params.refusal_judge)
recovery = recovery_table(rankings, truths, plantings)
heads = planted_heads(read_tables(inputs.plantings), rankings, organisms)
pool = pooled(recovery, params.seed).assign(predicted=f">= {FOUND}")
pool["verdict"] = [decide(Estimate(row.value, row.low, row.high, row.n), FOUND, math.inf) for row in pool.itertuples()]
write_csv(recovery.drop(columns="took"), output.csv, output.markdown)
write_csv(summarise(recovery, params.seed), output.summary_csv, output.summary_markdown)
write_csv(pool, output.pooled_csv, output.pooled_markdown)
write_csv(heads, output.heads_csv, output.heads_markdown)
write_csv(plantings, output.plantings_csv, output.plantings_markdown)
