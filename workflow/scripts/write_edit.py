"""Write the edit of a variant that needs no training: none for the base model, zeroed heads for an ablation."""

from refusal_cliff.artifacts import read_table, write_json
from refusal_cliff.heads import top_heads
from refusal_cliff.job import job

job(snakemake)
edit = {}
if hasattr(snakemake.input, "ranking"):
    heads = top_heads(read_table(snakemake.input.ranking), snakemake.params.fraction)
    edit["head_scales"] = [[layer, head, 0.0] for layer, head in heads]
write_json(edit, snakemake.output.edit)
