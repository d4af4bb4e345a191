"""The paper's claims and its reviewers' questions: each a prediction about one cell of a table, and a verdict.

Claims are rows of a sheet (`sheets.load_claims`), and every number is read from a table that holds it already. A claim
is about a *family*: the models of one row of the model sheet, which differ in their training seed alone. It is read off
each of them, and decided for the family. The rules are the same for every claim and every family:

- The prediction is an open range of the number, e.g. below 0.10. A claim is *supported* if the whole 95 % interval lies
  in the range, *not supported* if the whole interval lies outside it, and *inconclusive* otherwise. The interval of a
  family is over its seeds too (`stats.nested_bootstrap`).
- p says how far beyond the interval a verdict holds, p_holm that among all answers to one question: the rows of a
  family with the same text in `claim`. `verdict_holm` is *inconclusive* where that leaves more than 5 %.
- Where there is no number to judge by, the row stays, with verdict *no data* and the reason. That includes claims about
  poorly or well aligned models (`outcomes.alignment`) on models of another kind, organisms whose planting did not
  take, and, where the guard misses its gate, numbers that rest on its verdicts.
- A claim that names `{probe}` is measured by every probe. The one of the config is the paper's; the others decide
  nothing about the paper's claim, but show how much of it is the probe.
- A claim that names `{population}` is measured over all prompts and over the vulnerable datasets, on families that have
  some. Read those rows beside the others: the datasets were picked for their base ASR.
"""

import ast
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from refusal_cliff.errors import UserError
from refusal_cliff.formats import interval
from refusal_cliff.outcomes import ALL, VULNERABLE
from refusal_cliff.sheets import PLACEHOLDERS
from refusal_cliff.stats import CONFIDENCE, NOTHING, RESAMPLES, Estimate, nested_bootstrap
from refusal_cliff.variants import format_number

ESTIMATE = ["estimate", "low", "high", "n"]
COLUMNS = [
    *("id", "claim", "section", "kind", "family", "probe", "population", "metric", "predicted", *ESTIMATE, "seeds"),
    *("holds", "p", "p_holm", "verdict", "verdict_holm", "expected", "agrees", "guard_error", "reason"),
    *("paper", "headline"),
]
SEED_COLUMNS = [
    *("id", "family", "model", "probe", "population", "metric", "predicted", *ESTIMATE),
    *("verdict", "reason", "table", "row", "column"),
]
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NO_DATA = "supported", "not supported", "inconclusive", "no data"
NOT_FOUND = {"verdict": NO_DATA, "table": "", "column": ""} | dict(zip(ESTIMATE, NOTHING, strict=True))
NOT_TAKEN = "the planting did not take"
ALIGNED = {"poor": "poorly aligned", "well": "well aligned"}


def decide(estimate: Estimate, lower: float, upper: float) -> str:
    """The verdict on "the number lies strictly between `lower` and `upper`", by the whole interval."""
    if lower < estimate.low and estimate.high < upper:
        return SUPPORTED
    if estimate.high <= lower or estimate.low >= upper:
        return NOT_SUPPORTED
    return INCONCLUSIVE


def p_value(draws: ArrayLike, lower: float, upper: float) -> float:
    """Two-sided p-value of the verdict that `decide` gives on the central 95 % of `draws` [resample].

    Twice the share of draws on the wrong side of an edge of the range, for the verdict that has the smaller one, and at
    least one in `RESAMPLES`. To lie between two edges, a number has to pass both (the larger of the two shares counts).
    """
    draws = np.asarray(draws, dtype=float)
    inside = max(np.mean(draws <= lower), np.mean(draws >= upper))
    wrong = min(inside, np.mean(draws > lower), np.mean(draws < upper))
    return max(2 * float(wrong), 1 / RESAMPLES)


