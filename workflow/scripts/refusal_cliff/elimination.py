"""Which of the first heads of a ranking are needed: greedy backward elimination. A ranking is not a circuit.

Ranked one by one, two heads that do the same both look strong, and a head that only matters beside others looks weak.
So the first heads are ablated together, and given back one after the other, at every step the one whose return costs
the readout least, by exact runs of every choice.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refusal_cliff.readouts import NotMeasurableError
from refusal_cliff.traces import MAX_TOKENS, EncodedTrace, length_batches, length_switch, pad_left

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from refusal_cliff.readouts import Readout

Heads = Sequence[tuple[int, int]]
ELIMINATION_COLUMNS = ["layer", "head", "step", "gain", "share", "minimal"]


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
