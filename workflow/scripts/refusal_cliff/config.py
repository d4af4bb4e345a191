"""The configuration: config and sheets against their schemas, and references between them."""

import ast
import csv
import math
import re
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator, ValidationError

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import EFFECTS
from refusal_cliff.rankings import CONTROLLED, CONTROLS, DRAWN

SCHEMAS = Path(__file__).parents[2] / "schemas"
# A model's folder lies beside these in the results folder.
RESERVED_MODEL_NAMES = (
    "benchmarks",
    "datasets",
    "figures",
    "logs",
    "paper",
    "prompts",
    "recovery",
    "tables",
    "timings",
)
PLACEHOLDERS = {
    "probe": "boundary",
    "position": "last_boundary",
    "population": "all",
    "fraction": "0.03",
    "budget": "0.017",
}
"""What a claim may leave open, with a value that it may take."""
ESCAPES = {r"\n": "\n", r"\t": "\t"}

Schema = dict[str, Any]


def validate(config: dict[str, Any]) -> None:
    """Check `config` against its schema and fill in defaults, in place.

    Raises:
        UserError: unknown or missing keys, or values out of range; all of them in one message.
    """
    schema = _schema("config")
    _fill_defaults(config, schema)
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
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
    for column in ("thinking_open", "boundary"):
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
            example = _schema("claims")["properties"]["where"]["examples"][0]
            raise UserError(f"{where}, column where: {filled!r} is no expression; write it like {example}") from None
    return claims


def record(sheet: pd.DataFrame, name: str) -> dict[str, Any]:
    """One row of a sheet as plain values, its name included: what a rule hands to its script as a parameter."""
    return {sheet.index.name: name} | sheet.loc[[name]].astype(object).to_dict("records")[0]


def check(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame) -> None:
    """Check that everything the config and the sheets refer to exists, before anything expensive starts.

    Raises:
        UserError: names the key or row at fault, what is known, and the nearest name.
    """
    _check_models(config, models)
    _check_datasets(config, models, datasets, attacks)
    _check_organisms(config, models, attacks)
    _check_recovery(config)
    _check_stages(config, models, datasets)


def _check_models(config: Mapping[str, Any], models: pd.DataFrame) -> None:
    sheet = config["sheets"]["models"]
    if not (models["role"] == "subject").any():
        raise UserError(f"{sheet}: no row with role subject; add the model to study")
    for name, row in models.iterrows():
        if name in RESERVED_MODEL_NAMES:
            raise UserError(f"{sheet}: a model cannot be called {name!r}, results keep that folder for something else")
        for column in ("ablate", "intervene", "tune"):
            if row["role"] == "guard" and row[column]:
                raise UserError(f"{sheet}: row {name!r}: a guard cannot have {column} = true; leave the cell empty")
        if row["intervene"] and not row["ablate"]:
            raise UserError(f"{sheet}: row {name!r}: intervene needs ablate = true; set it, or leave intervene empty")
        if row["source"] == "path":
            try:
                check_model_folder(row["location"], row["role"])
            except UserError as error:
                raise UserError(f"{sheet}: row {name!r}, column location: {error}") from None
    if config["judges"]["harm"] == "guard" or _selects(config, models, "guard"):
        guard = config["judges"]["guard"]["model"]
        where = "config: judges.guard.model"
        _known(guard, models.index, where, f"a row of {sheet}")
        if models.loc[guard, "role"] != "guard":
            raise UserError(
                f"{where}: row {guard!r} of {sheet} has role subject; give it role guard, or name another row"
            )


def _check_datasets(
    config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame
) -> None:
    sheet = config["sheets"]["datasets"]
    for name, row in datasets.iterrows():
        for family in row["attacks"]:
            _known(family, attacks.index, f"{sheet}: row {name!r}, column attacks", "a family of the attack sheet")
        start, stop = map(float, row["part"].split("-"))
        if start >= stop:
            raise UserError(f"{sheet}: row {name!r}, column part: {row['part']!r} is empty; write start-stop, as 0-0.5")
        if bool(row["match"]) != bool(row["reference_column"]):
            raise UserError(f"{sheet}: row {name!r}: match and reference_column go together; fill in both or neither")
    needed = {"fit": "probes and head rankings are fitted on it", "test": "every rate is measured on it"}
    if models["tune"].any():
        needed["pool"] = "a model of the model sheet has tune = true"
    if (models["source"] == "organism").any():
        needed["organism"] = "a model of the model sheet has source organism, which trains on it"
    for prompt_set, reason in needed.items():
        if prompt_set not in set(datasets["set"]):
            raise UserError(f"{sheet}: no dataset has set {prompt_set}, but {reason}; add a row")


