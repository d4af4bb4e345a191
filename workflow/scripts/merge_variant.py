"""Write a variant as a model of its own: a folder of weights that any engine serves."""

from refusal_cliff.checkpoints import save_checkpoint
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.models import load_model, load_tokenizer

job(snakemake)
row, checkpoint = snakemake.params.model, snakemake.input.checkpoint
model = Edit.read(snakemake.input.edit).apply(load_model(checkpoint, row))
save_checkpoint(model, load_tokenizer(checkpoint, row), snakemake.output.checkpoint)
