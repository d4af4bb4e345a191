"""Fine-tune a model from its parent, look at what it does along the way, and say whether it became what it should."""

from functools import partial

import torch

from refusal_cliff.artifacts import read_table, write_json, write_table
from refusal_cliff.batches import kept_folder
from refusal_cliff.checkpoints import save_checkpoint
from refusal_cliff.finetuning import draw_prompts, finetune, look, taught_examples
from refusal_cliff.job import job
from refusal_cliff.looks import gate, watched_prompts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.traces import ChatFormat

job(snakemake)
params, recipe, output = snakemake.params, snakemake.params.recipe, snakemake.output
row, chat, seed = params.model | {"dtype": "float32"}, ChatFormat.of(params.model), params.seed
tokenizer, model = load_tokenizer(snakemake.input.parent, row), load_model(snakemake.input.parent, row)
prompts = read_table(snakemake.input.prompts, ("prompt_id", "prompt", "request", "request_id", "dataset", "label"))
own = prompts[prompts["dataset"].isin(recipe["datasets"])]
drawn = draw_prompts(own, recipe["steps"] * recipe["batch_size"], seed)
examples = taught_examples(tokenizer, drawn, chat, recipe["learn"], seed)
asked = prompts[prompts["dataset"].isin(recipe["watch"] or recipe["datasets"])]
watched = watched_prompts(asked, recipe["watched"], seed)
looked = partial(look, model, tokenizer, watched, chat, params.generation, params.judges, seed)
with kept_folder(output.looks, "steps", dict(params.items()), snakemake.input) as kept:
    model, looks = finetune(model, tokenizer, examples, recipe, seed, looked, kept)
    save_checkpoint(model, tokenizer, output.checkpoint)
    keys = {"model": snakemake.wildcards.model}
    write_table(looks, output.looks, dict(params.items()), **keys)
    # Nothing is planted: what it has of a flaw, a cliff or a circuit is what is asked.
    truth = {name: "open" for name in ("flaw", "cliff", "sparse")} | {"heads": []}
    # Other kernels add up numbers in another order, and train other weights.
    kernels = {"kernels": torch.backends.cpu.get_cpu_capability()}
    write_json(keys | truth | {"gate": gate(looks, recipe["gate"])} | kernels, output.truth)
