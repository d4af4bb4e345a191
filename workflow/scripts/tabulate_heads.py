"""Tabulate all heads by every ranking, how far the rankings agree, and how stable each is over traces."""

from pathlib import Path

import pandas as pd

from refusal_cliff.artifacts import read_arrays, read_json, read_table, sidecar_path
from refusal_cliff.head_agreement import TENTH, agreement, check_same_traces, head_table, stability
from refusal_cliff.job import job
from refusal_cliff.rankings import head_count
from refusal_cliff.tables import write_csv

job(snakemake)
params, inputs = snakemake.params, snakemake.input
planted = {Path(path).parent.name: read_json(path)["heads"] for path in inputs.truths}
runs = pd.DataFrame(params.runs, columns=["model", "ranking"]).assign(table=inputs.tables, effects=inputs.effects)
heads, agreements, stabilities = [], [], []
for model, group in runs.groupby("model", sort=False):
    paths = dict(zip(group["ranking"], group["effects"], strict=True))
    check_same_traces(
        {name: read_json(sidecar_path(path))["settings"]["traces"] for name, path in paths.items()}, model
    )
    effects = {name: read_arrays(path)["effects"] for name, path in paths.items()}
    size = effects[group["ranking"].iloc[0]][0].size
    # The operating point first: claims read the first row.
    ks = list(dict.fromkeys(head_count(fraction, size) for fraction in (params.fraction, TENTH)))
    agreements.append(agreement(effects, ks, params.seed).assign(model=model))
    for ranking, table in zip(group["ranking"], group["table"], strict=True):
        names = {"model": model, "ranking": ranking}
        stabilities.append(stability(effects[ranking], ks, params.seed).assign(**names))
        heads.append(head_table(read_table(table), effects[ranking], planted.get(model)).assign(**names))
for found, first, csv, markdown in (
    (heads, ["model", "ranking"], snakemake.output.csv, snakemake.output.markdown),
    (agreements, ["model"], snakemake.output.agreement_csv, snakemake.output.agreement_markdown),
    (stabilities, ["model", "ranking"], snakemake.output.stability_csv, snakemake.output.stability_markdown),
):
    table = pd.concat(found, ignore_index=True)
    write_csv(table[[*first, *table.columns.drop(first)]], csv, markdown)
