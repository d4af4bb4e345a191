"""Train one refusal probe per layer on the model's own behaviour and measure it on held-out prompts."""

import torch

from refusal_cliff.artifacts import read_table, read_tensors, whole_file, write_tensors
from refusal_cliff.job import job
from refusal_cliff.probes import behaviour, train_probe, training_rows

job(snakemake)
chosen = training_rows(
    read_table(snakemake.input.rows, ("prompt_id", "sample", "kind", "position")),
    read_table(snakemake.input.prompts, ("prompt_id", "dataset")),
    behaviour(read_table(snakemake.input.verdicts), snakemake.params.refusal_judge),
    snakemake.params.recipe,
)
resid = read_tensors(snakemake.input.resid)["resid"].float().numpy()
w, b, metrics = train_probe(resid, chosen, snakemake.params.seed)
with whole_file(snakemake.output.metrics) as draft:
    metrics.to_csv(draft, index=False)
write_tensors(
    {"w": torch.as_tensor(w), "b": torch.as_tensor(b)}, snakemake.output.probe, dict(snakemake.params.items())
)
