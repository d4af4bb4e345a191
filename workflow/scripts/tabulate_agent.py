"""Tabulate what models plan and what they do, in chat and in tool contexts, and the cliffs between the two.

Of models without weights, whose transcripts are read, there are no cliffs.
"""

from joblib import parallel_config

from refusal_cliff.agent_tables import agent_cliffs, agent_table, plans_and_deeds
from refusal_cliff.artifacts import read_table, read_tables
from refusal_cliff.cliffs import MEASURES
from refusal_cliff.job import job
from refusal_cliff.judges import read_verdicts
from refusal_cliff.tables import write_csv
from refusal_cliff.traces import TRACE_KEY

job(snakemake)
inputs, seed, output = snakemake.input, snakemake.params.seed, snakemake.output
prompts = read_table(inputs.prompts)[["prompt_id", "request_id", "dataset", "context", "label"]]
with parallel_config(n_jobs=snakemake.threads):
    deeds = plans_and_deeds(prompts, read_verdicts(inputs.verdicts))
    write_csv(agent_table(deeds, seed), output.csv, output.markdown)
    scored = read_tables(inputs.cliffs, ("model", "probe", "layer", *TRACE_KEY, *MEASURES, "curve", "boundary_curve"))
    cliffs = agent_cliffs(scored, read_table(inputs.outcomes), deeds, seed)
    write_csv(cliffs, output.cliffs_csv, output.cliffs_markdown)
