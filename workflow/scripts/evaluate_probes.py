"""Measure the probes of a model: held out, out of distribution, by position, against shuffled labels and rivals."""

from pathlib import Path

from refusal_cliff.artifacts import LazyTensor, read_arrays, read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.probe_evaluation import PromptSet, evaluate_probes

job(snakemake)
fit, test = (
    PromptSet(
        read_table(prompts, ("prompt_id", "dataset")),
        read_table(verdicts, ("prompt_id", "sample", "judge", "scope", "verdict")),
        read_table(rows, ("prompt_id", "sample", "kind", "position")),
        LazyTensor(resid, "resid"),
    )
    for prompts, verdicts, rows, resid in zip(
        snakemake.input.prompts, snakemake.input.verdicts, snakemake.input.rows, snakemake.input.resid, strict=True
    )
)
table, bins = evaluate_probes(
    {Path(path).stem: read_arrays(path) for path in snakemake.input.probes},
    snakemake.params.recipes,
    fit,
    test,
    snakemake.params.refusal_judge,
    snakemake.params.seed,
)
settings, model = dict(snakemake.params.items()), snakemake.wildcards.model
write_table(table, snakemake.output.table, settings, model=model)
write_table(bins, snakemake.output.calibration, settings, model=model)
