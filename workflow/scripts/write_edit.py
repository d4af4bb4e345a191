"""Write the edit of a variant that needs no training of its own.

Its name, and what was measured of heads or directions, say all; and a tuning, if heads are ablated in that.

Of what could not be measured there is no variant, and the edit says why.
"""

import shutil
from pathlib import Path

from refusal_cliff.artifacts import NOT_MEASURABLE, read_arrays, read_settings, read_table
from refusal_cliff.edits import ADAPTER, Edit
from refusal_cliff.job import job
from refusal_cliff.rankings import control_ranking, eliminated_ranking
from refusal_cliff.variants import Variant

job(snakemake)
wildcards = snakemake.wildcards
variant, ranking, means, directions, missing = Variant.parse(wildcards.variant), None, None, None, ""
if path := snakemake.input.get("ranking"):
    ranking = control_ranking(variant.ranking, read_table(path, ("layer", "head", "rank")), **snakemake.params.drawn)
    missing = read_settings(path).get(NOT_MEASURABLE, "")
if path := snakemake.input.get("elimination"):
    elimination = read_table(path, ("ranking", "layer", "head", "step"))
    own = elimination[elimination["ranking"] == variant.ranking]
    ranking = eliminated_ranking(variant.kind, ranking, own)
    missing = read_settings(path).get(NOT_MEASURABLE, {}).get(variant.ranking, "")
if path := snakemake.input.get("directions"):
    directions = read_arrays(path)
    missing = read_settings(path).get(NOT_MEASURABLE, "")
if path := snakemake.input.get("means"):
    means = read_arrays(path)
if path := snakemake.input.get("tuned"):
    # An adapter is small, and an edit is whole by itself.
    folder = Path(snakemake.output.edit).with_name(ADAPTER)
    shutil.copytree(Path(path).with_name(ADAPTER), folder, dirs_exist_ok=True)
edit = Edit.of(wildcards.model, wildcards.variant, ranking, means, missing, directions)
edit.write(Path(snakemake.output.edit), dict(snakemake.params.items()))
