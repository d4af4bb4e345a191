"""Write the edit of a variant that puts a mean in place of heads' outputs, with the values beside it."""

from refusal_cliff.artifacts import read_arrays, read_table, write_arrays, write_json
from refusal_cliff.config import parse_variant
from refusal_cliff.job import job
from refusal_cliff.UNKNOWN_interventions import head_edit, head_values

job(snakemake)
variant = parse_variant(snakemake.wildcards.variant)
edit = head_edit(variant, read_table(snakemake.input.ranking))
values = head_values(variant, edit, read_arrays(snakemake.input.means))
write_arrays({"values": values}, snakemake.output.values, dict(snakemake.params.items()))
write_json(edit | {"head_values": "values.safetensors"}, snakemake.output.edit)
