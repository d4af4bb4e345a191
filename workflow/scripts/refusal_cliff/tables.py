"""Tables that people read: CSV for machines, Markdown for eyes."""

import pandas as pd

from refusal_cliff.artifacts import whole_file


def write_csv(table: pd.DataFrame, csv_path: str, markdown_path: str) -> None:
    """Write `table` as CSV (six significant digits) and, rounded for reading, as Markdown."""
    with whole_file(csv_path) as draft:
        table.to_csv(draft, index=False, float_format="%.6g")
    with whole_file(markdown_path) as draft:
        draft.write_text(to_markdown(table), encoding="utf-8")


def to_markdown(table: pd.DataFrame) -> str:
    """`table` as Markdown: three significant digits, missing cells empty."""
    return table.map(_cell).to_markdown(index=False, disable_numparse=True) + "\n"


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
