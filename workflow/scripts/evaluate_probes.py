"""Measure the probes of a model: held out, out of distribution, by position, against shuffled labels and rivals."""

from pathlib import Path

from refusal_cliff.artifacts import open_dump, read_arrays, read_settings, read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.probe_evaluation import PromptSet, evaluate_probes, with_tokens
from refusal_cliff.traces import BOUNDARY_TOKENS

job(snakemake)
inputs = snakemake.input
described = ["prompt_id", "request_id", "dataset", "label"]
fit, test = (
    PromptSet(
        read_table(inputs[f"{name}_prompts"], tuple(described))[described],
        read_verdicts(inputs[f"{name}_verdicts"]).query("variant == 'base'"),
        rows := read_table(inputs[f"{name}_rows"], ("prompt_id", "sample", "kind", "position")),
        open_dump(inputs[f"{name}_resid"], "resid", rows),
    )
    for name in ("fit", "test")
)
table, bins = evaluate_probes(
    {Path(path).stem: read_arrays(path) for path in inputs.probes},
    snakemake.params.recipes,
    fit,
    test,
    snakemake.params.refusal_judge,
    snakemake.params.seed,
)
table = with_tokens(table, read_settings(inputs.test_rows)[BOUNDARY_TOKENS])
settings, model = dict(snakemake.params.items()), snakemake.wildcards.model
write_table(table, snakemake.output.table, settings, model=model)
write_table(bins, snakemake.output.calibration, settings, model=model)
