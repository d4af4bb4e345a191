"""Draw the effect of every head by the three rankings, with planted heads ringed."""

from pathlib import Path

from refusal_cliff.artifacts import read_json, read_table
from refusal_cliff.job import job
from refusal_cliff.plots.heads import plot_heads
from refusal_cliff.plots.style import save

job(snakemake)
rankings = {
    ranking: {
        model: read_table(path, ("layer", "head", "effect"))
        for model, path in zip(snakemake.params.models, snakemake.input[ranking], strict=True)
    }
    for ranking in ("causal", "direct", "gradient")
}
planted = {Path(path).parent.name: read_json(path)["heads"] for path in snakemake.input.truths}
save(plot_heads(rankings, planted), snakemake.output.svg, snakemake.output.pdf)
