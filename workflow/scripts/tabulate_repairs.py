"""Set repairs side by side: what each does at every dose, and what it leaves unrefused at equal over-refusal."""

from pathlib import Path

from refusal_cliff.artifacts import read_json, read_table, read_tables
from refusal_cliff.edits import ADAPTER, Edit
from refusal_cliff.job import job
from refusal_cliff.repairs import matched_table, minimal_table, pick, repair_table
from refusal_cliff.tables import write_csv

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
outcomes = read_table(inputs.outcomes)
outcomes = outcomes[outcomes["model"].isin(params.models)]
perplexity = read_tables(inputs.perplexities, ("model", "variant"))
edits = {(edit.model, edit.variant): edit for edit in map(Edit.read, inputs.edits)}
trainings = {
    key: read_json(Path(edit.folder) / ADAPTER / "training.json") for key, edit in edits.items() if edit.adapter
}
costs = read_tables(inputs.costs, ("model", "repair", "passes"))
repairs = repair_table(outcomes, perplexity, edits, costs, trainings, params.seed)
write_csv(repairs, output.csv, output.markdown)
measured = (outcomes, perplexity, repairs, edits)
matched = matched_table(*measured, params.families, params.bounds, params.operating, params.seed)
write_csv(pick(matched), output.matched_csv, output.matched_markdown)
eliminations = read_tables(inputs.eliminations, ("model", "ranking", "layer", "head", "step", "share"))
minimal = minimal_table(eliminations, params.kept, map(read_json, inputs.truths), params.families, params.seed)
write_csv(minimal, output.minimal_csv, output.minimal_markdown)