def evaluate(
    sheet: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    families: Mapping[str, str],
    truths: Iterable[Mapping[str, Any]],
    probes: Mapping[str, str],
    fraction: float,
    budget: float,
    early: int,
    operating: str,
    seed: int,
    harm_judge: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every claim on every family, by the rules above.

    Args:
        sheet: output of `sheets.load_claims`.
        tables: the tables of a run by name, as read from their files. `alignment` has every model; `guard`, the guard's
            errors and whether they meet its gate, is there if a run has one.
        families: the family of each model.
        truths: what is known of organisms: `model`; `flaw`, `cliff`, `sparse` (yes, no, or something else: open); and
            `gate` with `met`, whether the planting took, and numbers.
        probes: the positions that each probe is trained on, by name.
        fraction, budget, early: operating points, share of all heads, share of the training pool, and steps of a
            training that was stopped early.
        operating: the ranking of heads that claims are about.
        harm_judge: the judge that answers are read by; thinking is read by the guard.

    Returns:
        Claims, with `COLUMNS`: probe and population are empty where the claim does not name them; the estimate is of
        all `seeds` that have a number, n counts their observations together; `holds` says how many of them have the
        family's verdict by themselves; `expected` is what follows from the truth (yes, no or empty) and `agrees`
        whether the verdict is that (yes, no, open if inconclusive, empty); `guard_error` is that of the guard that a
        number rests on; `reason` says why seeds have no number, or no interval; `paper` and `headline` are the sheet's.
        And what they were read from, a row for every model, with `SEED_COLUMNS`: table, row (of the file, from 1,
        without its header) and column say where the number stands.

    Raises:
        UserError: a claim names a table or a column that does not exist, or its filter is wrong or not unique.
    """
    for claim in sheet.itertuples():
        _check_names(claim, tables)
    truth_of = {truth["model"]: truth for truth in truths}
    alignment = tables["alignment"].fillna({"vulnerable": ""}).set_index("model")
    members = {name: [model for model, own in families.items() if own == name] for name in families.values()}
    points = {"fraction": fraction, "budget": budget}
    others = {"operating": operating, "early": early}
    in_filters = others | {name: format_number(value) for name, value in points.items()}
    in_words = others | {name: _amount(value) for name, value in points.items()}

    claims, by_seed = [], []
    for claim in sheet.itertuples():
        guard_error, guard_fails = _guard_gate(claim, tables, harm_judge)
        for names in _names(claim, probes):
            filled = names | {"position": probes.get(names["probe"], "")}
            where, metric = claim.where.format(**filled, **in_filters), claim.metric.format(**filled, **in_words)
            read = _reader(claim, where, tables[claim.table])
            for family, models in members.items():
                if names["population"] == VULNERABLE and not any(alignment.loc[models, "vulnerable"]):
                    continue
                seeds = []
                for model in models:
                    reason = _not_taken(truth_of.get(model, {})) or guard_fails
                    reason = reason or _other_alignment(claim, alignment.loc[model])
                    seeds.append({"model": model} | (NOT_FOUND | {"reason": reason} if reason else read(model)))
                in_range = predicted(claim.lower, claim.upper)
                named = {"id": claim.id, "family": family, **names, "metric": metric, "predicted": in_range}
                by_seed += [named | own for own in seeds]
                described = {key: getattr(claim, key) for key in ("claim", "section", "kind", "paper", "headline")}
                described |= {"expected": _expected(claim, truth_of.get(models[0], {})), "guard_error": guard_error}
                claims.append(named | described | _decided(claim, seeds, described["expected"], seed))
    table = pd.DataFrame(claims).assign(p_holm=_holm_by_question)
    survives = ~(table["p_holm"] > 1 - CONFIDENCE)
    table["verdict_holm"] = table["verdict"].where(survives, INCONCLUSIVE)
    return (
        table[COLUMNS].astype({"n": "Int64"}),
        pd.DataFrame(by_seed, columns=SEED_COLUMNS).astype({"n": "Int64", "row": "Int64"}),
    )


def _amount(value: float) -> str:
    """An operating point in words: a share, or above 1 how many examples."""
    return f"{100 * value:g} %" if value <= 1 else f"{value:g} examples"


def _names(claim: Any, probes: Iterable[str]) -> Iterator[dict[str, str]]:
    """The probes and populations that a claim is about; empty for what it does not name."""
    named = claim.where + claim.metric
    for population in [ALL, VULNERABLE] if "{population}" in named else [""]:
        for probe in probes if "{probe}" in named else [""]:
            yield {"probe": probe, "population": population}


def _decided(claim: Any, seeds: list[dict[str, Any]], expected: str, seed: int) -> dict[str, Any]:
    """The estimate over the seeds that have a number, and the verdict on it."""
    known = [read for read in seeds if read["verdict"] != NO_DATA]
    found = {"seeds": len(known), "reason": _reasons(seeds)}
    if not known:
        nothing = dict(zip(ESTIMATE, NOTHING, strict=True))
        return found | nothing | {"holds": "", "p": np.nan, "verdict": NO_DATA, "agrees": ""}
    estimate, draws = nested_bootstrap([Estimate(*(read[part] for part in ESTIMATE)) for read in known], seed)
    verdict = decide(estimate, claim.lower, claim.upper)
    alike = sum(read["verdict"] == verdict for read in known)
    said = {SUPPORTED: "yes", NOT_SUPPORTED: "no"}.get(verdict)
    return (
        found
        | dict(zip(ESTIMATE, estimate, strict=True))
        | {
            "holds": f"{alike} of {len(known)}",
            "p": np.nan if math.isnan(estimate.low) else p_value(draws, claim.lower, claim.upper),
            "verdict": verdict,
            "agrees": "" if not expected else "open" if said is None else "yes" if said == expected else "no",
        }
    )


def _reasons(seeds: list[dict[str, Any]]) -> str:
    """Why seeds have no number or no interval; the models are named where it is not all of them."""
    models: dict[str, list[str]] = {}
    for read in seeds:
        if read["reason"]:
            models.setdefault(read["reason"], []).append(read["model"])
    return "; ".join(
        reason if len(own) == len(seeds) else f"{', '.join(own)}: {reason}" for reason, own in models.items()
    )


def _holm_by_question(claims: pd.DataFrame) -> pd.Series:
    """Holm-adjusted p of every row, among those of its family and question that have a p."""
    # As `stats.holm`, which collects garbage at every call: too slow for hundreds of questions.
    question = ["family", "claim"]
    ordered = claims.dropna(subset="p").sort_values("p", kind="stable")
    grouped = ordered.groupby(question)["p"]
    stepped = ordered.assign(p=ordered["p"] * (grouped.transform("size") - grouped.cumcount()))
    return stepped.groupby(question)["p"].cummax().clip(upper=1).reindex(claims.index)


def _reader(claim: Any, where: str, table: pd.DataFrame) -> Callable[[str], dict[str, Any]]:
    """A function that gives a model's number, where it stands, and the verdict on this model alone.

    Conditions are evaluated once, for all models: there are many.
    """
    conditions, hold = _conditions(where), [np.ones(len(table), dtype=bool)]
    for condition in conditions:
        try:
            found = np.asarray(table.eval(condition, engine="python"))
            if found.dtype != bool:  # query would take it for row labels
                raise TypeError("it is not true or false")
        except Exception as error:  # the text is the user's: pandas may stumble over it in any way
            raise _wrong(claim, f"where: {condition!r} is no filter for table {claim.table} ({error})") from None
        hold.append(hold[-1] & found)
    rows_of = table.groupby("model").indices

    def read(model: str) -> dict[str, Any]:
        rows = rows_of.get(model, np.array([], dtype=int))
        found = [rows[holds[rows]] for holds in hold]
        lost = next((number for number, left in enumerate(found) if len(left) == 0), None)
        if lost is not None:
            filtered = f" where {' and '.join(conditions[:lost])}" if lost else ""
            return NOT_FOUND | {"reason": f"no row in table {claim.table}{filtered}"}
        if len(found[-1]) > 1:
            several = f"finds {len(found[-1])} rows of {model} in table {claim.table}; narrow it"
            raise _wrong(claim, f"where: {where!r} {several}")
        (row,) = found[-1]
        return _cell(claim, table, row)

    return read


def _cell(claim: Any, table: pd.DataFrame, row: int) -> dict[str, Any]:
    estimate = Estimate(*table.iloc[row][[claim.value, "low", "high", "n"]])
    missing = [part for part, value in (("number", estimate.value), ("interval", estimate.low)) if math.isnan(value)]
    verdict = NO_DATA if "number" in missing else decide(estimate, claim.lower, claim.upper)
    reason = f"the {missing[0]} is missing" if missing else ""
    # Some tables say themselves why.
    told = table["reason"].iloc[row] if missing and "reason" in table else ""
    found = {"verdict": verdict, "reason": told if told and pd.notna(told) else reason}
    found |= {"table": claim.table, "row": row + 1, "column": claim.value}
    return found | dict(zip(ESTIMATE, estimate, strict=True))


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


def _guard_gate(claim: Any, tables: Mapping[str, pd.DataFrame], harm_judge: str) -> tuple[str, str]:
    """The error of the guard's verdicts that a claim rests on, and why they cannot be relied on; empty without one."""
    if "guard" not in tables or {"answer": harm_judge, "thinking": "guard"}.get(claim.judge) != "guard":
        return "", ""
    errors = tables["guard"].query("dataset == @ALL and scope == @claim.judge")
    text = ", ".join(f"{row.quantity} {interval(row.value, row.low, row.high)}" for row in errors.itertuples())
    return text, "" if errors["met"].all() else "the guard's gate is missed"


def _not_taken(truth: Mapping[str, Any]) -> str:
    """Why nothing is claimed of an organism: it is not what it was made to be; empty if it is, or is none."""
    gate = truth.get("gate", {"met": True})
    numbers = ", ".join(f"{key} {value:.3g}" for key, value in gate.items() if type(value) in (int, float))
    return "" if gate["met"] else NOT_TAKEN + (f" ({numbers})" if numbers else "")


def _other_alignment(claim: Any, model: Any) -> str:
    """Why the claim is not about the model, a row of table alignment; empty if it is."""
    if claim.about in ("any", model.alignment):
        return ""
    is_what = f"is {ALIGNED[model.alignment]}" if model.alignment in ALIGNED else "is neither that nor its opposite"
    asr = interval(model.value, model.low, model.high) if model.n else "unknown"
    return f"about {ALIGNED[claim.about]} models; this one {is_what} (ASR {asr})"


def predicted(lower: float, upper: float) -> str:
    """The open range that is predicted, as people read it."""
    if math.isinf(upper):
        return f"> {lower:g}"
    return f"< {upper:g}" if math.isinf(lower) else f"{lower:g} to {upper:g}"


def _expected(claim: Any, truth: Mapping[str, Any]) -> str:
    """What an organism's truth says of the claim: yes, no, or empty where it says nothing."""
    known = truth.get(claim.expected.removeprefix("not "))
    if known not in ("yes", "no"):
        return ""
    return "yes" if (known == "yes") != claim.expected.startswith("not ") else "no"
