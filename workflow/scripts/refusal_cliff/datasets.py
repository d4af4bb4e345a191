"""Prompts: read a benchmark or the grammar, wrap requests in jailbreaks, and keep prompt sets free of each other.

A *request* is what the user wants; a *prompt* is the request as the model sees it, perhaps wrapped in a jailbreak.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.errors import UserError
from refusal_cliff.hub import take_snapshot

# Contaminated prompts leave the set that comes later here: what is measured comes first, what only trains comes last.
SETS = ("organism", "test", "fit", "pool")
PLAIN = "plain"
PROMPT_COLUMNS = (
    "prompt_id",
    "prompt_set",
    "dataset",
    "prompt",
    "request",
    "request_id",
    "category",
    "family",
    "label",
    "reference",
    "match",
)
FILE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
QUOTES = str.maketrans("", "", "'\"`\u2018\u2019\u201c\u201d")
PUNCTUATION = ".,;:!?()[]{}<>*_-\u2013\u2014"


def read_file(path: str | Path, rows: int | None = None) -> pd.DataFrame:
    """Read a benchmark file by its suffix: csv, tsv, json (an array of objects), jsonl or parquet.

    Cells of csv and tsv stay text, so that a prompt "None" is not taken for a missing value.

    Args:
        rows: read only so many rows, where the format allows it.

    Raises:
        UserError: no such file, unknown suffix, or content that is not in the format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; download it, or set data_dir in the config to the folder that holds it")
    if path.suffix not in FILE_SUFFIXES:
        raise UserError(f"{path}: cannot read {path.suffix!r} files; use one of {', '.join(FILE_SUFFIXES)}")
    try:
        match path.suffix:
            case ".csv" | ".tsv":
                separator = "," if path.suffix == ".csv" else "\t"
                return pd.read_csv(
                    path, sep=separator, dtype=str, keep_default_na=False, nrows=rows, encoding="utf-8-sig"
                )
            case ".json" | ".jsonl":
                # An open file, because pandas would keep a byte order mark.
                with path.open(encoding="utf-8-sig") as lines:
                    one_a_line = path.suffix == ".jsonl"
                    return pd.read_json(lines, lines=one_a_line, nrows=rows if one_a_line else None, dtype=False)
            case _:
                return pd.read_parquet(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not readable as {path.suffix[1:]}: {error}") from error


def check_files(datasets: pd.DataFrame, data_dir: str | Path) -> None:
    """Check that the local file of every dataset row exists and has the columns that the row names.

    Raises:
        UserError: names the row, the file or column, and where to get the file.
    """
    for name, row in datasets[datasets["source"] == "file"].iterrows():
        path = Path(data_dir) / row["location"]
        if not path.is_file():
            origin = f"download it from {row['url']}" if row["url"] else "put it there"
            raise UserError(f"dataset {name!r}: no file {path}; {origin}, or set data_dir in the config to its folder")
        _check_columns(read_file(path, rows=1), {"dataset": name} | row.to_dict())


def select_rows(raw: pd.DataFrame, row: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The prompts that a row of the dataset sheet asks for.

    The part is taken from a shuffle of all of `raw`, before any other choice, so that parts of one location which do
    not overlap are disjoint whatever else their rows say. Of the grammar tasks are shuffled, not prompts: all wordings
    of a task are in one part, and the first prompts of a part are of different tasks.

    Args:
        raw: everything at the row's location.
        row: a row of the dataset sheet, with `dataset`.

    Returns:
        prompt, category, reference, match, label; category, reference and match are missing where there is none.

    Raises:
        UserError: a missing column, an empty prompt, or nothing left.
    """
    _check_columns(raw, row)
    tasks = raw["task"] if row["source"] == "grammar" else pd.Series(raw.index)
    table = raw.iloc[_part(tasks, row["part"], seed)]
    if row["where"]:
        column, value = row["where"].split("=", 1)
        table = table[table[column].astype(str) == value]
    table = table.head(row["max_prompts"] or None)
    if table.empty:
        raise UserError(
            f"dataset {row['dataset']!r}: no prompts left of {len(raw)} rows at {row['location']}; check the columns "
            f"part ({row['part']}) and where ({row['where'] or 'empty'})"
        )
    prompts = table[row["prompt_column"]].astype(object).where(table[row["prompt_column"]].notna(), "").astype(str)
    empty = prompts.str.strip() == ""
    if empty.any():
        raise UserError(
            f"dataset {row['dataset']!r}: {empty.sum()} of {len(empty)} prompts in column {row['prompt_column']!r} of "
            f"{row['location']} are empty (first: row {empty.idxmax()}); drop them with where, or name another column"
        )
    references = _optional(table, row["reference_column"])
    if row["match"] == "number":
        references = references.map(_final_number, na_action="ignore")
    chosen = pd.DataFrame(
        {
            "prompt": prompts.str.strip(),
            "category": _optional(table, row["category_column"]),
            "reference": references,
            "match": row["match"] or None,
            "label": row["label"],
        }
    )
    return chosen.reset_index(drop=True)


def wrap(table: pd.DataFrame, templates: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Wrap each prompt in a jailbreak; families, and the templates of each, are dealt in turn.

    Args:
        table: as `select_rows` returns it, already shuffled.
        templates: for each family its texts with one "{prompt}"; none leaves the prompts plain.

    Returns:
        `table` with the wrapped prompt, and two more columns: family (`plain` if not wrapped) and request.
    """
    table = table.assign(request=table["prompt"], family=PLAIN)
    if not templates:
        return table
    depth = max(map(len, templates.values()))
    # Round by round: the first template of every family, then the second of every family, and so on.
    rounds = [(family, texts[turn % len(texts)]) for turn in range(depth) for family, texts in templates.items()]
    dealt = list(islice(cycle(rounds), len(table)))
    return table.assign(
        family=[family for family, _ in dealt],
        # Not str.format: a request may hold braces of its own.
        prompt=[text.replace("{prompt}", request) for (_, text), request in zip(dealt, table["request"], strict=True)],
    )


def download(row: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    """Everything at the hub location of a dataset row, and the commit that its revision stands for.

    What the local cache (`HF_HOME`) already holds is not downloaded again, so a machine without network works from it.

    Raises:
        UserError: no network, a gated dataset, or no such dataset, revision, subset or split.
    """
    from datasets import load_dataset

    location, subset = row["location"], row["subset"]
    where = f"dataset {row['dataset']!r}: {location}"
    one_file = Path(subset).suffix in FILE_SUFFIXES
    folder = take_snapshot(location, "dataset", row["revision"], where, [subset] if one_file else None)
    try:
        if one_file:
            return read_file(folder / subset), folder.name
        return load_dataset(str(folder), subset or None, split=row["hub_split"]).to_pandas(), folder.name
    except (ValueError, UserError) as error:
        raise UserError(
            f"{where}: check columns subset ({subset}) and hub_split ({row['hub_split']}): {error}"
        ) from None


def normalise(text: str) -> str:
    """Text by which prompts are compared: case, width, quotes, white space and punctuation around words are ignored.

    Punctuation within a word and symbols that stand alone are kept: "3 - 4" is not "3 + 4".
    """
    words = unicodedata.normalize("NFKC", text).casefold().translate(QUOTES).split()
    return " ".join(word.strip(PUNCTUATION) or word for word in words)


def prompt_id(prompt: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the normalised prompt."""
    return hashlib.sha256(normalise(prompt).encode()).hexdigest()[:16]


def assemble(
    tables: Mapping[str, pd.DataFrame], sets: Mapping[str, str], prompt_set: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join the datasets of a prompt set; no request and no prompt of an earlier set is among them.

    Sets come in the order of `SETS`: what a model was trained on is a fact by the time that it is tested, so test
    prompts that occur there are dropped; probes and safety training give way to the test. Within a set, a prompt is
    kept once, in the dataset that comes first; one request in two jailbreaks is two prompts.

    Args:
        tables: for each dataset of the set and of those before it a table as `wrap` returns it.
        sets: the prompt set of each of these datasets.

    Returns:
        The prompts (columns `PROMPT_COLUMNS`), and the dropped ones: dataset, prompt_id, reason, kept_in (the set or
        dataset that kept it).

    Raises:
        UserError: nothing is left of a dataset.
    """
    prompts = pd.concat(
        [table.assign(dataset=name, prompt_set=sets[name]) for name, table in tables.items()], ignore_index=True
    )
    prompts["prompt_id"] = prompts["prompt"].map(prompt_id)
    prompts["request_id"] = prompts["request"].map(prompt_id)
    own = prompts["prompt_set"] == prompt_set
    taken: dict[str, str] = {}
    for row in (
        prompts[~own].sort_values("prompt_set", key=lambda part: part.map(SETS.index), kind="stable").itertuples()
    ):
        taken.setdefault(row.request_id, row.prompt_set)
        taken.setdefault(row.prompt_id, row.prompt_set)
    table = prompts[own]
    owner = table["request_id"].map(taken).fillna(table["prompt_id"].map(taken))
    keeper = table[owner.isna()].groupby("prompt_id")["dataset"].transform("first")
    twice = keeper[table[owner.isna()].duplicated("prompt_id")]
    dropped = pd.concat(
        [
            _dropped(table[owner.notna()], "in another prompt set", owner.dropna()),
            _dropped(table.loc[twice.index], "twice in this prompt set", twice),
        ],
        ignore_index=True,
    )
    kept = table[owner.isna()].drop(twice.index)
    for name in tables:
        if sets[name] == prompt_set and name not in set(kept["dataset"]):
            raise UserError(
                f"dataset {name!r} (set {prompt_set}) is empty: all its prompts also occur elsewhere; give it a part "
                "of its location that no other row takes, or delete the row"
            )
    return kept[list(PROMPT_COLUMNS)].reset_index(drop=True), dropped


def _part(tasks: pd.Series, part: str, seed: int) -> NDArray:
    """Positions of the part "from-to" of a shuffle of all tasks: a wording of each task, then another of each.

    Args:
        tasks: the task of each prompt.
    """
    rng = np.random.default_rng(seed)
    codes, known = pd.factorize(tasks)
    start, stop = (round(float(share) * len(known)) for share in part.split("-"))
    places = np.full(len(known), -1)
    places[rng.permutation(len(known))[start:stop]] = np.arange(stop - start)
    shuffled = rng.permutation(np.flatnonzero(places[codes] >= 0))
    turns = pd.Series(codes[shuffled]).groupby(codes[shuffled]).cumcount()
    return shuffled[np.lexsort((places[codes[shuffled]], turns))]


def _dropped(table: pd.DataFrame, reason: str, kept_in: pd.Series) -> pd.DataFrame:
    return table[["dataset", "prompt_id"]].assign(reason=reason, kept_in=kept_in)


def _check_columns(raw: pd.DataFrame, row: Mapping[str, Any]) -> None:
    wanted = {
        "prompt_column": row["prompt_column"],
        "category_column": row["category_column"],
        "reference_column": row["reference_column"],
        "where": row["where"].partition("=")[0],
    }
    for key, column in wanted.items():
        if column and column not in raw.columns:
            raise UserError(
                f"dataset {row['dataset']!r}: {row['location']} has no column {column!r}, named in {key} of the "
                f"dataset sheet; it has {', '.join(map(str, raw.columns))}"
            )


def _optional(table: pd.DataFrame, column: str) -> pd.Series:
    """A column as text, missing where it is empty; all missing if no column is named."""
    if not column:
        return pd.Series(None, index=table.index, dtype="str")
    values = table[column]
    return values.astype(str).where(values.notna() & (values.astype(str) != ""))


def _final_number(solution: str) -> str:
    """The number that a solution ends with; GSM8K marks it as "#### 1,234"."""
    return solution.rpartition("####")[2].strip().replace(",", "")
