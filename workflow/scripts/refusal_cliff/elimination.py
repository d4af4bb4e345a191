"""Which of the first heads of a ranking are needed: greedy backward elimination. A ranking is not a circuit.

Ranked one by one, two heads that do the same both look strong, and a head that only matters beside others looks weak.
So the first heads are ablated together, and given back one after the other, at every step the one whose return costs
the readout least, by exact runs of every choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from refusal_cliff.outcomes import ALL
from refusal_cliff.readouts import NotMeasurableError
from refusal_cliff.stats import Estimate, bootstrap_mean
from refusal_cliff.traces import MAX_TOKENS, EncodedTrace, length_batches, length_switch, pad_left

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from refusal_cliff.readouts import Readout

Heads = Sequence[tuple[int, int]]
ELIMINATION_COLUMNS = ["layer", "head", "step", "gain", "share", "minimal"]

MINIMAL_COLUMNS = ["family", "model", "ranking", "kept", "operating", "quantity"]


def eliminate(gains: "Gains", heads: Heads, kept: Sequence[float]) -> pd.DataFrame:
    """Give heads back one by one until ablating the others would move the readout too little.

    Args:
        gains: sets of heads -> what ablating each set adds to the readout.
        heads: those to start from, strongest first; of equals the weaker one goes.
        kept: shares of what ablating all of them adds that must remain. The minimal set is that of the first; heads are
            given back down to the smallest.

    Returns:
        One row per head, in the order of `heads`: layer, head, step (from 1, when it was given back; missing: never),
        gain (what ablating all that were left then adds to the readout; of heads that were never given back, what
        ablating these adds), share (the same, of what ablating all of them adds), minimal (it is in the minimal set).

    Raises:
        NotMeasurableError: ablating all heads does not move the readout towards refusal.
    """
    (full,) = gains([heads])
    if full <= 0:
        raise NotMeasurableError(f"ablating the first {len(heads)} heads together does not move the readout to refusal")
    left, reached, steps = list(heads), full, {}
    while len(left) > 1:
        found = np.array(gains([[other for other in left if other != head] for head in left]))
        place = len(left) - 1 - int(found[::-1].argmax())
        if found[place] < min(kept) * full:
            break
        reached = float(found[place])
        steps[left.pop(place)] = (len(steps) + 1, reached)
    rows = [(*head, *steps.get(head, (None, reached))) for head in heads]
    table = pd.DataFrame(rows, columns=ELIMINATION_COLUMNS[:4]).astype({"step": "Int64"})
    table["share"] = table["gain"] / full
    return table.assign(minimal=needed(table, kept[0]))


def needed(elimination: pd.DataFrame, kept: float) -> pd.Series:
    """Which heads ablation must keep, were heads given back for as long as the share `kept` remains: true or false."""
    given = elimination["step"].notna()
    # The step that takes too much, and all behind it, are not taken.
    broken = elimination.loc[given & (elimination["share"] < kept), "step"].min()
    return ~given | (elimination["step"] >= broken).fillna(False).astype(bool)


def minimal_table(
    eliminations: pd.DataFrame,
    kept: Sequence[float],
    truths: Iterable[Mapping[str, Any]],
    families: Mapping[str, str],
    seed: int,
) -> pd.DataFrame:
    """How large minimal sets are at every share that must remain, and how many of the heads that suppress they hold.

    Args:
        eliminations: model, ranking and the columns of `eliminate`.
        kept: the shares; the first is the operating one.
        truths: `model` and `heads`, the [[layer, head], …] that suppress refusal by construction, of those models where
            that is known.
        families: the family of each model.

    Returns:
        family, model (`all`: over the seeds of a family), ranking, kept, operating (whether the share is), quantity
        (heads: how many; start: of how many; share: what remains; planted: the share of the heads that suppress by
        construction that the set holds; first: the same of as many first heads of the ranking), value, low, high, n.
        Of a model a number without an interval; of a family the mean with its bootstrap interval over seeds, n of them.
    """
    known = {truth["model"]: {tuple(head) for head in truth["heads"]} for truth in truths}
    rows = []
    for (model, ranking), own in eliminations.groupby(["model", "ranking"], sort=False):
        heads = list(zip(own["layer"], own["head"], strict=True))
        for place, share in enumerate(kept):
            left = needed(own, share).to_numpy()
            given = own.loc[~left & own["step"].notna(), ["step", "share"]].sort_values("step")["share"]
            found = {"heads": left.sum(), "start": len(own), "share": given.iloc[-1] if len(given) else 1.0}
            if planted := known.get(model):
                chosen = {head for head, needs in zip(heads, left, strict=True) if needs}
                found["planted"] = len(planted & chosen) / len(planted)
                found["first"] = len(planted & set(heads[: len(chosen)])) / len(planted)
            key = (families[model], model, ranking, share, place == 0)
            rows += [(*key, name, float(value), np.nan, np.nan, 1) for name, value in found.items()]
    table = pd.DataFrame(rows, columns=[*MINIMAL_COLUMNS, *Estimate._fields])
    keys = [name for name in MINIMAL_COLUMNS if name != "model"]
    pooled = [
        dict(zip(keys, key, strict=True)) | {"model": ALL} | bootstrap_mean(part["value"], seed)._asdict()
        for key, part in table.groupby(keys, sort=False)
    ]
    return pd.concat([pd.DataFrame(pooled, columns=table.columns), table], ignore_index=True)


class Gains:
    """What ablating sets of heads at the boundary adds to a readout, mean over traces: exact, and cheap.

    What comes before the boundary is run once, and its keys and values are kept; the boundary's few tokens then go
    through the layers in one version for each set (`hooks.versions_of_heads`).
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        encoded: list[EncodedTrace],
        readout: "Readout",
        pad_id: int,
        batch_size: int,
    ):
        """
        Args:
            encoded: traces that end with their boundary.
        """
        import torch

        from refusal_cliff.models import head_counts, run_prefix

        self.model, self.readout = model, readout
        self.width = len(range(*encoded[0].spans["boundary"]))
        self.shape = head_counts(model)[:2]
        self.tokens = 0
        """How many tokens have been run so far."""
        self.prefixes = []
        for batch in length_batches([trace.ids for trace in encoded], batch_size, switch=length_switch(model)):
            ids, mask = pad_left([encoded[index].ids for index in batch], pad_id)
            with torch.inference_mode():
                self.prefixes.append(run_prefix(model, ids, mask, self.width))
            self.tokens += sum(len(encoded[index].ids) - self.width for index in batch)
        self.unedited = self._read([()])

    def __call__(self, sets: Iterable[Heads]) -> list[float]:
        """The gain of each set of (layer, head)."""
        return (self._read(sets) - self.unedited).tolist()

    def _read(self, sets: Iterable[Heads]) -> np.ndarray:
        """The readout with each set ablated, mean over traces."""
        import torch

        from refusal_cliff.hooks import versions_of_heads

        sets = list(sets)
        kept = torch.ones(len(sets), *self.shape)
        for place, heads in enumerate(sets):
            for layer, head in heads:
                kept[place, layer, head] = 0
        total, traces = np.zeros(len(sets)), 0
        for rest in self.prefixes:
            rows = len(rest["input_ids"])
            together = max(1, MAX_TOKENS // (self.width * rows))
            read = []
            for part in kept.split(together):
                with torch.inference_mode(), versions_of_heads(self.model, self.width, part):
                    states = self.model.get_decoder()(**rest).last_hidden_state
                # The next pass reads the same prefix.
                rest["past_key_values"].crop(-states.shape[1])
                last = states.unflatten(1, (-1, self.width))[:, :, -1].cpu().double()
                read.append(self.readout(last).sum(dim=0).numpy())
                self.tokens += states.shape[0] * states.shape[1]
            total += np.concatenate(read)
            traces += rows
        return total / traces
