"""Tabulate how far attacks carry from the model they were searched on to others, and decide what that says."""

from refusal_cliff.artifacts import read_json, read_table, read_tables
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv
from refusal_cliff.transfer import attack_rates, known, rate_of, request_shares, summary_table, transfer_table

job(snakemake)
params, inputs, output = snakemake.params, snakemake.input, snakemake.output
rate, columns = rate_of(params.harm_judge), ("prompt_id", "request_id", "dataset")
members = read_table(inputs.members, columns)
shares = request_shares(read_table(inputs.attack), members, rate)
prefilled = request_shares(read_table(inputs.prefill), read_table(inputs.prefill_prompts, columns), rate)
organisms = known(map(read_json, inputs.truths), params.models, params.bases)
searched = read_tables(inputs.searches)
table = transfer_table(shares, params.sources, organisms, rate, params.seed)
rates = attack_rates(shares, prefilled, params.sources, params.seed)
write_csv(table, output.csv, output.markdown)
write_csv(summary_table(shares, params.sources, organisms, params.seed), output.summary_csv, output.summary_markdown)
write_csv(rates, output.rates_csv, output.rates_markdown)
write_csv(searched[searched["chosen"]].drop(columns="chosen"), output.wrappers_csv, output.wrappers_markdown)
