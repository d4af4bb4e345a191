"""Find which of the first heads of a ranking are needed, on set `fit`, and what every ranking cost.

A ranking that a model does not have, or that moves nothing, is left out, and the sidecar says why.
"""

import numpy as np
import pandas as pd

from refusal_cliff.activations import encode_traces
from refusal_cliff.artifacts import NOT_MEASURABLE, read_arrays, read_table, write_table
from refusal_cliff.costs import ranking_passes
from refusal_cliff.elimination import ELIMINATION_COLUMNS, Gains, eliminate
from refusal_cliff.head_effects import measured_rankings, ranking_traces
from refusal_cliff.job import job
from refusal_cliff.judges import behaviour, read_verdicts
from refusal_cliff.models import head_counts, load_model, load_tokenizer
from refusal_cliff.rankings import top_heads
from refusal_cliff.readouts import NotMeasurableError, Source, make_readouts
from refusal_cliff.traces import ChatFormat

job(snakemake)
inputs, output, params = snakemake.input, snakemake.output, snakemake.params
row, heads, repairs = params.model, params.heads, params.repairs
settings, keys = dict(params.items()), {"model": snakemake.wildcards.model}
prompts = read_table(inputs.fit_prompts, ("prompt_id", "dataset", "prompt"))
traces = read_table(
    inputs.fit_traces, ("model", "variant", "prompt_id", "sample", "thinking", "response", "finish_reason")
)
did = behaviour(read_verdicts(inputs.fit_verdicts, traces), params.refusal_judge)
tokenizer, model = load_tokenizer(inputs.checkpoint, row), load_model(inputs.checkpoint, row)
source = Source(model, inputs.checkpoint, read_arrays(inputs.probe)["w"][-1], traces, did)
asked = ranking_traces(traces, prompts, heads["datasets"], repairs["traces"], params.seed)
_, harmful = encode_traces(tokenizer, prompts, asked, ChatFormat.of(row))

costs, tables, reasons = [], [pd.DataFrame(columns=["ranking", *ELIMINATION_COLUMNS])], {}
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
        gains = Gains(model, harmful, readouts[target], tokenizer.pad_token_id, row["batch_size"])
        found = eliminate(gains, top_heads(ranked, repairs["start"]), repairs["kept"])
        tables.append(found.assign(ranking=ranking))
        own = passes + gains.tokens / np.mean([len(trace.ids) for trace in harmful])
        costs += [(f"minimal {ranking}", own), (f"first {ranking}", own)]
    except NotMeasurableError as error:
        reasons[ranking] = str(error)
why = {NOT_MEASURABLE: reasons} if reasons else {}
write_table(pd.concat(tables, ignore_index=True), output.elimination, settings | why, **keys)
write_table(pd.DataFrame(costs, columns=["repair", "passes"]), output.costs, settings, **keys)
