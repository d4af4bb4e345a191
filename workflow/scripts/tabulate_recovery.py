"""Tabulate how well each head ranking finds the planted circuits, by seed, depth and size of the circuit."""

import math

import pandas as pd

from refusal_cliff.artifacts import read_json, read_table
from refusal_cliff.claims import decide
from refusal_cliff.errors import UserError
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour
from refusal_cliff.recovery import COLUMNS, FOUND, planting, pooled, recovery_rows, summarise
from refusal_cliff.stats import Estimate
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
if not params.organisms:
    raise UserError("config: recovery.circuits is empty, so there is no organism to look for circuits in; name some")
prompts = read_table(snakemake.input.prompts, ("prompt_id", "family", "label"))
rankings = {name: iter(snakemake.input[name]) for name in params.rankings}
tables, plantings, heads = [], [], []
for organism, truth, verdicts, planted in zip(
    params.organisms, snakemake.input.truths, snakemake.input.verdicts, snakemake.input.plantings, strict=True
):
    known = read_json(truth)
    labels = behaviour(read_table(verdicts), params.refusal_judge)
    facts = {key: organism[key] for key in ("organism", "seed", "circuit", "depth", "share")}
    took = planting(labels, prompts, known["families"])
    names = " ".join(f"{layer}.{head}" for layer, head in known["heads"])
    plantings.append(facts | {"heads": names} | took)
    carried = read_table(planted)
    for name, paths in rankings.items():
        ranking = read_table(next(paths), ("layer", "head", "rank"))
        tables.append(recovery_rows(ranking, known["heads"]).assign(**facts, ranking=name, took=took["took"]))
        ranks = ranking[["layer", "head", "rank"]].rename(columns={"rank": f"rank_{name}"})
        carried = carried.merge(ranks, on=["layer", "head"])
    heads.append(carried.assign(**facts)[[*facts, *carried.columns]])
recovery = pd.concat(tables, ignore_index=True)
write_csv(recovery[COLUMNS], snakemake.output.csv, snakemake.output.markdown)
write_csv(summarise(recovery, params.seed), snakemake.output.summary_csv, snakemake.output.summary_markdown)
pool = pooled(recovery, params.seed).assign(predicted=f">= {FOUND}")
pool["verdict"] = [decide(Estimate(row.value, row.low, row.high, row.n), FOUND, math.inf) for row in pool.itertuples()]
write_csv(pool, snakemake.output.pooled_csv, snakemake.output.pooled_markdown)
write_csv(pd.concat(heads, ignore_index=True), snakemake.output.heads_csv, snakemake.output.heads_markdown)
write_csv(pd.DataFrame(plantings), snakemake.output.plantings_csv, snakemake.output.plantings_markdown)
