"""Train a guard that judges a conversation with one token, `safe` or `unsafe`.

Params: recipe (vocab_size, architecture, steps, batch_size, learning_rate, warmup_steps), seed.
Input: prompts, the prompt set `organism`. Output: checkpoint, a Hugging Face folder.
"""

import torch

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.organisms.guard import train_guard

job(snakemake)
torch.set_num_threads(snakemake.threads)
prompts = read_table(snakemake.input.prompts, ("prompt", "dataset", "category", "family", "label", "reference"))
train_guard(prompts, snakemake.params.recipe, snakemake.params.seed, snakemake.output.checkpoint)
