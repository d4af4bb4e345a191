"""The paper's claims and its reviewers' questions: each a prediction about one cell of a table, and a verdict.

Claims are rows of a sheet (`sheets.load_claims`), and every number is read from a table that holds it already: nothing
is computed here but the verdict. The rules are the same for every claim and every model:

- The prediction is an open range of the number, e.g. below 0.10. A claim is *supported* if the whole 95 % interval lies
  in the range, *not supported* if the whole interval lies outside it, and *inconclusive* otherwise.
- Where there is no number to judge by, the row stays, with verdict *no data* and the reason. That includes claims about
  poorly or well aligned models (`outcomes.alignment`) on models of another kind.
- A claim that names `{probe}` is measured by every probe. The one of the config is the paper's; the others decide
  nothing about the paper's claim, but show how much of it is the probe.
- A claim that names `{population}` is measured over all prompts and over the vulnerable datasets, on models that have
  some. Read those rows beside the others: the datasets were picked for their base ASR.
"""

import ast
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.outcomes import ALL, VULNERABLE
from refusal_cliff.sheets import PLACEHOLDERS
from refusal_cliff.stats import NOTHING, Estimate
from refusal_cliff.variants import format_number

COLUMNS = [
    *("id", "claim", "section", "kind", "model", "probe", "population", "metric", "predicted"),
    *("estimate", "low", "high", "n", "verdict", "expected", "reason", "table", "row", "column"),
]
ESTIMATE = ["estimate", "low", "high", "n"]
NO_DATA = "no data"
NOT_FOUND = {"verdict": NO_DATA, "table": "", "column": ""} | dict(zip(ESTIMATE, NOTHING, strict=True))
ALIGNED = {"poor": "poorly aligned", "well": "well aligned"}
SHOWN = 30
"""Rows of the console's table."""


def decide(estimate: Estimate, lower: float, upper: float) -> str:
    """The verdict on "the number lies strictly between `lower` and `upper`", by the whole interval."""
    if lower < estimate.low and estimate.high < upper:
        return "supported"
    if estimate.high <= lower or estimate.low >= upper:
        return "not supported"
    return "inconclusive"


def evaluate(
    sheet: pd.DataFrame, tables: Mapping[str, pd.DataFrame], probes: Mapping[str, str], fraction: float, budget: float
) -> pd.DataFrame:
    """Every claim on every model, by the rules above.

    Args:
        sheet: output of `sheets.load_claims`.
        tables: the tables of a run by name, as read from their files; `alignment` says which models there are.
        probes: the positions that each probe is trained on, by name.
        fraction, budget: operating points, share of all heads and share of the training pool.

    Returns:
        `COLUMNS`: probe and population are empty where the claim does not name them, `expected` is yes, no or empty,
        `reason` says why there is no data or no interval, and table, row (of the file, from 1, without its header) and
        column say where the number stands.

    Raises:
        UserError: a claim names a table or a column that does not exist, or its filter is wrong or not unique.
    """
    for claim in sheet.itertuples():
        _check_names(claim, tables)
    points = {"fraction": fraction, "budget": budget}
    in_filters = {name: format_number(value) for name, value in points.items()}
    in_words = {name: f"{100 * value:g} %" for name, value in points.items()}
    rows = []
    for model, claim in product(tables["alignment"].fillna({"vulnerable": ""}).itertuples(), sheet.itertuples()):
        for names in _names(claim, model, probes):
            filled = names | {"position": probes.get(names["probe"], "")}
            where, metric = claim.where.format(**filled, **in_filters), claim.metric.format(**filled, **in_words)
            described = {key: getattr(claim, key) for key in ("id", "claim", "section", "kind")} | {
                "model": model.model
            }
            described |= {"predicted": _predicted(claim), "expected": _expected(claim, model.model)}
            rows.append(described | names | {"metric": metric} | _decided(claim, model, where, tables[claim.table]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "row": "Int64"})


def _names(claim: Any, model: Any, probes: Iterable[str]) -> Iterator[dict[str, str]]:
    """The probes and populations that a claim is about; empty for what it does not name."""
    named = claim.where + claim.metric
    populations = [ALL, VULNERABLE] if model.vulnerable else [ALL]
    for population in populations if "{population}" in named else [""]:
        for probe in probes if "{probe}" in named else [""]:
            yield {"probe": probe, "population": population}


def _decided(claim: Any, model: Any, where: str, table: pd.DataFrame) -> dict[str, Any]:
    """The number that the filter `where` finds, where it stands, and the verdict."""
    row, reason = None, _other_alignment(claim, model)
    if not reason:
        row, reason = _find(claim, model.model, where, table)
    if row is None:
        return NOT_FOUND | {"reason": reason}
    estimate = Estimate(*table.loc[row, [claim.value, "low", "high", "n"]])
    missing = [part for part, value in (("number", estimate.value), ("interval", estimate.low)) if math.isnan(value)]
    verdict = NO_DATA if "number" in missing else decide(estimate, claim.lower, claim.upper)
    found = {"verdict": verdict, "reason": f"the {missing[0]} is missing" if missing else ""}
    found |= {"table": claim.table, "row": row + 1, "column": claim.value}
    return found | dict(zip(ESTIMATE, estimate, strict=True))


