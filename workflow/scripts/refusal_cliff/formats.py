"""How numbers are written for people: at most three significant digits, and no minus before zero."""

import pandas as pd


def number(value: float) -> str:
    """A number of any size; nothing if it is missing."""
    return "" if pd.isna(value) else f"{float(f'{value:.3g}') + 0.0:.3g}"


def estimate(value: float) -> str:
    """A rate, a score or a difference of such: two decimals, so that those of a column stand below one another."""
    if pd.isna(value):
        return ""
    return f"{round(value, 2) + 0.0:.2f}" if abs(value) < 9.995 else f"{value:.3g}"


def interval(value: float, low: float, high: float) -> str:
    """An estimate with its interval, where it has one."""
    return estimate(value) + ("" if pd.isna(low) else f" [{estimate(low)}, {estimate(high)}]")
