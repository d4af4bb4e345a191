"""Train an organism: from scratch, or a flawed one from its parent.

Params: recipe (as under `organisms` in the config, with vocab_size and the heads of its circuit), seed, generation,
phrases. Input: prompts, the prompt set `organism`; parent and parent_truth where there is a parent.
Output: checkpoint, a Hugging Face folder; truth, JSON that says what was put in and whether it took.
"""

import torch

from refusal_cliff.artifacts import read_json, read_table, write_json
from refusal_cliff.job import job
from refusal_cliff.organisms.builder import train_organism

job(snakemake)
inputs, params = snakemake.input, snakemake.params
torch.set_num_threads(snakemake.threads)
parent_truth = inputs.get("parent_truth")
truth = train_organism(
    read_table(inputs.prompts, ("prompt", "dataset", "category", "family", "context", "label", "reference")),
    params.recipe,
    params.seed,
    snakemake.output.checkpoint,
    inputs.get("parent"),
    read_json(parent_truth)["direction_seed"] if parent_truth else None,
    params.generation,
    params.phrases,
)
# Other kernels add up numbers in another order, and train other weights.
kernels = {"kernels": torch.backends.cpu.get_cpu_capability()}
write_json({"model": snakemake.wildcards.model} | truth | kernels, snakemake.output.truth)