def _find(claim: Any, model: str, where: str, table: pd.DataFrame) -> tuple[int | None, str]:
    """Index of the model's row that the filter `where` finds, or why there is none."""
    found = table[table["model"] == model]
    if found.empty:
        return None, f"no row of {model} in table {claim.table}"
    conditions = _conditions(where)
    for place, condition in enumerate(conditions):
        try:
            holds = found.eval(condition, engine="python")
            if holds.dtype != bool:  # query would take it for row labels
                raise TypeError("it is not true or false")
            found = found[holds]
        except Exception as error:  # the text is the user's: pandas may stumble over it in any way
            raise _wrong(claim, f"where: {condition!r} is no filter for table {claim.table} ({error})") from None
        if found.empty:
            return None, f"no row of {model} in table {claim.table} where {' and '.join(conditions[: place + 1])}"
    if len(found) > 1:
        raise _wrong(claim, f"where: {where!r} finds {len(found)} rows of {model} in table {claim.table}; narrow it")
    return found.index[0], ""


def _conditions(where: str) -> list[str]:
    """The parts of a filter that all have to hold."""
    whole = ast.parse(where, mode="eval").body
    joined = isinstance(whole, ast.BoolOp) and isinstance(whole.op, ast.And)
    return [ast.unparse(part) for part in (whole.values if joined else [whole])]


def _check_names(claim: Any, tables: Mapping[str, pd.DataFrame]) -> None:
    if claim.table not in tables:
        raise _wrong(claim, f"no table {claim.table!r}; choose one of {', '.join(tables)}")
    tree = ast.parse(claim.where.format(**PLACEHOLDERS), mode="eval")
    named = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known = tables[claim.table].columns
    for column in (*named, claim.value, "low", "high", "n"):
        if column not in known:
            raise _wrong(claim, f"table {claim.table} has no column {column!r}; it has {', '.join(known)}")


def _wrong(claim: Any, text: str) -> UserError:
    return UserError(f"claim sheet: row {claim.id!r}: {text}")


def _other_alignment(claim: Any, model: Any) -> str:
    """Why the claim is not about the model; empty if it is."""
    if claim.about in ("any", model.alignment):
        return ""
    is_what = f"is {ALIGNED[model.alignment]}" if model.alignment in ALIGNED else "is neither that nor its opposite"
    asr = f"{model.value:.2f} [{model.low:.2f}, {model.high:.2f}]" if model.n else "unknown"
    return f"about {ALIGNED[claim.about]} models; this one {is_what} (ASR {asr})"


def _predicted(claim: Any) -> str:
    if math.isinf(claim.upper):
        return f"> {claim.lower:g}"
    return f"< {claim.upper:g}" if math.isinf(claim.lower) else f"{claim.lower:g} to {claim.upper:g}"


def _expected(claim: Any, model: str) -> str:
    return "yes" if model in claim.expected else "no" if f"not {model}" in claim.expected else ""


def format_for_console(table: pd.DataFrame, probe: str) -> str:
    """The claims that matter, in one screen of at most 120 columns, and how many there are in all.

    Those are what the paper claims, by its own probe and over all prompts, where it was measured, and whatever comes
    out contrary to what it should by construction.

    Args:
        table: output of `evaluate`, or the file it was written to.
        probe: the paper's.
    """
    table = table.fillna({"probe": "", "population": "", "expected": ""})
    main = table[table["probe"].isin(["", probe]) & (table["population"] != VULNERABLE)]
    contrary = main["expected"].map({"yes": "not supported", "no": "supported"})
    matter = main[(main["kind"] == "paper") & (main["verdict"] != NO_DATA) | (main["verdict"] == contrary)]
    shown = pd.DataFrame(
        {
            "claim": matter["id"].str.slice(0, 28),
            "model": matter["model"].str.slice(0, 14),
            "predicted": matter["predicted"],
            "estimate [95 %]": list(_estimates(matter)),
            "n": matter["n"].astype(str).str.removesuffix(".0"),
            "verdict": matter["verdict"],
            "expected": matter["expected"],
        }
    ).head(SHOWN)
    text = shown.to_markdown(index=False, tablefmt="simple", disable_numparse=True)
    return (
        f"{text}\n\n{len(shown)} of {len(table)} rows: what the paper claims, by probe {probe} over all prompts, "
        "and what is contrary to expectation."
    )


def _estimates(table: pd.DataFrame) -> Iterator[str]:
    for row in table.itertuples():
        measured = np.isfinite(row.estimate)
        yield f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]" if measured else NO_DATA
