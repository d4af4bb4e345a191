"""Look up the number of every claim in the tables, decide it for every family of models, and write what held where."""

from pathlib import Path

from refusal_cliff.artifacts import read_csv, read_json, whole_file
from refusal_cliff.claims import evaluate
from refusal_cliff.job import job
from refusal_cliff.sheets import load_claims
from refusal_cliff.tables import write_csv
from refusal_cliff.verdict_page import page

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
tables = {Path(path).stem: read_csv(path) for path in inputs.tables}
truths = [read_json(path) for path in inputs.truths]
claims, by_seed = evaluate(
    load_claims(inputs.claims),
    tables,
    params.families,
    truths,
    params.probes,
    **params.claims,
    seed=params.seed,
    harm_judge=params.harm_judge,
)
write_csv(claims, output.csv, output.markdown)
write_csv(by_seed, output.by_seed_csv, output.by_seed_markdown)
with whole_file(output.verdicts) as draft:
    draft.write_text(page(claims, by_seed, params.probe), encoding="utf-8")
