"""The names of variants: what each says is done to a base model."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from refusal_cliff.errors import UserError

# A variant of one of these kinds is a model of its own: what it does holds at every position of every text.
TUNED = ("tune", "early")
EVERYWHERE = ("base", "ablate", "scale", "mean", "released", "minimal", "first", "steer", "both", *TUNED)
# Of those, these change weights alone: a folder of weights can say what they are.
MERGED = tuple(kind for kind in EVERYWHERE if kind not in ("base", "released"))
# These keep the thinking of the base model's trace, or a share of it, and answer anew.
CONTINUED = ("boundary", "restore", "keep")
# These do something to the first heads of a ranking.
ON_HEADS = ("ablate", "mean", "boundary", "restore", "released", "scale", "minimal", "first")
# These ablate heads of which there are as many as elimination left.
ELIMINATED = ("minimal", "first")
REFUSAL = "refusal"
"""The direction that is no control."""
DIRECTION_CONTROLS = ("random", "rotated")
"""Directions that are drawn by chance, and so have a number behind their name."""
KINDS = (*ON_HEADS, "steer", "both", "keep", *TUNED)
"""What can be done to a base model."""


@dataclass(frozen=True)
class Variant:
    """A base model plus what is done to it; `str` gives its name.

    Attributes:
        kind: base; ablate, mean, boundary, restore, released, scale (see docs/methods.md): on the first `fraction` of
            `ranking`, scale by the factor `scale`; minimal: zero what backward elimination left of these heads, first:
            as many first heads of the ranking; steer: add `direction`, `scale` times; keep: the share `kept` of the
            thinking; tune: on the examples that `selector` chooses within `budget` (a share of the pool, or how many),
            or on the ready-made set of that name, with `seed`; early: the same training after `steps` of its steps;
            both: a tuning, and heads ablated in it.
    """

    kind: str
    ranking: str | None = None
    fraction: float | None = None
    scale: float | None = None
    direction: str | None = None
    kept: float | None = None
    selector: str | None = None
    budget: float | None = None
    steps: int | None = None
    seed: int | None = None

    NUMBER: ClassVar[str] = r"\d+(?:\.\d+)?(?:e-\d+)?"
    FORMS: ClassVar[dict[str, tuple[str, ...]]] = {
        "base": (),
        **dict.fromkeys(ON_HEADS, ("ranking", "fraction")),
        "scale": ("ranking", "fraction", "scale"),
        "steer": ("direction", "scale"),
        "both": ("ranking", "fraction", "selector", "budget", "seed"),
        "keep": ("kept",),
        "tune": ("selector", "budget", "seed"),
        "early": ("selector", "budget", "steps", "seed"),
    }
    """What follows the kind in a name, in this order."""
    PARTS: ClassVar[dict[str, tuple[str, Callable[[str], object]]]] = {
        **dict.fromkeys(("ranking", "direction"), (r"[a-z_]+\d*", str)),
        "selector": (r"[a-z0-9_]+", str),
        "steps": (r"\d+", int),
        "seed": (r"s\d+", lambda text: int(text[1:])),
        **dict.fromkeys(("fraction", "scale", "kept", "budget"), (NUMBER, float)),
    }

    @classmethod
    def parse(cls, name: str) -> Self:
        """The variant of that name.

        Raises:
            UserError: not the name of a variant.
        """
        for kind, parts in cls.FORMS.items():
            pattern = "-".join([kind, *(f"(?P<{part}>{cls.PARTS[part][0]})" for part in parts)])
            if found := re.fullmatch(pattern, name):
                return cls(kind, **{part: cls.PARTS[part][1](text) for part, text in found.groupdict().items()})
        raise UserError(
            f"{name!r} names no variant; write base, {{kind}}-{{ranking}}-{{fraction}} such as ablate-causal-0.03 "
            "(kinds: ablate, mean, boundary, restore, released, minimal, first), scale-{ranking}-{fraction}-{factor}, "
            "steer-{direction}-{factor}, keep-{fraction}, tune-{selector}-{budget}-s{seed} such as "
            "tune-cliff-0.017-s0, early-{selector}-{budget}-{steps}-s{seed}, "
            "or both-{ranking}-{fraction}-{selector}-{budget}-s{seed}"
        )

    def __str__(self) -> str:
        parts = {part: getattr(self, part) for part in self.FORMS[self.kind]}
        return "-".join([self.kind, *(_format(part, value) for part, value in parts.items() if value is not None)])

    @property
    def pool(self) -> Self:
        """The variant without the number of its draw or its seed, which draws of one control have in common."""
        return replace(
            self,
            ranking=self.ranking and pooled_ranking(self.ranking),
            direction=self.direction and pooled_ranking(self.direction),
            seed=None,
        )


def pooled_ranking(ranking: str) -> str:
    """The control that a ranking, or a direction, is a draw of, `random` for `random3`; any other is its own."""
    return ranking.rstrip("0123456789")


def format_number(value: float) -> str:
    """A share as it stands in file names: the shortest text that reads back as the same number, `1` for 1.0."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _format(part: str, value: float | str) -> str:
    return f"s{value}" if part == "seed" else value if isinstance(value, str) else format_number(value)
