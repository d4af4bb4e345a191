"""The control rankings: the causal ranking reversed (promoting), and heads in seeded random order."""

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.heads import promoting_ranking, random_ranking
from refusal_cliff.job import job

job(snakemake)
causal = read_table(snakemake.input.causal, ("layer", "head", "rank"))
if snakemake.wildcards.ranking == "promoting":
    ranking = promoting_ranking(causal)
else:
    ranking = random_ranking(causal, snakemake.params.seed)
write_table(ranking, snakemake.output.table, dict(snakemake.params.items()))
