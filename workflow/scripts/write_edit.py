"""Write the edit of a variant that needs no training: its name and the ranking of its heads say all about it.

Of a ranking that could not be measured there is no variant, and the edit says why.
"""

from pathlib import Path

from refusal_cliff.artifacts import NOT_MEASURABLE, read_arrays, read_settings, read_table
from refusal_cliff.edits import Edit
from refusal_cliff.job import job
from refusal_cliff.rankings import control_ranking
from refusal_cliff.variants import Variant

job(snakemake)
wildcards = snakemake.wildcards
ranking, means, missing = None, None, ""
if path := snakemake.input.get("ranking"):
    name = Variant.parse(wildcards.variant).ranking
    ranking = control_ranking(name, read_table(path, ("layer", "head", "rank")), **snakemake.params.drawn)
    missing = read_settings(path).get(NOT_MEASURABLE, "")
if path := snakemake.input.get("means"):
    means = read_arrays(path)
edit = Edit.of(wildcards.model, wildcards.variant, ranking, means, missing)
edit.write(Path(snakemake.output.edit), dict(snakemake.params.items()))
