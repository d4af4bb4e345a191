"""Prompts: read a benchmark or the grammar, wrap requests in jailbreaks, and keep prompt sets free of each other.

A *request* is what the user wants; a *prompt* is the request as the model sees it, perhaps wrapped in a jailbreak, and
perhaps in a tool context, where what is said is an action.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.actions import CHAT
from refusal_cliff.answers import reference_number
from refusal_cliff.data_files import SUFFIXES, UNWRITABLE, read_file, suffix_of
from refusal_cliff.errors import UserError
from refusal_cliff.hub import take_snapshot

# Contaminated prompts leave the set that comes later here: what is measured comes first, what only trains comes last.
SETS = ("organism", "test", "fit", "pool", "ready", "recorded")
READY, RECORDED = GIVEN = ("ready", "recorded")
"""The sets that have a thinking and a response of their own: examples to tune on, and transcripts of agents."""
PLAIN = "plain"
NO_CONTEXT: Mapping[str, Sequence[str]] = MappingProxyType({})
PROMPT_COLUMNS = (
    "prompt_id",
    "prompt_set",
    "dataset",
    "prompt",
    "request",
    "request_id",
    "category",
    "family",
    "context",
    "label",
    "reference",
    "match",
)
GIVEN_COLUMNS = ("thinking", "response")
"""What a row of a set in `GIVEN` has beside what other sets have."""
PREVIEW = 1000
"""Rows of a file that are looked at before any job starts: an optional key of JSON may be absent from the first."""
CONDITION = re.compile(r"([^=]+?)(!?=)(.*)", re.DOTALL)
QUOTES = str.maketrans("", "", "'\"`\u2018\u2019\u201c\u201d")
INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Characters that Unicode calls letters or symbols, and that show nothing."""
PUNCTUATION = ".,;:!?()[]{}<>*_-\u2013\u2014"
SENTENCE_MARKS = ".,;:?"
ARITHMETIC = re.compile(
    r"""
    (?<![\w)\].])[-\u2212.<>](?=\d)            # a sign, or a point, in front of a number: -5, .5, <5
  | (?<![\w)\]])[-\u2212](?=[$(\[]|[a-z]\b)    # or of an amount, a bracket, a variable: -$5, -(3 + 4), -x
  | [\d)\]!]\s*[+*/^=<>\u00d7\u00f7]\s*[-\u2212$(\[]*\d  # an operator between numbers: 2 * (3 + 4)
  | [\d)\]!]\s+[-\u2212]\s+[-\u2212$(\[]*\d
    """,
    re.VERBOSE,
)
KINDS_OF_CELLS = {list: "a list", dict: "an object", bytes: "bytes"}
SUPERSCRIPT = re.compile("(?<=[\\d)])[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]")


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
        _check_columns(read_file(path, rows=PREVIEW), {"dataset": name} | row.to_dict())


