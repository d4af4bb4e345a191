"""Tables that people read: made model by model, written as CSV for machines and as Markdown for eyes."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from refusal_cliff.artifacts import whole_file, write_sidecar
from refusal_cliff.formats import number

Tabulate = Callable[..., pd.DataFrame]
READABLE = 200
"""Rows that a table has in Markdown."""


def by_model(tabulate: Tabulate) -> Tabulate:
    """Let a function that makes a table of one model make the table of all models in its input.

    `tabulate` is called with the rows of each model, in all tables that it is given; what is no table it gets as it is.
    Models are those in the column `model` of its first table, in order of appearance; joblib shares them out to as many
    processes as the job has threads.

    Returns:
        A function that returns the tables of all models, one under the other, with `model` as first column. Without
        models it returns what `tabulate` makes of no rows: a table that has its columns.
    """

    @wraps(tabulate)
    def tabulate_all(first: pd.DataFrame, *others: Any, **options: Any) -> pd.DataFrame:
        def of(model: str, given: Any) -> Any:
            return given[given["model"] == model] if isinstance(given, pd.DataFrame) else given

        models = [*first["model"].unique()] or [""]  # no model is called ""
        made = Parallel()(
            delayed(tabulate)(*(of(model, given) for given in (first, *others)), **options) for model in models
        )
        found = pd.concat([table.assign(model=model) for table, model in zip(made, models, strict=True)])
        found = found.reset_index(drop=True)
        return found[["model", *found.columns.drop("model")]]

    return tabulate_all


def with_requests(table: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table`, by prompt_id, with the request_id of their prompts: traces of one request go together."""
    return table.merge(prompts[["prompt_id", "request_id"]], on="prompt_id", validate="many_to_one")


def write_csv(table: pd.DataFrame, csv_path: str, markdown_path: str) -> None:
    """Write `table` as CSV (six significant digits), with its sidecar, and, rounded for reading, as Markdown.

    The sidecar tells no settings: a table comes from all of a run, and the run's settings are in its config.yaml.
    """
    with whole_file(csv_path) as draft:
        table.to_csv(draft, index=False, float_format="%.6g")
    write_sidecar(csv_path, {}, rows=len(table), columns=table.columns.tolist())
    with whole_file(markdown_path) as draft:
        text = to_markdown(table.head(READABLE))
        if len(table) > READABLE:
            text += f"\nThe first {READABLE} of {len(table):,} rows; all are in {Path(csv_path).name}.\n"
        draft.write_text(text, encoding="utf-8")


def to_markdown(table: pd.DataFrame) -> str:
    """`table` as Markdown: three significant digits, missing cells empty."""
    return table.map(_cell).to_markdown(index=False, disable_numparse=True) + "\n"


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return number(value) if isinstance(value, float) else str(value).replace("|", "\\|")
