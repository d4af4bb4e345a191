"""Find what else could repair a model: a direction to add, where and how far, and the heads that are needed.

All of it on set `fit`. What a model does not have is left out, and the sidecar says why.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import NOT_MEASURABLE, open_dump, read_arrays, read_table, write_arrays, write_table
from refusal_cliff.costs import ranking_passes
from refusal_cliff.elimination import ELIMINATION_COLUMNS, Gains, eliminate
from refusal_cliff.head_effects import measured_rankings, ranking_traces
from refusal_cliff.head_means import reference_traces
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import head_counts, load_model, load_tokenizer
from refusal_cliff.rankings import top_heads
from refusal_cliff.readouts import NotMeasurableError, Source, make_readouts
from refusal_cliff.steering import (
    SWEEP_COLUMNS,
    boundary_classes,
    choose,
    control_direction,
    refusal_directions,
    sweep,
)
from refusal_cliff.traces import ChatFormat
from refusal_cliff.variants import DIRECTION_CONTROLS, REFUSAL

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
row, heads, repairs = params.model, params.heads, params.repairs
settings, keys = dict(params.items()), {"model": snakemake.wildcards.model}
prompts = read_table(inputs.prompts, ("prompt_id", "dataset", "prompt", "label"))
columns = ("model", "variant", "prompt_id", "sample", "thinking", "response", "finish_reason")
traces = read_table(inputs.traces, columns)
did = behaviour(read_verdicts(inputs.verdicts, traces), params.refusal_judge)
tokenizer = load_tokenizer(inputs.checkpoint, row)
model = load_model(inputs.checkpoint, row)
chat, batches = ChatFormat.of(row), (tokenizer.pad_token_id, row["batch_size"])
w = read_arrays(inputs.probe)["w"][-1]
source = Source(model, inputs.checkpoint, w, traces, did)
_, harmful = encode_traces(
    tokenizer, prompts, ranking_traces(traces, prompts, heads["datasets"], repairs["traces"], params.seed), chat
)
costs = []

directions, found, why = {}, pd.DataFrame(columns=SWEEP_COLUMNS), {}
if repairs["steer"]:
    try:
        readouts, reasons = make_readouts(["openers"], source)
        if reasons:
            raise NotMeasurableError(reasons["openers"])
        answered = reference_traces(traces, prompts, did, heads["benign"], refused=False)
        if answered.empty:
            raise NotMeasurableError(f"the model answered nothing of {', '.join(heads['benign'])}")
        benign = ranking_traces(answered, prompts, heads["benign"], repairs["traces"], params.seed)
        _, benign = encode_traces(tokenizer, prompts, benign, chat, with_response=True)
        rows = read_table(inputs.rows, ("prompt_id", "sample", "kind"))
        resid = open_dump(inputs.resid, "resid", rows)
        places, refused = boundary_classes(rows, prompts, did)
        blocks = refusal_directions(resid, places, refused)
        found = sweep(model, blocks, repairs["steer"], harmful, benign, readouts["openers"], *batches)
        costs.append(("steer", len(places) + len(found) * (len(harmful) + len(benign))))
        layer, scale = choose(found, repairs["kl"], repairs["over_refusal"])
        states = resid[:, layer - 1][places]
        names = [f"{control}{draw}" for control in DIRECTION_CONTROLS for draw in range(repairs["random_draws"])]
        drawn = {
            name: control_direction(name, blocks[layer], states, refused, params.seed) for name in [REFUSAL, *names]
        }
        directions = drawn | {"layer": np.array([layer]), "scale": np.array([scale])}
    except NotMeasurableError as error:
        why = {NOT_MEASURABLE: str(error)}
write_arrays(directions, Path(output.directions), settings | why)
write_table(found, output.sweep, settings | why, **keys)

tables, reasons = [pd.DataFrame(columns=["ranking", *ELIMINATION_COLUMNS])], {}
rankings = measured_rankings(heads["targets"], heads["measures"])
n_layers, n_heads, _ = head_counts(model)
share = np.mean([len(range(*trace.spans["boundary"])) / len(trace.ids) for trace in harmful])
for ranking, path in zip(rankings, inputs.rankings, strict=True):
    measure, target = rankings[ranking]
    ranked = read_table(path, ("layer", "head", "rank", "n"))
    passes = ranked["n"].max() * ranking_passes(measure, n_layers, n_heads, share)
    costs.append((f"ablate {ranking}", passes))
    if ranking not in repairs["eliminate"]:
        continue
    readouts, missing = make_readouts([target], source)
    try:
        if missing:
            raise NotMeasurableError(missing[target])
        gains = Gains(model, harmful, readouts[target], *batches)
        found = eliminate(gains, top_heads(ranked, repairs["start"]), repairs["kept"])
        tables.append(found.assign(ranking=ranking))
        own = passes + gains.tokens / np.mean([len(trace.ids) for trace in harmful])
        costs += [(f"minimal {ranking}", own), (f"first {ranking}", own)]
    except NotMeasurableError as error:
        reasons[ranking] = str(error)
why = {NOT_MEASURABLE: reasons} if reasons else {}
write_table(pd.concat(tables, ignore_index=True), output.elimination, settings | why, **keys)
write_table(pd.DataFrame(costs, columns=["repair", "passes"]), output.costs, settings, **keys)