def select_rows(raw: pd.DataFrame, row: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The prompts that a row of the dataset sheet asks for.

    The part is taken from a shuffle of all of `raw`, before any other choice, so that parts of one location which do
    not overlap are disjoint whatever else their rows say. Of the grammar tasks are shuffled, not prompts: all wordings
    of a task are in one part, and the first prompts of a part are of different tasks.

    Args:
        raw: everything at the row's location, as `read_file` returns it.
        row: a row of the dataset sheet, with `dataset`; of a set in `GIVEN` also `markers` (of a thinking).

    Returns:
        prompt, category, reference, match, label, of a set in `GIVEN` thinking and response too; category, reference
        and match are missing where there is none. A reference to match as a number is that number (18, 1/2) without its
        solution, separators and unit.

    Raises:
        UserError: a missing column, an empty prompt, a cell that is not text, a reference that is no number where one
            is to match, an empty thinking or response, or one with a marker in it, or nothing left; names the row.
    """
    _check_columns(raw, row)
    tasks = raw["task"] if row["source"] == "grammar" else pd.Series(range(len(raw)))
    table = raw.iloc[_part(tasks, row["part"], seed)]
    for column, sign, value in _conditions(row["where"]):
        table = table[(_texts(table, column, row) == value) == (sign == "=")]
    table = table.head(row["max_prompts"] or None)
    if table.empty:
        raise UserError(
            f"dataset {row['dataset']!r}: no prompts left of {len(raw)} rows at {row['location']}; check the columns "
            f"part ({row['part']}) and where ({row['where'] or 'empty'}){_values_there(raw, row)}"
        )
    prompts = _texts(table, row["prompt_column"], row)
    empty = prompts == ""
    if empty.any():
        filled = " & ".join(filter(None, [row["where"], f"{row['prompt_column']}!="]))
        raise UserError(
            f"dataset {row['dataset']!r}: {empty.sum()} of {len(empty)} prompts in column {row['prompt_column']!r} of "
            f"{row['location']} are empty (first: {_place(table, empty.idxmax())}); write {filled} in column where to "
            "leave them out, or name another column"
        )
    references = _optional(table, "reference_column", row)
    if row["match"] == "number":
        references = _numbers(references, row)
    chosen = pd.DataFrame(
        {
            "prompt": prompts.str.strip(),
            "category": _optional(table, "category_column", row),
            "reference": references.str.strip(),
            "match": row["match"] or None,
            "label": row["label"],
        }
    )
    if row["thinking_column"]:
        chosen = chosen.assign(**{name: _given(table, name, row) for name in GIVEN_COLUMNS})
    return chosen.reset_index(drop=True)


def wrap(
    table: pd.DataFrame, templates: Mapping[str, Sequence[str]], context: Mapping[str, Sequence[str]] = NO_CONTEXT
) -> pd.DataFrame:
    """Wrap each prompt in a jailbreak, and that in a tool context; families and templates are dealt in turn.

    Args:
        table: as `select_rows` returns it, already shuffled.
        templates: for each family its texts with one "{prompt}"; none leaves the prompts plain.
        context: the same for the context, if there is one.

    Returns:
        `table` with the wrapped prompt, and three more columns: family (`plain` if not wrapped), request, and context
        (`chat` without one).
    """
    table = table.assign(request=table["prompt"], family=PLAIN, context=CHAT)
    depth = max(map(len, templates.values()), default=1)
    # Round by round: the first template of every family, then the second of every family, and so on.
    rounds = [(family, texts[turn % len(texts)]) for turn in range(depth) for family, texts in templates.items()]
    if templates:
        dealt = list(islice(cycle(rounds), len(table)))
        prompts = [_fill(text, request) for (_, text), request in zip(dealt, table["request"], strict=True)]
        table = table.assign(family=[family for family, _ in dealt], prompt=prompts)
    for name, texts in context.items():
        row, families = np.arange(len(table)), max(1, len(templates))
        # From one family, template and round to the next: so that each template meets each of the texts.
        turns = (row % families + row // families % depth + row // (families * depth)) % len(texts)
        prompts = [_fill(texts[turn], prompt) for turn, prompt in zip(turns, table["prompt"], strict=True)]
        table = table.assign(prompt=prompts, context=name)
    return table


def _fill(template: str, text: str) -> str:
    # Not str.format: a text may hold braces of its own.
    return template.replace("{prompt}", text)


def download(row: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    """Everything at the hub location of a dataset row, and the commit that its revision stands for.

    What the local cache (`HF_HOME`) already holds is not downloaded again, so a machine without network works from it.

    Raises:
        UserError: no network, a gated dataset, or no such dataset, revision, subset or split.
    """
    location, subset, split = row["location"], row["subset"], row["hub_split"]
    where = f"dataset {row['dataset']!r}: {location}"
    one_file = suffix_of(subset) in SUFFIXES
    folder = take_snapshot(location, "dataset", row["revision"], where, [subset] if one_file else None)
    try:
        files = [folder / subset] if one_file else _split_files(folder, subset, split)
        tables = [read_file(file) for file in files]
    except (ValueError, OSError, RuntimeError, UserError) as error:
        raise UserError(f"{where}: check columns subset ({subset}) and hub_split ({split}): {error}") from None
    if len(tables) == 1:
        return tables[0], folder.name
    # Lines of several files are not unique: rows are counted through all of them.
    raw = pd.concat(tables, ignore_index=True)
    return raw.set_axis(pd.RangeIndex(1, len(raw) + 1, name="row")), folder.name


def _split_files(folder: Path, subset: str, split: str) -> list[str]:
    """The files of a split, as the repository declares them or their names say; we read them, as we read local ones.

    Raises:
        UserError: no such split, or files in a format that is not read.
        ValueError, OSError, RuntimeError: of the library, for an unknown subset, and for a repository without data or
            with a loading script.
    """
    from datasets import load_dataset_builder

    splits = load_dataset_builder(str(folder), subset or None).config.data_files or {}
    if split not in splits:
        raise UserError(f"no split {split!r}; there are {', '.join(map(str, splits)) or 'none'}")
    files = [str(file) for file in splits[split]]
    if strange := [file for file in files if suffix_of(file) not in SUFFIXES]:
        raise UserError(
            f"{Path(strange[0]).name} is in none of the formats {', '.join(SUFFIXES)}; name a file that is, in "
            "subset, or convert it and use source file"
        )
    return files


def normalise(text: str) -> str:
    """Text by which prompts are compared: case, width, quotes, white space and punctuation around words are ignored.

    Punctuation within a word and symbols that stand alone are kept: "3 - 4" is not "3 + 4". In arithmetic (a number
    with a sign, an operator between numbers) signs and brackets mean something wherever they stand, and only marks
    that end a sentence are ignored: "-5 + 3" is not "5 + 3".
    """
    visible = SUPERSCRIPT.sub(r"^\g<0>", INVISIBLE.sub("", text))
    plain = unicodedata.normalize("NFKC", visible).casefold()
    words = plain.translate(QUOTES).split()
    if ARITHMETIC.search(plain):
        return " ".join(word.rstrip(SENTENCE_MARKS) or word for word in words)
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
    kept once, in the dataset that comes first; one request in two jailbreaks is two prompts. A label is the request's:
    within a set two labels of one are an error, between sets the earlier set's stands.

    Args:
        tables: for each dataset of the set and of those before it a table as `wrap` returns it.
        sets: the prompt set of each of these datasets.

    Returns:
        The prompts (columns `PROMPT_COLUMNS`, of set ready `GIVEN_COLUMNS` too), and the dropped ones: dataset,
        prompt_id, reason, kept_in (the set or dataset that kept it).

    Raises:
        UserError: nothing is left of a dataset, or one request is harmful in one row of the set and benign in another.
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
    _check_labels(table[owner.isna()])
    twice = keeper[table[owner.isna()].duplicated("prompt_id")]
    dropped = pd.concat(
        [
            _dropped(table[owner.notna()], "in another prompt set", owner.dropna()),
            _dropped(table.loc[twice.index], "twice in this prompt set", twice),
        ],
        ignore_index=True,
    )
    kept = table[owner.isna()].drop(twice.index)
    # Of a prompt that another dataset has as well, a transcript is read all the same.
    filled = table[owner.isna()] if prompt_set == RECORDED else kept
    for name in tables:
        if sets[name] == prompt_set and name not in set(filled["dataset"]):
            raise UserError(
                f"dataset {name!r} (set {prompt_set}) is empty: all its prompts also occur elsewhere; give it a part "
                "of its location that no other row takes, or delete the row"
            )
    columns = [*PROMPT_COLUMNS, *(GIVEN_COLUMNS if prompt_set == READY else ())]
    return kept[columns].reset_index(drop=True), dropped


def recorded_traces(tables: Sequence[pd.DataFrame], prompts: pd.DataFrame) -> pd.DataFrame:
    """Transcripts of one model as its traces, all that are on a prompt of the set.

    Args:
        tables: the datasets that it wrote, as `wrap` returns them.
        prompts: the set as `assemble` returns it: prompt_id.

    Returns:
        prompt_id, sample (transcripts of one prompt are counted), thinking, response, finish_reason (`stop`),
        thinking_tokens (missing: nobody counted them).
    """
    table = pd.concat(tables, ignore_index=True)
    table["prompt_id"] = table["prompt"].map(prompt_id)
    table = table[table["prompt_id"].isin(prompts["prompt_id"])].reset_index(drop=True)
    table = table.assign(sample=table.groupby("prompt_id").cumcount(), finish_reason="stop", thinking_tokens=np.nan)
    return table[["prompt_id", "sample", *GIVEN_COLUMNS, "finish_reason", "thinking_tokens"]]


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


def _check_labels(table: pd.DataFrame) -> None:
    for text in ("request", "prompt"):
        labels = table.groupby(f"{text}_id")["label"].transform("nunique")
        if (labels > 1).any():
            disputed = table[table[f"{text}_id"] == table.loc[labels.idxmax(), f"{text}_id"]]
            harmful, benign = (disputed[disputed["label"] == label].iloc[0] for label in ("harmful", "benign"))
            raise UserError(
                f"one {text} is harmful in dataset {harmful['dataset']!r} and benign in {benign['dataset']!r}: "
                f"{harmful[text][:60]!r}; leave it out of one of the two by where in the dataset sheet"
            )


def _dropped(table: pd.DataFrame, reason: str, kept_in: pd.Series) -> pd.DataFrame:
    return table[["dataset", "prompt_id"]].assign(reason=reason, kept_in=kept_in)


def _conditions(where: str) -> list[tuple[str, str, str]]:
    """Column, sign (= or !=) and value of each condition of a `where` cell."""
    parts = re.split(r"\s+&\s+(?=[^=&]+=)", where) if where else []
    return [CONDITION.fullmatch(part).groups() for part in parts]


def _check_columns(raw: pd.DataFrame, row: Mapping[str, Any]) -> None:
    wanted = [(key, cell) for key, cell in row.items() if key.endswith("_column")]
    wanted += [("where", column) for column, _, _ in _conditions(row["where"])]
    for key, column in wanted:
        if column and column not in raw.columns:
            raise UserError(
                f"dataset {row['dataset']!r}: {row['location']} has no column {column!r}, named in {key} of the "
                f"dataset sheet; it has {', '.join(map(str, raw.columns))}"
            )


def _values_there(raw: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """The first few values of the columns that `where` asks for, for a message."""
    found = {column: _texts(raw, column, row).unique()[:5] for column, _, _ in _conditions(row["where"])}
    return "".join(
        f"; {column!r} holds {', '.join(repr(value[:30]) for value in values)}" for column, values in found.items()
    )


def _place(table: pd.DataFrame | pd.Series, label: Any) -> str:
    return f"{table.index.name or 'row'} {label}"


def _optional(table: pd.DataFrame, key: str, row: Mapping[str, Any]) -> pd.Series:
    """The column that a key of the row names as text, missing where it is empty; all missing if it names none."""
    if not row[key]:
        return pd.Series(None, index=table.index, dtype="str")
    values = _texts(table, row[key], row)
    return values.where(values != "")


def _given(table: pd.DataFrame, name: str, row: Mapping[str, Any]) -> pd.Series:
    """Thinking or response of each row of a set in `GIVEN`.

    Raises:
        UserError: one is empty, or has a marker in it that would end or open a thinking; names its row.
    """
    column = row[f"{name}_column"]
    texts = _texts(table, column, row).str.strip()
    marked = texts.map(lambda text: next((marker for marker in row["markers"] if marker in text), ""))
    wrong = (texts == "") | (marked != "")
    if wrong.any():
        first = wrong.idxmax()
        said = f"has {marked[first]!r} in it" if marked[first] else "is empty"
        raise UserError(
            f"dataset {row['dataset']!r}: {row['location']}, {_place(table, first)}, column {column!r}: the {name} "
            f"{said} ({wrong.sum()} of {len(texts)} rows are wrong); give thinking and response a column each, without "
            "the markers around a thinking, or leave the row out by where"
        )
    return texts


def _texts(table: pd.DataFrame, column: str, row: Mapping[str, Any]) -> pd.Series:
    """A column as text, "" where a cell is missing or shows nothing.

    Raises:
        UserError: a cell that is not text; names its row.
    """
    texts = []
    for label, value in table[column].items():
        try:
            texts.append(_text(value, conversation=column == row["prompt_column"]))
        except UserError as error:
            place = f"{row['location']}, {_place(table, label)}, column {column!r}"
            raise UserError(
                f"dataset {row['dataset']!r}: {place}: {error}; name another column, leave the row out by where, or "
                "mend it there"
            ) from None
    return pd.Series(texts, index=table.index, dtype="str")


def _text(value: Any, conversation: bool) -> str:
    """The text of a cell; of content parts their texts joined, of a conversation its first user turn.

    Raises:
        UserError: anything else, NUL, or half a surrogate pair, which no file of text can hold.
    """
    parts = value if isinstance(value, list) and all(isinstance(part, dict) for part in value) else []
    if conversation and parts and all({"role", "content"} <= part.keys() for part in parts):
        turns = [part["content"] for part in parts if part["role"] == "user"]
        if not turns:
            raise UserError("a conversation without a user turn")
        return _text(turns[0], conversation=False)
    if parts and all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts):
        value = "".join(part["text"] for part in parts)
    if isinstance(value, list | dict) or not (isinstance(value, str) or pd.isna(value)):
        raise UserError(f"{KINDS_OF_CELLS.get(type(value), type(value).__name__)}, where text is needed")
    if not isinstance(value, str):
        return ""
    if wrong := UNWRITABLE.search(value):
        raise UserError(f"the character {wrong[0]!a}, which is no text")
    return value if any(map(_shows, value)) else ""


def _shows(character: str) -> bool:
    """Whether a character is more than white space, a control or a format character."""
    return unicodedata.category(character)[0] not in "ZC" and character not in BLANK_LETTERS


def _numbers(references: pd.Series, row: Mapping[str, Any]) -> pd.Series:
    """References as the numbers that they are, in the one way of writing them that a fraction has.

    Raises:
        UserError: one is no number; names its row.
    """
    numbers = {}
    for label, text in references.dropna().items():
        try:
            numbers[label] = str(reference_number(text))
        except UserError as error:
            place = f"{row['location']}, {_place(references, label)}, column {row['reference_column']!r}"
            raise UserError(
                f"dataset {row['dataset']!r}: {place}: {error}; or set match to contains, or leave the row out by where"
            ) from None
    return pd.Series(numbers, index=references.index, dtype="str")
