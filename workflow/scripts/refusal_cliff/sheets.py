"""Config and sheets, read and checked one by one against their schemas: what stands in them, not what it refers to."""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator, TypeChecker, ValidationError
from jsonschema.validators import extend

from refusal_cliff.data_files import read_delimited, unique_keys
from refusal_cliff.errors import UserError

SCHEMAS = Path(__file__).parents[2] / "schemas"
PLACEHOLDERS = {
    "probe": "paper",
    "position": "last_boundary",
    "population": "all",
    "fraction": "0.03",
    "budget": "0.017",
    "early": "20",
    "operating": "causal",
}
"""What a claim may leave open, with a value that it may take."""
ESCAPES = {r"\n": "\n", r"\t": "\t"}

Schema = dict[str, Any]


def _is_integer(checker: TypeChecker, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(checker: TypeChecker, value: Any) -> bool:
    return _is_integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


# JSON Schema takes 1.0 for an integer, infinity for a number, and integers of any size; what reads a config does not.
TYPE_NAMES = {"number": "finite number", "integer": "integer of at most 64 bits"}
TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
Validator = extend(Draft202012Validator, type_checker=TYPES)


def check_config_files(paths: Iterable[str | Path]) -> None:
    """Check that no mapping in these YAML or JSON files has a key twice: readers keep the last and say nothing.

    Raises:
        UserError: names file, line and key.
    """
    for path in paths:
        text = Path(path).read_text(encoding="utf-8-sig")
        try:
            json.loads(text, object_pairs_hook=unique_keys)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except ValueError:
            _check_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)


def _check_keys(node: yaml.Node | None, path: str | Path, parents: tuple[str, ...] = ()) -> None:
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check_keys(child, path, parents)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, child in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            where = ".".join((*parents, name))
            # Several merges in one mapping are allowed.
            if name in lines and name != "<<":
                raise UserError(
                    f"{path}, line {line}: key {where!r} occurs twice (first in line {lines[name]}); delete one of the "
                    "two, or put what they hold under one"
                )
            lines[name] = line
            _check_keys(child, path, (*parents, name))