def _check_organisms(config: Mapping[str, Any], models: pd.DataFrame, attacks: pd.DataFrame) -> None:
    recipes = {name: recipe for name, recipe in config["organisms"].items() if name != "tokenizer"}
    organisms = models[models["source"] == "organism"]
    for name, row in organisms.iterrows():
        where = f"{config['sheets']['models']}: row {name!r}, column location"
        _known(row["location"], recipes, where, "a recipe under organisms in the config")
    for name in organisms["location"].unique():
        recipe, key = recipes[name], f"config: organisms.{name}"
        architecture = _architecture(recipes, name)
        parent = recipe.get("parent")
        if parent and organisms["location"].get(parent) != parent:
            sheet = config["sheets"]["models"]
            raise UserError(f"{key}.parent: no row of {sheet} trains it; add a row with model and location {parent!r}")
        for family in recipe.get("families", ()):
            _known(family, attacks.index, f"{key}.families", "a family of the attack sheet")
        for layer, head in recipe.get("heads", ()):
            if layer >= architecture["layers"] or head >= architecture["heads"]:
                size = f"{architecture['layers']} layers of {architecture['heads']} heads"
                raise UserError(f"{key}.heads: [{layer}, {head}] does not exist in {size}; both count from 0")


def _architecture(recipes: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """The architecture of a recipe, or of the ancestor that it is trained from."""
    lineage = [name]
    while parent := recipes[lineage[-1]].get("parent"):
        key = f"config: organisms.{lineage[-1]}.parent"
        _known(parent, recipes, key, "a recipe under organisms")
        if parent in lineage:
            raise UserError(
                f"{key}: {' > '.join([*lineage, parent])} is a circle; one recipe must have an architecture"
            )
        lineage.append(parent)
    if "architecture" not in recipes[lineage[-1]]:
        raise UserError(f"config: organisms.{lineage[-1]}: give either parent or architecture")
    return recipes[lineage[-1]]["architecture"]


def _check_recovery(config: Mapping[str, Any]) -> None:
    recipes, plan = config["organisms"], config["recovery"]
    if not plan["circuits"]:
        return
    _known(plan["recipe"], recipes, "config: recovery.recipe", "a recipe under organisms")
    for number, circuit in enumerate(plan["circuits"]):
        key = f"config: recovery.circuits.{number}"
        _known(circuit["organism"], recipes, f"{key}.organism", "a recipe under organisms")
        if "architecture" not in recipes[circuit["organism"]]:
            raise UserError(f"{key}.organism: {circuit['organism']!r} has a parent; name a recipe with an architecture")
        size = recipes[circuit["organism"]]["architecture"]
        room = size["heads"] * (size["layers"] // 3 if circuit["spread"] else 1)
        if round(circuit["share"] * size["layers"] * size["heads"]) > room:
            raise UserError(f"{key}.share: {circuit['share']} of all heads are more than the {room} there; lower it")


def _check_stages(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    sheet = config["sheets"]["datasets"]
    wanted = {f"probes.{name}.datasets": probe["datasets"] for name, probe in config["probes"].items()}
    wanted |= {f"heads.{key}": config["heads"][key] for key in ("datasets", "benign", "refused")}
    for key, names in wanted.items():
        for name in names:
            _known(name, datasets.index, f"config: {key}", f"a row of {sheet}")
            if datasets.loc[name, "set"] != "fit":
                found = datasets.loc[name, "set"]
                raise UserError(f"config: {key}: {name!r} is in set {found}; only datasets of set fit may be fitted on")
    for stage in ("cliffs", "heads"):
        name = config[stage]["probe"]
        _known(name, config["probes"], f"config: {stage}.probe", "a key under probes")
        layers = config["probes"][name]["layers"]
        if layers and -1 not in layers:
            raise UserError(
                f"config: {stage}.probe is {name}, but probes.{name}.layers is {layers}; it must read the last layer: "
                "add -1"
            )
    shares, claims = config["ablation"]["rankings"], config["claims"]
    for block in ("ablation", "grid"):
        for ranking, wanted in config[block]["rankings"].items():
            key = f"{block}.rankings.{ranking}"
            _known(ranking, [*EFFECTS, *CONTROLS], f"config: {key}", "a ranking of heads")
            if wanted and ranking in DRAWN and config[block]["random_draws"] == 0:
                raise UserError(f"config: {block}.random_draws is 0, but {key} asks for draws; set it to 1")
    if models["ablate"].any():
        for ranking in (CONTROLLED, "random"):
            found = shares.get(ranking, [])
            _operating_point("claims.fraction", claims["fraction"], f"ablation.rankings.{ranking}", found)
    if models["tune"].any():
        budgets = config["selection"]["selectors"]["cliff"]
        _operating_point("claims.budget", claims["budget"], "selection.selectors.cliff", budgets)


def _operating_point(key: str, value: float, measured_key: str, measured: Collection[float]) -> None:
    if value not in measured:
        raise UserError(f"config: {key} is {value}, but {measured_key} is {list(measured)}; add it there or change it")


def _selects(config: Mapping[str, Any], models: pd.DataFrame, selector: str) -> bool:
    return bool(models["tune"].any() and config["selection"]["selectors"][selector])


def _known(name: str, known: Iterable[str], where: str, what: str) -> None:
    """Raise a UserError with the nearest known name if `name` is not among `known`."""
    names = list(dict.fromkeys(known))
    if name not in names:
        raise UserError(f"{where}: {name!r} is not {what}{_suggest(name, names)}; choose one of {', '.join(names)}")


def _suggest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _schema(name: str) -> Schema:
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def _decode(text: str) -> str:
    """Line breaks and tabs of a cell, which a sheet can only hold escaped."""
    for escaped, character in ESCAPES.items():
        text = text.replace(escaped, character)
    return text


def _fill_defaults(
    value: dict[str, Any], schema: Schema, definitions: Mapping[str, Schema] = MappingProxyType({})
) -> None:
    """Fill absent keys of a nested mapping with the defaults of its schema, in place."""
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
            for item in child:
                if isinstance(item, dict):
                    _fill_defaults(item, part.get("items", {}), definitions)


def _explain(error: ValidationError, source: str) -> str:
    """One line on a schema error: where, what, and an example that would pass."""
    path = [str(part) for part in error.path]
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in allowed]
        wrong = ", ".join(f"unknown key {'.'.join([*path, key])!r}{_suggest(key, allowed)}" for key in unknown)
        nearest = get_close_matches(unknown[0], allowed, n=1) or allowed[:1]
        example = _example([*path, nearest[0]], error.schema["properties"][nearest[0]])
        return f"{source}: {wrong}; allowed here: {', '.join(allowed)}.{example}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        part = error.schema.get("properties", {}).get(missing[0], {})
        keys = ", ".join(".".join([*path, key]) for key in missing)
        return f"{source}: missing {keys}. {_about(part)}{_example([*path, missing[0]], part)}".rstrip()
    return f"{source}: {'.'.join(path)}: {error.message}. {_about(error.schema)}{_example(path, error.schema)}".rstrip()


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
    schema = _schema(kind)
    try:
        cells = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8-sig"
        )
    except FileNotFoundError:
        raise UserError(
            f"config: sheets.{kind}: no file {path!r}; paths are relative to the working directory"
        ) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a tab-separated sheet in UTF-8 ({error})") from None
    for column in cells.columns:
        if column not in schema["properties"]:
            near = _suggest(column, schema["properties"])
            raise UserError(f"{path}: unknown column {column!r}{near}; allowed: {', '.join(schema['properties'])}")
    for column in schema["required"]:
        if column not in cells.columns:
            raise UserError(f"{path}: no column {column!r}. {_about(schema['properties'][column])}")
    if cells.empty:
        raise UserError(f"{path}: no rows; add at least one under the header")
    rows = [_parse_row(row, schema, f"{path}: row {row[unique[0]]!r}") for row in cells.to_dict("records")]
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
    errors = list(Draft202012Validator(schema).iter_errors(row))
    if errors:
        raise UserError("\n".join(_explain(error, source) for error in errors))
    return row


def _parse_cell(text: str, schema: Schema) -> Any:
    """The text of a cell in the type of its column; left as text where it does not fit, for the schema to reject."""
    match schema.get("type"):
        case "boolean":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "integer":
            return int(text) if re.fullmatch(r"\d+", text) else text
        case "number":
            return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text
        case "array":
            return [item.strip() for item in text.split(",")]
        case _:
            return text
