"""What a variant changes in its base model, as a small file: `edit.json`, with tensors or an adapter beside it.

Zeroing, scaling and replacing heads are one change: z of a head becomes scale · z + value. Where it holds at every
position it is a change of weights, as a merged adapter is; so any engine can serve the model. What no weights can
express is a hook: a change at the boundary tokens alone, during the prefill, and the released code's renormalisation.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from refusal_cliff.artifacts import (
    check_artifact,
    read_arrays,
    read_record,
    rebuild,
    write_arrays,
    write_json,
)
from refusal_cliff.errors import UserError
from refusal_cliff.rankings import top_heads
from refusal_cliff.variants import ELIMINATED, Variant

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VALUES, ADAPTER, ADAPTER_WEIGHTS = "values.safetensors", "adapter", "adapter_model.safetensors"
DIRECTION = "direction.safetensors"
POSITIONS = ("all", "boundary")


@dataclass(frozen=True)
class Edit:
    """A change of a model.

    Attributes:
        model, variant: whose edit it is; empty for a model as it is.
        head_scales: (layer, head, scale) of every head that is changed.
        head_values: what is added to the scaled z, in the order of `head_scales`: [head, d_head], or
            [boundary token, head, d_head] at the boundary alone; `None` adds nothing.
        layer: the block that `direction` is added in; `None` adds none.
        direction: [d_model], what is added at every position to what the block's attention writes.
        positions: `all`, or `boundary`: only the boundary tokens are touched.
        renormalise: rescale each layer's z to the norm it had, as the released code does.
        keep: share of the thinking that is kept.
        adapter: whether the folder has a PEFT adapter, in its subfolder `ADAPTER`.
        missing: why there is no such variant of this model: what its heads are ranked by could not be measured.
        folder: where the edit was read from.
    """

    model: str = ""
    variant: str = "base"
    head_scales: tuple[tuple[int, int, float], ...] = ()
    head_values: np.ndarray | None = None
    layer: int | None = None
    direction: np.ndarray | None = None
    positions: str = "all"
    renormalise: bool = False
    keep: float = 1.0
    adapter: bool = False
    missing: str = ""
    folder: Path | None = None

    @classmethod
    def of(
        cls,
        model: str,
        name: str,
        ranking: pd.DataFrame | None = None,
        means: Mapping[str, np.ndarray] | None = None,
        missing: str = "",
        directions: Mapping[str, np.ndarray] | None = None,
    ) -> Self:
        """The edit of the variant `name` of `model`, one that needs no training of its own.

        Of heads ablated in a tuning, the tuning's folder `adapter` belongs beside the edit.

        Args:
            ranking: layer, head, rank; for the kinds that touch heads. Of those after an elimination, the heads that
                are ablated and no others.
            means: tensors of `head_means`; for mean and restore, which put one in place of z.
            missing: why the ranking, or the directions, could not be measured, if that is so.
            directions: [d_model] by name, and the `layer` [1] that they are added in; for steer.

        Raises:
            UserError: the model has no trace of the kind that a mean is over.
        """
        variant = Variant.parse(name)
        if variant.kind == "keep":
            return cls(model, name, keep=variant.kept)
        if variant.kind == "steer":
            if variant.direction not in directions:
                return cls(model, name, missing=missing)
            direction = np.float32(variant.scale) * directions[variant.direction]
            return cls(model, name, layer=int(directions["layer"][0]), direction=direction)
        heads = top_heads(ranking, 1.0 if variant.kind in ELIMINATED else variant.fraction)
        if not heads:
            return cls(model, name, missing=missing)
        return cls(
            model,
            name,
            head_scales=tuple((layer, head, variant.scale or 0.0) for layer, head in heads),
            head_values=_replacement(variant.kind, heads, means) if variant.kind in REPLACEMENTS else None,
            adapter=variant.kind == "both",
            positions="boundary" if variant.kind in ("boundary", "restore") else "all",
            renormalise=variant.kind == "released",
        )

    @classmethod
    def read(cls, path: str | Path | None) -> Self:
        """The edit at `path` (an `edit.json`); without one the base model, unchanged.

        Raises:
            UserError: the file says something that no edit is made of.
        """
        if path is None:
            return cls()
        folder = Path(path).parent
        content = read_record(path, {field.name for field in fields(cls)} - {"folder"})
        for name, (holds, expected) in RECORD.items():
            if not holds(content[name]):
                raise UserError(f"{path}: {name} is {content[name]!r}, expected {expected}; {rebuild(path)}")
        content["head_scales"] = tuple((layer, head, scale) for layer, head, scale in content["head_scales"])
        content["head_values"] = read_arrays(folder / VALUES, path)["values"] if content["head_values"] else None
        content["direction"] = read_arrays(folder / DIRECTION, path)["direction"] if content["direction"] else None
        if (content["layer"] is None) != (content["direction"] is None):
            raise UserError(f"{path}: layer and direction go together, and one is missing; {rebuild(path)}")
        if content["head_values"] is not None and content["head_values"].shape[-2] != len(content["head_scales"]):
            raise UserError(f"{path}: {VALUES} beside it is of other heads; {rebuild(path)}")
        return cls(**content, folder=folder)

    def write(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        """Write `edit.json` to `path`, after its values: a variant whose edit exists is complete."""
        if self.head_values is not None:
            write_arrays({"values": self.head_values}, Path(path).with_name(VALUES), settings)
        if self.direction is not None:
            write_arrays({"direction": self.direction}, Path(path).with_name(DIRECTION), settings)
        given = {name: getattr(self, name) is not None for name in ("head_values", "direction")}
        content = asdict(self) | given
        content.pop("folder")
        write_json(content, path)

    @property
    def heads(self) -> frozenset[tuple[int, int]]:
        """(layer, head) of every head that is changed."""
        return frozenset((layer, head) for layer, head, _scale in self.head_scales)

    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """`model` with its weights changed: an adapter merged, then heads, then a direction added.

        What weights cannot express is `hooked`.
        """
        if self.adapter:
            from peft import PeftModel

            # PEFT warns of tensors that are missing, and goes on without them.
            check_artifact(self.folder / ADAPTER / ADAPTER_WEIGHTS, self.folder / "edit.json")
            model = PeftModel.from_pretrained(model, self.folder / ADAPTER).merge_and_unload()
            model = model.eval().requires_grad_(False)
        if self.head_scales and self.positions == "all" and not self.renormalise:
            from refusal_cliff.models import set_heads

            set_heads(model, self.head_scales, self.head_values)
        if self.direction is not None:
            from refusal_cliff.models import add_direction

            add_direction(model, self.layer, self.direction)
        return model

    def hooked(self, model: "PreTrainedModel", n_boundary: int) -> AbstractContextManager[None]:
        """The part of the edit that `apply` leaves to hooks: nothing for most.

        Args:
            n_boundary: number of boundary tokens.
        """
        if self.positions == "all" and not self.renormalise:
            return nullcontext()
        from refusal_cliff.hooks import boundary_heads, renormalised_heads

        scales = {(layer, head): scale for layer, head, scale in self.head_scales}
        if self.renormalise:
            return renormalised_heads(model, scales)
        return boundary_heads(model, scales, n_boundary, self.head_values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_head_scales(value: Any) -> bool:
    """Whether `value` is a list of [layer, head, scale] that names no head twice."""
    rows = value if isinstance(value, list) else [None]
    right = all(isinstance(row, list) and list(map(type, row[:2])) == [int, int] and len(row) == 3 for row in rows)
    return right and all(_is_number(scale) for *_, scale in rows) and len({tuple(row[:2]) for row in rows}) == len(rows)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


RECORD = {
    "model": (lambda value: isinstance(value, str), "a name"),
    "variant": (lambda value: isinstance(value, str), "a name"),
    "head_scales": (_are_head_scales, "a list of [layer, head, scale], no head twice"),
    "head_values": (_is_bool, "true or false"),
    "layer": (lambda value: value is None or (type(value) is int and value >= 0), "a layer, or null"),
    "direction": (_is_bool, "true or false"),
    "positions": (lambda value: value in POSITIONS, f"one of {', '.join(POSITIONS)}"),
    "renormalise": (_is_bool, "true or false"),
    "keep": (lambda value: _is_number(value) and 0 <= value <= 1, "a share from 0 to 1"),
    "adapter": (_is_bool, "true or false"),
    "missing": (lambda value: isinstance(value, str), "a reason, or empty"),
}
"""What `edit.json` may say: key -> (whether a value is one that an edit has, the same in words)."""

REPLACEMENTS = {
    "mean": ("benign_mean", "heads.benign: the model answered none of these prompts"),
    "restore": ("refused_boundary", "heads.refused: the model refused none of these prompts"),
}
"""Kind -> (the mean that replaces z, what is missing where there is none)."""


def _replacement(kind: str, heads: list[tuple[int, int]], means: Mapping[str, np.ndarray]) -> np.ndarray:
    """What z of `heads` is replaced by, [..., head, d_head]."""
    name, missing = REPLACEMENTS[kind]
    if name not in means:
        raise UserError(
            f"{missing}, so there is nothing to put in place of a head's output; name other datasets of set fit, or "
            f"take {kind} out of ablation.interventions and grid.interventions"
        )
    layers, places = zip(*heads, strict=True)
    return means[name][..., list(layers), list(places), :]