def validate(config: dict[str, Any]) -> None:
    """Check `config` against its schema, fill in defaults and read numbers that are text, in place.

    Within a key's value `--config` gives text alone: `--config claims='{fraction: 0.05}'`. A share that is written
    `claims.fraction` or `claims.budget` is what that key holds.

    Raises:
        UserError: unknown or missing keys, or values out of range; all of them in one message.
    """
    schema = schema_of("config")
    _fill_defaults(config, schema)
    _fill_claimed(config)
    errors = sorted(Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        raise UserError("\n".join(_explain(error, "config") for error in errors))


def load_sheets(config: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The model, dataset and attack sheets named under `sheets`, checked row by row.

    Returns:
        models and datasets, indexed by name, and attacks, indexed by family with one row per template. Empty cells hold
        the schema's defaults, escaped line breaks are decoded, comma lists are lists.

    Raises:
        UserError: a sheet, column or value is missing or wrong, or a row occurs twice.
    """
    sheets = config["sheets"]
    models = _read_sheet(sheets["models"], "models", unique=["model"])
    datasets = _read_sheet(sheets["datasets"], "datasets", unique=["dataset"])
    attacks = _read_sheet(sheets["attacks"], "attacks", unique=["family", "template"])
    for column in ("thinking_open", "boundary", "system_prompt"):
        models[column] = models[column].map(_decode)
    attacks["template"] = attacks["template"].map(_decode)
    return models.set_index("model"), datasets.set_index("dataset"), attacks.set_index("family")


def load_claims(path: str) -> pd.DataFrame:
    """The claim sheet, checked row by row; an empty bound is infinite.

    Raises:
        UserError: a column or value is missing or wrong, an id occurs twice, bounds leave nothing between them, or a
            filter is no expression or has an unknown placeholder.
    """
    claims = _read_sheet(path, "claims", unique=["id"])
    claims = claims.astype({"lower": float, "upper": float}).fillna({"lower": -math.inf, "upper": math.inf})
    for claim in claims.itertuples():
        where = f"{path}: row {claim.id!r}"
        if claim.lower >= claim.upper:
            raise UserError(f"{where}: nothing is above {claim.lower:g} and below {claim.upper:g}; change a bound")
        for column in ("metric", "where"):
            try:
                filled = getattr(claim, column).format(**PLACEHOLDERS)
            except (KeyError, IndexError, ValueError):
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                raise UserError(f"{where}, column {column}: unknown placeholder; choose from {known}") from None
        try:
            ast.parse(filled, mode="eval")
        except SyntaxError:
            example = schema_of("claims")["properties"]["where"]["examples"][0]
            raise UserError(f"{where}, column where: {filled!r} is no expression; write it like {example}") from None
    return claims


def record(sheet: pd.DataFrame, name: str) -> dict[str, Any]:
    """One row of a sheet as plain values, its name included: what a rule hands to its script as a parameter."""
    return {sheet.index.name: name} | sheet.loc[[name]].astype(object).to_dict("records")[0]


def suggest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def schema_of(name: str) -> Schema:
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def _decode(text: str) -> str:
    """Line breaks and tabs of a cell, which a sheet can only hold escaped."""
    for escaped, character in ESCAPES.items():
        text = text.replace(escaped, character)
    return text


def _mapping(value: Any) -> dict[str, Any]:
    """`value`, or nothing in place of what is no mapping: the schema says so later, in words."""
    return value if isinstance(value, dict) else {}


def _fill_claimed(config: dict[str, Any]) -> None:
    """Put the operating points of the claims where shares name them, in place: one setting moves all of them."""
    claimed = {f"claims.{key}": value for key, value in _mapping(config["claims"]).items()}
    for path in (("ablation", "rankings"), ("grid", "rankings"), ("selection", "selectors"), ("selection", "ready")):
        block = _mapping(_mapping(config[path[0]]).get(path[1]))
        for key, shares in block.items():
            if isinstance(shares, list):
                named = [claimed[share] for share in shares if isinstance(share, str) and share in claimed]
                block[key] = named + [share for share in shares if share not in (*claimed, *named)]


def _fill_defaults(
    value: dict[str, Any], schema: Schema, definitions: Mapping[str, Schema] = MappingProxyType({})
) -> None:
    """Fill absent keys of a nested mapping with the defaults of its schema, and read texts by it, in place."""
    definitions = schema.get("$defs", definitions)

    def resolved(part: Schema) -> Schema:
        """A schema with what its reference says; what it says itself comes first."""
        return definitions[part["$ref"].rpartition("/")[2]] | part if "$ref" in part else part

    for key, part in schema.get("properties", {}).items():
        if "default" in (part := resolved(part)):
            value.setdefault(key, deepcopy(part["default"]))
    others = schema.get("additionalProperties") or {}
    for key, child in value.items():
        part = resolved(schema.get("properties", {}).get(key, others))
        if isinstance(child, dict):
            _fill_defaults(child, part, definitions)
        elif isinstance(child, list):
            items = resolved(part.get("items", {}))
            for place, item in enumerate(child):
                if isinstance(item, dict):
                    _fill_defaults(item, items, definitions)
                elif isinstance(item, str):
                    child[place] = _parse_number(item, items)
        elif isinstance(child, str):
            value[key] = _parse_number(child, part)


def _explain(error: ValidationError, source: str) -> str:
    """One line on a schema error: where, what, and an example that would pass."""
    path = [str(part) for part in error.path]
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in allowed]
        wrong = ", ".join(f"unknown key {'.'.join([*path, key])!r}{suggest(key, allowed)}" for key in unknown)
        nearest = get_close_matches(unknown[0], allowed, n=1) or allowed[:1]
        example = _example([*path, nearest[0]], error.schema["properties"][nearest[0]])
        return f"{source}: {wrong}; allowed here: {', '.join(allowed)}.{example}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        part = error.schema.get("properties", {}).get(missing[0], {})
        keys = ", ".join(".".join([*path, key]) for key in missing)
        return f"{source}: missing {keys}. {_about(part)}{_example([*path, missing[0]], part)}".rstrip()
    reason = error.message
    if error.validator == "type" and isinstance(error.instance, int | float):
        reason = f"{error.instance} is no {TYPE_NAMES.get(error.validator_value, error.validator_value)}"
    return f"{source}: {'.'.join(path)}: {reason}. {_about(error.schema)}{_example(path, error.schema)}".rstrip()


def _about(schema: Schema) -> str:
    return schema.get("description", "")


def _example(path: list[str], schema: Schema) -> str:
    """A corrected line, if the schema has a default or an example."""
    value = schema.get("default", schema.get("examples", [None])[0])
    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f" Example: {'.'.join(path)}: {text}"


def _read_sheet(path: str, kind: str, unique: list[str]) -> pd.DataFrame:
    """A tab-separated sheet, validated row by row; columns in the order of the schema.

    Args:
        unique: columns that together name a row.
    """
    schema = schema_of(kind)
    if not Path(path).is_file():
        raise UserError(f"config: sheets.{kind}: no file {path!r}; paths are relative to the working directory")
    cells = read_delimited(path, "\t", quoted=False)
    for column in cells.columns:
        if column not in schema["properties"]:
            near = suggest(column, schema["properties"])
            raise UserError(f"{path}: unknown column {column!r}{near}; allowed: {', '.join(schema['properties'])}")
    for column in schema["required"]:
        if column not in cells.columns:
            raise UserError(f"{path}: no column {column!r}. {_about(schema['properties'][column])}")
    if cells.empty:
        raise UserError(f"{path}: no rows; add at least one under the header")
    rows = [
        _parse_row(row, schema, f"{path}, line {line}: row {row[unique[0]]!r}")
        for line, row in zip(cells.index, cells.to_dict("records"), strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(schema["properties"]))
    twice = table.duplicated(unique)
    if twice.any():
        name = ", ".join(repr(cell) for cell in table.loc[twice, unique].iloc[0])
        raise UserError(f"{path}: {' and '.join(unique)} {name} occur twice; rename or delete one of the rows")
    return table


def _parse_row(cells: Mapping[str, str], schema: Schema, source: str) -> dict[str, Any]:
    """Typed values of one row, with defaults for its empty cells.

    Raises:
        UserError: a value does not fit the schema.
    """
    row = {column: _parse_cell(text, schema["properties"][column]) for column, text in cells.items() if text != ""}
    _fill_defaults(row, schema)
    errors = list(Validator(schema).iter_errors(row))
    if errors:
        raise UserError("\n".join(_explain(error, source) for error in errors))
    return row


def _parse_number(text: str, schema: Schema) -> Any:
    """A text that stands for a number, true or false; left as it is where it does not, for the schema to reject."""
    match schema.get("type"):
        case "boolean":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "integer":
            return int(text) if re.fullmatch(r"\d+", text) else text
        case "number":
            if re.fullmatch(r"\d+", text):
                return int(text)
            return float(text) if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) else text
        case _:
            return text


def _parse_cell(text: str, schema: Schema) -> Any:
    """The text of a cell in the type of its column; left as text where it does not fit, for the schema to reject."""
    match schema.get("type"):
        case "array":
            return [item.strip() for item in text.split(",")]
        case "object":
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                return text
        case _:
            return _parse_number(text, schema)
