r"""Answers that are compared with a reference.

A number is read as people write it: 1,234 and 9{,}500, 0.5 and .5, 1/2, \frac{1}{2} and 3\frac{4}{5}, 1e3 and
2 \times 10^{5}, 5 million, with a currency sign in front; a percent sign is a unit. Values are exact. The rules are
ours because a wrong reading is worse than none: math-verify, which evaluates whole expressions, takes 1e3 for 1,
9{,}500 for 9 and 3 4/5 for 4.
"""

import re
from decimal import Decimal
from fractions import Fraction

from refusal_cliff.errors import UserError

MATCHES = ("contains", "number")
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
MAX_LENGTH = 1000
"""Characters of the longest number that is read: a model that repeats a digit for ever says none."""

GROUP = r"(?:,\\!|\{,\}|\{\\,\}|\\,|,|[\u2009\u202f])"
UNSIGNED = rf"(?:(?:\d{{1,3}}(?:{GROUP}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+)"
# A number in an exponent is none of its own, and neither is the rest of a longer one.
START = r"(?<!\d)(?<!\d\.)(?<!\^)(?<!\^\{)(?<!\^[-\u2212])(?<!\^\{[-\u2212])"
NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![A-Za-z0-9)\]}}%])[-\u2212])?
    (?:(?:\\?\$|[€£¥])\s?)?
    {START}
    (?:
        (?:(?P<whole>{UNSIGNED})\s?)?\\[dt]?frac\s*
        (?:\{{\s*(?P<over>[-\u2212]?{UNSIGNED})\s*\}}|(?P<over_digit>\d))\s*
        (?:\{{\s*(?P<under>{UNSIGNED})\s*\}}|(?P<under_digit>\d))
      | (?:(?P<mixed>\d+)\ )?(?P<top>{UNSIGNED})\s?/\s?(?P<bottom>{UNSIGNED})
      | (?P<plain>{UNSIGNED})
        (?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\d)
          | \s*(?:\\times|\\cdot|[\u00d7*x])\s*10\s*\^\s*\{{?(?P<power>[-\u2212]?\d{{1,3}})(?!\d)\}}?)?
    )
    (?:\s?(?P<scale>{"|".join(SCALES)})\b)?
    """,
    re.VERBOSE,
)
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
OPENING = re.compile(r"(?:[\s$]|\\[(\[])*")
DECORATION = re.compile(r"\\(?:text|mathrm)\b|\\[$)\]!, ]|[\s${})\].]+")
UNIT_WORD = re.compile(r"\\?%|°|[^\W\d_]+(?:/[^\W\d_]+)?")
MAX_UNIT = 3
"""Words of the longest unit, so that a sentence is not taken for one."""
NO_UNITS = {"pi", "π", "e", "i", "n", "x", "y", "z", "k", "bn", "mn", "dozen", "and", "or", "to", "than"}
"""Words that change what the number before them says."""


def is_correct(response: str, reference: str, match: str) -> bool:
    """Whether `response` gives the `reference` answer.

    Args:
        match: `contains` (the reference as whole words, case ignored) or `number` (the number that the response ends
            with equals it).

    Raises:
        UserError: `match` is neither, or the reference is no number.
    """
    if match == "contains":
        return re.search(rf"(?<!\w){re.escape(reference)}(?!\w)", response, flags=re.IGNORECASE) is not None
    if match == "number":
        return final_number(response) == reference_number(reference)
    raise UserError(f"match {match!r} of a reference: use {' or '.join(MATCHES)} in the dataset sheet")


def final_number(response: str) -> Fraction | None:
    r"""The number that a response ends with: the last one in its last \boxed{…}, after its last "####", or of all."""
    found = list(NUMBER.finditer(_conclusion(response)))
    return _value(found[-1]) if found else None


def reference_number(text: str) -> Fraction:
    r"""The one number that a reference is, perhaps with a unit, or that a solution ends with (\boxed{18}, #### 18).

    Raises:
        UserError: it is none, or more than one.
    """
    text = _conclusion(text)
    opening = OPENING.match(text).end()
    found = NUMBER.match(text, opening)
    value = _value(found) if found else None
    if value is None or not _is_unit(text[found.end() :]):
        raise UserError(
            f"{text.strip()[:60]!r} is no number; write it like 1234.5, 1/2, 3e-5 or $42, perhaps with a unit, or as "
            "the end of a solution: #### 18"
        )
    return value


def _conclusion(text: str) -> str:
    boxed = BOXED.findall(text)
    return boxed[-1] if boxed else text.rpartition("####")[2]


def _is_unit(text: str) -> bool:
    words = DECORATION.sub(" ", text).split()
    return len(words) <= MAX_UNIT and all(
        UNIT_WORD.fullmatch(word) and word.casefold() not in NO_UNITS for word in words
    )


def _value(found: re.Match[str]) -> Fraction | None:
    """What a match of `NUMBER` says; nothing if it divides by zero or is endless."""
    if len(found[0]) > MAX_LENGTH:
        return None

    def part(*names: str, default: int = 0) -> Fraction:
        text = next((found[name] for name in names if found[name]), None)
        if text is None:
            return Fraction(default)
        size = Fraction(Decimal(re.sub(r"[^\d.]", "", text)))
        return -size if text[0] in "-\u2212" else size

    denominator = part("under", "under_digit", "bottom", default=1)
    if denominator == 0:
        return None
    value = part("plain") + part("whole", "mixed") + part("over", "over_digit", "top") / denominator
    value *= Fraction(10) ** int(part("exponent", "power")) * SCALES.get(found["scale"], 1)
    return -value if found["sign"] else value
