"""Recorded tables as text: how numbers, intervals and tables of documents are written."""

from pathlib import Path

import pandas as pd

from refusal_cliff.formats import estimate, interval


def read(path: Path) -> pd.DataFrame:
    """A CSV as it is: every cell a text, so that a copy of it is the same."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_numbers(path: Path, *columns: str) -> pd.DataFrame:
    """The same with `columns` as numbers."""
    table = read(path)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in columns})


def counted(value: float, low: float, high: float, n: float) -> str:
    """A share of organisms: how many of how many, then the share."""
    return f"{round(value * n)}/{n:.0f}: {interval(value, low, high)}" if n else ""


def markdown(table: pd.DataFrame) -> str:
    """The table without columns that are empty."""
    return table.loc[:, (table != "").any()].to_markdown(index=False, disable_numparse=True)


def across(table: pd.DataFrame, rows: list[str], columns: str) -> pd.DataFrame:
    """Column `cell` of a long table with one column for each value of `columns`; orders are those of appearance."""
    wide = table.pivot_table(index=rows, columns=columns, values="cell", aggfunc="first", sort=False)
    return wide[table[columns].unique()].fillna("").rename_axis(columns=None).reset_index()


def spread(values: pd.Series) -> str:
    """Mean, lowest and highest of numbers such as one for each seed; a number by itself has no range."""
    values = values.dropna()
    if len(values) < 2:
        return "".join(map(estimate, values))
    return interval(values.mean(), values.min(), values.max())


def family(models: pd.Series) -> pd.Series:
    """The row of the model sheet that each model belongs to."""
    return models.str.replace(r"-s\d+$", "", regex=True)


def over_seeds(table: pd.DataFrame, rows: list[str], columns: str) -> pd.DataFrame:
    """`value` averaged over the models of a family, with the lowest and the highest: wide, columns by `columns`."""
    groups = table.groupby([*rows, columns], sort=False, dropna=False)["value"]
    return across(groups.agg(spread).rename("cell").reset_index(), rows, columns)
