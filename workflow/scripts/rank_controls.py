"""The control rankings: the causal one reversed (promoting), random heads, and ones that match the causal top heads."""

from refusal_cliff.artifacts import read_arrays, read_table, write_table
from refusal_cliff.job import job
from refusal_cliff.rankings import matched_ranking, promoting_ranking, random_ranking

job(snakemake)
causal, seed = read_table(snakemake.input.causal, ("layer", "head", "rank")), snakemake.params.seed
if snakemake.wildcards.ranking == "promoting":
    ranking = promoting_ranking(causal)
elif hasattr(snakemake.input, "means"):
    norms = read_arrays(snakemake.input.means)["write_norm"]
    ranking = matched_ranking(causal, norms, snakemake.params.fraction, seed)
else:
    ranking = random_ranking(causal, seed)
write_table(ranking, snakemake.output.table, dict(snakemake.params.items()))
