"""Write the edit of a variant that its name and a head ranking say all about: no weights, no values."""

from refusal_cliff.artifacts import read_table, write_json
from refusal_cliff.config import parse_variant
from refusal_cliff.job import job
from refusal_cliff.UNKNOWN_interventions import head_edit

job(snakemake)
ranking = read_table(snakemake.input.ranking) if hasattr(snakemake.input, "ranking") else None
write_json(head_edit(parse_variant(snakemake.wildcards.variant), ranking), snakemake.output.edit)
