"""Find the refusal direction to add, where and how far, on set `fit`, and draw the controls of it.

A model without one has an empty file, and its sidecar says why.
"""

from pathlib import Path

import pandas as pd

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import NOT_MEASURABLE, open_dump, read_arrays, read_table, write_arrays, write_table
from refusal_cliff.head_effects import ranking_traces
from refusal_cliff.head_means import reference_traces
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.readouts import NotMeasurableError, Source, make_readouts
from refusal_cliff.steering import (
    SWEEP_COLUMNS,
    boundary_classes,
    choose,
    refusal_directions,
    sweep,
    with_controls,
)
from refusal_cliff.traces import ChatFormat

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
row, heads, repairs = params.model, params.heads, params.repairs
settings, keys = dict(params.items()), {"model": snakemake.wildcards.model}
prompts = read_table(inputs.fit_prompts, ("prompt_id", "dataset", "prompt", "label"))
traces = read_table(
    inputs.fit_traces, ("model", "variant", "prompt_id", "sample", "thinking", "response", "finish_reason")
)
did = behaviour(read_verdicts(inputs.fit_verdicts, traces), params.refusal_judge)
rows = read_table(inputs.rows, ("prompt_id", "sample", "kind"))
resid = open_dump(inputs.resid, "resid", rows)
tokenizer, model, chat = load_tokenizer(inputs.checkpoint, row), load_model(inputs.checkpoint, row), ChatFormat.of(row)
source = Source(model, inputs.checkpoint, read_arrays(inputs.probe)["w"][-1], traces, did)

directions, found, costs, why = {}, pd.DataFrame(columns=SWEEP_COLUMNS), [], {}
try:
    readouts, reasons = make_readouts(["openers"], source)
    if reasons:
        raise NotMeasurableError(reasons["openers"])
    answered = reference_traces(traces, prompts, did, heads["benign"], refused=False)
    if answered.empty:
        raise NotMeasurableError(f"the model answered nothing of {', '.join(heads['benign'])}")
    asked = ranking_traces(traces, prompts, heads["datasets"], repairs["traces"], params.seed)
    calm = ranking_traces(answered, prompts, heads["benign"], repairs["traces"], params.seed)
    _, harmful = encode_traces(tokenizer, prompts, asked, chat)
    _, benign = encode_traces(tokenizer, prompts, calm, chat, with_response=True)
    places, refused = boundary_classes(rows, prompts, did)
    blocks = refusal_directions(resid, places, refused)
    batches = (tokenizer.pad_token_id, row["batch_size"])
    found = sweep(model, blocks, repairs["steer"], harmful, benign, readouts["openers"], *batches)
    costs.append(("steer", len(places) + len(found) * (len(harmful) + len(benign))))
    layer, scale = choose(found, repairs["kl"], repairs["over_refusal"])
    states = resid[:, layer - 1][places]
    directions = with_controls(layer, scale, blocks[layer], states, refused, repairs["random_draws"], params.seed)
except NotMeasurableError as error:
    why = {NOT_MEASURABLE: str(error)}
write_arrays(directions, Path(output.directions), settings | why)
write_table(found, output.sweep, settings | why, **keys)
write_table(pd.DataFrame(costs, columns=["repair", "passes"]), output.costs, settings, **keys)
