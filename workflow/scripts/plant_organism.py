"""Train a flawed organism from an aligned one: suppression planted in a few heads, or spread over all parameters.

Params: recipe (heads, families or categories, steps, batch_size, learning_rate, warmup_steps), seed.
Input: parent, the aligned checkpoint; prompts, the prompt set `organism`.
Output: checkpoint, a Hugging Face folder; truth, JSON that says what was done (mechanism, heads, families, categories).
"""

import torch

from refusal_cliff.artifacts import read_table, write_json
from refusal_cliff.job import job
from refusal_cliff.organisms.builder import suppress

job(snakemake)
torch.set_num_threads(snakemake.threads)
prompts = read_table(snakemake.input.prompts, ("prompt", "dataset", "category", "family", "label", "reference"))
truth = suppress(
    snakemake.input.parent, prompts, snakemake.params.recipe, snakemake.params.seed, snakemake.output.checkpoint
)
write_json({"model": snakemake.wildcards.model} | truth, snakemake.output.truth)
